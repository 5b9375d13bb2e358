"""What every engine offers: windows in, scores out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol

from nnunet_rs.core.types import FloatArray, Shape
from nnunet_rs.predict.blend import HostAccumulator, OutputActivation, WindowAccumulator
from nnunet_rs.predict.window_grid import WindowGrid
from nnunet_rs.predict.window_source import HostSource, Previous, WindowSource


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Scores of some windows of a batch: of one network for one mirror image, or the mean over all of both."""

    scores: Any  # (windows, classes, *tile): an array of the engine's own kind, mirrored as its input was
    mirrored: Shape  # axes of the tile along which the input was mirrored, 0 the first
    windows: slice  # of the batch


Alone = Callable[[int, Any, slice], None]  # a network's number, its logits as of `Scored`, and which windows


class Engine(Protocol):
    """The networks of one configuration, ready to compute on one device. Safe to call from several threads."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the user should know of how it computes."""

    def describe(self) -> str:
        """Name library, device and number type, for people."""

    @property
    def computes_elsewhere(self) -> bool:
        """Whether the program may go on with other work while windows are computed, on a device of its own."""

    def batch(self, voxels: int) -> int:
        """Return how many windows of so many voxels are best given at a time; at least 1."""

    def sizes(self, most: int, left: int) -> tuple[int, int]:
        """Return how many windows to take of those that are left, and to how many to fill them up."""

    def source(self, image: FloatArray, previous: Previous | None, grid: WindowGrid) -> WindowSource:
        """Return what windows for `scores` are cut out of; `image` is (c, z, y, x) in working axes."""

    def scores(
        self, windows: Any, mirror_axes: Shape, activation: OutputActivation, alone: Alone | None = None
    ) -> Iterator[Scored]:
        """Yield the scores of every mirror image of windows (b, c, *tile) by every network, or their mean.

        Each is to be used up before the next is asked for: its memory may be used again.

        Parameters
        ----------
        windows
            Of `source`.
        mirror_axes
            Of the tile, 0 the first.
        activation
            What is averaged, where the mean is yielded; other scores are logits.
        alone
            Told of what each network gives by itself for the windows that are not mirrored; keeps nothing of it.

        Raises
        ------
        TooManyWindowsError
            They do not fit into the device's memory, and nothing was yielded yet; fewer at a time may.
        """

    def accumulator(self, classes: int, grid: WindowGrid, span: int, activation: OutputActivation) -> WindowAccumulator:
        """Return empty sums for the scores of a volume.

        `span`: by how many planes the starts of windows that are added together differ at most.
        """

    def memory(self) -> AbstractContextManager[None]:
        """Return the context in which a volume is predicted."""

    def release_memory(self) -> None:
        """Give the device's memory back that nothing uses, before a smaller try."""


BATCH_VOXELS = 1 << 19  # of windows that are cut out at a time where processors compute


class HostEngine:
    """What engines share whose scores are NumPy arrays in the computer's own memory. See Engine."""

    __slots__ = ()
    computes_elsewhere = False

    def batch(self, voxels: int) -> int:
        """See Engine."""
        return max(1, BATCH_VOXELS // voxels)

    def sizes(self, most: int, left: int) -> tuple[int, int]:
        """See Engine; any number is as good as another."""
        return (min(most, left),) * 2

    def source(self, image: FloatArray, previous: Previous | None, grid: WindowGrid) -> WindowSource:
        """See Engine."""
        return HostSource(image, previous, grid)

    def memory(self) -> AbstractContextManager[None]:
        """See Engine; nothing is to be set."""
        return nullcontext()

    def release_memory(self) -> None:
        """See Engine; there is no device."""

    def accumulator(
        self,
        classes: int,
        grid: WindowGrid,
        span: int,  # noqa: ARG002 (these sums grow as windows come)
        activation: OutputActivation,
    ) -> WindowAccumulator:
        """See Engine."""
        return HostAccumulator(classes, grid, activation)


class TooManyWindowsError(Exception):
    """A batch does not fit the device's memory, and nothing of it has been yielded yet."""

    def __init__(self, device: str, others: str = "") -> None:
        """Name the device, and say what others hold of its memory."""
        super().__init__(device)
        self.device, self.others = device, others


def mirror_images(axes: Shape) -> tuple[Shape, ...]:
    """List the sets of axes to mirror along, 2^n of n axes, the empty one first."""
    return tuple(chosen for count in range(len(axes) + 1) for chosen in combinations(axes, count))
