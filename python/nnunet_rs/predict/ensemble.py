"""Average the probabilities of several configurations: in one pass while predicting, or of saved files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import CheckpointError, DatasetError, doing
from nnunet_rs.core.io import read_labels, write_labels
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.record import digest
from nnunet_rs.core.types import Case, FloatArray, IntArray, Progress, Share, Silent, Task, Volume
from nnunet_rs.data.preprocess import Prepared
from nnunet_rs.plan.schema import Plan
from nnunet_rs.predict.evaluate import label_files
from nnunet_rs.predict.export import Decision, Target
from nnunet_rs.predict.predictor import Predictor, SinkMaker, as_volume, probabilities_of
from nnunet_rs.predict.probabilities import ENDING, Probabilities, open_probabilities
from nnunet_rs.predict.results import FolderResult, Results, tell_left
from nnunet_rs.predict.settings import read_settings, settings

Planes = Iterator[tuple[int, FloatArray]]  # first plane, probabilities (c, planes, a, b)
GROUP_BYTES = 1 << 26  # of float32 probabilities averaged at a time


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """Several configurations of one plan, whose probabilities are averaged on the image's grid.

    The members predict a case side by side, a few planes at a time: neither their probabilities nor their average
    ever exist for a whole volume.
    """

    members: tuple[Predictor, ...]

    def __post_init__(self) -> None:
        """Refuse members that do not share the crop, the axes and the labels."""
        for member in self.members[1:]:
            ours, theirs = self.plan, member.plan
            if (ours.labels, ours.transpose, ours.channels) != (theirs.labels, theirs.transpose, theirs.channels):
                raise CheckpointError(
                    f"{member.settings.name} of {theirs.dataset} and {self.members[0].settings.name} of {ours.dataset} "
                    "were trained with different labels, channels or axes; average configurations of one plan"
                )

    @property
    def plan(self) -> Plan:
        """What the first member was trained for; labels and channels are those of all."""
        return self.members[0].plan

    def describe(self) -> dict[str, Any]:
        """Return what determines the results."""
        return {"version": 1, "average_of": [member.describe() for member in self.members]}

    def predict_probabilities(self, array: NDArray[np.generic], spacing: Sequence[float]) -> FloatArray:
        """Predict the mean probabilities of an image in memory; as `Predictor.predict_probabilities`."""
        return probabilities_of(self, as_volume(array, spacing))

    def prepare(self, volume: Volume, *, overwrite: bool = False) -> tuple[Prepared, ...]:
        """Bring an image to every member's grid; as `Predictor.prepare`."""
        return _prepared(self.members, volume, overwrite)

    def predict_prepared(
        self, prepared: tuple[Prepared, ...], task: Task | None = None, make_sink: SinkMaker | None = None
    ) -> IntArray:
        """Segment what `prepare` returned; as `Predictor.predict_prepared`."""
        return _averaged(self.members, prepared, (tuple(range(len(self.members))),), task, make_sink)[0]


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Every pair of several configurations at once: each network sees a case once, in however many pairs it is."""

    members: tuple[Predictor, ...]  # at least two

    @property
    def plan(self) -> Plan:
        """What the first member was trained for."""
        return self.members[0].plan

    @property
    def ensembles(self) -> tuple[Ensemble, ...]:
        """The pairs, as what they are one by one; errors as `Ensemble`."""
        return tuple(Ensemble(pair) for pair in combinations(self.members, 2))

    def prepare(self, volume: Volume, *, overwrite: bool = False) -> tuple[Prepared, ...]:
        """Bring an image to every member's grid; as `Predictor.prepare`."""
        return _prepared(self.members, volume, overwrite)

    def predict_prepared(
        self, prepared: tuple[Prepared, ...], task: Task | None = None, make_sink: SinkMaker | None = None
    ) -> IntArray:
        """Segment what `prepare` returned: (pairs, z, y, x), in the order of `ensembles`."""
        pairs = tuple(combinations(range(len(self.members)), 2))
        return np.stack(_averaged(self.members, prepared, pairs, task, make_sink))


def _prepared(members: Sequence[Predictor], volume: Volume, overwrite: bool) -> tuple[Prepared, ...]:
    *others, last = members
    return (*(member.prepare(volume) for member in others), last.prepare(volume, overwrite=overwrite))


def _averaged(
    members: Sequence[Predictor],
    prepared: Sequence[Prepared],
    groups: Sequence[tuple[int, ...]],
    task: Task | None,
    make_sink: SinkMaker | None,
) -> list[IntArray]:
    """Segment by the mean probabilities of each group of members; those of the last group go to the sink."""
    run = side_by_side(members, prepared, task)
    decision, target = Decision(members[0].plan.labels, probabilities=True), run.target
    sink = None if make_sink is None else make_sink(target, prepared[0])
    labels: Any = None
    for first, values in run.planes:
        for number, group in enumerate(groups):
            mean = _mean([values[member] for member in group])
            decided = decision.decide_same_grid(mean)
            labels = np.empty((len(groups), *target.shape), decided.dtype) if labels is None else labels
            labels[number, first : first + len(decided)] = decided
        if sink is not None:
            sink.put(first, mean)
    return [decision.place(each, target, prepared[0].geometry) for each in labels]


@dataclass(frozen=True, slots=True, eq=False)
class SideBySide:
    """Several members' probabilities of one case, as they come."""

    target: Target  # the grid that all are on
    planes: Iterator[tuple[int, tuple[FloatArray, ...]]]  # first plane, each member's (c, planes, a, b)


def side_by_side(members: Sequence[Predictor], prepared: Sequence[Prepared], task: Task | None = None) -> SideBySide:
    """Predict one case with all members at once, swept along the same axis so that the same planes finish."""
    share = None if task is None else Share(task, 1.0 / len(members))
    targets = [member.target(case, axis=0) for member, case in zip(members, prepared, strict=True)]
    streams = [
        member.stream_probabilities(case, target, share)
        for member, case, target in zip(members, prepared, targets, strict=True)
    ]
    return SideBySide(targets[0], together(streams))


def together(streams: Sequence[Planes]) -> Iterator[tuple[int, tuple[FloatArray, ...]]]:
    """Cut streams of the same planes at common places: yield (first plane, each stream's part)."""
    heads = [next(stream, None) for stream in streams]
    first = 0
    while all(head is not None for head in heads):
        present = [head for head in heads if head is not None]
        stop = min(start + values.shape[1] for start, values in present)
        yield first, tuple(values[:, first - start : stop - start] for start, values in present)
        heads = [
            next(stream, None) if start + values.shape[1] == stop else (start, values)
            for stream, (start, values) in zip(streams, present, strict=True)
        ]
        first = stop


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
        Told of every case.
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

    made_with = {"version": 1, "average_of": [read_settings(folder) or str(folder) for folder in folders]}
    content = settings(made_with, open_probabilities(folders[0] / f"{cases[0]}{ENDING}").labels)
    progress = progress or Silent()
    with Outputs(output_dir, digest(content), overwrite=overwrite, say=progress.say) as outputs:
        results = Results(outputs, content)
        sources = [Case(case, (first[case], *(folder / f"{case}{ENDING}" for folder in folders))) for case in cases]
        todo, left = (sources, []) if overwrite else results.unfinished(sources)
        results.require(todo)
        results.begin(sources, alone=True)
        tell_left(left, progress)

        def average(case: Case) -> str:
            with doing(case.name):
                labels = average_probabilities([open_probabilities(path) for path in case.images[1:]])
                name = results.files(case)[0].name
                with outputs.new_files(name) as folder:
                    write_labels(folder / name, labels, read_labels(case.images[0]).header)
            return case.name

        with ThreadPoolExecutor(threads or 2) as pool, progress.task("ensemble", len(todo)) as task:
            for name in pool.map(average, todo):
                task.advance(1, name)
    return FolderResult.of(sources, todo)


def average_probabilities(sources: Sequence[Probabilities]) -> IntArray:
    """Decide the mean of saved probabilities: file values (z, y, x); errors as `ensemble_folders`."""
    first = sources[0]
    for other in sources[1:]:
        if other.shape != first.shape or other.labels != first.labels:
            raise DatasetError(
                f"{other.path}: is of shape {other.shape} with labels {other.labels.names}, {first.path} of "
                f"{first.shape} with {first.labels.names}; average predictions of one dataset"
            )
    decision, shape, axis = Decision(first.labels, probabilities=True), first.shape, first.across
    plane = 4 * int(np.prod(shape)) // shape[axis + 1]
    count = max(1, GROUP_BYTES // plane)
    parts = [
        decision.decide_same_grid(_mean([source.planes(axis, start, start + count) for source in sources]))
        for start in range(0, shape[axis + 1], count)
    ]
    return decision.to_file_values(np.concatenate(parts, axis=axis))


def _mean(values: Sequence[NDArray[Any]]) -> FloatArray:
    total = values[0].astype(np.float32)
    for other in values[1:]:
        total += other
    total /= np.float32(len(values))
    return total


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
