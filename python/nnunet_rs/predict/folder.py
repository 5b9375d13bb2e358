"""Predict a folder of images: reading, predicting and writing overlap, and one bad case does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from nnunet_rs.core.budget import Budget
from nnunet_rs.core.dataset import find_input_cases
from nnunet_rs.core.errors import DatasetError, NnunetError, named
from nnunet_rs.core.io import read_volume
from nnunet_rs.core.issues import Warnings
from nnunet_rs.core.label_subset import select_labels, structures_of
from nnunet_rs.core.memory_estimate import estimate_case_memory
from nnunet_rs.core.outputs import Outputs, Staged
from nnunet_rs.core.progress import Progress, Silent, Task
from nnunet_rs.core.record import digest
from nnunet_rs.core.resources import available_memory
from nnunet_rs.core.types import Case, Header, IntArray, LabelSet, Volume
from nnunet_rs.data.resampling import spacing_remark
from nnunet_rs.plan.schema import Plan
from nnunet_rs.predict.channels import require_declared_order
from nnunet_rs.predict.ensemble import Pairs
from nnunet_rs.predict.inputs import one_case, result_place
from nnunet_rs.predict.prediction_json import settings
from nnunet_rs.predict.predictor import SinkMaker
from nnunet_rs.predict.probabilities import ProbabilityFile
from nnunet_rs.predict.probability_forms import Form
from nnunet_rs.predict.results import FolderResult, Results, tell_left

SIDE_BY_SIDE = 2  # cases that are read, and cases that are written, at a time


class CasePredictor(Protocol):
    """What predicts a case in two steps, so that the first can run ahead: a Predictor, an Ensemble, the chosen one."""

    @property
    def plan(self) -> Plan:
        """Labels and channels."""

    def describe(self) -> dict[str, Any]:
        """Return what determines the results."""

    def prepare(self, volume: Volume, *, overwrite: bool = False) -> Any:
        """Bring an image to the network's grid; with `overwrite` its memory may be used."""

    def predict_prepared(self, prepared: Any, task: Task | None = None, make_sink: SinkMaker | None = None) -> IntArray:
        """Segment what `prepare` returned: file values (z, y, x) on the image's grid."""


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """What is written, and what is left alone."""

    save_probabilities: bool = False  # also {case}.b2nd, float16
    probability_forms: tuple[Form, ...] = ()  # then also "nifti": probabilities/{case}.nii.gz, "npz": {case}.npz
    overwrite: bool = False  # predict again what is finished; what is not this tool's, or edited, is kept aside
    part: tuple[int, int] = (0, 1)  # (i, n): only every n-th case from the i-th on, counted from 0
    ending: str = ""  # of a single segmentation that was named; empty: as of its images
    labels: tuple[str, ...] = ()  # structures to keep, by name; empty: all
    masks: bool = False  # also a binary mask of each structure: {case}/{label}
    own: bool = False  # the folder is this tool's own: what is not known there is kept aside instead of refused


def predict_folder(
    predictor: CasePredictor,
    input_dir: str | Path,
    output_dir: str | Path,
    options: FolderOptions = FolderOptions(),
    progress: Progress | None = None,
) -> FolderResult:
    """Predict every image of a folder.

    Parameters
    ----------
    predictor
        The loaded model.
    input_dir
        Images: `{case}_{CCCC}{ending}`, a file per channel, or one file a case.
    output_dir
        Gets `{case}{ending}` for every case, with the image's header, and `prediction.json`, which says what they were
        made with. A case is finished where its segmentation is newer than its images and was made by the same models
        and settings: a rerun goes on. What others made is made anew, unless it was edited since; such files, and all
        that this tool did not make, are refused before anything is predicted. Where prediction.json says the same
        models and settings they are left as they are.
    options
        See FolderOptions.
    progress
        Told of every case.

    Raises
    ------
    DatasetError
        A folder that is missing or holds no image, a wrong number of channels, or an output that is an input.
    NnunetError
        Files that would be replaced and are not this tool's, or were edited (with `overwrite` they are kept in the
        folder `previous`). Cases that failed, each with its reason, after all others were written.
    """
    input_dir, output_dir = Path(input_dir), Path(output_dir)
    progress = progress or Silent()
    cases, issues = find_input_cases(input_dir, len(predictor.plan.channels))
    _require_another_folder(input_dir, output_dir)
    require_declared_order(input_dir, predictor.plan, progress)
    index, count = options.part
    if not 0 <= index < count:
        raise DatasetError(f"part {index} of {count}: the part must be 0 to {count - 1}")
    broken = {issue.case: str(issue) for issue in issues if issue.fatal} if index == 0 else {}
    for issue in issues if index == 0 else ():
        if not issue.fatal:
            progress.say(f"warning: {issue}")
    return predict_cases(predictor, cases[index::count], output_dir, options, progress, broken=broken)


def predict_files(
    predictor: CasePredictor,
    images: Sequence[Path],
    output: Path,
    options: FolderOptions = FolderOptions(),
    progress: Progress | None = None,
) -> FolderResult:
    """Predict one image, of one file or one a channel.

    Parameters
    ----------
    images
        As of `inputs.one_case`.
    output
        The segmentation, in any format that can hold it, as its ending says; or a folder, which gets what
        `predict_folder` writes. Beside a file that is named there is no `prediction.json`.
    predictor, options, progress
        As of `predict_folder`.

    Raises
    ------
    DatasetError
        As `inputs.one_case` and `inputs.result_place`.
    NnunetError
        As `predict_folder`.
    """
    progress = progress or Silent()
    case, place = one_case(images, len(predictor.plan.channels)), result_place(output, images)
    if place.is_file:
        case, options = replace(case, name=place.name), replace(options, ending=place.ending)
    else:
        _require_another_folder(images[0].parent, output)
    require_declared_order(images[0].parent, predictor.plan, progress)
    return predict_cases(predictor, (case,), place.folder, options, progress)


def predict_cases(
    predictor: CasePredictor,
    cases: Sequence[Case],
    output_dir: Path,
    options: FolderOptions = FolderOptions(),
    progress: Progress | None = None,
    *,
    broken: Mapping[str, str] | None = None,
) -> FolderResult:
    """Predict cases whose files are known; parameters and errors as `predict_folder`.

    `broken` names cases that cannot be read, with the reason; they are told with those that fail.
    """
    content = settings(predictor.describe(), kept_labels(predictor.plan, options))
    return _run(predictor, cases, {output_dir: content}, options, progress, broken)


def predict_pairs(
    pairs: Pairs,
    cases: Sequence[Case],
    output_dirs: Sequence[Path],
    options: FolderOptions = FolderOptions(),
    progress: Progress | None = None,
) -> FolderResult:
    """Predict cases by every pair of configurations, each into its folder; otherwise as `predict_cases`."""
    contents = [settings(ensemble.describe(), ensemble.plan.labels) for ensemble in pairs.ensembles]
    return _run(pairs, cases, dict(zip(output_dirs, contents, strict=True)), options, progress)


def kept_labels(plan: Plan, options: FolderOptions) -> LabelSet:
    """Return the labels of what is written: all, or those to keep; a DatasetError where one is unknown."""
    return select_labels(plan.labels, options.labels) if options.labels else plan.labels


def _run(
    predictor: CasePredictor | Pairs,
    cases: Sequence[Case],
    contents: Mapping[Path, Mapping[str, Any]],
    options: FolderOptions,
    progress: Progress | None,
    broken: Mapping[str, str] | None = None,
) -> FolderResult:
    """Predict into folders, each with the content of its prediction.json; probabilities go into the first."""
    progress = progress or Silent()
    aside, kept = options.overwrite or options.own, kept_labels(predictor.plan, options)
    with ExitStack() as stack:
        results = [
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
        ]
        run = _Run(predictor, tuple(results), options, progress, Warnings(progress.say))
        return run.finish(cases, broken or {})


def _require_another_folder(input_dir: Path, output_dir: Path) -> None:
    if output_dir.is_dir() and output_dir.samefile(input_dir):
        raise DatasetError(
            f"{output_dir}: is the folder of the images, which segmentations would replace or be taken for; name "
            "another output folder (-o)"
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    """A case that can be predicted."""

    header: Header
    prepared: Any  # what the predictor's `prepare` returned
    release: Callable[[], None]  # gives back the memory that it holds of the budget


@dataclass(frozen=True, slots=True)
class _Run:
    """The pipeline: threads read and prepare the next cases, this one predicts, others write the last ones.

    Cases are predicted in the order in which they become ready: one that is slow to read or to write holds up no other.
    """

    predictor: CasePredictor | Pairs
    results: tuple[Results, ...]  # one folder, or one for every pair
    options: FolderOptions
    progress: Progress
    warn: Warnings
    failed: dict[str, str] = field(default_factory=dict)  # reasons by case name
    # For cases that are being read or wait for their turn.
    memory: Budget = field(default_factory=lambda: Budget(max(1, available_memory() // 2)))

    def finish(self, cases: Sequence[Case], broken: Mapping[str, str]) -> FolderResult:
        """Predict what is not finished; then raise if cases are broken or have failed."""
        todo = self._begin(cases)
        for name, reason in broken.items():
            self.fail(name, reason)
        with self.progress.task("predict", len(cases)) as task:
            task.advance(len(cases) - len(todo))
            self.all(todo, task)
        self.warn.finish()
        if self.failed:
            folder = self.results[0].outputs.folder
            raise NnunetError(_failures(self.failed, len(todo) + len(broken), folder))
        return FolderResult.of(cases, todo)

    def _begin(self, cases: Sequence[Case]) -> list[Case]:
        """Tell which cases are to be predicted, and see that their files may be written; nothing is, until all may."""
        wanted, left = {case.name for case in cases}, set[Case]()
        if not self.options.overwrite:
            found = [each.unfinished(cases) for each in self.results]
            wanted = {case.name for todo, _ in found for case in todo}
            left = {case for _, some in found for case in some if case.name not in wanted}
        todo = [case for case in cases if case.name in wanted]
        for each in self.results:
            each.require(todo)
        for each in self.results:
            each.begin(cases, alone=self.options.part[1] == 1)
        tell_left(left, self.progress)
        return todo

    def all(self, cases: Sequence[Case], task: Task) -> None:
        """Predict and write the cases; what goes wrong is in `failed`."""
        readers, writers = (ThreadPoolExecutor(SIDE_BY_SIDE) for _ in range(2))
        writing: dict[Future[None], Case] = {}
        try:
            for case, ready in self._as_ready(cases, readers):
                predicted = self._predict(case, ready.prepared, task)
                ready.release()
                if predicted is not None:
                    labels, staged = predicted
                    writing[writers.submit(self._write, case, labels, ready.header, staged)] = case
                    del labels
                del ready, predicted  # the next case needs the room
                self._written(writing, SIDE_BY_SIDE, task)
            self._written(writing, 0, task)
        finally:  # after Ctrl-C too: files that are being written become whole, the rest is not begun
            self.memory.stop()
            for pool in (readers, writers):
                pool.shutdown(wait=True, cancel_futures=True)

    def fail(self, case: str, reason: object) -> None:
        """Note that a case failed, and say so at once."""
        self.failed[case] = named(reason) if isinstance(reason, BaseException) else str(reason)
        self.progress.say(f"{case} failed: {self.failed[case]}")

    def _as_ready(self, cases: Sequence[Case], pool: ThreadPoolExecutor) -> Iterator[tuple[Case, _Ready]]:
        """Yield each case when it is ready, while the next ones are being read."""
        coming = iter(cases)
        waiting = {pool.submit(self._read, case): case for case in islice(coming, SIDE_BY_SIDE)}
        while waiting:
            wait(waiting, return_when=FIRST_COMPLETED)
            future = next(future for future in waiting if future.done())
            case = waiting.pop(future)
            waiting |= {pool.submit(self._read, follower): follower for follower in islice(coming, 1)}
            error = future.exception()
            if error is None:
                ready = future.result()
                del future  # which holds the case as well
                yield case, ready
                del ready
            else:
                self.fail(case.name, error)

    def _read(self, case: Case) -> _Ready:
        wanted = estimate_case_memory(case, len(self.predictor.plan.channels)).reading
        with ExitStack() as stack:
            stack.enter_context(self.memory.hold(min(wanted, self.memory.total)))
            volume = read_volume(case.images, case.name, self.warn)
            z, y, x = volume.data.shape[1:]
            remark = spacing_remark((z, y, x), volume.spacing, self.predictor.plan)
            if remark:
                self.progress.say(f"warning: {case.images[0]}: {remark}")
            prepared = self._prepare(case, volume)
            return _Ready(volume.header, prepared, stack.pop_all().close)

    def _prepare(self, case: Case, volume: Volume) -> Any:
        """Prepare an image; what is wrong with it is told with its files."""
        try:
            return self.predictor.prepare(volume, overwrite=True)
        except DatasetError as error:
            many = len(case.images) == 1 and volume.data.shape[0] > 1
            kind = " (of a 4-D file the last axis counts as channels)" if many else ""
            raise DatasetError(f"{', '.join(map(str, case.images))}: {error}{kind}") from error

    def _predict(self, case: Case, prepared: Any, task: Task) -> tuple[IntArray, Staged | None] | None:
        """Segment a case; with its labels goes the place where its probabilities wait for them."""
        first, staged = self.results[0], None
        try:
            if not first.probabilities:
                return self.predictor.predict_prepared(prepared, task), None
            segmentation, saved = first.files(case)[:2]
            staged = first.outputs.stage(segmentation.name, case.images)
            temporary = staged.folder / saved.name
            labels = self.predictor.predict_prepared(
                prepared, task, lambda target, case: ProbabilityFile(temporary, self.predictor.plan, target, case)
            )
        except Exception as error:  # whatever is wrong with one case, the others go on
            self.fail(case.name, error if staged is None else staged.as_placed(error))
            if staged is not None:
                staged.discard()
            return None
        return labels, staged

    def _write(self, case: Case, labels: IntArray, header: Header, staged: Staged | None) -> None:
        """Write a case's files; they get their names together, when all are whole."""
        parts = labels.reshape(len(self.results), *labels.shape[-3:])
        for each, part in zip(self.results, parts, strict=True):
            with staged or each.outputs.stage(each.files(case)[0].name, case.images) as place:
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
                else:
                    self.fail(case.name, error)


def _failures(failed: Mapping[str, str], count: int, output_dir: Path) -> str:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(failed.items()))
    good = count - len(failed)
    rest = f"the other {f'{good} are' if good > 1 else 'is'} written to {output_dir}" if good else "none is written"
    return f"{len(failed)} of {count} case{'s' if count > 1 else ''} failed, {rest}: {reasons}"
