"""Cases on their way through a prediction: reading, predicting, export and writing overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from nnunet_rs.core.budget import Budget
from nnunet_rs.core.errors import DatasetError, named
from nnunet_rs.core.io import read_volume
from nnunet_rs.core.issues import Warnings
from nnunet_rs.core.label_subset import select_labels, structures_of
from nnunet_rs.core.memory_estimate import estimate_case_memory
from nnunet_rs.core.outputs import Outputs, Staged
from nnunet_rs.core.progress import Progress, Task
from nnunet_rs.core.record import FOLD_DICE, digest
from nnunet_rs.core.resources import available_memory
from nnunet_rs.core.types import Case, Header, IntArray, LabelSet, Volume
from nnunet_rs.data.preprocess import turn_of
from nnunet_rs.data.resampling import spacing_remark
from nnunet_rs.model.metadata import ModelMetadata
from nnunet_rs.plan.schema import Plan
from nnunet_rs.predict.ensemble import Pairs
from nnunet_rs.predict.exporter import Exporter
from nnunet_rs.predict.fold_agreement import FoldAgreement
from nnunet_rs.predict.orientation import seen_orientation, turned_issue
from nnunet_rs.predict.predictor import SinkMaker
from nnunet_rs.predict.probabilities import ProbabilityFile
from nnunet_rs.predict.probability_forms import ProbabilityForm
from nnunet_rs.predict.results import Results

SIDE_BY_SIDE = 2  # cases that are read, and cases that are written, at a time


class CasePredictor(Protocol):
    """What predicts a case in three steps, so that others' overlap: a Predictor, an Ensemble, the chosen one."""

    @property
    def plan(self) -> Plan:
        """Labels and channels."""

    @property
    def all_metadata(self) -> tuple[ModelMetadata, ...]:
        """What is known of every network."""

    def describe(self) -> dict[str, Any]:
        """Return what determines the results."""

    def prepare(self, volume: Volume, *, overwrite: bool = False) -> Any:
        """Bring an image to the network's grid; with `overwrite` its memory may be used."""

    def predict_windows(
        self,
        prepared: Any,
        exporter: Exporter,
        task: Task | None = None,
        make_sink: SinkMaker | None = None,
        agreement: FoldAgreement | None = None,
    ) -> Callable[[], IntArray]:
        """Predict all windows of what `prepare` returned.

        What is returned waits for the exporter, in any thread: file values (z, y, x) on the image's grid.
        """


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """What is written, and what is left alone."""

    save_probabilities: bool = False  # also {case}.b2nd, float16
    probability_forms: tuple[ProbabilityForm, ...] = ()  # then also probabilities/{case}.nii.gz, {case}.npz
    overwrite: bool = False  # predict again what is finished; what is not this tool's, or edited, is kept aside
    part: tuple[int, int] = (0, 1)  # (i, n): only every n-th case from the i-th on, counted from 0
    ending: str = ""  # of a single segmentation that was named; empty: as of its images
    labels: tuple[str, ...] = ()  # structures to keep, by name; empty: all
    masks: bool = False  # also a binary mask of each structure: {case}/{label}
    own: bool = False  # the folder is this tool's own: what is not known there is kept aside instead of refused


def kept_labels(plan: Plan, options: FolderOptions) -> LabelSet:
    """Return the labels of what is written: all, or those to keep; a DatasetError where one is unknown."""
    return select_labels(plan.labels, options.labels) if options.labels else plan.labels


@contextmanager
def open_results(
    plan: Plan, contents: Mapping[Path, Mapping[str, Any]], options: FolderOptions, progress: Progress
) -> Iterator[tuple[Results, ...]]:
    """Give the results of one run in folders, each with the content of its prediction.json; the first gets all else."""
    aside, kept = options.overwrite or options.own, kept_labels(plan, options)
    with ExitStack() as stack:
        yield tuple(
            Results(
                stack.enter_context(Outputs(folder, digest(content), overwrite=aside, say=progress.say)),
                content,
                number == 0 and (options.save_probabilities or bool(options.probability_forms)),
                options.probability_forms if number == 0 else (),
                options.ending,
                kept if options.labels else None,
                structures_of(kept) if options.masks and number == 0 else (),
            )
            for number, (folder, content) in enumerate(contents.items())
        )


Settled = Callable[[Case, "BaseException | None"], None]  # what came of a case: an error, or nothing


def half_of_memory() -> Budget:
    """Return the budget of cases where nothing else is said: half of what is free; the networks take the rest."""
    return Budget(max(1, available_memory() // 2))


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    """A case that can be predicted."""

    header: Header
    prepared: Any  # what the predictor's `prepare` returned
    release: Callable[[], None]  # gives back the memory that it holds of the budget


@dataclass(frozen=True, slots=True, eq=False)
class _Predicted:
    """A case whose windows are predicted."""

    labels: Callable[[], IntArray]  # waits for file values (z, y, x), or (pairs, z, y, x)
    agreement: FoldAgreement
    staged: Staged | None = None  # where its probabilities wait for the labels


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Cases on their way: threads read and prepare the next ones, this one predicts, others write the last ones.

    Where a device predicts, one more makes labels of what it has predicted, of a case's last windows while the device
    has begun with the next case. Cases are predicted in the order in which they become ready: one that is slow to read
    or to write holds up no other.
    """

    predictor: CasePredictor | Pairs
    results: tuple[Results, ...]  # one folder, or one for every pair
    progress: Progress
    settled: Settled  # called for each case, in the thread that calls `all`
    memory: Budget = field(default_factory=half_of_memory)  # of cases that are being read or wait for their turn

    def all(self, cases: Iterable[Case], task: Task) -> None:
        """Predict and write cases as they come; once."""
        readers, writers = (ThreadPoolExecutor(SIDE_BY_SIDE) for _ in range(2))
        exporter = Exporter()
        writing: dict[Future[None], Case] = {}
        warn = Warnings(self.progress.say)
        try:
            for case, ready in self._as_ready(cases, readers, warn):
                predicted = self._predict(case, ready.prepared, exporter, task)
                ready.release()
                if predicted is not None:
                    writing[writers.submit(self._write, case, predicted, ready.header)] = case
                del ready, predicted  # the next case needs the room
                self._written(writing, SIDE_BY_SIDE, task)
            self._written(writing, 0, task)
        finally:  # after Ctrl-C too: files that are being written become whole, the rest is not begun
            self.memory.stop()
            exporter.stop()
            for pool in (readers, writers):
                pool.shutdown(wait=True, cancel_futures=True)
        warn.finish()

    def _fail(self, case: Case, error: BaseException) -> None:
        """Say at once that a case failed."""
        self.progress.say(f"{case.name} failed: {named(error)}")
        self.settled(case, error)

    def _as_ready(
        self, cases: Iterable[Case], pool: ThreadPoolExecutor, warn: Warnings
    ) -> Iterator[tuple[Case, _Ready]]:
        """Yield each case when it is ready, while the next ones are being read."""
        coming = iter(cases)
        waiting = {pool.submit(self._read, case, warn): case for case in islice(coming, SIDE_BY_SIDE)}
        while waiting:
            wait(waiting, return_when=FIRST_COMPLETED)
            future = next(future for future in waiting if future.done())
            case = waiting.pop(future)
            waiting |= {pool.submit(self._read, follower, warn): follower for follower in islice(coming, 1)}
            error = future.exception()
            if error is None:
                ready = future.result()
                del future  # which holds the case as well
                yield case, ready
                del ready
            else:
                self._fail(case, error)

    def _read(self, case: Case, warn: Warnings) -> _Ready:
        wanted = estimate_case_memory(case, len(self.predictor.plan.channels)).reading
        with ExitStack() as stack:
            stack.enter_context(self.memory.hold(min(wanted, self.memory.total)))
            volume = read_volume(case.images, case.name, warn)
            self._remark(case, volume, warn)
            prepared = self._prepare(case, volume)
            return _Ready(volume.header, prepared, stack.pop_all().close)

    def _remark(self, case: Case, volume: Volume, warn: Warnings) -> None:
        """Say what is unusual about an image: its orientation, its spacing."""
        orientation = seen_orientation(volume, self.predictor.all_metadata)
        if turned := turned_issue(case, volume, orientation):
            warn(turned)
        plan, file = self.predictor.plan, case.images[0]
        (z, y, x), _ = turn_of(volume.header, plan, orientation)
        shape, spacing = volume.data.shape[1:], volume.spacing
        if remark := spacing_remark((shape[z], shape[y], shape[x]), (spacing[z], spacing[y], spacing[x]), plan):
            self.progress.say(f"warning: {file}: {remark}")

    def _prepare(self, case: Case, volume: Volume) -> Any:
        """Prepare an image; what is wrong with it is told with its files."""
        try:
            return self.predictor.prepare(volume, overwrite=True)
        except DatasetError as error:
            many = len(case.images) == 1 and volume.data.shape[0] > 1
            kind = " (of a 4-D file the last axis counts as channels)" if many else ""
            raise DatasetError(f"{', '.join(map(str, case.images))}: {error}{kind}") from error

    def _predict(self, case: Case, prepared: Any, exporter: Exporter, task: Task) -> _Predicted | None:
        """Predict a case's windows; None: it failed."""
        first, agreement = self.results[0], FoldAgreement()
        try:
            staged = first.staged(case) if first.probabilities else None
            with _discarding(staged):
                make_sink = None if staged is None else self._sink_maker(case, staged)
                labels = self.predictor.predict_windows(prepared, exporter, task, make_sink, agreement)
                return _Predicted(labels if exporter.busy else _known(labels()), agreement, staged)
        except Exception as error:  # whatever is wrong with one case, the others go on
            self._fail(case, error)
            return None

    def _sink_maker(self, case: Case, staged: Staged) -> SinkMaker:
        """Return what opens the file of a case's probabilities."""
        first = self.results[0]
        temporary = staged.folder / first.files(case)[1].relative_to(first.outputs.folder)
        temporary.parent.mkdir(parents=True, exist_ok=True)
        return lambda output, prepared: ProbabilityFile(temporary, self.predictor.plan, output, prepared)

    def _write(self, case: Case, predicted: _Predicted, header: Header) -> None:
        """Write a case's files, once its labels are made; they get their names together, when all are whole."""
        with _discarding(predicted.staged):
            labels = predicted.labels()
        fold_dice = predicted.agreement.dice()
        parts = labels.reshape(len(self.results), *labels.shape[-3:])
        for each, part in zip(self.results, parts, strict=True):
            with predicted.staged or each.staged(case) as place:
                place.notes.update({FOLD_DICE: fold_dice} if fold_dice else {})
                each.write(case, part, header, place.folder)

    def _written(self, writing: dict[Future[None], Case], most: int, task: Task) -> None:
        """Take note of what has been written, and wait while more than `most` cases are still being written."""
        while len(writing) > most or any(future.done() for future in writing):
            done, _ = wait(writing, return_when=FIRST_COMPLETED)
            for future in done:
                case = writing.pop(future)
                error = future.exception()
                if error is None:
                    task.advance(0, case.name)
                    self.settled(case, None)
                else:
                    self._fail(case, error)


def _known(labels: IntArray) -> Callable[[], IntArray]:
    """Return labels that nobody has to wait for."""
    return lambda: labels


@contextmanager
def _discarding(staged: Staged | None) -> Iterator[None]:
    """Let an error remove a case's new files, and name them where they would have been."""
    try:
        yield
    except Exception as error:
        if staged is None:
            raise
        staged.discard()
        placed = staged.as_placed(error)
        if placed is error:
            raise
        raise placed from error
