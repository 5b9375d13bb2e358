"""Score a folder of predicted segmentations against a folder of references."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from nnunet_rs.core.dataset import encode_labels
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.io import can_read, read_labels
from nnunet_rs.core.types import Labels, LabelSet, Progress, Silent
from nnunet_rs.predict.scores import Score, score_case, scored_targets
from nnunet_rs.predict.summary import CaseScores, Summary

TOLERANCE = 1.0  # mm; of the normalised surface Dice
SAME_PLACE = 0.1  # of a voxel: how far the corners of prediction and reference may lie apart


@dataclass(frozen=True, slots=True)
class Pair:
    """The two files of one case."""

    name: str
    prediction: Path
    reference: Path


def evaluate_folders(
    predictions: Path,
    reference: Path,
    labels: LabelSet | None = None,
    *,
    tolerance: float | None = TOLERANCE,
    partial: bool = False,
    threads: int | None = None,
    progress: Progress = Silent(),
) -> Summary:
    """Score every segmentation of a folder against the reference of the same name.

    Parameters
    ----------
    predictions, reference
        Folders of label files; files of other kinds are passed over.
    labels
        Which values stand for which class or region; None takes every value found in any file as a class of its own,
        0 as the background.
    tolerance
        Of the normalised surface Dice, in mm; None measures no distances, which is several times faster.
    partial
        Accept references without prediction (they are left out) instead of raising.
    threads
        Cases scored at a time; None: two.

    Raises
    ------
    DatasetError
        If a folder is missing or empty, a prediction has no reference, a reference no prediction (unless `partial`),
        two files have different shapes or places in space, or a file holds a value that `labels` does not declare.
    """
    pairs = pair_files(predictions, reference, partial=partial)
    return evaluate_pairs(pairs, labels, tolerance=tolerance, threads=threads, progress=progress)


def evaluate_pairs(
    pairs: Sequence[Pair],
    labels: LabelSet | None = None,
    *,
    tolerance: float | None = TOLERANCE,
    threads: int | None = None,
    progress: Progress = Silent(),
) -> Summary:
    """Score pairs of files; parameters and errors as `evaluate_folders`."""
    chosen = labels or found_labels(pairs)

    def score(pair: Pair) -> tuple[Score, ...]:
        prediction, reference = read_pair(pair, chosen)
        return score_case(prediction.data, reference.data, chosen, reference.spacing, tolerance)

    cases = []
    with ThreadPoolExecutor(threads or 2) as pool, progress.task("evaluate", len(pairs)) as task:
        for pair, scores in zip(pairs, pool.map(score, pairs), strict=True):
            cases.append(CaseScores(pair.name, str(pair.prediction), str(pair.reference), scores))
            task.advance(1, pair.name)
    return Summary(scored_targets(chosen), tuple(cases), tolerance)


def read_pair(pair: Pair, labels: LabelSet) -> tuple[Labels, Labels]:
    """Read prediction and reference as class indices, and see that they lie in the same place."""
    files = read_labels(pair.prediction), read_labels(pair.reference)
    _require_same_place(pair, *files)
    encoded = [
        Labels(_encode(path, file, labels), file.spacing, file.header)
        for path, file in zip((pair.prediction, pair.reference), files, strict=True)
    ]
    return encoded[0], encoded[1]


def pair_files(predictions: Path, reference: Path, *, partial: bool = False) -> tuple[Pair, ...]:
    """Match the files of two folders by case name; errors as `evaluate_folders`."""
    ours, theirs = (_label_files(folder) for folder in (predictions, reference))
    alone = sorted(ours.keys() - theirs.keys())
    if alone:
        raise DatasetError(f"{ours[alone[0]]}: has no reference in {reference} ({len(alone)} such files); add or remove")
    missing = sorted(theirs.keys() - ours.keys())
    if missing and not partial:
        raise DatasetError(
            f"{predictions}: holds no prediction of {missing[0]}, {len(missing)} of {len(theirs)} references have none; "
            "predict them, or ask for a partial evaluation"
        )
    return tuple(Pair(name, path, theirs[name]) for name, path in sorted(ours.items()))


def case_name(path: Path) -> str:
    """Strip the ending of an image file: `liver_1.nii.gz` is case `liver_1`."""
    return Path(path.name.removesuffix(".gz")).stem


def _label_files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DatasetError(f"{folder}: is not a folder; name the folder that holds the segmentations")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "_")) or not path.is_file() or not can_read(path):
            continue
        if case_name(path) in files:
            raise DatasetError(f"{path}: and {files[case_name(path)].name} are the same case; keep one of them")
        files[case_name(path)] = path
    if not files:
        raise DatasetError(f"{folder}: holds no segmentation; expected image files such as case.nii.gz")
    return files


def found_labels(pairs: Sequence[Pair]) -> LabelSet:
    """Take every value found in any of the files as a class, 0 as the background."""
    values = {0}
    for pair in pairs:
        for path in (pair.prediction, pair.reference):
            values.update(int(value) for value in np.unique(read_labels(path).data))
    ordered = (0, *sorted(values - {0}))
    return LabelSet(names=tuple(str(value) for value in ordered), values=ordered)


def _encode(path: Path, labels: Labels, declared: LabelSet) -> np.ndarray[tuple[int, ...], np.dtype[np.integer]]:
    try:
        return encode_labels(labels.data, declared)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error


def _require_same_place(pair: Pair, prediction: Labels, reference: Labels) -> None:
    where = f"{pair.prediction} and {pair.reference}"
    ours, theirs = prediction.data.shape, reference.data.shape
    if ours != theirs:
        raise DatasetError(f"{where}: have shapes {ours} and {theirs} (z, y, x); both must be those of the image")
    apart = _corner_distance(prediction, reference)
    if apart > SAME_PLACE * min(reference.spacing):
        raise DatasetError(
            f"{where}: lie {apart:.3g} mm apart (spacing, origin or direction differ); write both with the image's header"
        )


def _corner_distance(first: Labels, second: Labels) -> float:
    """Greatest distance, in mm, between corresponding corners of two volumes of the same shape."""
    last = [size - 1 for size in reversed(first.data.shape)]  # x, y, z
    corners = np.asarray([(*corner, 1) for corner in product(*((0, end) for end in last))], dtype=np.float64)
    affines = [np.asarray(labels.header.affine, dtype=np.float64) for labels in (first, second)]
    apart = corners @ (affines[0] - affines[1])[:3].T
    return float(np.linalg.norm(apart, axis=1).max())
