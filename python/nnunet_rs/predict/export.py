"""From class scores on the network's grid, part by part, to labels (and probabilities) on the image's grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.geometry import Geometry
from nnunet_rs.core.kernels import logits_to_labels, logits_to_regions, resample_probabilities
from nnunet_rs.core.labels import decode_labels
from nnunet_rs.core.types import FloatArray, IntArray, LabelSet, Shape, Shape3
from nnunet_rs.predict.exporter import Exporter, do_parts, in_order
from nnunet_rs.predict.sliding_window import Interval, ScoreBlock
from nnunet_rs.predict.window_grid import WindowGrid

# In memory at a time. The kernels decide a slab's planes of scores before they interpolate, and neighbouring slabs
# share one: with many classes slabs of one plane would do that work several times.
SCORE_BYTES = 1 << 27
PROBABILITY_BYTES = 1 << 26  # on the output's grid
HALF = np.float32(0.5)

Neighbours = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class OutputGrid:
    """The grid that scores are brought to, in the window grid's axes."""

    window_grid: WindowGrid
    shape: Shape3  # of the cropped, not resampled image
    lowres_axis: int | None  # takes the nearest plane, as in preprocessing

    @classmethod
    def of(cls, window_grid: WindowGrid, geometry: Geometry, lowres_axis: int | None) -> OutputGrid:
        """Describe the way back of a case; `lowres_axis` is the working axis that takes the nearest plane."""
        shape = cast("Shape3", tuple(geometry.cropped_shape[axis] for axis in window_grid.axes))
        return cls(window_grid, shape, None if lowres_axis is None else window_grid.back[lowres_axis])

    def neighbours(self, axis: int) -> Neighbours:
        """First and last voxel of the scores that each output voxel along a grid axis lies between."""
        n_in, n_out = self.window_grid.size[axis], self.shape[axis]
        twice = (2 * np.arange(n_out, dtype=np.int64) + 1) * n_in
        if self.lowres_axis == axis:
            nearest = twice // (2 * n_out)
            return nearest, nearest
        floor, rest = np.divmod(twice - n_out, 2 * n_out)
        return np.clip(floor, 0, n_in - 1), np.clip(floor + (rest > 0), 0, n_in - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Slab:
    """A part of the output, and the scores that it is made from, which may still be on their way."""

    output: OutputGrid
    fetched: Callable[[], FloatArray]  # gives the scores, (c, planes, rows, columns), when they are there
    start: tuple[int, int]  # plane and row of the whole scores that the first ones are
    planes: Interval  # of the output
    rows: Interval  # of the output

    @property
    def shape(self) -> Shape3:
        """Size of the part."""
        return self.planes[1] - self.planes[0], self.rows[1] - self.rows[0], self.output.shape[2]

    @property
    def along_axes(self) -> tuple[int, ...]:
        """The part along both axes, as the kernels want it: axis, first score, scores, first voxel, voxels."""
        size, whole, firsts = self.output.window_grid.size, self.output.shape, (self.planes[0], self.rows[0])
        return tuple(
            number for axis in (0, 1) for number in (axis, self.start[axis], size[axis], firsts[axis], whole[axis])
        )


def iterate_slabs(
    blocks: Iterator[ScoreBlock], output: OutputGrid, channels: int, *, probabilities: bool
) -> Iterator[Slab]:
    """Cut finished blocks of scores into slabs: every voxel of the output is made once, as soon as it can be.

    `channels` has the scores; with `probabilities` all of them are made on the output's grid as well.
    """
    neighbours = output.neighbours(0), output.neighbours(1)
    layer: Interval = (0, 0)  # of blocks that is being read
    planes: Interval = (0, 0)  # of the output, made from this layer
    rows: Interval = (0, 0)  # of the output, made from this block
    for block in blocks:
        if block.planes != layer:
            layer, rows = block.planes, (0, 0)
            planes = _next(neighbours[0], planes, block.planes[1])
        rows = _next(neighbours[1], rows, block.rows[1])
        if rows[0] == rows[1]:
            continue
        read = _sources(neighbours[1], rows)
        made = rows[1] - rows[0] if probabilities else 0
        count = _planes_at_a_time(output, channels, read[1] - read[0], made)
        for first in range(*planes, count):
            part = first, min(first + count, planes[1])
            source = _sources(neighbours[0], part)
            yield Slab(output, block.fetch(source, read), (source[0], read[0]), part, rows)


def _next(neighbours: Neighbours, done: Interval, ready: int) -> Interval:
    """Voxels of the output that follow those done and need no score from `ready` on."""
    return done[1], int(np.searchsorted(neighbours[1], ready))


def _sources(neighbours: Neighbours, part: Interval) -> Interval:
    """Scores that a part of the output is made from."""
    first, last = neighbours
    return int(first[part[0]]), int(last[part[1] - 1]) + 1


def _planes_at_a_time(output: OutputGrid, channels: int, read: int, made: int) -> int:
    """How many planes of the output: neither the rows of scores `read` nor those `made` of them take much memory."""
    size = output.window_grid.size
    count = SCORE_BYTES / (4 * channels * read * size[2] * size[0] / output.shape[0])
    if made:
        count = min(count, PROBABILITY_BYTES / (4 * channels * made * output.shape[2]))
    return max(1, int(count))


@dataclass(frozen=True, slots=True)
class ScoreConverter:
    """Makes labels and probabilities of scores."""

    labels: LabelSet
    probabilities: bool  # scores are probabilities; else logits
    threads: int | None = None  # of the kernels; None: all processors

    def labels_of(self, slab: Slab, scores: FloatArray) -> IntArray:
        """Return the labels (planes, a, b) of a slab by its scores: class indices, or painted values of regions."""
        return self._labels(scores, slab.shape, lowres_axis=slab.output.lowres_axis, slab=slab.along_axes)

    def labels_same_grid(self, scores: FloatArray) -> IntArray:
        """As `labels_of`, of scores (c, z, y, x) that are on the grid already."""
        return self._labels(scores, scores.shape[1:])

    def _labels(self, scores: FloatArray, shape: Shape, **where: Any) -> IntArray:
        if not self.labels.regions:
            return cast("IntArray", logits_to_labels(scores, shape, threads=self.threads, **where))
        paint = [region.paint for region in self.labels.regions]
        # The kernel paints where a logit is at least 0; a probability p is at least 1/2 where p - 1/2 is.
        logits = scores - HALF if self.probabilities else scores
        return cast("IntArray", logits_to_regions(logits, shape, paint, threads=self.threads, **where))

    def on_image(self, labels: IntArray, output: OutputGrid, geometry: Geometry) -> IntArray:
        """Bring the labels of a whole case to the image's grid, as file values of the smallest type."""
        return cast("IntArray", geometry.undo(self.to_file_values(labels.transpose(output.window_grid.back))))

    def to_file_values(self, labels: IntArray) -> IntArray:
        """Turn what `labels_of` returned into file values of the smallest type."""
        return labels if self.labels.regions else decode_labels(labels, self.labels)

    def probabilities_of(self, slab: Slab, scores: FloatArray) -> FloatArray:
        """Return the probabilities (c, planes, a, b) of a slab by its scores."""
        values = resample_probabilities(
            scores, slab.shape, lowres_axis=slab.output.lowres_axis, slab=slab.along_axes, threads=self.threads
        )
        return values if self.probabilities else to_probabilities(values, regions=bool(self.labels.regions))


class ProbabilitySink(Protocol):
    """Takes the probabilities of a case as they come."""

    def put(self, first: int, values: FloatArray) -> None:
        """Take the probabilities (c, planes, a, b) of planes `first` and following of the output."""


def export_probabilities(
    blocks: Iterator[ScoreBlock], output: OutputGrid, converter: ScoreConverter, *, beside: bool = False
) -> Iterator[tuple[int, FloatArray]]:
    """Yield (first plane, probabilities (c, planes, a, b)) of the cropped grid, a few planes at a time.

    The blocks must reach over all rows; with `beside` a thread of its own resamples while a device predicts the next.
    """

    def resample(slab: Slab) -> tuple[int, FloatArray]:
        return slab.planes[0], converter.probabilities_of(slab, slab.fetched())

    slabs = iterate_slabs(blocks, output, converter.labels.outputs, probabilities=True)
    yield from in_order(map(partial(partial, resample), slabs), beside=beside)


def export_labels(
    blocks: Iterator[ScoreBlock],
    output: OutputGrid,
    geometry: Geometry,
    converter: ScoreConverter,
    sink: ProbabilitySink | None = None,
    exporter: Exporter | None = None,
) -> Callable[[], IntArray]:
    """Make the labels of a whole case while its scores arrive; all classes never exist at the image's resolution.

    Parameters
    ----------
    blocks
        Of the scores, in order, from `sliding_window_scores`; for a sink they must reach over all rows. All are taken.
    output
        The cropped grid.
    geometry
        Of the prepared case.
    converter
        How scores become labels.
    sink
        Where probabilities go as well.
    exporter
        Makes labels while a device predicts the next blocks; None: they are made here, before those are asked for.

    Returns
    -------
    callable
        Waits for the exporter, in any thread; returns file values (z, y, x) on the image's grid, uint8 or uint16.
    """
    labels: Any = None

    def convert(slab: Slab) -> None:
        nonlocal labels
        scores = slab.fetched()
        part = converter.labels_of(slab, scores)
        if sink is not None:
            sink.put(slab.planes[0], converter.probabilities_of(slab, scores))
        labels = np.empty(output.shape, part.dtype) if labels is None else labels
        labels[slice(*slab.planes), slice(*slab.rows)] = part

    slabs = iterate_slabs(blocks, output, converter.labels.outputs, probabilities=sink is not None)
    parts = map(partial(partial, convert), slabs)
    return do_parts(parts, lambda: converter.on_image(labels, output, geometry), exporter)


def to_probabilities(logits: FloatArray, *, regions: bool) -> FloatArray:
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
