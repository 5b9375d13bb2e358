"""The Rust kernels under one roof: the only module that imports `nnunet_rs._kernels`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nnunet_rs._kernels import (
    Blend,
    gaussian_importance,
    logits_to_labels,
    logits_to_regions,
    resample_image,
    resample_labels,
    window_starts,
)
from nnunet_rs._kernels import foreground_statistics as _foreground_statistics
from nnunet_rs._kernels import resample_probabilities as _resample_probabilities
from nnunet_rs.core.types import ChannelStats

__all__ = [
    "Blend",
    "foreground_statistics",
    "gaussian_importance",
    "logits_to_labels",
    "logits_to_regions",
    "resample_image",
    "resample_labels",
    "resample_probabilities",
    "window_starts",
]


def resample_probabilities(
    probabilities: NDArray[np.float32] | NDArray[np.float16],
    shape: Sequence[int],
    *,
    dtype: Literal["float32", "float16"] = "float32",
    lowres_axis: int | None = None,
    slab: tuple[int, int, int, int, int] | None = None,
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
        whole would have; planes that they need must be at hand.
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
        If the shapes differ, no voxel is foreground, or a foreground voxel is NaN or infinite.
    TypeError
        If a dtype is none of these.
    """
    return tuple(ChannelStats(*row) for row in _foreground_statistics(image, labels, threads=threads))
