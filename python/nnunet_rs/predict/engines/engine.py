"""What every engine offers: windows in, scores out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol

from nnunet_rs.core.types import FloatArray, Shape
from nnunet_rs.predict.blend import Activation, HostAccumulator, WindowAccumulator
from nnunet_rs.predict.window_grid import WindowGrid


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Scores of some windows of a batch, as one network gives them for one mirror image."""

    scores: Any  # (windows, classes, *tile): an array of the engine's own kind, mirrored as its input was
    mirrored: Shape  # axes of the tile along which the input was mirrored, 0 the first
    windows: slice  # of the batch


class Engine(Protocol):
    """The networks of one configuration, ready to compute on one device. Safe to call from several threads."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the user should know of how it computes."""

    def describe(self) -> str:
        """Name library, device and number type, for people."""

    def batch(self, voxels: int) -> int:
        """Return how many windows of so many voxels are best given at a time; at least 1."""

    def scores(self, windows: FloatArray, mirror_axes: Shape) -> Iterator[Scored]:
        """Yield every network's scores of every mirror image of windows (b, c, *tile).

        Each is to be used up before the next is asked for: its memory may be used again.

        Raises
        ------
        TooManyWindowsError
            They do not fit into the device's memory, and nothing was yielded yet; fewer at a time may.
        """

    def accumulator(self, classes: int, grid: WindowGrid, span: int, activation: Activation) -> WindowAccumulator:
        """Return empty sums for the scores of a volume; `span` as in `DeviceAccumulator`."""

    def memory(self) -> AbstractContextManager[None]:
        """Return the context in which a volume is predicted."""


BATCH_VOXELS = 1 << 19  # of windows that are cut out at a time where processors compute


class HostEngine:
    """What engines share whose scores are NumPy arrays in the computer's own memory. See Engine."""

    __slots__ = ()

    def batch(self, voxels: int) -> int:
        """See Engine."""
        return max(1, BATCH_VOXELS // voxels)

    def memory(self) -> AbstractContextManager[None]:
        """See Engine; nothing is to be set."""
        return nullcontext()

    def accumulator(
        self,
        classes: int,
        grid: WindowGrid,
        span: int,  # noqa: ARG002 (these sums grow as windows come)
        activation: Activation,
    ) -> WindowAccumulator:
        """See Engine."""
        return HostAccumulator(classes, grid, activation)


class TooManyWindowsError(Exception):
    """A batch does not fit the device's memory, and nothing of it has been yielded yet."""

    def __init__(self, device: str) -> None:
        """Name the device."""
        super().__init__(device)
        self.device = device


def mirror_images(axes: Shape) -> tuple[Shape, ...]:
    """List the sets of axes to mirror along, 2^n of n axes, the empty one first."""
    return tuple(chosen for count in range(len(axes) + 1) for chosen in combinations(axes, count))
