"""The Rust kernels under one roof: the only module that imports `nnunet_rs._kernels`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from nnunet_rs._kernels import (
    Blend,
    IntensityChanges,
    WindowAccumulator,
    gaussian_importance,
    logits_to_labels,
    logits_to_regions,
    mirror,
    resample_image,
    resample_labels,
    window_starts,
)
from nnunet_rs._kernels import ForegroundAccumulator as _ForegroundAccumulator
from nnunet_rs._kernels import Warp as _Warp
from nnunet_rs._kernels import foreground_statistics as _foreground_statistics
from nnunet_rs._kernels import resample_probabilities as _resample_probabilities
from nnunet_rs.core.types import ChannelStats

__all__ = [
    "Blend",
    "Elastic",
    "ForegroundAccumulator",
    "IntensityChanges",
    "SpatialWarp",
    "WindowAccumulator",
    "foreground_statistics",
    "gaussian_importance",
    "logits_to_labels",
    "logits_to_regions",
    "mirror",
    "resample_image",
    "resample_labels",
    "resample_probabilities",
    "warp",
    "window_starts",
]

_Label = TypeVar("_Label", bound=np.integer[Any] | np.float32)


def resample_probabilities(
    probabilities: NDArray[np.float32] | NDArray[np.float16],
    shape: Sequence[int],
    *,
    dtype: Literal["float32", "float16"] = "float32",
    lowres_axis: int | None = None,
    slab: Sequence[int] | None = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """Resample class probabilities linearly, for saving.

    Parameters
    ----------
    probabilities : ndarray of float32 or float16, (c, z, y, x) or (c, y, x)
    shape : sequence of int
        Voxels of the result along (z, y, x) or (y, x).
    dtype : {"float32", "float16"}
        Of the result; the computation is float32.
    lowres_axis : int, optional
        This axis takes the nearest slice instead.
    slab : (axis, start, planes, out_start, out_planes), optional
        Both grids are parts of longer ones along `axis`: `probabilities` holds planes `start` and following of
        `planes`, the result holds planes `out_start` and following of `out_planes`. The values are those that the
        whole would have; planes that they need must be present. For parts along several axes five numbers each, one
        behind the other; every axis once.
    threads : int, optional
        All processors of this process if not given.

    Returns
    -------
    ndarray of `dtype`, (c, *shape)

    Raises
    ------
    ValueError
        If `dtype` is another, or as `resample_image` does.
    """
    if dtype not in ("float32", "float16"):
        raise ValueError(f"dtype must be 'float32' or 'float16'; got {dtype!r}")
    half = dtype == "float16"
    return _resample_probabilities(probabilities, shape, half=half, lowres_axis=lowres_axis, slab=slab, threads=threads)


def foreground_statistics(
    image: NDArray[Any], labels: NDArray[np.integer[Any] | np.bool_], *, threads: int | None = None
) -> tuple[ChannelStats, ...]:
    """Exact statistics of the voxels whose label is above 0, channel by channel.

    The result depends neither on the voxels' order nor on the number of threads. Sums are exact integers (types of up
    to 32 bits) and rounded once; percentiles are order statistics with linear interpolation between neighbours.

    Parameters
    ----------
    image : ndarray of any integer or float dtype, (c, z, y, x) or (c, y, x)
    labels : ndarray of any integer dtype or bool, (z, y, x) or (y, x)
        Voxels above 0 are foreground.
    threads : int, optional
        All processors of this process if not given.

    Returns
    -------
    tuple of ChannelStats
        One a channel: `numpy.mean`, `numpy.std`, `numpy.percentile` of the foreground as float64.

    Raises
    ------
    ValueError
        If the shapes differ, no voxel is foreground, a foreground voxel is NaN or infinite, or there are more than
        65535 channels.
    TypeError
        If a dtype is none of these.
    MemoryError
        If memory is refused.
    """
    return tuple(ChannelStats(*row) for row in _foreground_statistics(image, labels, threads=threads))


class ForegroundAccumulator:
    """Exact foreground statistics of a whole dataset, case by case, in bounded memory.

    The result is that of `foreground_statistics` on all foreground voxels together, bit for bit the same for any
    order of cases, merges and threads. Several threads may add at once.

    Images of whole numbers (CT, and anything read from an integer file) keep one counter a distinct value. True
    floats may have more distinct values than `memory` holds; then values far from the percentiles are dropped, and
    in the rare case that a percentile turns out to lie among them, `pending` is true after the last case and every
    case must be shown once more to `refine`.

    >>> accumulator = ForegroundAccumulator(channels=1)
    >>> accumulator.add(np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2), np.ones((2, 2, 2), np.uint8))
    >>> accumulator.finish()[0].median
    3.5

    Parameters
    ----------
    channels : int
        Channels of every image.
    memory : int
        Bytes that counters may take, all channels together; a case being added may take as much again.

    Raises
    ------
    ValueError
        If there are no channels.
    """

    def __init__(self, channels: int, *, memory: int = 512 << 20) -> None:
        self._kernel = _ForegroundAccumulator(channels, memory)

    def add(
        self, image: NDArray[Any], labels: NDArray[np.integer[Any] | np.bool_], *, threads: int | None = None
    ) -> None:
        """Add a case; one without foreground adds nothing.

        Parameters
        ----------
        image : ndarray of float32, float16 or an integer dtype of 8 or 16 bits, (c, z, y, x) or (c, y, x)
        labels : ndarray of any integer dtype or bool, (z, y, x) or (y, x)
            Voxels above 0 are foreground.
        threads : int, optional
            All processors of this process if not given.

        Raises
        ------
        ValueError
            If the shapes differ, the number of channels is another, or a foreground voxel is NaN or infinite; the
            accumulator stays as it was.
        TypeError
            If a dtype is none of these (cast wider ones to float32).
        MemoryError
            If memory is refused; the accumulator stays as it was.
        """
        self._kernel.add(image, labels, threads=threads)

    def merge(self, other: ForegroundAccumulator) -> None:
        """Add all cases of another accumulator; ValueError if its number of channels is another."""
        self._kernel.merge(other._kernel)

    @property
    def pending(self) -> bool:
        """Whether a percentile needs the second pass, `refine`."""
        return self._kernel.pending

    def refine(
        self, image: NDArray[Any], labels: NDArray[np.integer[Any] | np.bool_], *, threads: int | None = None
    ) -> None:
        """Show a case again, with arguments as in `add`; only where `pending`, once for every case."""
        self._kernel.refine(image, labels, threads=threads)

    def finish(self) -> tuple[ChannelStats, ...]:
        """Return the statistics of all cases so far, one a channel.

        Raises
        ------
        ValueError
            If no voxel was foreground, or a second pass is needed and has not seen every case exactly once.
        """
        return tuple(ChannelStats(*row) for row in self._kernel.finish())

    def to_bytes(self) -> bytes:
        """Return the accumulator as bytes, of a versioned format."""
        return self._kernel.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> ForegroundAccumulator:
        """Return the accumulator that `to_bytes` wrote; ValueError if the bytes are damaged or of another version."""
        accumulator = cls.__new__(cls)
        accumulator._kernel = _ForegroundAccumulator.from_bytes(data)
        return accumulator


@dataclass(frozen=True, slots=True)
class Elastic:
    """An elastic deformation: uniform noise in [-1, 1) a voxel and axis, smoothed, times `alpha`."""

    alpha: float  # in a volume, the displacements' standard deviation is about 0.086 alpha / sigma^1.5 voxels
    sigma: float  # standard deviation of the Gaussian that smooths the noise, voxels
    seed: int  # 0 to 2^64 - 1; the same seed gives the same deformation for any number of threads


@dataclass(frozen=True, slots=True)
class SpatialWarp:
    """Where the voxels of a patch are read: at `centre + matrix @ (voxel - (shape - 1) / 2 + displacement)`."""

    shape: tuple[int, ...]  # of the patch: (z, y, x) or (y, x)
    matrix: tuple[tuple[float, ...], ...]  # rotation and scaling, input voxels per output voxel
    centre: tuple[float, ...]  # input position of the patch's centre; voxel centres are at whole numbers
    elastic: Elastic | None = None


def warp(
    image: NDArray[np.float32],
    labels: NDArray[_Label] | None,
    parameters: SpatialWarp,
    *,
    order: int = 3,
    border: float = 0.0,
    label_border: int = 0,
    threads: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[_Label] | None]:
    """Rotate, scale and deform an image and its labels, sampled on the output patch only.

    Parameters
    ----------
    image : ndarray of float32, (c, z, y, x) or (c, y, x)
    labels : ndarray of float32 or an integer dtype of up to 32 bits, (s, z, y, x) or (s, y, x), optional
        Of the image's size. Each channel is a label map of its own: every label's indicator is interpolated linearly,
        the greatest weight wins, ties go to the nearest voxel's label.
    parameters : SpatialWarp
    order : {0, 1, 3}
        Nearest, linear or cubic spline interpolation of the image.
    border, label_border
        Value where a position lies beyond the outermost voxel centres.
    threads : int, optional
        All processors of this process if not given.

    Returns
    -------
    image : ndarray of float32, (c, *parameters.shape)
    labels : ndarray of the labels' dtype, (s, *parameters.shape), or None

    Raises
    ------
    ValueError
        If numbers of axes or sizes differ, a parameter is not finite or `sigma` not positive, or an axis has no voxels.
    TypeError
        If a dtype is none of these.
    MemoryError
        If memory for a result, an intermediate or the threads is refused.

    Notes
    -----
    batchgenerators 0.25 `augment_spatial` with `border_mode="constant"` at the same coordinates. Its smoothed noise is
    evaluated on a grid of half `sigma` and interpolated, which differs by less than a thousandth of its std.
    """
    p = parameters
    kernel = _Warp(p.shape, p.matrix, p.centre, p.elastic, threads=threads)
    return kernel.apply(image, labels, order=order, border=border, label_border=label_border)
