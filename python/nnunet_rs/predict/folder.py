"""Predict a folder of images: reading, predicting and writing overlap, and one bad case does not stop the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nnunet_rs.core.dataset import find_input_cases, strip_ending
from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.core.files import read_json, write_atomically, write_json
from nnunet_rs.core.io import read_volume, write_labels
from nnunet_rs.core.types import Case, Header, IntArray, Progress, Silent, Task, Volume
from nnunet_rs.plan.schema import Plan
from nnunet_rs.predict.predictor import SinkMaker
from nnunet_rs.predict.probabilities import ENDING, ProbabilityFile

SETTINGS = "prediction.json"  # beside the segmentations: what they were made with


class CasePredictor(Protocol):
    """What predicts a case in two steps, so that the first can run ahead: a Predictor, an Ensemble, the chosen one."""

    @property
    def plan(self) -> Plan:
        """Labels and channels."""

    def describe(self) -> dict[str, Any]:
        """Return what determines the results."""

    def prepare(self, volume: Volume) -> Any:
        """Bring an image to the network's grid."""

    def predict_prepared(self, prepared: Any, task: Task | None = None, make_sink: SinkMaker | None = None) -> IntArray:
        """Segment what `prepare` returned: file values (z, y, x) on the image's grid."""


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """What is written, and what is left alone."""

    save_probabilities: bool = False  # also {case}.b2nd, float16
    overwrite: bool = False  # predict again what is finished
    part: tuple[int, int] = (0, 1)  # (i, n): only every n-th case from the i-th on, counted from 0


@dataclass(frozen=True, slots=True)
class FolderResult:
    """What became of the cases."""

    written: tuple[str, ...]  # case names, predicted now
    skipped: tuple[str, ...]  # finished before


def predict_folder(
    predictor: CasePredictor,
    input_dir: Path,
    output_dir: Path,
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
        made with. A case is finished where its segmentation is newer than its images and than that file: a rerun with
        the same model and settings goes on, one with others begins anew.
    options
        See FolderOptions.
    progress
        Told of every case.

    Raises
    ------
    DatasetError
        A folder that is missing or holds no image, or a wrong number of channels.
    NnunetError
        Cases that failed, each with its reason, after all others were written.
    """
    cases = find_input_cases(input_dir, len(predictor.plan.channels))
    index, count = options.part
    if not 0 <= index < count:
        raise DatasetError(f"part {index} of {count}: the part must be 0 to {count - 1}")
    return predict_cases(predictor, cases[index::count], output_dir, options, progress)


def predict_cases(
    predictor: CasePredictor,
    cases: Sequence[Case],
    output_dir: Path,
    options: FolderOptions = FolderOptions(),
    progress: Progress | None = None,
) -> FolderResult:
    """Predict cases whose files are known; parameters and errors as `predict_folder`."""
    _write_settings(predictor, output_dir)
    skipped = [] if options.overwrite else [case for case in cases if _finished(case, output_dir, options)]
    todo = [case for case in cases if case not in skipped]
    run = _Run(predictor, output_dir, options.save_probabilities, {})
    with (progress or Silent()).task("predict", len(cases)) as task:
        task.advance(len(skipped))
        run.all(todo, task)
    if run.failed:
        raise NnunetError(_failures(run.failed, len(todo), output_dir))
    return FolderResult(tuple(case.name for case in todo), tuple(case.name for case in skipped))


def segmentation_path(case: Case, output_dir: Path) -> Path:
    """Where a case's segmentation goes: its name, in its images' format."""
    name = case.images[0].name
    return output_dir / (case.name + name[len(strip_ending(name)) :])


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    """A case that can be predicted."""

    header: Header
    prepared: Any  # what the predictor's `prepare` returned


@dataclass(frozen=True, slots=True)
class _Run:
    """The pipeline: one thread reads and prepares the next case, this one predicts, another writes the last."""

    predictor: CasePredictor
    output: Path
    save_probabilities: bool
    failed: dict[str, Exception]

    def all(self, cases: Sequence[Case], task: Task) -> None:
        writing: tuple[Case, Future[None]] | None = None
        with ExitStack() as stack:
            reader, writer = (stack.enter_context(_pool()) for _ in range(2))
            for case, ready in self._read_ahead(cases, reader):
                labels = None if ready is None else self._predict(case, ready.prepared, task)
                self._finish(writing, task)
                writing = None
                if labels is None or ready is None:
                    task.advance(0, f"{case.name} failed")
                else:
                    writing = (case, writer.submit(self._write, case, labels, ready.header))
            self._finish(writing, task)

    def _read_ahead(self, cases: Sequence[Case], reader: ThreadPoolExecutor) -> Iterator[tuple[Case, _Ready | None]]:
        """Yield each case as it is ready, None where that failed, while the next one is being read."""
        waiting = [reader.submit(self._read, case) for case in cases[:1]]
        for index, case in enumerate(cases):
            reading = waiting.pop()
            ready = None
            try:
                ready = reading.result()
            except Exception as error:  # whatever is wrong with one case, the others go on
                self.failed[case.name] = error
            waiting = [reader.submit(self._read, follower) for follower in cases[index + 1 : index + 2]]
            yield case, ready

    def _read(self, case: Case) -> _Ready:
        volume = read_volume(case.images, case.name)
        return _Ready(volume.header, self.predictor.prepare(volume))

    def _predict(self, case: Case, prepared: Any, task: Task) -> IntArray | None:
        try:
            if not self.save_probabilities:
                return self.predictor.predict_prepared(prepared, task)
            with write_atomically(self.output / (case.name + ENDING)) as temporary:
                return self.predictor.predict_prepared(
                    prepared, task, lambda target, case: ProbabilityFile(temporary, self.predictor.plan, target, case)
                )
        except Exception as error:
            self.failed[case.name] = error
            return None

    def _write(self, case: Case, labels: IntArray, header: Header) -> None:
        write_labels(segmentation_path(case, self.output), labels, header)

    def _finish(self, writing: tuple[Case, Future[None]] | None, task: Task) -> None:
        if writing is None:
            return
        case, write = writing
        try:
            write.result()
            task.advance(0, case.name)
        except Exception as error:
            self.failed[case.name] = error


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1)


def _write_settings(predictor: CasePredictor, output_dir: Path) -> None:
    """Say what the segmentations of a folder are made with; an unchanged file keeps its date."""
    path, settings = output_dir / SETTINGS, predictor.describe()
    if path.is_file():
        try:
            if read_json(path) == settings:
                return
        except DatasetError:
            pass  # not ours or damaged: what lies there is predicted anew
    write_json(path, settings)


def _finished(case: Case, output_dir: Path, options: FolderOptions) -> bool:
    wanted = [segmentation_path(case, output_dir)]
    if options.save_probabilities:
        wanted.append(output_dir / (case.name + ENDING))
    if not all(path.is_file() for path in wanted):
        return False
    made = min(path.stat().st_mtime_ns for path in wanted)
    sources = (output_dir / SETTINGS, *case.images)
    return all(path.stat().st_mtime_ns <= made for path in sources if path.is_file())


def _failures(failed: dict[str, Exception], count: int, output_dir: Path) -> str:
    reasons = "; ".join(f"{name}: {str(error) or type(error).__name__}" for name, error in sorted(failed.items()))
    rest = f"the other {count - len(failed)} are written to {output_dir}" if count > len(failed) else "none is written"
    return f"{len(failed)} of {count} cases failed, {rest}: {reasons}"
