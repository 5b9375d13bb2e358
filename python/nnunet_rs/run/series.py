"""Several models of one work folder, each when what it needs is there, one after another or side by side."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nnunet_rs.core.errors import CheckpointError, DatasetError, named
from nnunet_rs.core.locks import HeldError
from nnunet_rs.core.resources import processors
from nnunet_rs.core.text import clock
from nnunet_rs.core.types import Progress, Silent
from nnunet_rs.core.worker import LostError, Result, Said, Worker
from nnunet_rs.data.folds import count_folds
from nnunet_rs.data.store import open_store
from nnunet_rs.evaluate.summary import together
from nnunet_rs.model.cascade import next_stages
from nnunet_rs.model.distributed import is_shared
from nnunet_rs.model.metadata import METADATA
from nnunet_rs.model.options import Model, TrainOptions
from nnunet_rs.model.stop_request import stop_requests
from nnunet_rs.plan.schema import Plan, read_plan
from nnunet_rs.report.tables import Table, number
from nnunet_rs.run.one_model import ModelOptions, train_model
from nnunet_rs.run.queue import ModelQueue, Outcome, State, folder_of

PATIENCE = 0.5  # seconds between two looks at whether somebody wishes to stop


def every_model(work: Path, configuration: str | None = None) -> tuple[Model, ...]:
    """List the models of a work folder, or of one configuration: first stages first, second stages last, fold by fold.

    Raises
    ------
    PlanError, DatasetError
        Plan or folds are missing, or a configuration's cases are not prepared.
    """
    plan = read_plan(work / "plan.json")
    names = tuple(plan.configurations) if configuration is None else (configuration,)
    folds = range(count_folds(work / "splits.json"))
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
) -> tuple[Outcome, ...]:
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
        Told of everything; of processes, what they say.

    Returns
    -------
    tuple of Outcome
        One per model, in order. SIGINT and SIGTERM stop what runs at its next iteration, resumable.

    Raises
    ------
    CheckpointError
        Models are finished, and neither `resume` nor `fresh` says what is to become of them.
    """
    progress = progress or Silent()
    _refuse_finished(work, models, options.training)
    queue = ModelQueue(work, read_plan(work / "plan.json"), tuple(models), options, progress)
    if len(devices) == 1:
        _one_after_another(queue, devices[0], progress)
    else:
        _side_by_side(queue, tuple(devices), progress)
    return tuple(queue.outcomes[model] for model in queue.models)


def _refuse_finished(work: Path, models: Sequence[Model], options: TrainOptions) -> None:
    if options.resume or options.fresh:
        return
    finished = [model for model in models if (folder_of(work, model) / METADATA).is_file()]
    if finished:
        more = f" (and {len(finished) - 1} more)" if finished[1:] else ""
        raise CheckpointError(
            f"{folder_of(work, finished[0])}: is trained already{more}; --resume keeps what is finished and trains the "
            "rest, --fresh trains all anew and keeps the old models aside"
        )


def _on(device: str, options: ModelOptions, beside: int = 1) -> ModelOptions:
    """Options on a device; models side by side share the processors."""
    threads = options.training.threads
    if threads is None and beside > 1:
        threads = max(1, processors() // beside)
    return replace(options, training=replace(options.training, device=device, threads=threads))


def outcomes_table(outcomes: Sequence[Outcome]) -> Table:
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


_SHOWN: Mapping[State, str] = {
    "trained": "trained",
    "there": "was there",
    "failed": "failed",
    "stopped": "stopped",
    "waiting": "not begun",
    "held": "is trained by another process",
}


def _dice(outcome: Outcome) -> float:
    return math.nan if outcome.summary is None else outcome.summary.foreground_mean("dice")


def _one_after_another(queue: ModelQueue, device: str, progress: Progress) -> None:
    while True:
        model = queue.take()
        if model is None and not queue.held:
            break
        if model is None:
            if _wait(queue):
                break
            continue
        progress.say(queue.title(model))
        outcome = _outcome(queue.work, model, _on(device, queue.settings(model)), progress)
        queue.note(outcome)
        if outcome.state == "stopped":
            break
    queue.close()


def _wait(queue: ModelQueue) -> bool:
    """Wait until another process leaves a model; returns whether somebody wishes to stop instead."""
    waited = len(queue.held)
    with stop_requests() as stop_request:
        while len(queue.held) == waited and not stop_request.made:
            time.sleep(PATIENCE)
            queue.look()
    return stop_request.made


def _side_by_side(queue: ModelQueue, devices: tuple[str, ...], progress: Progress) -> None:
    """Keep every device busy; this process only hands models out and listens."""
    workers = _Workers(queue, devices, progress)
    with stop_requests() as stop_request:
        try:
            while workers.submit(0 if stop_request.made else len(devices)) or (queue.held and not stop_request.made):
                if stop_request.made:
                    workers.stop()
                workers.listen()
                queue.look()
        finally:
            workers.kill()
    queue.close()


@dataclass(slots=True)
class _Workers:
    """The processes that train: one at most on each device."""

    queue: ModelQueue
    devices: tuple[str, ...]
    progress: Progress
    running: dict[Worker, tuple[int, Model]] = field(default_factory=dict)  # the device's place in the list
    stopping: bool = False

    def submit(self, places: int) -> int:
        """Begin models on free devices; returns how many are in training."""
        busy = {place for place, _ in self.running.values()}
        for place in (place for place in range(places) if place not in busy):
            model = self.queue.take()
            if model is None:
                break
            device = self.devices[place]
            self.progress.say(f"{self.queue.title(model)}, on {device}")
            options = _on(device, self.queue.settings(model), len(self.devices))
            self.running[Worker.start(_outcome, self.queue.work, model, options)] = place, model
        return len(self.running)

    def listen(self) -> None:
        """Pass on what is said, and note what is done."""
        for worker in Worker.audible(self.running, PATIENCE):
            model = self.running[worker][1]
            try:
                heard = worker.receive()
            except LostError as error:
                heard = Result(Outcome(model, "stopped" if self.stopping else "failed", reason=str(error)))
            if isinstance(heard, Said):
                self.progress.say(f"{model}: {heard.text}")
                continue
            del self.running[worker]
            self.queue.note(heard.value)
            if heard.value.state != "held":
                self.progress.say(f"{model}: {heard.value.state}")

    def stop(self) -> None:
        """Ask all to stop, once: a second signal would not be a wish."""
        if not self.stopping:
            self.stopping = True
            for worker in self.running:
                worker.ask_to_stop()

    def kill(self) -> None:
        """End what still runs."""
        for worker in self.running:
            worker.kill()


def _outcome(work: Path, model: Model, options: ModelOptions, progress: Progress) -> Outcome:
    """Make a model; whatever is wrong with it is its outcome."""
    begun = time.monotonic()
    try:
        trained = train_model(work, model, options, progress)
    except HeldError as error:
        if is_shared():
            raise
        return Outcome(model, "held", reason=str(error))
    except Exception as error:
        if is_shared():
            raise  # the other processes of this training would wait for ever
        said = named(error)
        return Outcome(model, "failed", seconds=time.monotonic() - begun, reason=said)
    state: State = "trained" if trained.training.finished else "stopped"
    return Outcome(model, state, trained.summary, trained.training, time.monotonic() - begun)
