"""How far apart two surfaces are: Hausdorff distance, average surface distance, normalised surface Dice."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.types import Mask


@dataclass(frozen=True, slots=True)
class SurfaceDistances:
    """Distances between the surface voxels of two masks.

    Where one of the two is empty there is no distance (NaN), and no surface voxel is near the other: NSD is 0. Where
    both are, all three are undefined (NaN).
    """

    hd95: float  # mm; the larger of the two directed 95th percentiles
    asd: float  # mm; average symmetric: mean over the surface voxels of both of the distance to the other surface
    nsd: float  # share of the surface voxels of both within the tolerance of the other surface


UNDEFINED = SurfaceDistances(nan, nan, nan)
MISSED = SurfaceDistances(nan, nan, 0.0)


def surface_distances(
    prediction: Mask,
    reference: Mask,
    spacing: tuple[float, ...],
    tolerance: float,
    flat: tuple[bool, ...] | None = None,
) -> SurfaceDistances:
    """Measure the distances between the surfaces of two masks.

    A surface is the set of voxels of the mask with a face neighbour outside it (outside the volume counts as
    outside); distances are taken between voxel centres. Axes of a single voxel have no neighbours: a flat mask is
    measured within its plane. The masks may be cropped to any box that holds them both.

    Parameters
    ----------
    prediction, reference
        Boolean masks of one shape, (z, y, x).
    spacing
        Of z, y, x, in mm.
    tolerance
        Largest distance, in mm, that the normalised surface Dice still accepts.
    flat
        Which axes of the whole volume hold a single voxel; taken from the masks' shape unless given.

    Notes
    -----
    Definitions as in Maier-Hein et al., "Metrics reloaded" (Nature Methods 2024), on voxel surfaces.
    """
    empty = not prediction.any(), not reference.any()
    if any(empty):
        return UNDEFINED if all(empty) else MISSED
    flat = flat or tuple(size == 1 for size in reference.shape)
    ours, theirs = (_surface_points(mask, flat, spacing) for mask in (prediction, reference))
    return _summarise(_nearest(ours, theirs), _nearest(theirs, ours), tolerance)


def _summarise(forth: NDArray[Any], back: NDArray[Any], tolerance: float) -> SurfaceDistances:
    both = np.concatenate([forth, back])
    return SurfaceDistances(
        hd95=float(max(np.percentile(forth, 95), np.percentile(back, 95))),
        asd=float(both.mean()),
        nsd=float((both <= tolerance * (1 + 1e-9)).mean()),  # a distance of exactly the tolerance is within it
    )


def _nearest(points: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Distance of each of `points` (n, d) to the nearest of `others` (m, d)."""
    from scipy.spatial import cKDTree  # half a second to import, needed for distances only

    distances, _ = cKDTree(others).query(points)
    return np.asarray(distances)


def _surface_points(mask: Mask, flat: tuple[bool, ...], spacing: tuple[float, ...]) -> NDArray[Any]:
    """Return the surface voxels of the mask, in mm from its first corner: (n, d)."""
    return np.argwhere(mask & ~_interior(mask, flat)) * np.asarray(spacing, dtype=np.float64)


def _interior(mask: Mask, flat: tuple[bool, ...]) -> Mask:
    """Voxels all of whose face neighbours belong to the mask; axes named by `flat` have no neighbours."""
    interior = mask.copy()
    for axis in (axis for axis, single in enumerate(flat) if not single):
        along, kept = np.moveaxis(mask, axis, 0), np.moveaxis(interior, axis, 0)
        kept[1:] &= along[:-1]
        kept[:-1] &= along[1:]
        kept[0] = kept[-1] = False
    return interior
