"""Models to train, shared with other processes: which is next, what became of each, and who trains the others."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from nnunet_rs.core.errors import CheckpointError, DatasetError, NnunetError
from nnunet_rs.core.locks import is_held
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.workspace import ModelFolder, WorkFolder
from nnunet_rs.evaluate.summary import Summary, read_summary
from nnunet_rs.model.begin import require_same_training
from nnunet_rs.model.next_cycle import is_done
from nnunet_rs.model.options import Model, TrainOptions, TrainResult
from nnunet_rs.plan.schema import Plan
from nnunet_rs.run.one_model import ModelOptions

LOOK = 10.0  # seconds between two looks at what other processes train

OutcomeState = Literal["trained", "done", "failed", "stopped", "skipped", "held"]


@dataclass(frozen=True, slots=True)
class ModelOutcome:
    """What became of a model."""

    model: Model
    # done: trained and scored before; skipped: what it needs has failed, or the series was stopped; held: another
    # process trains it
    state: OutcomeState
    summary: Summary | None = None
    training: TrainResult | None = None
    seconds: float = 0.0  # all in all
    reason: str = ""  # why it failed or was skipped

    @property
    def usable(self) -> bool:
        """Whether the model can be used."""
        return self.state in ("trained", "done")

    @property
    def signal(self) -> int | None:
        """The signal that stopped the training."""
        return None if self.training is None else self.training.signal


@dataclass(slots=True)
class ModelQueue:
    """Models to train, and what became of them."""

    work: Path
    plan: Plan
    models: tuple[Model, ...]
    options: ModelOptions
    progress: Progress
    outcomes: dict[Model, ModelOutcome] = field(default_factory=dict)
    begun: set[Model] = field(default_factory=set)
    held: dict[Model, str] = field(default_factory=dict)  # by whom
    before: dict[Model, object] = field(default_factory=dict)  # what was there when the series began
    looked: float = 0.0  # when the last time

    def __post_init__(self) -> None:
        self.before = {model: _stamp(self.work, model) for model in self.models}

    def take(self) -> Model | None:
        """Return a model that can be trained now; one that another process has left comes after all others."""
        model = self._next()
        if model is None:
            self._look()
            model = self._next()
        return model

    def _next(self) -> Model | None:
        """Return a model that can be trained; mark those that are finished or cannot be trained any more."""
        for model in self.models:
            if model in self.begun or model in self.held:
                continue
            needed = self._needed(model)
            lost = [other for other in needed if other in self.outcomes and not self.outcomes[other].usable]
            if lost:
                self.begun.add(model)
                self.outcomes[model] = ModelOutcome(model, "skipped", reason=f"needs {lost[0]}")
            elif all(other in self.outcomes for other in needed):
                self.begun.add(model)
                there = self._there(model)
                if there is None:
                    return model
                self.outcomes[model] = there
                return self._next()  # others may have waited for it
        return None

    def begin_again(self, model: Model) -> None:
        """Put a model back whose process died."""
        self.begun.discard(model)

    def note(self, outcome: ModelOutcome) -> None:
        """Note what became of a model; one that another process trains is looked at again later."""
        if outcome.state != "held":
            self.outcomes[outcome.model] = outcome
            return
        self.begun.discard(outcome.model)
        self.held[outcome.model] = outcome.reason
        self.progress.say(f"{outcome.model}: left to another process; {outcome.reason}")

    def _look(self) -> None:
        """Look, now and then, which models other processes have left."""
        now = time.monotonic()
        if self.held and now - self.looked >= LOOK:
            self.looked = now
            for model in [model for model in self.held if not is_held(folder_of(self.work, model).path)]:
                del self.held[model]

    def options_for(self, model: Model) -> ModelOptions:
        """Return a model's options: to resume where something was begun, and that is wanted or was since."""
        options, folder = self.options.training, folder_of(self.work, model)
        if self._stays(model):
            options = resuming(options, folder)
        return replace(self.options, training=options)

    def close(self) -> None:
        """Mark what has not begun."""
        for model in self.models:
            reason = self.held.get(model, "stopped before its turn")
            self.outcomes.setdefault(
                model, ModelOutcome(model, "held" if model in self.held else "skipped", reason=reason)
            )

    def title(self, model: Model) -> str:
        """Say which of how many."""
        return f"{model} ({self.models.index(model) + 1} of {len(self.models)})"

    def _stays(self, model: Model) -> bool:
        """Whether what is there stays: always, or because another process of the same kind has made it since."""
        return self.options.training.resume or _stamp(self.work, model) != self.before[model]

    def _there(self, model: Model) -> ModelOutcome | None:
        """Return the outcome of a model that is finished and stays."""
        found = _finished(self.work, model) if self._stays(model) and not self._goes_on(model) else None
        if found is None:
            return None
        try:
            require_same_training(folder_of(self.work, model).path, self.options.training, self.progress)
        except NnunetError as error:
            self.progress.say(f"{model}: {error}")
            return ModelOutcome(model, "failed", reason=str(error))
        self.progress.say(f"{model}: is trained and scored already")
        return ModelOutcome(model, "done", found)

    def _goes_on(self, model: Model) -> bool:
        """Whether a finished model is trained further: a new cycle is under way, or asked for and was not there."""
        options, folder = replace(self.options.training, resume=True), folder_of(self.work, model)
        if not folder.is_finished():
            return False
        with suppress(CheckpointError):  # of a damaged model `_there` tells
            return folder.next_cycle.has_checkpoint() or (options.new_cycle and not is_done(folder, options))
        return False

    def _needed(self, model: Model) -> tuple[Model, ...]:
        """List the models of this series that a model's training builds on."""
        first = self.plan.configurations[model.configuration].previous
        return tuple(other for other in self.models if other.configuration == first)


def resuming(options: TrainOptions, folder: ModelFolder) -> TrainOptions:
    """Return the options that keep what is in a fold's folder: it is resumed, if anything was begun."""
    return replace(options, resume=folder.has_checkpoint() or folder.is_finished(), fresh=False)


def _stamp(work: Path, model: Model) -> tuple[tuple[int, int] | None, ...]:
    """Return what changes whenever a model, or a checkpoint, is written."""
    found: list[tuple[int, int] | None] = []
    folder = folder_of(work, model)
    for path in (folder.metadata_file, folder.checkpoint_file):
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_ino))
    return tuple(found)


def folder_of(work: Path, model: Model) -> ModelFolder:
    """Return where a model is."""
    return WorkFolder(work).model(model.configuration, model.fold)


def _finished(work: Path, model: Model) -> Summary | None:
    """Return the scores of a model that is trained and scored, and not being trained anew."""
    folder = folder_of(work, model)
    scores = folder.summary_file
    if not folder.is_finished() or folder.has_checkpoint() or not scores.is_file():
        return None
    if scores.stat().st_mtime_ns < folder.metadata_file.stat().st_mtime_ns:
        return None
    try:
        return read_summary(scores)
    except DatasetError:
        return None
