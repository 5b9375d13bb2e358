"""From class scores on the network's grid, part by part, to labels (and probabilities) on the image's grid."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.geometry import Geometry
from nnunet_rs.core.kernels import logits_to_labels, logits_to_regions, resample_probabilities
from nnunet_rs.core.labels import decode_labels
from nnunet_rs.core.types import FloatArray, IntArray, LabelSet, Shape, Shape3
from nnunet_rs.predict.sliding_window import Interval, ScoreBlock
from nnunet_rs.predict.window_grid import WindowGrid

# In memory at a time. The kernels decide a piece's planes of scores before they interpolate, and neighbouring pieces
# share one: with many classes pieces of one plane would do that work several times.
SCORE_BYTES = 1 << 27
PROBABILITY_BYTES = 1 << 26  # on the target's grid
AHEAD = 3  # pieces that wait, or are being decided, while a device computes the next
HALF = np.float32(0.5)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target:
    """The grid that scores are brought to, in the grid's axes."""

    window_grid: WindowGrid
    shape: Shape3  # of the cropped, not resampled image
    lowres_axis: int | None  # takes the nearest plane, as in preprocessing

    @classmethod
    def of(cls, window_grid: WindowGrid, geometry: Geometry, coarse: int | None) -> Target:
        """Describe the way back of a case; `coarse` is the working axis that takes the nearest plane."""
        shape = cast("Shape3", tuple(geometry.cropped_shape[axis] for axis in window_grid.axes))
        return cls(window_grid, shape, None if coarse is None else window_grid.back[coarse])

    def neighbours(self, axis: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and last voxel of the scores that each output voxel along a grid axis lies between."""
        n_in, n_out = self.window_grid.size[axis], self.shape[axis]
        twice = (2 * np.arange(n_out, dtype=np.int64) + 1) * n_in
        if self.lowres_axis == axis:
            nearest = twice // (2 * n_out)
            return nearest, nearest
        floor, rest = np.divmod(twice - n_out, 2 * n_out)
        return np.clip(floor, 0, n_in - 1), np.clip(floor + (rest > 0), 0, n_in - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Scores, and the part of the target that is made from them."""

    scores: FloatArray  # (c, planes, rows, columns)
    start: tuple[int, int]  # plane and row of the whole scores that the first ones are
    planes: Interval  # of the target
    rows: Interval  # of the target

    def slabs(self, target: Target) -> tuple[int, ...]:
        """Describe the part along both axes, as the kernels want it."""
        outs = (self.planes[0], self.rows[0])
        return tuple(
            number
            for axis in (0, 1)
            for number in (axis, self.start[axis], target.window_grid.size[axis], outs[axis], target.shape[axis])
        )

    def shape(self, target: Target) -> Shape3:
        """Size of the part."""
        return self.planes[1] - self.planes[0], self.rows[1] - self.rows[0], target.shape[2]


@dataclass(frozen=True, slots=True, eq=False)
class ComingPiece:
    """A piece whose scores may still be on their way."""

    fetched: Callable[[], FloatArray]
    start: tuple[int, int]
    planes: Interval
    rows: Interval

    def wait(self) -> Piece:
        """Return it when its scores are there."""
        return Piece(self.fetched(), self.start, self.planes, self.rows)


class Cutter:
    """Turns finished regions of scores into pieces: every voxel of the target is made once, as soon as it can be."""

    def __init__(self, target: Target, channels: int, *, probabilities: bool) -> None:
        """Cut scores of so many `channels`; with `probabilities` all of them are made on the target as well."""
        self._target, self._channels, self._probabilities = target, channels, probabilities
        self._needs = target.neighbours(0), target.neighbours(1)
        self._planes: Interval = (0, 0)  # of the target, made from the layer of regions that is being handed out
        self._rows: Interval = (0, 0)
        self._layer: Interval = (0, 0)

    def pieces(self, region: ScoreBlock) -> Iterator[ComingPiece]:
        """Yield what the next region completes, a few planes at a time."""
        if region.planes != self._layer:
            self._layer, self._rows = region.planes, (0, 0)
            self._planes = self._next(0, self._planes, region.planes[1])
        self._rows = self._next(1, self._rows, region.rows[1])
        if self._rows[0] == self._rows[1]:
            return
        rows = self._sources(1, self._rows)
        count = self._planes_at_a_time(rows[1] - rows[0])
        for first in range(*self._planes, count):
            planes = first, min(first + count, self._planes[1])
            source = self._sources(0, planes)
            yield ComingPiece(region.fetch(source, rows), (source[0], rows[0]), planes, self._rows)

    def _next(self, axis: int, done: Interval, ready: int) -> Interval:
        """Voxels of the target that follow those done and need no score from `ready` on."""
        return done[1], int(np.searchsorted(self._needs[axis][1], ready))

    def _sources(self, axis: int, out: Interval) -> Interval:
        first, last = self._needs[axis]
        return int(first[out[0]]), int(last[out[1] - 1]) + 1

    def _planes_at_a_time(self, rows: int) -> int:
        """How many planes of the target: neither the scores read nor the same on the target take much memory."""
        target, size = self._target, self._target.window_grid.size
        count = SCORE_BYTES / (4 * self._channels * rows * size[2] * size[0] / target.shape[0])
        if self._probabilities:
            made = (self._rows[1] - self._rows[0]) * target.shape[2]
            count = min(count, PROBABILITY_BYTES / (4 * self._channels * made))
        return max(1, int(count))


@dataclass(frozen=True, slots=True)
class Decision:
    """How scores become labels."""

    labels: LabelSet
    probabilities: bool  # scores are probabilities; else logits
    threads: int | None = None  # of the kernels; None: all processors

    def decide(self, piece: Piece, target: Target) -> IntArray:
        """Return the labels (planes, a, b) of a piece: class indices, or the painted file values of regions."""
        return self._decide(piece.scores, piece.shape(target), lowres_axis=target.lowres_axis, slab=piece.slabs(target))

    def decide_same_grid(self, scores: FloatArray) -> IntArray:
        """As `decide`, of scores (c, z, y, x) that are on the grid already."""
        return self._decide(scores, scores.shape[1:])

    def _decide(self, scores: FloatArray, shape: Shape, **where: Any) -> IntArray:
        if not self.labels.regions:
            return cast("IntArray", logits_to_labels(scores, shape, threads=self.threads, **where))
        paint = [region.paint for region in self.labels.regions]
        # The kernel paints where a logit is at least 0; a probability p is at least 1/2 where p - 1/2 is.
        logits = scores - HALF if self.probabilities else scores
        return cast("IntArray", logits_to_regions(logits, shape, paint, threads=self.threads, **where))

    def place(self, decided: IntArray, target: Target, geometry: Geometry) -> IntArray:
        """Bring what `decide` returned for a whole case to the image's grid, as file values of the smallest type."""
        return cast("IntArray", geometry.undo(self.to_file_values(decided.transpose(target.window_grid.back))))

    def to_file_values(self, decided: IntArray) -> IntArray:
        """Turn what `decide` returned into file values of the smallest type."""
        return decided if self.labels.regions else decode_labels(decided, self.labels)

    def probabilities_of(self, piece: Piece, target: Target) -> FloatArray:
        """Return the probabilities (c, planes, a, b) of a piece."""
        values = resample_probabilities(
            piece.scores,
            piece.shape(target),
            lowres_axis=target.lowres_axis,
            slab=piece.slabs(target),
            threads=self.threads,
        )
        return values if self.probabilities else _activated(values, bool(self.labels.regions))


class ProbabilitySink(Protocol):
    """Takes the probabilities of a case as they come."""

    def put(self, first: int, values: FloatArray) -> None:
        """Take the probabilities (c, planes, a, b) of planes `first` and following of the target."""


def export_probabilities(
    regions: Iterator[ScoreBlock], target: Target, decision: Decision, *, beside: bool = False
) -> Iterator[tuple[int, FloatArray]]:
    """Yield (first plane, probabilities (c, planes, a, b)) of the cropped grid, a few planes at a time.

    The regions must reach over all rows; `beside` as of `export_labels`.
    """
    cutter = Cutter(target, decision.labels.outputs, probabilities=True)

    def resample(coming: ComingPiece) -> tuple[int, FloatArray]:
        return coming.planes[0], decision.probabilities_of(coming.wait(), target)

    yield from _in_order((partial(resample, piece) for region in regions for piece in cutter.pieces(region)), beside)


def export_labels(
    regions: Iterator[ScoreBlock],
    target: Target,
    geometry: Geometry,
    decision: Decision,
    sink: ProbabilitySink | None = None,
    *,
    beside: bool = False,
) -> IntArray:
    """Decide a whole case while its scores arrive; all classes never exist at the image's resolution.

    Parameters
    ----------
    regions
        Of the scores, in order, from `window.sliding_window_scores`; for a sink they must reach over all rows.
    target
        The cropped grid.
    geometry
        Of the prepared case.
    decision
        How scores become labels.
    sink
        Where probabilities go as well.
    beside
        Whether a thread decides while the next regions are predicted: where a device predicts them.

    Returns
    -------
    ndarray
        File values (z, y, x) on the image's grid, uint8 or uint16.
    """
    cutter = Cutter(target, decision.labels.outputs, probabilities=sink is not None)
    labels: Any = None

    def decide(coming: ComingPiece) -> tuple[Interval, Interval, IntArray]:
        piece = coming.wait()
        decided = decision.decide(piece, target)
        if sink is not None:
            sink.put(piece.planes[0], decision.probabilities_of(piece, target))
        return piece.planes, piece.rows, decided

    work = (partial(decide, piece) for region in regions for piece in cutter.pieces(region))
    for planes, rows, decided in _in_order(work, beside):
        labels = np.empty(target.shape, decided.dtype) if labels is None else labels
        labels[slice(*planes), slice(*rows)] = decided
    return decision.place(labels, target, geometry)


def _in_order(work: Iterator[Callable[[], T]], beside: bool) -> Iterator[T]:
    """Yield what each piece of work returns, in order; `beside` lets a thread do it while the next pieces are made.

    No more than AHEAD pieces are under way. An error of the work is raised here, and ends the making.
    """
    if not beside:
        for each in work:
            yield each()
            del each  # what it holds is gone before the next is made
        return
    under_way: deque[Future[T]] = deque()
    with ThreadPoolExecutor(1, "export") as thread:
        try:
            for each in work:
                under_way.append(thread.submit(each))
                del each
                while len(under_way) >= AHEAD or (under_way and under_way[0].done()):
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            thread.shutdown(wait=True, cancel_futures=True)


def _activated(logits: FloatArray, regions: bool) -> FloatArray:
    """Softmax over the first axis, or sigmoids; in place."""
    if regions:
        with np.errstate(over="ignore"):  # exp of a large negative logit: 1 / inf is the 0 it should be
            np.exp(np.negative(logits, out=logits), out=logits)
        logits += 1
        return np.divide(1, logits, out=logits)
    logits -= logits.max(axis=0)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=0)
    return logits
