"""How the trainings went: curves and times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from nnunet_rs.core.text import clock, counted
from nnunet_rs.model.history import Epoch
from nnunet_rs.report.blocks import Block, Charts, Folded, Missing, Section
from nnunet_rs.report.charts import Chart, Line, Scale, lines
from nnunet_rs.report.sections.patches import patch_blocks
from nnunet_rs.report.steps import Step, steps_of
from nnunet_rs.report.tables import Table, number
from nnunet_rs.report.workfolder import Training, WorkContents

MOST_CLASSES = 14  # curves in one drawing: each has its own colour and dashes
_EPOCH = Scale("epoch", whole=True)


def training_section(work: WorkContents, steps: tuple[Step, ...]) -> Section:
    """Show loss, Dice and learning rate of every fold, and where the time went."""
    return Section("training", "Training", tuple(_blocks(work, steps)))


def _blocks(work: WorkContents, steps: tuple[Step, ...]) -> Iterator[Block]:
    begun = [training for training in work.trainings if training.history.epochs]
    if not begun:
        yield Missing("Nothing is trained yet.", steps_of(steps, "train"))
        return
    for name in dict.fromkeys(training.configuration for training in begun):
        yield from _curves(name, [training for training in begun if training.configuration == name])
    yield from patch_blocks(work)
    yield _times(begun)
    unfinished = tuple(step for step in steps_of(steps, "train") if "--resume" in step.command)
    if unfinished:
        yield Missing("Unfinished trainings go on where they stopped.", unfinished)


def _curves(name: str, trainings: Sequence[Training]) -> Iterator[Block]:
    charts = (
        lines(
            "Loss",
            [line for training in trainings for line in _losses(training, len(trainings) > 1)],
            _EPOCH,
            Scale("loss"),
        ),
        lines(
            "Mean Dice on validation patches",
            [_line(training, f"fold {training.fold}", lambda epoch: epoch.mean_dice) for training in trainings],
            _EPOCH,
            Scale("Dice", (0, 1)),
        ),
        lines(
            "Learning rate",
            [_line(training, f"fold {training.fold}", lambda epoch: epoch.learning_rate) for training in trainings],
            _EPOCH,
            Scale("rate", (0, None)),
        ),
    )
    caption = (
        "Strong lines are the loss on validation patches, faint ones of the same colour that of training. Dice here is "
        "measured on patches, as a sign of progress; the scores below are of whole cases."
    )
    yield Charts(charts, caption, name)
    classes = tuple(chart for training in trainings for chart in _by_class(training))
    if classes:
        yield Folded(f"{name}: Dice on validation patches, class by class", (Charts(classes, ""),))


def _losses(training: Training, several: bool) -> Iterator[Line]:
    style = training.fold + 1
    yield _line(training, f"fold {training.fold}" if several else "validation", lambda epoch: epoch.validation_loss)
    trained = _line(training, "" if several else "training", lambda epoch: epoch.loss)
    yield Line(trained.name, trained.x, trained.y, style, faint=True)


def _line(training: Training, name: str, value: Callable[[Epoch], float | None], style: int | None = None) -> Line:
    """Collect what is known of each epoch."""
    points = [(epoch.epoch + 1, known) for epoch in training.history.epochs if (known := value(epoch)) is not None]
    return Line(name, [x for x, _ in points], [y for _, y in points], style or training.fold + 1)


def _by_class(training: Training) -> Iterator[Chart]:
    classes = training.history.classes[:MOST_CLASSES]
    if len(training.history.classes) > 1:
        curves = [_line(training, name, _dice_of(place), place + 1) for place, name in enumerate(classes)]
        yield lines(f"Fold {training.fold}", curves, _EPOCH, Scale("Dice", (0, 1)))


def _dice_of(place: int) -> Callable[[Epoch], float | None]:
    return lambda epoch: epoch.dice[place] if place < len(epoch.dice) else None


def _times(trainings: Sequence[Training]) -> Table:
    rows = tuple(_time_row(training) for training in trainings)
    head = ("training", "state", "recipe", "batches", "time", "an epoch", "waiting for data", "loss", "Dice on patches")
    note = "Time is that of the epochs; interruptions do not count."
    return Table("Times and ends of the trainings", head, rows, note)


def _time_row(training: Training) -> tuple[str, ...]:
    epochs = training.history.epochs
    seconds = sum(epoch.seconds for epoch in epochs)
    busy = sum(epoch.seconds_training + epoch.seconds_waiting for epoch in epochs)
    waiting = sum(epoch.seconds_waiting for epoch in epochs) / busy if busy else 0.0
    last = epochs[-1]
    return (
        training.name,
        f"finished, {counted(len(epochs), 'epoch')}"
        if training.metadata
        else f"stopped after {counted(len(epochs), 'epoch')}",
        training.metadata.config.recipe if training.metadata else "-",
        str(last.iterations),
        clock(seconds),
        clock(seconds / len(epochs)),
        f"{waiting:.1%}",
        number(last.loss),
        number(last.mean_dice),
    )
