"""The sliding window: every network on every window and every mirror image of it, averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.progress import Task
from nnunet_rs.core.types import FloatArray, IntArray, Shape, Shape3
from nnunet_rs.data.previous_stage import one_hot
from nnunet_rs.predict.blend import Activation, WindowAccumulator
from nnunet_rs.predict.engines.engine import Engine, TooManyWindowsError
from nnunet_rs.predict.window_grid import WindowGrid

Interval = tuple[int, int]  # [start, stop)


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """How a volume is predicted."""

    # Axes of the tile, 0 the first, as the networks were trained mirrored along: averaged are all 2^n mirror images.
    mirror_axes: Shape = ()
    activation: Activation = "softmax"  # what is averaged: probabilities (paper), or logits: "none" (v2)
    batch: int | None = None  # windows at a time; None: by their size
    by_rows: bool = True  # hand out rows as they finish, not whole planes only: half the memory


@dataclass(frozen=True, slots=True, eq=False)
class Previous:
    """A cascade's first segmentation: further channels, one per foreground class, that exist within windows only."""

    labels: IntArray  # (z, y, x) class indices, on the image's grid
    classes: int  # the background included


@dataclass(frozen=True, slots=True, eq=False)
class ScoreBlock:
    """A finished part of a volume, in the grid's axes; it reaches over all columns.

    `read(planes, rows)` gives averaged scores (c, planes, rows, columns) of any part of it, and of the one plane and
    the one row before it, until the next region is asked for.
    """

    planes: Interval
    rows: Interval
    read: Callable[[Interval, Interval], FloatArray]


def sliding_window_scores(
    engine: Engine,
    image: FloatArray,
    grid: WindowGrid,
    options: WindowOptions,
    task: Task | None = None,
    *,
    previous: Previous | None = None,
) -> Iterator[ScoreBlock]:
    """Predict a prepared image window by window and hand out parts as soon as no later window touches them.

    Each window goes through every network and every mirror image while it is in memory: the sums of several folds
    never exist side by side.

    Parameters
    ----------
    engine
        The networks: (b, c, *tile) to (b, classes, *tile), tiles in working axes (of a 2-D configuration the last two).
    image
        (c, z, y, x) in working axes, prepared.
    grid
        Where the windows lie, from `sliding_window_grid`.
    options
        See WindowOptions.
    task
        Told of every window.
    previous
        Of a cascade's second stage; its one-hot channels follow those of the image.

    Yields
    ------
    ScoreBlock
        Layer by layer, within a layer row by row; together they cover the volume. Sums are float32.

    Raises
    ------
    NnunetError
        A network's scores are not finite, or a single window does not fit the device's memory; or this process was
        forked from one that has computed with the engine.
    """
    image_on_grid = _ImageOnGrid.of(image, previous, grid)
    finished = _finished(grid, options.by_rows)
    for sums, done in _Windows(engine, options, grid).run(image_on_grid, task):
        while finished and finished[0].after <= done:
            part = finished.pop(0)
            yield from _region(part, sums, grid)
            sums.forget(max(0, part.planes[1] - 1), part.forget_rows)


@dataclass(frozen=True, slots=True, eq=False)
class _ImageOnGrid:
    """What windows are cut out of, in the grid's axes, padded."""

    image: FloatArray  # (c, *padded)
    previous: Previous | None

    @classmethod
    def of(cls, image: FloatArray, previous: Previous | None, grid: WindowGrid) -> _ImageOnGrid:
        known = None
        if previous is not None:
            known = Previous(_padded(_turned(previous.labels[None], grid), grid)[0], previous.classes)
        return cls(_padded(_turned(image, grid), grid), known)

    def cut(self, start: Shape3, tile: Shape3) -> FloatArray:
        """Return the network's input (c, *tile)."""
        box = tuple(slice(s, s + n) for s, n in zip(start, tile, strict=True))
        window = self.image[(slice(None), *box)]
        if self.previous is None:
            return window
        return np.concatenate([window, one_hot(self.previous.labels[box], self.previous.classes)])


def _turned(array: NDArray[Any], grid: WindowGrid) -> NDArray[Any]:
    """Bring (c, z, y, x) from working axes to the grid's; no copy."""
    return array.transpose(0, *(axis + 1 for axis in grid.axes))


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the padded volume that is finished once the first `after` windows have been added."""

    planes: Interval
    rows: Interval
    after: int
    forget_rows: int  # whose sums are read no more, in all planes but the last of the part


def _finished(grid: WindowGrid, by_rows: bool) -> list[_Part]:
    """List the parts of a padded volume in the order in which they finish."""
    layers = _between([start[0] for start in grid.starts], grid.padded[0])
    rows = _between([start[1] for start in grid.starts], grid.padded[1]) if by_rows else [(0, grid.padded[1])]
    windows = len(grid.starts) // (len(layers) * len(rows))
    return [
        _Part(planes, part, (index + 1) * windows, part[1] if part[1] == grid.padded[1] else max(0, part[1] - 1))
        for index, (planes, part) in enumerate(product(layers, rows))
    ]


def _between(starts: Sequence[int], end: int) -> list[Interval]:
    """Cut an axis at the starts of its windows."""
    edges = [*sorted(set(starts)), end]
    return list(pairwise(edges))


@dataclass(slots=True)
class _Windows:
    """The loop over the windows."""

    engine: Engine
    options: WindowOptions
    grid: WindowGrid
    limit: int | None = None  # windows at a time that the device's memory was found to hold

    def run(self, image: _ImageOnGrid, task: Task | None) -> Iterator[tuple[WindowAccumulator, int]]:
        """Add window after window; yield the sums and how many windows they hold."""
        sums: WindowAccumulator | None = None
        done = 0
        while done < len(self.grid.starts):
            starts = self.grid.starts[done : done + self._batch()]
            try:
                with self.engine.memory():
                    sums = self._add(self._gather(image, starts), starts, sums)
            except TooManyWindowsError as error:
                self._shrink(len(starts), error)
                continue
            done += len(starts)
            if task is not None:
                task.advance(len(starts))
            yield sums, done

    def _add(self, windows: FloatArray, starts: Sequence[Shape3], sums: WindowAccumulator | None) -> WindowAccumulator:
        """Add all scores of a batch to the sums, which are opened as soon as the number of classes is known."""
        for scored in self.engine.scores(windows, self.options.mirror_axes):
            sums = sums or self._open(scored.scores.shape[1])
            sums.add(scored.scores, starts[scored.windows], scored.mirrored)
            del scored  # of many classes they are large: gone before the network makes the next
        assert sums is not None  # there is at least one network
        return sums

    def _open(self, classes: int) -> WindowAccumulator:
        ahead = self._batch() - 1
        layers = [start[0] for start in self.grid.starts]
        span = max(layers[min(i + ahead, len(layers) - 1)] - first for i, first in enumerate(layers))
        return self.engine.accumulator(classes, self.grid, span, self.options.activation)

    def _batch(self) -> int:
        wanted = self.options.batch or self.engine.batch(prod(self.grid.tile))
        return min(wanted, self.limit or wanted)

    def _shrink(self, tried: int, error: TooManyWindowsError) -> None:
        if tried == 1:
            raise NnunetError(
                f"{error.device}: a single window does not fit its memory; use a larger device, or the CPU"
            ) from error
        self.limit = tried // 2

    def _gather(self, image: _ImageOnGrid, starts: Sequence[Shape3]) -> FloatArray:
        """Cut windows out: (b, c, *tile) in working axes."""
        order = (0, *(axis + 1 for axis in self.grid.back))
        cuts = [image.cut(start, self.grid.tile).transpose(order) for start in starts]
        return np.stack([cut[:, 0] if self.grid.flat else cut for cut in cuts])


def _region(part: _Part, sums: WindowAccumulator, grid: WindowGrid) -> Iterator[ScoreBlock]:
    """Leave out what belongs to the padding; nothing may be left."""
    planes, rows = (
        (max(0, low - before), min(size, high - before))
        for (low, high), before, size in zip((part.planes, part.rows), grid.before, grid.size, strict=False)
    )
    if planes[0] >= planes[1] or rows[0] >= rows[1]:
        return
    columns = grid.before[2], grid.before[2] + grid.size[2]

    def read(planes: Interval, rows: Interval) -> FloatArray:
        low, high = zip(
            (planes[0] + grid.before[0], planes[1] + grid.before[0]),
            (rows[0] + grid.before[1], rows[1] + grid.before[1]),
            columns,
            strict=True,
        )
        return _finite(sums.mean(low, high))

    yield ScoreBlock(planes, rows, read)


def _finite(scores: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(scores.sum())
    if not finite:
        raise NnunetError(
            "the network's output is not finite; predict in float32, and see whether the training diverged"
        )
    return scores


def _padded(array: NDArray[Any], grid: WindowGrid) -> NDArray[Any]:
    if grid.padded == grid.size:
        return array
    after = [whole - part - low for whole, part, low in zip(grid.padded, grid.size, grid.before, strict=True)]
    return np.pad(array, [(0, 0), *zip(grid.before, after, strict=True)])  # zero is the mean, or the outside
