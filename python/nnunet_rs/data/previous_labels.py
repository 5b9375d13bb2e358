"""A first stage's segmentation as the second stage takes it: on its grid, and one-hot."""

from __future__ import annotations

import numpy as np

from nnunet_rs.core.geometry import Geometry
from nnunet_rs.core.kernels import resample_labels
from nnunet_rs.core.types import FloatArray, IntArray
from nnunet_rs.data.resampling import coarse_axis
from nnunet_rs.plan.schema import Configuration


def one_hot(labels: IntArray, classes: int) -> FloatArray:
    """Return one channel per foreground class: (*size) class indices → float32 (classes - 1, *size).

    `classes` counts the background, which gets no channel. nnU-Net's `MoveSegAsOneHotToData` of its foreground labels.
    """
    wanted = np.arange(1, classes, dtype=labels.dtype).reshape(-1, *(1,) * labels.ndim)
    return np.equal(labels, wanted).astype(np.float32)


def on_grid(
    labels: IntArray, geometry: Geometry, configuration: Configuration, *, threads: int | None = None
) -> IntArray:
    """Resample a segmentation of the image to the grid of a prepared case, as preprocessing resamples references.

    Parameters
    ----------
    labels
        Class indices (z, y, x) on the image's grid.
    geometry
        Of the prepared case.
    configuration
        That it was prepared for.
    threads
        Of the kernel; None: all processors.

    Returns
    -------
    ndarray
        Class indices (*geometry.resampled), working axes, same dtype.
    """
    inside = tuple(slice(start, stop) for start, stop in geometry.box)
    part = np.ascontiguousarray(geometry.turn(labels)[inside])
    if part.shape == geometry.resampled:
        return part
    axis = coarse_axis(geometry, configuration)
    return resample_labels(part, geometry.resampled, lowres_axis=axis, threads=threads)
