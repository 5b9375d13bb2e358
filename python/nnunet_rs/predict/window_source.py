"""What windows are cut out of: an image on the sliding window's grid, in the memory of what computes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.types import FloatArray, IntArray, Shape3
from nnunet_rs.data.previous_labels import one_hot
from nnunet_rs.predict.window_grid import WindowGrid


@dataclass(frozen=True, slots=True, eq=False)
class Previous:
    """A cascade's first segmentation: further channels, one per foreground class, that exist within windows only."""

    labels: IntArray  # (z, y, x) class indices, on the image's grid
    classes: int  # the background included


class WindowSource(Protocol):
    """An image that windows are cut out of."""

    def windows(self, starts: Sequence[Shape3], count: int) -> Any:
        """Return windows, (count, c, *tile) in working axes, as an array of the engine's kind.

        Where `count` is more than there are starts the last ones are of no meaning, but finite.
        """

    def give_back(self) -> bool:
        """Take the image out of the device's memory; False: it was not there."""


class HostSource:
    """WindowSource of NumPy arrays."""

    def __init__(self, image: FloatArray, previous: Previous | None, grid: WindowGrid) -> None:
        """Take an image (c, z, y, x) in working axes; it is padded to hold a window."""
        self.image = _padded(_turned(image, grid), grid)  # (c, *padded), in the grid's axes
        self.labels = None if previous is None else _padded(_turned(previous.labels[None], grid), grid)[0]
        self.classes = 1 if previous is None else previous.classes  # of `labels`, the background included
        self._grid = grid

    @property
    def channels(self) -> int:
        """Of a window."""
        return len(self.image) + self.classes - 1

    def windows(self, starts: Sequence[Shape3], count: int) -> FloatArray:
        """See WindowSource; engines of NumPy arrays ask for as many as there are starts."""
        assert count == len(starts)
        return np.stack([self.window(start) for start in starts])

    def window(self, start: Shape3) -> FloatArray:
        """Cut one window out: (c, *tile) in working axes; of a 2-D network two."""
        box = self._grid.box(start)
        cut = self.image[(slice(None), *box)]
        if self.labels is not None:
            cut = np.concatenate([cut, one_hot(self.labels[box], self.classes)])
        cut = cut.transpose(self._grid.window_order)
        return cut[:, 0] if self._grid.flat else cut

    def give_back(self) -> bool:
        """See WindowSource."""
        return False


def _turned(array: NDArray[Any], grid: WindowGrid) -> NDArray[Any]:
    """Bring (c, z, y, x) from working axes to the grid's; no copy."""
    return array.transpose(0, *(axis + 1 for axis in grid.axes))


def _padded(array: NDArray[Any], grid: WindowGrid) -> NDArray[Any]:
    if grid.padded == grid.size:
        return array
    after = [whole - part - low for whole, part, low in zip(grid.padded, grid.size, grid.before, strict=True)]
    return np.pad(array, [(0, 0), *zip(grid.before, after, strict=True)])  # zero is the mean, or the outside
