"""Spacings and median shapes: what the cases have in common, and the axes' working order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.orientation import CANONICAL, axes_towards
from nnunet_rs.core.text import examples
from nnunet_rs.core.types import Shape3, Spacing3
from nnunet_rs.plan.schema import CasePrint, Fingerprint

Floats: TypeAlias = tuple[float, ...]


def reoriented(fingerprint: Fingerprint) -> Fingerprint:
    """Return the fingerprint of the images turned to right, anterior, superior first.

    Raises
    ------
    PlanError
        It is not known how an image is stored.
    """
    unknown = [case.name for case in fingerprint.cases if not case.orientation]
    if unknown:
        raise PlanError(
            f"--reorient: it is not known in which orientation {examples(unknown)} are stored: their files do not say "
            "it, or were read by an earlier version (preprocess --fresh reads them again)"
        )
    return replace(fingerprint, cases=tuple(map(_reoriented, fingerprint.cases)))


def _reoriented(case: CasePrint) -> CasePrint:
    z, y, x = axes_towards(case.orientation, CANONICAL)
    shape, crop, spacing = case.shape, case.shape_after_crop, case.spacing
    return CasePrint(
        case.name,
        (shape[z], shape[y], shape[x]),
        (crop[z], crop[y], crop[x]),
        (spacing[z], spacing[y], spacing[x]),
        CANONICAL,
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Percentile with linear interpolation, to the last bit as `numpy.percentile` has it."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * (percent / 100)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    low, high, weight = ordered[below], ordered[above], position - below
    if weight >= 0.5:
        return high - (high - low) * (1 - weight)
    return low + (high - low) * weight


def target_spacing(fingerprint: Fingerprint, coarse_percentile: float | None, threshold: float) -> Spacing3:
    """Return the spacing all cases are resampled to.

    The median over cases, axis by axis (paper, section "Preprocessing"). Where `coarse_percentile` is given and one
    axis is much coarser and has far fewer voxels than the others, that axis takes this percentile instead: data with
    thick slices of varying distance loses less (nnU-Net v2, ``determine_fullres_target_spacing``).

    Parameters
    ----------
    fingerprint
        Axes as in the files (z, y, x).
    coarse_percentile
        Percent, for example 10; None keeps the median.
    threshold
        How many times coarser, and how many times fewer voxels.

    Returns
    -------
    tuple of float
        mm, axes as in the files.
    """
    columns = list(zip(*(case.spacing for case in fingerprint.cases), strict=True))
    target = [percentile(column, 50) for column in columns]
    if coarse_percentile is not None and is_anisotropic(fingerprint, threshold):
        coarse = target.index(max(target))
        finer = max(spacing for axis, spacing in enumerate(target) if axis != coarse)
        wanted = percentile(columns[coarse], coarse_percentile)
        target[coarse] = finer + 1e-5 if wanted < finer else wanted
    return target[0], target[1], target[2]


def is_anisotropic(fingerprint: Fingerprint, threshold: float) -> bool:
    """Return whether one axis is `threshold` times coarser, and has `threshold` times fewer voxels, than the others."""
    target = [percentile(column, 50) for column in zip(*(c.spacing for c in fingerprint.cases), strict=True)]
    sizes = [percentile(column, 50) for column in zip(*(c.shape_after_crop for c in fingerprint.cases), strict=True)]
    coarse = target.index(max(target))
    others = [axis for axis in range(3) if axis != coarse]
    coarser = target[coarse] > threshold * max(target[axis] for axis in others)
    return coarser and sizes[coarse] * threshold < min(sizes[axis] for axis in others)


def median_shape(fingerprint: Fingerprint, target: Spacing3, round_cases: bool) -> Floats:
    """Return the median over cases of the shape at the target spacing, axes as in the files.

    Parameters
    ----------
    fingerprint, target
        Axes as in the files; `target` in mm.
    round_cases
        Round each case's shape before the median is taken (v2) or not (paper).
    """

    def resampled(axis: int) -> list[float]:
        exact = [c.spacing[axis] / target[axis] * c.shape_after_crop[axis] for c in fingerprint.cases]
        return [float(round(size)) for size in exact] if round_cases else exact

    return tuple(_median(resampled(axis)) for axis in range(3))


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def median_of_cases(fingerprint: Fingerprint) -> tuple[Floats, Floats]:
    """Return the medians over cases of spacing (mm) and of shape after crop, axes as in the files."""
    spacings = zip(*(case.spacing for case in fingerprint.cases), strict=True)
    shapes = zip(*(case.shape_after_crop for case in fingerprint.cases), strict=True)
    return tuple(_median(column) for column in spacings), tuple(_median(column) for column in shapes)


def front_axis(axis: int) -> tuple[int, int, int]:
    """Return the permutation that moves one axis to the front and keeps the order of the others."""
    first, second = (other for other in range(3) if other != axis)
    return axis, first, second


def coarsest_axis(target: Sequence[float]) -> int:
    """Return the axis of the largest spacing, the first of equals."""
    return max(range(len(target)), key=lambda axis: (target[axis], -axis))


def transposed(values: Sequence[float], order: Shape3) -> Floats:
    """Bring one value per file axis into the working order."""
    return tuple(values[axis] for axis in order)


def shape_at(spacing: Floats, target: Floats, shape: Floats) -> Floats:
    """Return the shape, with fractions, that `shape` at `target` has at `spacing`."""
    return tuple(t / s * n for t, s, n in zip(target, spacing, shape, strict=True))


def raised(spacing: Floats, factor: float) -> Floats:
    """Take one step towards a lower resolution: the fine axes first, until all are within twice of the coarsest."""
    coarsest = max(spacing)
    fine = [coarsest / s > 2 for s in spacing]
    return tuple(s * factor if f or not any(fine) else s for s, f in zip(spacing, fine, strict=True))


def has_one_slice(shape: Floats) -> bool:
    """Return whether the first working axis has one voxel (v2: no 3-D network then)."""
    return shape[0] == 1


def has_short_axis(shape: Floats) -> bool:
    """Return whether an axis is shorter than the 4 voxels that a 3-D network needs at its bottom.

    The 2019 code raises an error on such data; nothing else in it plans them.
    """
    return min(round(size) for size in shape) < 4
