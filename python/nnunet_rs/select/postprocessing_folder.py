"""Post-process a folder of segmentations: as `best` decided, by rules given here, or by a function of the user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from nnunet_rs.core.document import Kind
from nnunet_rs.core.errors import DatasetError, doing
from nnunet_rs.core.io import read_labels, write_labels
from nnunet_rs.core.labels import decode_labels, encode_labels
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.record import Record
from nnunet_rs.core.resources import processors
from nnunet_rs.core.types import IntArray, Labels, LabelSet, Spacing3
from nnunet_rs.core.workspace import BEST_JSON, POSTPROCESSING_JSON, WorkFolder
from nnunet_rs.evaluate.folders import label_files
from nnunet_rs.plan.files import read_plan
from nnunet_rs.select.choice import read_choice
from nnunet_rs.select.postprocessing import PostProcessing

FOREGROUND = "foreground"  # every class but the background, as one
KIND = "post-processed"  # in the record of what was written

# Steps, or a function of class indices (z, y, x) and spacing in mm (z, y, x) to class indices of the same shape.
Process: TypeAlias = PostProcessing | Callable[[IntArray, Spacing3], IntArray]


@dataclass(frozen=True, slots=True)
class Decision:
    """Post-processing, and the labels whose class indices it names."""

    labels: LabelSet
    postprocessing: PostProcessing


DECISION = Kind("post-processing", Decision, advice="decide again", marked=False)


def postprocess_folder(
    segmentations: str | Path,
    output: str | Path,
    process: Process,
    labels: LabelSet,
    *,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Post-process every segmentation of a folder into another.

    Parameters
    ----------
    segmentations
        Folder of label files; files of other kinds are passed over.
    output
        Another folder, made if it is not there; each file keeps its name, format and header.
    process
        Steps, or a function of class indices (z, y, x) and spacing (mm; z, y, x) that returns class indices of the
        same shape.
    labels
        Which values of the files stand for which class.
    overwrite
        Keep files aside that this tool did not make, or that were edited, in the folder `previous`.
    threads
        Cases at a time; None: as many as there are processors.

    Returns
    -------
    tuple of str
        The cases, in order.

    Raises
    ------
    DatasetError
        A folder that is missing, empty or the output itself; a value that is not declared; a function that returns
        something else than class indices of the same shape.
    NnunetError
        Files that would be replaced and were not made here, or were edited.
    """
    files, output = label_files(Path(segmentations)), Path(output)
    if output.is_dir() and output.samefile(segmentations):
        raise DatasetError(f"{output}: holds the segmentations themselves; write to another folder")
    progress = progress or Silent()
    outputs = Outputs(output, kind=KIND, overwrite=overwrite, say=progress.say)
    predicted = Record(Path(segmentations))
    outputs.require([*(output / path.name for path in files.values()), output / POSTPROCESSING_JSON], files.values())

    def one(path: Path) -> None:
        with doing(path):
            scan = read_labels(path)
            done = _processed(path, scan, process, labels)
            with outputs.new_files(path.name, predicted.sources(path)) as folder:
                write_labels(folder / path.name, decode_labels(done, labels), scan.header)

    with outputs, ThreadPoolExecutor(threads or processors()) as pool, progress.task("cases", len(files)) as task:
        for name, _ in zip(files, pool.map(one, files.values()), strict=True):
            task.advance(1, name)
    return tuple(files)


def _processed(path: Path, scan: Labels, process: Process, labels: LabelSet) -> IntArray:
    classes = encode_labels(scan.data, labels)
    if isinstance(process, PostProcessing):
        return process.apply(classes)
    return _checked(path, process(classes.copy(), scan.spacing), classes, labels)


def _checked(path: Path, found: object, classes: IntArray, labels: LabelSet) -> IntArray:
    most = labels.indices[-1]
    if not isinstance(found, np.ndarray) or found.shape != classes.shape or found.dtype.kind not in "iub":
        what = f"{found.dtype} {list(found.shape)}" if isinstance(found, np.ndarray) else type(found).__name__
        raise DatasetError(f"{path}: post-processing returned {what}; return whole numbers {list(classes.shape)}")
    if found.size and not 0 <= found.min() <= found.max() <= most:
        raise DatasetError(
            f"{path}: post-processing returned {found.min()} … {found.max()}; class indices are 0 … {most}"
        )
    return found.astype(classes.dtype, copy=False)


def keep_largest(wanted: Sequence[str], labels: LabelSet) -> PostProcessing:
    """Read `foreground`, a class, or several as `liver+tumour`: of each the largest component is kept, in order.

    Raises
    ------
    DatasetError
        A class that there is not.
    """
    return PostProcessing(tuple(_classes(text, labels) for text in wanted))


def _classes(text: str, labels: LabelSet) -> tuple[int, ...]:
    if text == FOREGROUND:
        return tuple(range(1, labels.count))
    known = {name: index for index, name in enumerate(labels.names)}
    known |= {str(value): index for index, value in enumerate(labels.values) if str(value) not in known}
    unknown = [name for name in text.split("+") if known.get(name, 0) == 0]
    if unknown:
        there = ", ".join((FOREGROUND, *labels.names[1:]))
        raise DatasetError(f"no class '{unknown[0]}' to keep the largest component of; there are {there}")
    return tuple(sorted({known[name] for name in text.split("+")}))


def read_decision(path: Path) -> Decision:
    """Read what `best` chose for a work folder, or what `write_decision` wrote.

    Parameters
    ----------
    path
        A work folder with best.json, a folder with postprocessing.json, or such a file.

    Raises
    ------
    DatasetError, CheckpointError, PlanError
        Nothing of the kind is there, or it is damaged.
    """
    if WorkFolder(path).best_file.is_file():
        return Decision(read_plan(WorkFolder(path).plan_file).labels, read_choice(path).postprocessing)
    file = path / POSTPROCESSING_JSON if path.is_dir() else path
    if not file.is_file():
        raise DatasetError(
            f"{path}: holds neither {BEST_JSON} (run best) nor {POSTPROCESSING_JSON} (postprocess --decide)"
        )
    decision = DECISION.load(file)
    beyond = {i for step in decision.postprocessing.keep_largest for i in step} - set(range(1, decision.labels.count))
    if beyond:
        raise DatasetError(
            f"{file}: names class {min(beyond)}; there are 1 … {decision.labels.count - 1}; decide again"
        )
    return decision


def write_decision(folder: Path, decision: Decision, *, overwrite: bool = False) -> None:
    """Write steps beside the segmentations that were made by them, to be used again; errors as there."""
    with Outputs(folder, kind=KIND, overwrite=overwrite) as outputs:
        outputs.require([folder / POSTPROCESSING_JSON])
        with outputs.new_files(POSTPROCESSING_JSON) as temporary:
            DECISION.save(temporary / POSTPROCESSING_JSON, decision)
