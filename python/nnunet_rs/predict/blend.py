"""Weighted means of overlapping windows, read part by part as they are finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from nnunet_rs.core import kernels
from nnunet_rs.core.types import FloatArray, Shape, Shape3
from nnunet_rs.predict.window_grid import WindowGrid

OutputActivation = Literal["softmax", "sigmoid", "none"]


class WindowAccumulator(Protocol):
    """Sums over a padded volume, in the grid's axes, of which finished parts can be read and forgotten."""

    def add(self, scores: Any, starts: Sequence[Shape3], mirrored: Shape) -> None:
        """Add networks' scores for windows, (b, classes, *tile) in working axes, seen mirrored along these axes.

        The axes are those of the tile, 0 the first.
        """

    def mean(self, start: Shape3, stop: Shape3) -> Callable[[], FloatArray]:
        """Return what waits for the weighted means of a part, and returns them: (c, planes, rows, columns).

        They are of the sums as they are when this is called; the waiting may be another thread's.
        """

    def forget(self, plane: int, row: int) -> None:
        """Give back the memory of rows before `row` in planes before `plane`."""

    def give_back(self) -> bool:
        """Take the sums out of the device's memory; False: they are not there."""


class HostAccumulator:
    """WindowAccumulator of NumPy arrays by the Rust kernel: memory only where windows are still to come."""

    def __init__(self, classes: int, grid: WindowGrid, activation: OutputActivation) -> None:
        """Begin with nothing."""
        self._sums = kernels.WindowAccumulator(classes, grid.padded, grid.tile)
        self._grid, self._activation = grid, activation

    def add(self, scores: Any, starts: Sequence[Shape3], mirrored: Shape) -> None:
        """See WindowAccumulator."""
        scores = (scores[:, :, None] if self._grid.flat else scores).transpose(self._grid.scores_order)
        # Rows must lie together: the kernel reads a stride as long as a plane one cache line per voxel.
        if scores.strides[-1] != scores.itemsize:
            scores = np.ascontiguousarray(scores)
        for window, start in zip(scores, starts, strict=True):
            turned = self._grid.of_tile(mirrored)
            self._sums.add(window, start, activation=self._activation, mirrored=turned)

    def mean(self, start: Shape3, stop: Shape3) -> Callable[[], FloatArray]:
        """See WindowAccumulator."""
        means = self._sums.mean(start, stop)
        return lambda: means

    def forget(self, plane: int, row: int) -> None:
        """See WindowAccumulator."""
        self._sums.forget(plane, row)

    def give_back(self) -> bool:
        """See WindowAccumulator."""
        return False
