"""How far the models of a work folder are, from its files alone: whoever trains them, on whatever machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.locks import Holder, holder_of
from nnunet_rs.core.types import FoldName
from nnunet_rs.core.workspace import ModelFolder, WorkFolder
from nnunet_rs.data.folds import count_folds
from nnunet_rs.evaluate.scores import scored_targets
from nnunet_rs.evaluate.summary import read_summary
from nnunet_rs.model.config import TrainingConfig
from nnunet_rs.model.header import read_config
from nnunet_rs.model.history import History
from nnunet_rs.model.options import Model
from nnunet_rs.plan.files import read_plan
from nnunet_rs.plan.schema import Plan
from nnunet_rs.run.jobs import JobRecord, jobs_of
from nnunet_rs.run.slurm import ENGINE as SLURM
from nnunet_rs.run.slurm import queued_states

SILENT = 60.0  # seconds without a sign of life after which a process may be gone
_RECENT = 5  # epochs that tell how long the next ones will be
_TAIL = 4096  # bytes of a log in which its last line is looked for

State = Literal["done", "unscored", "running", "queued", "failed", "interrupted", "waiting"]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """How far one model is."""

    configuration: str
    fold: FoldName
    state: State
    epochs: int = 0  # finished
    of: int | None = None  # epochs in all; None: a time budget decides
    dice: float | None = None  # of held-out cases; of validation patches while it trains
    seconds_left: float | None = None  # of training
    where: str = ""  # machine and process, or the job
    since: str = ""
    note: str = ""  # why it failed, or waits; a sign of life that is missing
    log: str = ""
    cycle: int = 1  # 2: a finished model that is, or was, trained further, and so on

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"{self.configuration}, fold {self.fold}" + (f", cycle {self.cycle}" if self.cycle > 1 else "")


def work_status(work: Path) -> tuple[ModelStatus, ...]:
    """Return the status of every model of the plan, and of others that are there.

    Raises
    ------
    PlanError, DatasetError
        There is no plan, or it or the splits are damaged.
    """
    folder = WorkFolder(work)
    plan = read_plan(folder.plan_file)
    records = jobs_of(folder.jobs_folder)
    planned = {job.name: job.epochs for job in records if not job.engine}
    jobs = {job.name: job for job in records if job.engine}
    states = queued_states([job.id for job in jobs.values() if job.engine == SLURM])
    folds = range(count_folds(folder.splits_file)) if folder.splits_file.is_file() else ()
    places = [
        (Model(name, fold), folder.model(name, fold))
        for name in plan.configurations
        for fold in dict.fromkeys((*folds, *(m.fold for m in folder.models(name) if m.fold is not None)))
    ]
    return tuple(
        _status(plan, place, model, jobs.get(str(place)), states, planned.get(str(place))) for place, model in places
    )


def _status(
    plan: Plan,
    place: Model,
    model: ModelFolder,
    job: JobRecord | None,
    states: Mapping[str, str],
    planned: int | None,
) -> ModelStatus:
    held = holder_of(model.path)
    if model.is_finished() and not _is_trained_further(model, running=held is not None):
        return _finished(plan, place, model, planned)
    further = model.is_finished()
    training = model.next_cycle if further else model
    if further and job is not None and job.id not in states:
        job = None  # it trained the model that is finished
    history, config = _history(plan, training), _config(training)
    state, note = _at_rest(training, job, states)
    left: float | None = None
    since = ""
    where = f"SLURM job {job.id}" if job is not None and job.engine == SLURM and state in ("queued", "failed") else ""
    if held is not None:
        state, note, left, since = "running", _silence(held[1]), _left(history, config), held[0].since
        where = _where(held[0], job)
    return ModelStatus(
        place.configuration,
        place.fold,
        state,
        epochs=len(history.epochs),
        of=config.epochs if config else planned,
        dice=history.epochs[-1].mean_dice if history.epochs else None,
        seconds_left=left,
        where=where,
        since=since,
        note="; ".join(filter(None, (note, _before(model) if further else ""))),
        log=_log(job),
        cycle=_cycle(config, model if further else None),
    )


def _finished(plan: Plan, place: Model, model: ModelFolder, planned: int | None) -> ModelStatus:
    """Return the status of a finished model that is not trained further."""
    config, dice = _config(model), _dice(model)
    return ModelStatus(
        place.configuration,
        place.fold,
        "done" if dice is not None else "unscored",
        epochs=len(_history(plan, model).epochs),
        of=config.epochs if config else planned,
        dice=dice,
        cycle=config.cycle if config else 1,
    )


def _is_trained_further(model: ModelFolder, *, running: bool) -> bool:
    """Whether a new cycle on top of a finished model is under way: it has a checkpoint after its first epoch."""
    return model.next_cycle.has_checkpoint() or (running and model.next_cycle.path.is_dir())


def _cycle(config: TrainingConfig | None, finished: ModelFolder | None) -> int:
    """Return which cycle a training is: before its first checkpoint, the one after the finished model's."""
    if config is not None or finished is None:
        return 1 if config is None else config.cycle
    return _cycle(_config(finished), None) + 1


def _before(model: ModelFolder) -> str:
    """Say that the finished model is used meanwhile."""
    dice = _dice(model)
    return "the finished model serves until then" + (f" (Dice {dice:.3f})" if dice is not None else "")


def _at_rest(model: ModelFolder, job: JobRecord | None, states: Mapping[str, str]) -> tuple[State, str]:
    if job is not None and job.id in states:
        return "queued", states[job.id]
    if job is not None and job.engine == SLURM:
        return "failed", _last_line(Path(job.log))
    return ("interrupted", "") if model.has_checkpoint() else ("waiting", "")


def _history(plan: Plan, model: ModelFolder) -> History:
    names = tuple(target.name for target in scored_targets(plan.labels))
    with suppress(NnunetError):
        if model.metrics_file.is_file():
            return History.read(model.metrics_file, names)
    return History(names)


def _config(model: ModelFolder) -> TrainingConfig | None:
    with suppress(NnunetError):
        config = read_config(model.path)
        return None if config is None or "epochs" in config.unknown else config
    return None


def _dice(model: ModelFolder) -> float | None:
    with suppress(NnunetError):
        if model.summary_file.is_file():
            return read_summary(model.summary_file).foreground_mean("dice")
    return None


def _left(history: History, config: TrainingConfig | None) -> float | None:
    """Estimate how long the rest takes: by the last epochs, or by the time budget."""
    if config is None or not history.epochs:
        return None
    if config.epochs is not None:
        rest = max(0, config.epochs - len(history.epochs))
        return rest * median(epoch.seconds for epoch in history.epochs[-_RECENT:])
    if config.time_budget is not None:
        return max(0.0, config.time_budget - sum(epoch.seconds for epoch in history.epochs))
    return None


def _where(holder: Holder, job: JobRecord | None) -> str:
    task = f", SLURM job {job.id}" if job is not None and job.engine == SLURM else ""
    return f"{holder.host}, process {holder.process}{task}"


def _silence(touched: float) -> str:
    quiet = time.time() - touched
    return f"no sign of life for {quiet:.0f} s" if quiet > SILENT else ""


def _log(job: JobRecord | None) -> str:
    return "" if job is None else job.log


def _last_line(log: Path) -> str:
    """Return the last line that a job wrote on standard error, or else on standard output."""
    for path in (log.with_name(log.name.replace("_log.out", "_log.err")), log):
        for line in reversed(list(_tail(path))):
            if line.strip():
                return line.strip()
    return "ended without a word"


def _tail(path: Path) -> Iterator[str]:
    with suppress(OSError), path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _TAIL))
        yield from stream.read().decode(errors="replace").splitlines()
