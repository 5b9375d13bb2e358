"""Planes through a volume, as radiologists look at them: the patient's right at the left, the head up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.types import Header, Spacing3

NAMES = ("sagittal", "coronal", "axial")  # planes across the axes x, y, z
FLAT = 2.0  # how much coarser than the others an axis is across which, and no other, is cut


@dataclass(frozen=True, slots=True)
class Cut:
    """One plane through a case: how to take it from a volume in canonical axes (x, y, z)."""

    axis: int
    index: int
    width: float  # mm
    height: float  # mm

    @property
    def name(self) -> str:
        """What radiologists call the plane."""
        return NAMES[self.axis]

    def take(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Give the plane as rows from top to bottom, columns from the patient's right to left (or front to back)."""
        place = tuple(self.index if axis == self.axis else slice(None) for axis in range(3))
        plane: NDArray[Any] = volume[place].T[::-1, ::-1]  # a view: np.take would copy a volume that is turned
        return plane


def canonical(data: NDArray[Any], header: Header) -> NDArray[Any]:
    """Flip and permute (z, y, x) to the axes nearest to right, anterior, superior (x, y, z)."""
    from nibabel import orientations

    turned: NDArray[Any] = orientations.apply_orientation(data.T, orientations.io_orientation(np.array(header.affine)))
    return turned


def canonical_spacing(spacing: Spacing3, header: Header) -> NDArray[np.float64]:
    """Give the spacing (mm) along the axes of `canonical`."""
    from nibabel import orientations

    order = orientations.io_orientation(np.array(header.affine))[:, 0].astype(int)
    turned = np.empty(3)
    turned[order] = spacing[::-1]
    return turned


def cut_across(axis: int, index: int, shape: tuple[int, ...], spacing: NDArray[np.float64]) -> Cut:
    """Cut across an axis of a canonical volume of this shape and spacing."""
    size = np.array(shape) * spacing
    width, height = (size[other] for other in range(3) if other != axis)
    return Cut(axis, index, float(width), float(height))


def cutting_axis(shape: tuple[int, ...], spacing: NDArray[np.float64]) -> int:
    """Choose the axis to cut across: the one that was scanned slice by slice, else the body's (axial planes)."""
    if min(shape) == 1:
        return int(np.argmin(shape))
    ordered = np.argsort(spacing)
    coarsest = int(ordered[2])
    return coarsest if spacing[coarsest] >= FLAT * spacing[ordered[1]] else 2


def profiles(foreground: NDArray[np.bool_]) -> tuple[NDArray[np.int64], ...]:
    """Count the foreground of every plane across x, y and z, in two passes over the volume."""
    over_x, over_z = foreground.sum(axis=0, dtype=np.int32), foreground.sum(axis=2, dtype=np.int32)
    return over_z.sum(axis=1), over_z.sum(axis=0), over_x.sum(axis=0)


def fullest(foreground: NDArray[np.bool_], axis: int) -> int:
    """Find the plane across `axis` with the most foreground, the middle one where there is none."""
    counts = foreground.sum(axis=tuple(other for other in range(3) if other != axis))
    return int(counts.argmax()) if counts.any() else len(counts) // 2
