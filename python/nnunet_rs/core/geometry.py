"""The way from a file's grid to the network's, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.types import Box, Header, Shape, Shape3, Spacing3

ANISOTROPY_THRESHOLD = 3.0  # coarsest over finest spacing from which the coarse axis is treated apart

_SLAB = 16  # planes looked at together: float32 rows of a cache line


@dataclass(frozen=True, slots=True)
class Geometry:
    """What was done to a case's grid, in this order: transpose, flip, crop to `box`, resample."""

    shape: Shape3  # of the file, z, y, x
    spacing: Spacing3  # of the file, mm, z, y, x
    transpose: tuple[int, int, int]  # working axis i is the file's axis transpose[i]
    box: Box  # what the crop kept, working axes
    resampled: Shape3  # size after resampling, working axes
    header: Header
    flipped: tuple[bool, bool, bool] = (False, False, False)  # working axes that run against the file's

    @property
    def cropped_shape(self) -> Shape3:
        """Size after the crop, before resampling; working axes."""
        a, b, c = (stop - start for start, stop in self.box)
        return a, b, c

    @property
    def working_spacing(self) -> Spacing3:
        """Spacing of the file along the working axes, mm."""
        a, b, c = (self.spacing[axis] for axis in self.transpose)
        return a, b, c

    def turn(self, array: NDArray[Any]) -> NDArray[Any]:
        """View an array (..., z, y, x) on the file's grid in working axes, not cropped."""
        lead = array.ndim - 3
        turned = array.transpose(*range(lead), *(axis + lead for axis in self.transpose))
        return np.flip(turned, tuple(lead + axis for axis in range(3) if self.flipped[axis]))

    def undo(self, cropped: NDArray[Any], fill: float = 0) -> NDArray[Any]:
        """Put a result back where it came from.

        Parameters
        ----------
        cropped
            On the cropped, not resampled grid in working axes: (*cropped_shape), or (c, *cropped_shape).
        fill
            The value outside the crop box.

        Returns
        -------
        ndarray
            (z, y, x) or (c, z, y, x) on the file's grid; same dtype.

        Raises
        ------
        ValueError
            The shape is not `cropped_shape`.
        """
        if cropped.shape[-3:] != self.cropped_shape or cropped.ndim > 4:
            raise ValueError(f"the result must be of shape {self.cropped_shape}, got {cropped.shape}")
        lead = cropped.ndim - 3
        full = np.full((*cropped.shape[:lead], *self.shape), fill, cropped.dtype)
        inside: tuple[Any, ...] = (..., *(slice(start, stop) for start, stop in self.box))
        self.turn(full)[inside] = cropped
        return full


def rounded(affine: NDArray[np.float64]) -> list[list[float]]:
    """Return the rows of an affine that matter, for messages."""
    return [[round(float(number), 6) for number in row] for row in affine[:3]]


def invertible(matrix: NDArray[np.float64]) -> bool:
    """Return whether three column vectors span space, whatever their lengths: micrometres may be told in metres."""
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(matrix, axis=0)
        return bool(np.isfinite(lengths).all() and lengths.min() > 0 and abs(np.linalg.det(matrix / lengths)) > 1e-6)


def nonzero_box(data: NDArray[Any]) -> Box:
    """Find the smallest box that holds every voxel at which any channel is not zero.

    Filling the holes of the mask (as nnU-Net does) does not change its bounding box, so it is not done. An image of
    zeros has no such box; it is kept whole.

    Parameters
    ----------
    data
        (c, z, y, x), any number type; NaN counts as not zero.

    Returns
    -------
    Box
        [start, stop) along z, y, x.

    Notes
    -----
    Looks inwards from each face until it meets a voxel: a volume without margins costs next to nothing, others
    one pass over their margins.
    """
    box: list[tuple[int, int]] = []
    inner = data
    for axis in range(1, data.ndim):
        size = data.shape[axis]
        start = _first(inner, axis)
        if start == size:
            return tuple((0, length) for length in data.shape[1:])
        stop = size - _first(np.flip(inner, axis), axis)
        box.append((start, stop))
        inner = inner[(slice(None),) * axis + (slice(start, stop),)]
    return tuple(box)


def _first(data: NDArray[Any], axis: int) -> int:
    """Index along `axis` of the first plane that is not all zero; the axis' size if all are."""
    others = tuple(other for other in range(data.ndim) if other != axis)
    size = int(data.shape[axis])
    for start, stop in [(0, 1), *((at, at + _SLAB) for at in range(1, size, _SLAB))]:  # most often the first has one
        slab = data[(slice(None),) * axis + (slice(start, stop),)]
        found = (slab != 0).any(axis=others)
        if found.any():
            return start + int(found.argmax())
    return size


def lowres_axis(spacing: tuple[float, ...], target: tuple[float, ...], separate: bool | None = None) -> int | None:
    """Return along which axis, if any, an anisotropic case is resampled by itself (by nearest neighbour, as a rule).

    The case's own spacing decides if its coarsest axis is more than 3 times its finest, else the target's. Where two or
    three axes share the coarsest spacing there is no such axis. Equal to `determine_do_sep_z_and_axis` of
    nnU-Net v2.8.1.

    Parameters
    ----------
    spacing, target
        Of the case before and after resampling, mm, same axis order.
    separate
        nnU-Net's force_separate_z: True takes the case's own coarsest axis, False none, None decides by the threshold.
    """
    if separate is not None:
        return _coarsest(spacing) if separate else None
    for candidate in (spacing, target):
        if max(candidate) / min(candidate) > ANISOTROPY_THRESHOLD:
            return _coarsest(candidate)
    return None


def _coarsest(spacing: tuple[float, ...]) -> int | None:
    coarse = [axis for axis, size in enumerate(spacing) if size == max(spacing)]
    return coarse[0] if len(coarse) == 1 else None


def new_shape(shape: Shape, spacing: tuple[float, ...], target: tuple[float, ...]) -> Shape:
    """Size after resampling: round(spacing / target * size), halves to even as nnU-Net rounds them; at least 1.

    Parameters
    ----------
    shape
        Size before, voxels.
    spacing, target
        Before and after, mm, same axis order.
    """
    return tuple(
        max(1, round(float(old) / float(new) * size)) for old, new, size in zip(spacing, target, shape, strict=True)
    )
