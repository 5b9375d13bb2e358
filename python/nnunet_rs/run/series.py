"""Several models of one work folder, each when what it needs is there, one after another or side by side."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from nnunet_rs.core.errors import CheckpointError, DatasetError, NnunetError, named
from nnunet_rs.core.locks import HeldError
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.stop_request import StopRequest, stop_requests
from nnunet_rs.core.text import clock
from nnunet_rs.core.workspace import ModelFolder, WorkFolder
from nnunet_rs.data.folds import count_folds
from nnunet_rs.data.store import open_store
from nnunet_rs.evaluate.summary import together
from nnunet_rs.model.cascade import next_stages
from nnunet_rs.model.config import new_config
from nnunet_rs.model.distributed import is_shared
from nnunet_rs.model.options import Model, TrainOptions
from nnunet_rs.plan.files import read_plan
from nnunet_rs.plan.schema import Plan
from nnunet_rs.report.tables import Table, number
from nnunet_rs.run.executor import Done, Executor, Handle, Job, Lost, Resources, Said
from nnunet_rs.run.jobs import note_planned
from nnunet_rs.run.local import local_executor
from nnunet_rs.run.one_model import ModelOptions, train_model
from nnunet_rs.run.queue import ModelOutcome, ModelQueue, OutcomeState, folder_of, resuming

PATIENCE = 0.5  # seconds between two looks at requests to stop


def every_model(work: Path, configuration: str | None = None) -> tuple[Model, ...]:
    """List the models of a work folder, or of one configuration: first stages first, second stages last, fold by fold.

    Raises
    ------
    PlanError, DatasetError
        Plan or folds are missing, or a configuration's cases are not prepared.
    """
    plan = read_plan(WorkFolder(work).plan_file)
    names = tuple(plan.configurations) if configuration is None else (configuration,)
    folds = range(count_folds(WorkFolder(work).splits_file))
    if configuration is None:
        for name in names:
            _require_prepared(work, plan, name)
        names = tuple(sorted(names, key=lambda name: _rank(plan, name)))
    return tuple(Model(name, fold) for name in names for fold in folds)


def _rank(plan: Plan, name: str) -> int:
    if plan.configurations[name].previous is not None:
        return 2
    return 0 if next_stages(plan, name) else 1


def _require_prepared(work: Path, plan: Plan, name: str) -> None:
    store = open_store(work, plan, name)
    if not store.names():
        raise DatasetError(
            f"{store.folder}: {name} has not been prepared; run nnunet-rs preprocess DATA -o {work}, or name the "
            "configuration to train"
        )


def train_series(
    work: Path,
    models: Sequence[Model],
    options: ModelOptions,
    devices: Sequence[str] = ("auto",),
    progress: Progress | None = None,
    *,
    executor: Executor | None = None,
) -> tuple[ModelOutcome, ...]:
    """Train models; where one fails, the others go on. Several processes may share the models of a work folder.

    A model that another process trains is left to it: the others come first, then it is waited for, and taken over if
    that process ends without finishing it.

    Parameters
    ----------
    work
        The work folder.
    models
        In the order in which they are begun; one that builds on others of the series waits for them.
    options
        Of every model, but for the device. With `resume` what was interrupted goes on and what is finished stays.
    devices
        One: models are trained one after another, in this process. Several: each has one model at a time, in a process
        of its own, which imports the program's main module anew: it must do nothing then.
    progress
        Where everything is reported; of processes, what they say.
    executor
        What trains instead of the `devices` of this machine: see `run.executor`. It is closed in the end.

    Returns
    -------
    tuple of ModelOutcome
        One per model, in order. SIGINT and SIGTERM stop what runs at its next iteration, resumable.

    Raises
    ------
    CheckpointError
        Models are finished, and neither `resume` nor `fresh` says what is to become of them.
    """
    progress = progress or Silent()
    _refuse_finished(work, models, options.training)
    queue = ModelQueue(work, read_plan(WorkFolder(work).plan_file), tuple(models), options, progress)
    note_planned(WorkFolder(work).jobs_folder, _planned_epochs(queue))
    _train_all(queue, executor or local_executor(devices, progress), progress)
    return tuple(queue.outcomes[model] for model in queue.models)


def _refuse_finished(work: Path, models: Sequence[Model], options: TrainOptions) -> None:
    if options.resume or options.fresh or options.new_cycle:
        return
    finished = [model for model in models if folder_of(work, model).is_finished()]
    if finished:
        more = f" (and {len(finished) - 1} more)" if finished[1:] else ""
        raise CheckpointError(
            f"{folder_of(work, finished[0]).path}: is trained already{more}; --resume keeps what is finished and "
            "trains the rest, --fresh trains all anew and keeps the old models aside"
        )


def _planned_epochs(queue: ModelQueue) -> dict[str, int | None]:
    """Return how many epochs models will have that are begun anew; what is there already says so itself."""
    found: dict[str, int | None] = {}
    for model in queue.models:
        if queue.options.training.fresh or not _is_begun(folder_of(queue.work, model)):
            with suppress(NnunetError):  # whoever trains it says what is wrong
                found[str(model)] = new_config(queue.options.training, queue.plan, model.configuration).epochs
    return found


def _is_begun(folder: ModelFolder) -> bool:
    return folder.has_checkpoint() or folder.is_finished()


def _with(resources: Resources, options: ModelOptions, folder: ModelFolder) -> ModelOptions:
    training = resuming(options.training, folder) if resources.again else options.training
    threads = resources.threads if training.threads is None else training.threads
    return replace(options, training=replace(training, device=resources.device, threads=threads))


def outcomes_table(outcomes: Sequence[ModelOutcome]) -> Table:
    """Show what became of models: a row each, and the mean of a configuration with several folds."""
    rows: list[tuple[str, ...]] = []
    for name in dict.fromkeys(outcome.model.configuration for outcome in outcomes):
        folds = [outcome for outcome in outcomes if outcome.model.configuration == name]
        rows += [
            (str(o.model), number(_dice(o)), clock(o.seconds) if o.seconds else "-", _SHOWN[o.state]) for o in folds
        ]
        scored = [outcome.summary for outcome in folds if outcome.summary is not None]
        if len(scored) > 1:
            mean = together(scored).foreground_mean("dice")
            rows.append((f"{name}, mean", number(mean), "", f"{len(scored)} of {len(folds)}"))
    several = any(row[0].endswith(", mean") for row in rows)
    note = "mean: over all cases of the folds together, as in best and the report" if several else ""
    return Table("", ("model", "Dice", "time", ""), tuple(rows), note)


_SHOWN: Mapping[OutcomeState, str] = {
    "trained": "trained",
    "done": "done before",
    "failed": "failed",
    "stopped": "stopped",
    "skipped": "not begun",
    "held": "is trained by another process",
}


def _dice(outcome: ModelOutcome) -> float:
    return math.nan if outcome.summary is None else outcome.summary.foreground_mean("dice")


def _train_all(queue: ModelQueue, executor: Executor, progress: Progress) -> None:
    """Hand models to the executor as it has room, and note what becomes of them, until nothing is left to do."""
    # A job in this process takes signals itself; the others are asked to stop by this one.
    with nullcontext(StopRequest()) if executor.in_process else stop_requests() as stop, closing(executor):
        running = _Running(queue, executor, progress, stop)
        while True:
            if stop.made and executor.outlives:
                running.leave()
                break
            if stop.made:
                running.cancel()
            else:
                running.submit()
            if running.models:
                running.wait()
            elif queue.held and not stop.made:
                running.sleep()
            else:
                break
    queue.close()


@dataclass(slots=True)
class _Running:
    """The models that an executor trains."""

    queue: ModelQueue
    executor: Executor
    progress: Progress
    stop: StopRequest
    models: dict[Handle, Model] = field(default_factory=dict)
    lost: dict[Model, int] = field(default_factory=dict)  # how often each was lost

    def submit(self) -> None:
        """Begin as many as there is room for."""
        while self.executor.free and (model := self.queue.take()) is not None:
            job = Job(str(model), _outcome, (self.queue.work, model, self.queue.options_for(model)))
            handle = self.executor.submit(job)
            self.models[handle] = model
            where = f", on {handle.where}" if handle.where else ""
            self.progress.say(self.queue.title(model) + where)

    def cancel(self) -> None:
        """Ask all to stop."""
        for handle in self.models:
            self.executor.cancel(handle)

    def leave(self) -> None:
        """Follow them no further; they go on."""
        for handle, model in self.models.items():
            self.queue.note(ModelOutcome(model, "held", reason=f"it goes on as {handle.where}"))

    def wait(self) -> None:
        """Pass on what is said, and note what is done."""
        for event in self.executor.wait(PATIENCE):
            if isinstance(event, Said):
                self.progress.say(f"{self.models[event.handle]}: {event.text}")
            else:
                self._note(event)

    def _note(self, event: Done | Lost) -> None:
        model = self.models.pop(event.handle)
        if isinstance(event, Done):
            outcome: ModelOutcome = event.value
        elif not (self.stop.made or event.wanted) and self.lost.get(model, 0) < self.executor.retries:
            self.lost[model] = self.lost.get(model, 0) + 1
            self.queue.begin_again(model)
            self.progress.say(f"{model}: {event.reason}; begun again, from its last checkpoint")
            return
        else:
            outcome = ModelOutcome(model, "stopped" if self.stop.made else "failed", reason=event.reason)
        self.queue.note(outcome)
        if not self.executor.in_process and outcome.state != "held":
            self.progress.say(f"{model}: {outcome.state}")
        if self.executor.in_process and outcome.state == "stopped":
            self.stop.signal = outcome.signal or signal.SIGINT  # another process of a shared training has it

    def sleep(self) -> None:
        """Give processes that do not belong to this series time to leave a model."""
        with stop_requests() as meanwhile:
            time.sleep(PATIENCE)
        self.stop.signal = self.stop.signal or meanwhile.signal


def _outcome(work: Path, model: Model, options: ModelOptions, resources: Resources, progress: Progress) -> ModelOutcome:
    """Make a model; an error is its outcome."""
    begun = time.monotonic()
    try:
        trained = train_model(work, model, _with(resources, options, folder_of(work, model)), progress)
    except HeldError as error:
        if is_shared():
            raise
        return ModelOutcome(model, "held", reason=str(error))
    except Exception as error:
        if is_shared():
            raise  # the other processes of this training would wait for ever
        said = named(error)
        return ModelOutcome(model, "failed", seconds=time.monotonic() - begun, reason=said)
    state: OutcomeState = "trained" if trained.training.finished else "stopped"
    return ModelOutcome(model, state, trained.summary, trained.training, time.monotonic() - begun)
