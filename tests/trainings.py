"""Small trainings for tests: options of a few batches, what was said of them, and ways to stop them."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from nnunet_rs.model.checkpoint import load_model
from nnunet_rs.model.options import TrainOptions, TrainResult
from nnunet_rs.model.recipe import FAST
from torch import nn

SHORT = TrainOptions(
    recipe=FAST, epochs=2, batches=4, validation_batches=2, augmentation="none", device="cpu", precision="float32",
    threads=1, seed=3,
)  # fmt: skip
ANEW = replace(SHORT, fresh=True)  # where a test trains a fold twice


class Heard:
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.done = 0.0
        self.note = ""
        self.timed = False

    def task(self, name: str, total: float, *, timed: bool = False) -> Any:
        self.timed = timed
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, count: float = 1, note: str = "") -> None:
        self.done += count
        self.note = note or self.note

    def say(self, text: str) -> None:
        self.lines.append(text)


class StopsAfter(Heard):
    """A Progress that asks the process to stop when it has been told of a number of iterations."""

    def __init__(self, iterations: int) -> None:
        super().__init__()
        self.left = iterations

    def advance(self, count: float = 1, note: str = "") -> None:
        super().advance(count, note)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


class StopAfter:
    """A loss that asks the process to stop when it has been computed a number of times."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def __call__(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        self.calls -= 1
        if self.calls == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return nn.functional.cross_entropy(logits.float(), target.long())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder)[0].state_dict()


def losses(result: TrainResult) -> list[float]:
    return [epoch.loss for epoch in result.history.epochs]
