"""Score a folder of predicted segmentations against a folder of references."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_rs.core.dicom.named_labels import common_names, names_by_value
from nnunet_rs.core.dicom.references import common_grid, is_label_file, read_labels_on, structures_in
from nnunet_rs.core.errors import DatasetError, doing
from nnunet_rs.core.folders import Folders, Listing, same_case
from nnunet_rs.core.folders import left_out as issues_left_out
from nnunet_rs.core.image_file import ImageFile, compare_grids
from nnunet_rs.core.io import can_read, read_label_scan, read_labels, read_scan
from nnunet_rs.core.issues import Issue, IssueError, Warnings, require_none
from nnunet_rs.core.labels import encode_labels
from nnunet_rs.core.names import strip_ending
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.resources import processors
from nnunet_rs.core.text import examples
from nnunet_rs.core.types import Labels, LabelSet, Shape
from nnunet_rs.evaluate.scores import score_case, scored_targets, without
from nnunet_rs.evaluate.summary import CaseScores, Summary

TOLERANCE = 1.0  # mm; of the normalised surface Dice
_DOCUMENTS = (".json", ".csv", ".html", ".md")  # stand beside segmentations, and nobody takes them for one
_BESIDE_A_CASE = (".b2nd", ".npz", ".pkl")  # probabilities, and what nnU-Net writes with them


@dataclass(frozen=True, slots=True)
class CasePair:
    """The two files of one case."""

    name: str
    prediction: Path
    reference: Path
    unannotated: Shape = ()  # targets that the reference is not annotated for, indices into `LabelSet.score_names`


def evaluate_folders(
    predictions: str | Path,
    reference: str | Path,
    labels: LabelSet | None = None,
    *,
    tolerance: float | None = TOLERANCE,
    partial: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Score every segmentation of a folder against the reference of the same name.

    Parameters
    ----------
    predictions, reference
        Folders of label files; `progress` reports files of other kinds. Or two label files.
    labels
        Which values stand for which class or region; None takes every value found in any file as a class of its own,
        0 as the background.
    tolerance
        Of the normalised surface Dice, in mm; None measures no distances, which is several times faster.
    partial
        Accept references without prediction (they are left out) instead of raising.
    threads
        Cases scored at a time; None: as many as there are processors.

    Raises
    ------
    DatasetError
        If a folder is missing or empty, a prediction has no reference, a reference no prediction (unless `partial`),
        two files have different shapes or places in space, or a file holds a value that `labels` does not declare.
    """
    predictions, reference = Path(predictions), Path(reference)
    pairs = pair_files(predictions, reference, partial=partial)
    report_left_out((predictions, reference), (progress or Silent()).say)
    return evaluate_pairs(pairs, labels, tolerance=tolerance, threads=threads, progress=progress)


def evaluate_pairs(
    pairs: Sequence[CasePair],
    labels: LabelSet | None = None,
    *,
    tolerance: float | None = TOLERANCE,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Score pairs of files; parameters and errors as `evaluate_folders`."""
    chosen = labels or found_labels(pairs)

    warn = Warnings((progress or Silent()).say)

    def score(pair: CasePair) -> CaseScores:
        return score_pair(pair, chosen, tolerance, warn)

    cases = []
    shown = (progress or Silent()).task("evaluate", len(pairs))
    with ThreadPoolExecutor(threads or processors()) as pool, shown as task:
        for pair, scored in zip(pairs, pool.map(score, pairs), strict=True):
            cases.append(scored)
            task.advance(1, pair.name)
    warn.finish()
    return Summary(scored_targets(chosen), tuple(cases), tolerance)


def score_pair(
    pair: CasePair, labels: LabelSet, tolerance: float | None, warn: Callable[[Issue], None] = lambda _: None
) -> CaseScores:
    """Score one pair of files; parameters and errors as `evaluate_folders`, `warn` is told of what may be wrong."""
    with doing(pair.prediction):
        prediction, reference = read_pair(pair, labels, warn)
        scores = score_case(prediction.data, reference.data, labels, reference.spacing, tolerance)
    scores = without(scores, pair.unannotated)
    extent = (n * mm for n, mm in zip(reference.data.shape, reference.spacing, strict=True))
    return CaseScores(pair.name, str(pair.prediction), str(pair.reference), scores, math.hypot(*extent))


def read_pair(
    pair: CasePair, labels: LabelSet, warn: Callable[[Issue], None] = lambda _: None
) -> tuple[Labels, Labels]:
    """Read prediction and reference as class indices, and see that they lie in the same place; tell `warn` the rest."""
    prediction, reference = _on_one_grid(pair, labels)
    issues = prediction.issues + reference.issues + compare_grids(reference.grid, prediction.grid)
    require_none(issues)
    for issue in issues:
        warn(issue)
    return encoded(prediction, labels), encoded(reference, labels)


def _on_one_grid(pair: CasePair, labels: LabelSet) -> tuple[ImageFile, ImageFile]:
    """Read two files; SEG and RTSTRUCT files onto the grid of the other one, or a grid that holds both."""
    ours, theirs = is_label_file(pair.prediction), is_label_file(pair.reference)
    if ours and theirs:
        grid = common_grid((pair.prediction, pair.reference), labels)
        return read_labels_on(pair.prediction, grid, labels), read_labels_on(pair.reference, grid, labels)
    if ours:
        reference = read_scan(pair.reference)
        return read_labels_on(pair.prediction, reference.grid, labels), reference
    prediction = read_scan(pair.prediction)
    return prediction, read_label_scan(pair.reference, prediction.grid, labels)


def pair_files(predictions: Path, reference: Path, *, partial: bool = False) -> tuple[CasePair, ...]:
    """Match the files of two folders by case name, or two files whatever their names; errors as `evaluate_folders`."""
    if predictions.is_file() and reference.is_file():
        return (CasePair(strip_ending(predictions.name), predictions, reference),)
    if predictions.is_file() or reference.is_file():
        raise DatasetError(f"{predictions}: and {reference} are a file and a folder; name two files, or two folders")
    ours, theirs = (label_files(folder) for folder in (predictions, reference))
    alone = sorted(ours.keys() - theirs.keys())
    if alone:
        raise DatasetError(
            f"{ours[alone[0]]}: has no reference in {reference} ({len(alone)} such files)"
            f"{_unread(reference, alone[0])}; add or remove"
        )
    missing = sorted(theirs.keys() - ours.keys())
    if missing and not partial:
        raise DatasetError(
            f"{predictions}: holds no prediction of {missing[0]}, {len(missing)} of {len(theirs)} references have "
            f"none{_unread(predictions, missing[0])}; predict them, or score the rest with partial (--partial)"
        )
    return tuple(CasePair(name, path, theirs[name]) for name, path in sorted(ours.items()))


def report_left_out(paths: Iterable[Path], say: Callable[[str], None]) -> None:
    """Say of folders which files in them are not scored; of single files nothing."""
    for folder in dict.fromkeys(path for path in paths if path.is_dir()):
        for issue in left_out(folder, label_files(folder)):
            say(f"warning: {issue}")


def _unread(folder: Path, case: str) -> str:
    """Say that files of a case are there, which cannot be read."""
    others = [name for name in same_case(Folders().files(folder), case) if not can_read(Path(name))]
    return f"; {examples(others)} is of no format that is read" if others else ""


def left_out(folder: Path, used: Mapping[str, Path]) -> list[Issue]:
    """List the files of a folder that are no segmentations, and not what lies beside them by rights.

    Parameters
    ----------
    folder
        Of segmentations.
    used
        Those of each case, as `label_files` gives them.

    Returns
    -------
    list of Issue
        Warnings, one a reason; of a single file there is none.
    """
    listing = Folders().listing(folder)
    beside = {f"{name}{ending}" for name in used for ending in _BESIDE_A_CASE}
    others = frozenset(name for name in listing.files - beside if not name.lower().endswith(_DOCUMENTS))
    return issues_left_out(folder, Listing(others), [path.name for path in used.values()])


def label_files(folder: Path) -> dict[str, Path]:
    """List the segmentations of a folder by case name; errors as `evaluate_folders`."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: is not a folder; name the folder that holds the segmentations")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "_")) or not path.is_file() or not can_read(path):
            continue
        name = strip_ending(path.name)
        if name in files:
            raise DatasetError(f"{path}: and {files[name].name} are the same case; move one of them away")
        files[name] = path
    if not files:
        raise DatasetError(f"{folder}: holds no segmentation; expected image files such as case.nii.gz")
    return files


def found_labels(pairs: Sequence[CasePair]) -> LabelSet:
    """Take every value found in any of the files as a class, 0 as the background.

    SEG and RTSTRUCT files name their structures, and so the classes, where all of them agree on the values. Where they
    do not, and no other file tells values, structures of one name are a class if both sides have the same names.
    """
    values = {0}
    ours: list[tuple[str, int]] = []
    theirs: list[tuple[str, int]] = []
    for pair in pairs:
        for path, structures in ((pair.prediction, ours), (pair.reference, theirs)):
            if is_label_file(path):
                structures += structures_in(path)
            else:
                values.update(map(int, np.unique(read_labels(path).data)))
    names = names_by_value((*ours, *theirs)) or (common_names(ours, theirs) if values == {0} else {})
    values.update(names or (value for _, value in (*ours, *theirs)))
    ordered = (0, *sorted(values - {0}))
    return LabelSet(names=tuple(names.get(value, str(value)) for value in ordered), values=ordered)


def encoded(scan: ImageFile, labels: LabelSet) -> Labels:
    """Turn a label file's values into class indices; a DatasetError, with the file, where one is not declared."""
    try:
        return Labels(encode_labels(scan.labels(), labels), scan.spacing, scan.header)
    except IssueError:
        raise  # names the file already
    except DatasetError as error:
        raise DatasetError(f"{scan.file}: {error}") from error
