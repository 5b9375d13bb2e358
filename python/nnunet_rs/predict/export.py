"""From class scores on the network's grid, slab by slab, to labels (and probabilities) on the image's grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.geometry import Geometry, lowres_axis
from nnunet_rs.core.kernels import logits_to_labels, logits_to_regions, resample_probabilities
from nnunet_rs.core.labels import decode_labels
from nnunet_rs.core.types import FloatArray, IntArray, LabelSet, Shape3, Spacing3
from nnunet_rs.predict.sweep import Sweep, plan_sweep
from nnunet_rs.predict.window import Slab

GROUP_BYTES = 1 << 27  # of resampled probabilities in memory at a time
HALF = np.float32(0.5)


@dataclass(frozen=True, slots=True)
class Target:
    """The grid that scores are brought to, in sweep axes."""

    sweep: Sweep
    shape: Shape3  # of the cropped, not resampled image
    lowres_axis: int | None  # takes the nearest plane, as in preprocessing

    @classmethod
    def of(cls, sweep: Sweep, geometry: Geometry, spacing: Spacing3) -> Target:
        """Describe the way back of a case that was resampled to `spacing` (mm, working axes)."""
        coarse = lowres_axis(geometry.working_spacing, spacing)
        shape = cast("Shape3", tuple(geometry.cropped_shape[axis] for axis in sweep.axes))
        return cls(sweep, shape, None if coarse is None else sweep.back[coarse])

    def neighbours(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and last plane of the scores that each output plane along sweep axis 0 lies between."""
        n_in, n_out = self.sweep.size[0], self.shape[0]
        twice = (2 * np.arange(n_out, dtype=np.int64) + 1) * n_in
        if self.lowres_axis == 0:
            nearest = twice // (2 * n_out)
            return nearest, nearest
        floor, rest = np.divmod(twice - n_out, 2 * n_out)
        return np.clip(floor, 0, n_in - 1), np.clip(floor + (rest > 0), 0, n_in - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Planes `out` (first, stop) of the target, and scores that they can be made from."""

    scores: FloatArray  # (c, planes, a, b)
    start: int  # plane of the whole scores that the first one is
    out: tuple[int, int]


class Cutter:
    """Turns slabs of scores into pieces that need no neighbour: every output plane is made once, all in order."""

    def __init__(self, target: Target) -> None:
        self._first, self._last = target.neighbours()
        self._done = 0  # output planes handed out
        self._edge: FloatArray | None = None  # last plane of the slab before

    def pieces(self, slab: Slab) -> Iterator[Piece]:
        """Yield what the slab completes: planes between it and the slab before, then those within it."""
        stop = slab.start + slab.scores.shape[1]
        ready = int(np.searchsorted(self._last, stop))
        across = min(int(np.searchsorted(self._first, slab.start)), ready)
        if across > self._done and self._edge is not None:
            both = np.concatenate([self._edge, slab.scores[:, :1]], axis=1)
            yield Piece(both, slab.start - 1, (self._done, across))
        within = max(across, self._done)
        if ready > within:
            yield Piece(slab.scores, slab.start, (within, ready))
        self._done = max(ready, self._done)
        self._edge = slab.scores[:, -1:].copy()


@dataclass(frozen=True, slots=True)
class Decision:
    """How scores become labels."""

    labels: LabelSet
    probabilities: bool  # scores are probabilities; else logits
    threads: int | None = None  # of the kernels; None: all processors

    def decide(self, piece: Piece, target: Target) -> IntArray:
        """Return the labels (planes, a, b) of a piece: class indices, or the painted file values of regions."""
        where: Any = {"lowres_axis": target.lowres_axis, "slab": _slab(piece, target), "threads": self.threads}
        shape = (piece.out[1] - piece.out[0], *target.shape[1:])
        if not self.labels.regions:
            return cast("IntArray", logits_to_labels(piece.scores, shape, **where))
        paint = [region.paint for region in self.labels.regions]
        # The kernel paints where a logit is at least 0; a probability p is at least 1/2 where p - 1/2 is.
        scores = piece.scores - HALF if self.probabilities else piece.scores
        return cast("IntArray", logits_to_regions(scores, shape, paint, **where))

    def decide_same_grid(self, scores: FloatArray) -> IntArray:
        """As `decide`, of scores (c, z, y, x) that are on the grid already."""
        z, y, x = scores.shape[1:]
        target = Target(plan_sweep((z, y, x), (z, y, x), axis=0), (z, y, x), None)
        return self.decide(Piece(scores, 0, (0, scores.shape[1])), target)

    def place(self, decided: IntArray, target: Target, geometry: Geometry) -> IntArray:
        """Bring what `decide` returned for a whole case to the image's grid, as file values of the smallest type."""
        return cast("IntArray", geometry.undo(self.to_file_values(decided.transpose(target.sweep.back))))

    def to_file_values(self, decided: IntArray) -> IntArray:
        """Turn what `decide` returned into file values of the smallest type."""
        return decided if self.labels.regions else decode_labels(decided, self.labels)

    def probabilities_of(self, piece: Piece, target: Target) -> Iterator[tuple[int, FloatArray]]:
        """Yield (first output plane, probabilities (c, planes, a, b)) of a piece, a few planes at a time."""
        plane = 4 * piece.scores.shape[0] * target.shape[1] * target.shape[2]
        count = max(1, GROUP_BYTES // plane)
        for first in range(*piece.out, count):
            group = Piece(piece.scores, piece.start, (first, min(first + count, piece.out[1])))
            shape = (group.out[1] - first, *target.shape[1:])
            where: Any = {"lowres_axis": target.lowres_axis, "slab": _slab(group, target), "threads": self.threads}
            values = resample_probabilities(piece.scores, shape, **where)
            yield first, values if self.probabilities else _activated(values, bool(self.labels.regions))


class ProbabilitySink(Protocol):
    """Takes the probabilities of a case as they come."""

    def put(self, first: int, values: FloatArray) -> None:
        """Take the probabilities (c, planes, a, b) of planes `first` and following of the target."""


def export_probabilities(slabs: Iterator[Slab], target: Target, decision: Decision) -> Iterator[tuple[int, FloatArray]]:
    """Yield (first plane, probabilities (c, planes, a, b)) of the cropped grid, a few planes at a time."""
    cutter = Cutter(target)
    for slab in slabs:
        for piece in cutter.pieces(slab):
            yield from decision.probabilities_of(piece, target)


def export_labels(
    slabs: Iterator[Slab], target: Target, geometry: Geometry, decision: Decision, sink: ProbabilitySink | None = None
) -> IntArray:
    """Decide a whole case while its scores arrive; all classes never exist at the image's resolution.

    Parameters
    ----------
    slabs
        Of the scores, in order, from `window.sweep_scores`.
    target
        The cropped grid.
    geometry
        Of the prepared case.
    decision
        How scores become labels.
    sink
        Where probabilities go as well.

    Returns
    -------
    ndarray
        File values (z, y, x) on the image's grid, uint8 or uint16.
    """
    cutter = Cutter(target)
    labels: Any = None
    for slab in slabs:
        for piece in cutter.pieces(slab):
            decided = decision.decide(piece, target)
            labels = np.empty(target.shape, decided.dtype) if labels is None else labels
            labels[slice(*piece.out)] = decided
            if sink is not None:
                for first, values in decision.probabilities_of(piece, target):
                    sink.put(first, values)
    return decision.place(labels, target, geometry)


def _slab(piece: Piece, target: Target) -> tuple[int, int, int, int, int]:
    return (0, piece.start, target.sweep.size[0], piece.out[0], target.shape[0])


def _activated(logits: FloatArray, regions: bool) -> FloatArray:
    """Softmax over the first axis, or sigmoids; in place."""
    if regions:
        with np.errstate(over="ignore"):  # exp of a large negative logit: 1 / inf is the 0 it should be
            return cast("FloatArray", 1 / (1 + np.exp(-logits)))
    logits -= logits.max(axis=0)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=0)
    return logits
