"""Average saved probabilities of several folders, case by case."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from nnunet_rs.core.errors import DatasetError, doing
from nnunet_rs.core.io import read_labels, write_labels
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.record import Record, digest
from nnunet_rs.core.types import Case, IntArray
from nnunet_rs.evaluate.folders import label_files
from nnunet_rs.predict.ensemble import mean_of
from nnunet_rs.predict.export import ScoreConverter
from nnunet_rs.predict.prediction_json import PREDICTION, prediction_content, read_prediction_json
from nnunet_rs.predict.probabilities import ENDING, Probabilities, open_probabilities
from nnunet_rs.predict.results import FolderResult, Results, report_left

GROUP_BYTES = 1 << 26  # of float32 probabilities averaged at a time


def ensemble_folders(
    folders: Sequence[Path],
    output_dir: Path,
    progress: Progress | None = None,
    threads: int | None = None,
    *,
    overwrite: bool = False,
) -> FolderResult:
    """Average saved probabilities case by case and write the segmentations.

    Parameters
    ----------
    folders
        Each written by `predict_folder` with `save_probabilities`, of the same cases.
    output_dir
        Gets {case}{ending} with the first folder's header, and prediction.json as `predict_folder` writes it.
    progress
        Shows each case as it is done.
    threads
        Cases at a time; None: two, for one is read while the other is decided.
    overwrite
        Keep files aside that this tool did not make, or that were edited, in the folder `previous`.

    Returns
    -------
    FolderResult
        The cases: a rerun skips what was made of the same predictions.

    Raises
    ------
    DatasetError
        Fewer than two folders, none with probabilities, cases that one of them lacks, arrays that do not go together,
        or an output that is an input.
    NnunetError
        Files that would be replaced and are not this tool's, or were edited.
    """
    cases = _common_cases(folders)
    first = label_files(folders[0])
    unwritten = sorted(set(cases) - first.keys())
    if unwritten:
        raise DatasetError(f"{folders[0]}: holds no segmentation of {unwritten[0]}, whose header is needed")

    made_with = PREDICTION.wrap({"average_of": [read_prediction_json(folder) or str(folder) for folder in folders]})
    content = prediction_content(made_with, open_probabilities(folders[0] / f"{cases[0]}{ENDING}").labels)
    progress = progress or Silent()
    with Outputs(output_dir, digest(content), overwrite=overwrite, say=progress.say) as outputs:
        results = Results(outputs, content)
        sources = [Case(case, (first[case], *(folder / f"{case}{ENDING}" for folder in folders))) for case in cases]
        todo, left = (sources, []) if overwrite else results.unfinished(sources)
        results.require(todo)
        results.begin(sources, alone=True)
        report_left(left, progress)
        with ThreadPoolExecutor(threads or 2) as pool, progress.task("ensemble", len(todo)) as task:
            for name in pool.map(partial(_average, results, outputs), todo):
                task.advance(1, name)
    return FolderResult.of(sources, todo)


def _average(results: Results, outputs: Outputs, case: Case) -> str:
    """Average a case, whose first file has the header and the others the probabilities; returns its name."""
    with doing(case.name):
        labels = average_probabilities([open_probabilities(path) for path in case.images[1:]])
        name = results.files(case)[0].name
        images = Record(case.images[0].parent).sources(case.images[0])
        with outputs.new_files(name, images) as folder:
            write_labels(folder / name, labels, read_labels(case.images[0]).header)
    return case.name


def average_probabilities(sources: Sequence[Probabilities]) -> IntArray:
    """Decide the mean of saved probabilities: file values (z, y, x); errors as `ensemble_folders`."""
    first = sources[0]
    for other in sources[1:]:
        if other.shape != first.shape or other.labels != first.labels:
            raise DatasetError(
                f"{other.path}: is of shape {other.shape} with labels {other.labels.names}, {first.path} of "
                f"{first.shape} with {first.labels.names}; average predictions of one dataset"
            )
    converter, shape, axis = ScoreConverter(first.labels, probabilities=True), first.shape, first.across
    plane = 4 * int(np.prod(shape)) // shape[axis + 1]
    count = max(1, GROUP_BYTES // plane)
    parts = [
        converter.labels_same_grid(mean_of([source.planes(axis, start, start + count) for source in sources]))
        for start in range(0, shape[axis + 1], count)
    ]
    return converter.to_file_values(np.concatenate(parts, axis=axis))


def _common_cases(folders: Sequence[Path]) -> tuple[str, ...]:
    if len(folders) < 2:
        raise DatasetError(f"an ensemble averages at least two folders, got {len(folders)}")
    found = []
    for folder in folders:
        if not folder.is_dir():
            raise DatasetError(f"{folder}: is not a folder; name one with saved probabilities")
        names = {path.name.removesuffix(ENDING) for path in folder.glob(f"*{ENDING}") if path.name[0] != "."}
        if not names:
            raise DatasetError(f"{folder}: holds no probabilities (*{ENDING}); predict with saved probabilities")
        found.append(names)
    everywhere, anywhere = set.intersection(*found), set.union(*found)
    for folder, names in zip(folders, found, strict=True):
        if names != anywhere:
            missing = sorted(anywhere - names)
            raise DatasetError(f"{folder}: lacks {missing[0]}{ENDING} ({len(missing)} cases that others have)")
    return tuple(sorted(everywhere))
