"""The sliding window: every network on every window and every mirror image of it, averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod

import numpy as np

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.progress import Task
from nnunet_rs.core.types import FloatArray, Shape, Shape3
from nnunet_rs.predict.blend import OutputActivation, WindowAccumulator
from nnunet_rs.predict.engines.engine import Engine, TooManyWindowsError
from nnunet_rs.predict.fold_agreement import FoldCounts
from nnunet_rs.predict.window_grid import WindowGrid
from nnunet_rs.predict.window_source import Previous, WindowSource

Interval = tuple[int, int]  # [start, stop)


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """How a volume is predicted."""

    # Axes of the tile, 0 the first, as the networks were trained mirrored along: averaged are all 2^n mirror images.
    mirror_axes: Shape = ()
    activation: OutputActivation = "softmax"  # what is averaged: probabilities (paper), or logits: "none" (v2)
    batch: int | None = None  # windows at a time; None: by their size
    by_rows: bool = True  # yield rows as they finish, not whole planes only: half the memory


@dataclass(frozen=True, slots=True, eq=False)
class ScoreBlock:
    """A finished part of a volume, in the grid's axes; it reaches over all columns.

    `fetch(planes, rows)` asks for averaged scores (c, planes, rows, columns) of any part of it, and of the one plane
    and the one row before it, until the next block is asked for. What it returns waits for them, also later and in
    another thread, and returns them.
    """

    planes: Interval
    rows: Interval
    fetch: Callable[[Interval, Interval], Callable[[], FloatArray]]

    def read(self, planes: Interval, rows: Interval) -> FloatArray:
        """Fetch scores, and wait for them."""
        return self.fetch(planes, rows)()


def sliding_window_scores(
    engine: Engine,
    image: FloatArray,
    grid: WindowGrid,
    options: WindowOptions,
    task: Task | None = None,
    *,
    previous: Previous | None = None,
    counts: FoldCounts | None = None,
) -> Iterator[ScoreBlock]:
    """Predict a prepared image window by window and yield parts as soon as no later window touches them.

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
        Where every window is reported.
    previous
        Of a cascade's second stage; its one-hot channels follow those of the image.
    counts
        Told of what each network gives by itself.

    Yields
    ------
    ScoreBlock
        Layer by layer, within a layer row by row; together they cover the volume; float32.

    Raises
    ------
    NnunetError
        A network's scores are not finite, or a single window does not fit the device's memory; or this process was
        forked from one that has computed with the engine.
    """
    source = engine.source(image, previous, grid)
    # One by one slices are too little to ask a device for.
    together = engine.computes_elsewhere and grid.flat
    finished = _finished(grid, options.by_rows and not together)
    for sums, done in _Windows(engine, options, grid, source, counts).run(task):
        while finished and finished[0].after <= done:
            part = finished.pop(0)
            while together and finished and finished[0].after <= done:
                part = finished.pop(0).following(part)
            yield from _region(part, sums, grid)
            sums.forget(max(0, part.planes[1] - 1), part.forget_rows)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the padded volume that is finished once the first `after` windows have been added."""

    planes: Interval
    rows: Interval
    after: int
    forget_rows: int  # whose sums are read no more, in all planes but the last of the part

    def following(self, other: _Part) -> _Part:
        """Return both as one, if this one is the next layer."""
        return _Part((other.planes[0], self.planes[1]), self.rows, self.after, self.forget_rows)


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
    source: WindowSource
    counts: FoldCounts | None = None
    limit: int | None = None  # windows at a time that the device's memory was found to hold

    def run(self, task: Task | None) -> Iterator[tuple[WindowAccumulator, int]]:
        """Add window after window; yield the sums and how many windows they hold."""
        sums: WindowAccumulator | None = None
        done = 0
        while done < len(self.grid.starts):
            count, size = self.engine.sizes(self._most(), len(self.grid.starts) - done)
            starts, failed = self.grid.starts[done : done + count], ("", "")
            try:
                with self.engine.memory():
                    sums = self._add(starts, size, sums)
            except TooManyWindowsError as error:
                failed = error.device, error.others
            if any(failed):  # here the error is gone, and with it what it kept of the failed try
                self._make_room(size, sums, *failed)
                continue
            done += count
            if task is not None:
                task.advance(count)
            assert sums is not None  # there is at least one network
            yield sums, done

    def _add(self, starts: Sequence[Shape3], size: int, sums: WindowAccumulator | None) -> WindowAccumulator | None:
        """Add all scores of a batch to the sums, which are opened as soon as the number of classes is known."""
        windows = self.source.windows(starts, size)
        alone = None if self.counts is None else self.counts.begin(starts)
        for scored in self.engine.scores(windows, self.options.mirror_axes, self.options.activation, alone):
            sums = sums or self._open(scored.scores.shape[1])
            places = starts[scored.windows]
            sums.add(scored.scores[: len(places)], places, scored.mirrored)
            del scored  # of many classes they are large: gone before the network makes the next
        if self.counts is not None:
            self.counts.settle()
        return sums

    def _open(self, classes: int) -> WindowAccumulator:
        ahead = self._most() - 1
        layers = [start[0] for start in self.grid.starts]
        span = max(layers[min(i + ahead, len(layers) - 1)] - first for i, first in enumerate(layers))
        return self.engine.accumulator(classes, self.grid, span, self.options.activation)

    def _most(self) -> int:
        """How many windows at a time."""
        wanted = self.options.batch or self.engine.batch(prod(self.grid.tile))
        return min(wanted, self.limit or wanted)

    def _make_room(self, tried: int, sums: WindowAccumulator | None, device: str, others: str) -> None:
        """Let a batch that did not fit have more memory, or make the next ones smaller."""
        if not self.source.give_back():
            if tried > 1:
                self.limit = tried // 2
            elif sums is None or not sums.give_back():
                raise NnunetError(_too_large(device, others))
        self.engine.release_memory()


def _too_large(device: str, others: str) -> str:
    if device == "cpu":
        return "a single window does not fit into this machine's memory; end other programs, or use a larger machine"
    held = f" ({others})" if others else ""
    return f"{device}: a single window does not fit its memory{held}; use a device with more, or --device cpu"


def _region(part: _Part, sums: WindowAccumulator, grid: WindowGrid) -> Iterator[ScoreBlock]:
    """Leave out what belongs to the padding; nothing may be left."""
    planes, rows = (
        (max(0, low - before), min(size, high - before))
        for (low, high), before, size in zip((part.planes, part.rows), grid.before, grid.size, strict=False)
    )
    if planes[0] >= planes[1] or rows[0] >= rows[1]:
        return
    columns = grid.before[2], grid.before[2] + grid.size[2]

    def fetch(planes: Interval, rows: Interval) -> Callable[[], FloatArray]:
        low, high = zip(
            (planes[0] + grid.before[0], planes[1] + grid.before[0]),
            (rows[0] + grid.before[1], rows[1] + grid.before[1]),
            columns,
            strict=True,
        )
        means = sums.mean(low, high)
        return lambda: _finite(means())

    yield ScoreBlock(planes, rows, fetch)


def _finite(scores: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(scores.sum())
    if not finite:
        raise NnunetError(
            "the network's output is not finite; predict in float32, and see whether the training diverged"
        )
    return scores
