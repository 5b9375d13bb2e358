"""Planes as a stack: their order, the grid they lie on, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.dicom.plane import Plane
from nnunet_rs.core.image_file import LPS_TO_RAS
from nnunet_rs.core.issues import Issue
from nnunet_rs.core.types import Header, Shape3, Spacing3

SAME_POSITION = 1e-2  # mm; positions are texts of few digits
ORIENTATION_TOLERANCE = 1e-3  # of direction cosines
# Parts of the distance between slices by which one may lie beside its place: less is rounding, more a warning, and from
# the second on nobody knows which slices the network sees.
UNEVEN = (1e-2, 1e-1)
TILT = (1e-1, 5e-1)  # parts of a pixel by which the last slice may be shifted against the first; likewise


@dataclass(frozen=True, slots=True)
class Stack:
    """Planes in order, and where their voxels are."""

    planes: tuple[Plane, ...]  # along the normal of the planes: axial from foot to head
    shape: Shape3  # z, y, x
    spacing: Spacing3  # z, y, x, mm
    header: Header
    issues: tuple[Issue, ...] = ()


def distances(planes: Sequence[Plane]) -> NDArray[np.float64]:
    """Return how far each plane lies along the normal of the first one's, mm; zeros where that is not known."""
    rows, columns = planes[0].rows, planes[0].columns
    if rows is None or columns is None or any(plane.position is None for plane in planes):
        return np.zeros(len(planes))
    found: NDArray[np.float64] = np.array([plane.position for plane in planes]) @ np.cross(rows, columns)
    return found


def repeats(planes: Sequence[Plane]) -> int:
    """Return how many planes lie at one position at most."""
    ordered = np.sort(distances(planes))
    starts = np.flatnonzero(np.diff(ordered, prepend=-np.inf) > SAME_POSITION)
    return int(np.diff(starts, append=len(ordered)).max())


def is_even(planes: Sequence[Plane]) -> bool:
    """Whether the planes lie at different positions, equally far from each other."""
    ordered = np.sort(distances(planes))
    return repeats(planes) == 1 and _unevenness(ordered) <= UNEVEN[0]


def stacked(planes: Sequence[Plane], place: Path) -> Stack:
    """Put the planes of one image in order and see how they lie.

    Parameters
    ----------
    planes
        Of one orientation, size and pixel spacing.
    place
        The file or folder that issues name.

    Returns
    -------
    Stack
        Its issues: `no-position`, `several-phases`, `missing-slice`, `uneven-spacing`, `gantry-tilt`,
        `spacing-assumed`. Fatal ones leave a grid that is not to be trusted.
    """
    along = distances(planes)
    order = np.lexsort((np.array([plane.number for plane in planes]), along))
    ordered, along = [planes[index] for index in order], along[order]
    issues, step = _along(ordered, along, place)
    first = ordered[0]
    if any(plane.white_is_zero for plane in planes):
        value = "white is zero (MONOCHROME1): viewers, and SimpleITK's reader, invert it"
        advice = "the numbers are taken as stored; see that all images of a dataset agree"
        issues.append(Issue(place, "white-is-zero", value, advice, fatal=False))
    between, spacing = first.pixel_spacing, (step, *(first.pixel_spacing or (1.0, 1.0)))
    if between is None:
        issues.append(_assumed(place, "the header gives no PixelSpacing, 1 x 1 mm is assumed"))
    affine = np.eye(4)
    rows, columns = first.rows or (1.0, 0.0, 0.0), first.columns or (0.0, 1.0, 0.0)
    affine[:3, 0] = np.multiply(rows, spacing[2])
    affine[:3, 1] = np.multiply(columns, spacing[1])
    affine[:3, 2] = np.cross(rows, columns) * spacing[0]
    affine[:3, 3] = first.position or (0.0, 0.0, 0.0)
    header = Header("itk", tuple(tuple(map(float, row)) for row in LPS_TO_RAS * affine))
    shape = (len(ordered), *first.size)
    return Stack(tuple(ordered), shape, spacing, header, tuple(issues))


def _along(planes: Sequence[Plane], along: NDArray[np.float64], place: Path) -> tuple[list[Issue], float]:
    """Return what is wrong along the stack, and the distance of its slices."""
    first = planes[0]
    if any(plane.position is None or plane.rows is None for plane in planes):
        value = f"{len(planes)} images without ImagePositionPatient or ImageOrientationPatient"
        advice = "export the series as the scanner stored it" if len(planes) > 1 else "its place in space is made up"
        return [Issue(place, "no-position", value, advice, fatal=len(planes) > 1)], _thickness(first) or 1.0
    if len(planes) == 1:
        step = _thickness(first)
        if step is not None:
            return [], step
        value = "one slice without SliceThickness or SpacingBetweenSlices, 1 mm is assumed"
        return [_assumed(place, value)], 1.0
    if repeats(planes) > 1:
        return [_several(planes, along, place)], _thickness(first) or 1.0
    step = float(along[-1] - along[0]) / (len(along) - 1)
    issues = [*_gaps(planes, along, place), *_tilt(planes, along, place)]
    return issues, step


def _thickness(plane: Plane) -> float | None:
    """Return how thick a lone slice is."""
    return next((abs(size) for size in (plane.gap, plane.thickness) if size), None)


def _several(planes: Sequence[Plane], along: NDArray[np.float64], place: Path) -> Issue:
    starts = np.flatnonzero(np.diff(along, prepend=-np.inf) > SAME_POSITION)
    value = f"{len(planes)} images at {len(starts)} positions, up to {repeats(planes)} at one, and no value tells which"
    return Issue(place, "several-phases", value, "export each phase as a series of its own")


def _unevenness(ordered: NDArray[np.float64]) -> float:
    """Return how far a slice lies beside its place in an even stack, in parts of the distance between slices."""
    if len(ordered) < 3:
        return 0.0
    even = np.linspace(ordered[0], ordered[-1], len(ordered))
    step = (ordered[-1] - ordered[0]) / (len(ordered) - 1)
    beside = np.abs(ordered - even)
    return float(beside.max() / step) if beside.max() > SAME_POSITION else 0.0


def _gaps(planes: Sequence[Plane], along: NDArray[np.float64], place: Path) -> list[Issue]:
    steps = np.diff(along)
    usual = float(np.median(steps))
    uneven = _unevenness(along)
    if uneven <= UNEVEN[0]:
        return []
    wide = steps / usual
    missing = np.rint(wide).astype(int) - 1
    whole = np.abs(wide - np.rint(wide)) * usual <= max(2 * SAME_POSITION, 0.05 * usual)
    if whole.all() and missing.max() > 0:
        at = int(missing.argmax())
        value = (
            f"{int(missing.sum())} missing: from image {planes[at].number} to image {planes[at + 1].number} it is "
            f"{steps[at]:.3f} mm, elsewhere {usual:.3f} mm"
        )
        return [Issue(place, "missing-slice", value, "export the whole series")]
    value = f"from slice to slice it is {steps.min():.3f} to {steps.max():.3f} mm"
    if uneven <= UNEVEN[1]:
        return [Issue(place, "uneven-spacing", value, "accepted: slices count as equally far apart", fatal=False)]
    return [Issue(place, "uneven-spacing", value, "resample it to slices that are equally far apart")]


def _tilt(planes: Sequence[Plane], along: NDArray[np.float64], place: Path) -> list[Issue]:
    """See whether slices are shifted against each other, as a tilted gantry leaves them."""
    first, last = planes[0], planes[-1]
    way = np.subtract(last.position, first.position)  # type: ignore[arg-type]
    normal = np.cross(first.rows, first.columns)  # type: ignore[arg-type]
    shift = way - normal * (along[-1] - along[0])
    # Of a stack whose middle bulges, the ends say nothing.
    offsets = np.subtract([plane.position for plane in planes], first.position)  # type: ignore[arg-type]
    beside = np.linalg.norm(offsets - np.outer(along - along[0], normal), axis=1).max()
    pixel = min(first.pixel_spacing or (1.0, 1.0))
    if beside <= TILT[0] * pixel + SAME_POSITION:
        return []
    angle = np.degrees(np.arctan2(np.linalg.norm(shift), along[-1] - along[0]))
    value = f"slices are shifted against each other by up to {beside:.3f} mm, a tilt of {angle:.2f} degrees"
    if beside <= TILT[1] * pixel:
        return [Issue(place, "gantry-tilt", value, "accepted: less than half a pixel", fatal=False)]
    return [Issue(place, "gantry-tilt", value, "resample it to a grid of right angles (dcm2niix does)")]


def _assumed(place: Path, value: str) -> Issue:
    return Issue(place, "spacing-assumed", value, "set the voxel size in the header", fatal=False)
