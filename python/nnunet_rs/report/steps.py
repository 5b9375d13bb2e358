"""What a work folder lacks, and the command that makes it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nnunet_rs.core.workspace import DATASET_JSON
from nnunet_rs.data.store import prepared_name
from nnunet_rs.model.config import command_words, own_words
from nnunet_rs.report.workfolder import Training, WorkContents


@dataclass(frozen=True, slots=True)
class Step:
    """Something that is missing."""

    stage: str  # preprocess, train, validate, best
    what: str  # a sentence without its full stop
    command: str  # what makes it


def missing_steps(work: WorkContents) -> tuple[Step, ...]:
    """List what could still be made, in the order in which it is made."""
    return (*_preparing(work), *_training(work), *_choosing(work))


def steps_of(steps: tuple[Step, ...], *stages: str) -> tuple[Step, ...]:
    """Return those of some stages."""
    return tuple(step for step in steps if step.stage in stages)


def command(*words: object) -> str:
    """Write a command line that can be copied into a shell; `--option` and the like stay as they are."""
    return " ".join(("nnunet-rs", *(shlex.quote(str(word)) for word in words)))


def _preparing(work: WorkContents) -> Iterator[Step]:
    """Name the configurations whose cases are not all prepared; none is one command."""
    wanted = max(len(work.names), 1)
    stores = dict.fromkeys(prepared_name(work.plan, c) for c in work.plan.configurations)
    lacking = {name: there for name in stores if (there := len(work.prepared.get(name, ()))) < wanted}
    begin = ("preprocess", _data(work), "-o", work.path)
    if len(lacking) == len(stores) and not any(lacking.values()):
        yield Step("preprocess", "no case is prepared", command(*begin))
        return
    for name, there in lacking.items():
        some = f"only {there} of {wanted} cases are" if there else "no case is"
        yield Step("preprocess", f"{some} prepared for {name}", command(*begin, "-c", name))


def _training(work: WorkContents) -> Iterator[Step]:
    """Name trainings that are unfinished, and configurations of which no fold, or not every fold, is trained."""
    for training in work.trainings:
        if training.metadata is None:
            done = len(training.history.epochs)
            what = f"the training of {training.name} is not finished ({done} epochs so far)"
            yield Step("train", what, _resume(work, training))
        elif training.summary is None:
            what = f"the validation cases of {training.name} are not predicted"
            yield Step("validate", what, _resume(work, training))
    for name in work.plan.configurations:
        yield from _untrained(work, name, work.of(name))


def _resume(work: WorkContents, training: Training) -> str:
    """Write the command that goes on: all is as it was, but functions of the user's own are named again."""
    own = () if training.config is None else own_words(training.config)
    return _train(work, training.configuration, training.fold, "--resume", *own)


def _untrained(work: WorkContents, name: str, trainings: tuple[Training, ...]) -> Iterator[Step]:
    begun = {training.fold for training in trainings}
    like = next((training.config for training in trainings if training.config is not None), None)
    words = () if like is None else command_words(like, work.plan, name)
    rest = [fold for fold in range(len(work.folds)) if fold not in begun]
    if begun and rest:
        folds = f"fold {rest[0]} is" if len(rest) == 1 else f"folds {', '.join(map(str, rest))} are"
        yield Step("train", f"{folds} not trained in {name}", _train(work, name, rest[0], *words))
    elif not begun:
        yield Step("train", f"{name} is not trained", _train(work, name, 0))


def _train(work: WorkContents, configuration: str, fold: int, *more: str) -> str:
    return command("train", work.path, "-c", configuration, "-f", fold, *more)


def _choosing(work: WorkContents) -> Iterator[Step]:
    if work.choice is None:
        yield Step("best", "configuration and post-processing are not chosen", command("best", work.path))


def _data(work: WorkContents) -> Path | str:
    """Guess where the dataset is; DATA where nobody knows."""
    if work.dataset is not None and work.dataset.training:
        root = work.dataset.training[0].images[0].parent.parent
        if (root / DATASET_JSON).is_file():
            return root
    return "DATA"
