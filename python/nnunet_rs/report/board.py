"""A training's epochs for TensorBoard, where that is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rs.core.errors import NnunetError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from nnunet_rs.model.history import Epoch, History

BOARD = "tensorboard"  # folder in a fold's model folder


@contextmanager
def board(folder: Path) -> Iterator[Callable[[History], None]]:
    """Open a TensorBoard record; yields what adds an epoch to it.

    Parameters
    ----------
    folder
        Of the model; events go to FOLDER/tensorboard. After `--resume` what was written of later epochs is superseded.

    Raises
    ------
    NnunetError
        TensorBoard is not installed, or its files cannot be written.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise NnunetError(
            f"TensorBoard is not installed ({error}); pip install 'nnunet-rs[tensorboard]', or train without "
            "--tensorboard"
        ) from error
    writers: list[SummaryWriter] = []

    def write(history: History) -> None:
        epoch = history.epochs[-1]
        if not writers:
            writers.append(SummaryWriter(folder / BOARD, purge_step=epoch.epoch))
        for name, value in _values(epoch, history.classes).items():
            if value is not None:
                writers[0].add_scalar(name, value, epoch.epoch)
        writers[0].flush()

    def add(history: History) -> None:
        try:
            write(history)
        except OSError as error:  # TensorBoard names no file
            raise NnunetError(f"{folder / BOARD}: cannot be written: {error.strerror or error}") from error

    try:
        yield add
    finally:
        with suppress(OSError):  # what could not be written has been told
            for writer in writers:
                writer.close()


def _values(epoch: Epoch, classes: tuple[str, ...]) -> dict[str, float | None]:
    dice = {f"dice/{name}": value for name, value in zip(classes, epoch.dice, strict=True)}
    return {
        "loss/training": epoch.loss,
        "loss/validation": epoch.validation_loss,
        "dice/mean": epoch.mean_dice,
        **dice,
        "learning_rate": epoch.learning_rate,
        "seconds/waiting": epoch.seconds_waiting,
        "seconds/training": epoch.seconds_training,
        "seconds/validation": epoch.seconds_validation,
    }
