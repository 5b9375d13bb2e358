"""What the training loop asks of a loader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol


class TrainingBatch(Protocol):
    """What a loader yields: arrays or tensors."""

    @property
    def data(self) -> Any:
        """Float32 (b, c, *patch_size)."""

    @property
    def labels(self) -> Any:
        """Class indices (b, 1, *patch_size) or (b, *patch_size)."""

    @property
    def names(self) -> Sequence[str]:
        """The case of each sample."""


class Batches(Protocol):
    """Where batches come from: a function of (seed, epoch, index) alone."""

    def epoch(self, epoch: int, batches: int, start: int = 0) -> Iterator[TrainingBatch]:
        """Yield batches `start` to `batches - 1` of an epoch."""
