"""What happened in each epoch, as metrics.jsonl keeps it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_rs.core.document import decode
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.files import write_bytes


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of metrics.jsonl."""

    epoch: int  # from 0
    iterations: int  # since the training began
    loss: float  # mean over the epoch's batches
    validation_loss: float | None  # mean over the validation batches; None: there were none
    dice: tuple[float | None, ...]  # on validation patches, per foreground class or region; None: it did not occur
    learning_rate: float  # of the last iteration
    seconds: float  # altogether
    seconds_waiting: float  # for data
    seconds_training: float  # forward, backward, optimiser
    seconds_validation: float  # with its own waiting

    @property
    def mean_dice(self) -> float | None:
        """Mean over the classes that occur; None where none does."""
        known = [value for value in self.dice if value is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True, slots=True)
class History:
    """All epochs of a training."""

    classes: tuple[str, ...]  # what the entries of Epoch.dice stand for
    epochs: tuple[Epoch, ...] = ()

    def with_epoch(self, epoch: Epoch) -> History:
        """Return the history with one more epoch."""
        return History(self.classes, (*self.epochs, epoch))

    @property
    def best(self) -> Epoch | None:
        """The epoch with the highest mean Dice on validation patches, the first of equals."""
        scored = [epoch for epoch in self.epochs if epoch.mean_dice is not None]
        return max(scored, key=lambda epoch: epoch.mean_dice or 0.0) if scored else None

    @classmethod
    def read(cls, path: Path, classes: Sequence[str]) -> History:
        """Read metrics.jsonl as `write` leaves it.

        Raises
        ------
        CheckpointError
            The file is missing, or a line is no epoch.
        """
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{path}: is not JSON, line by line: {error}") from error
        return cls(tuple(classes), tuple(_epoch(row, f"{path}, line {n}", classes) for n, row in enumerate(rows, 1)))

    def write(self, path: Path) -> None:
        """Write metrics.jsonl, whole: after a resumed training it holds no line of what was lost."""
        lines = (json.dumps({**asdict(epoch), "mean_dice": epoch.mean_dice}) for epoch in self.epochs)
        write_bytes(path, "".join(line + "\n" for line in lines).encode(), durable=False)


def _epoch(row: Any, where: str, classes: Sequence[str]) -> Epoch:
    known = {key: value for key, value in row.items() if key != "mean_dice"} if isinstance(row, dict) else row
    epoch = decode(Epoch, known, where, CheckpointError)
    if len(epoch.dice) != len(classes):
        raise CheckpointError(
            f"{where}: dice has {len(epoch.dice)} values: must have one for each of {len(classes)} classes"
        )
    return epoch


def known_or_none(values: Iterable[float]) -> tuple[float | None, ...]:
    """Replace NaN, which JSON cannot hold."""
    return tuple(None if math.isnan(value) else value for value in values)


def describe(epoch: Epoch, classes: Sequence[str], total: int | None) -> str:
    """Return an epoch as one line for people."""
    dice = ", ".join(
        f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in zip(classes, epoch.dice, strict=True)
    )
    count = f"{epoch.epoch + 1}/{total}" if total else f"{epoch.epoch + 1}"
    validation = "" if epoch.validation_loss is None else f" · validation {epoch.validation_loss:.4f} · Dice {dice}"
    return (
        f"epoch {count} · loss {epoch.loss:.4f}{validation} · rate {epoch.learning_rate:.2e} · {epoch.seconds:.1f} s "
        f"(waiting for data {epoch.seconds_waiting:.1f}, training {epoch.seconds_training:.1f}, "
        f"validation {epoch.seconds_validation:.1f})"
    )
