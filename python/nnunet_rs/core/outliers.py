"""Cases that are far from all others: a spacing in another unit, a size, intensities on another scale."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from nnunet_rs.core.issues import Issue
from nnunet_rs.core.orientation import by_frequency
from nnunet_rs.core.text import counted
from nnunet_rs.core.types import Shape3, Spacing3

# Warnings are for mistakes alone: factors that scans of one kind do not differ by. Slices of 0.5 to 10 mm are of one
# extent, whole bodies and heads of one voxel size: only where voxels and extent are both that far off, it is the unit.
FAR = 8.0  # of the voxels' edges and the extent along one axis
VERY_FAR = 50.0  # of the voxels' edges alone
VOXELS = 200.0  # of the number of voxels
EXTENT = (2.0, 4000.0)  # mm; the longest edge of what is scanned, whole bodies included
AIR = -500.0  # Hounsfield units; every CT that is not cut out holds less


@dataclass(frozen=True, slots=True)
class ComparedCase:
    """What is compared of one case."""

    name: str
    file: Path  # the first image
    shape: Shape3  # z, y, x
    spacing: Spacing3  # of z, y, x, mm
    lows: tuple[float, ...] = ()  # the smallest intensity of each channel; empty: unknown
    orientation: str = ""  # that the file is stored in, as "LPS"; empty: unknown


def outliers(dataset_file: Path, cases: Sequence[ComparedCase], channels: Sequence[str]) -> list[Issue]:
    """Warn of cases that are far from the median of all, and of a unit that none of them can have.

    Rules: `spacing-unit` and `orientations` (of all cases), `spacing-outlier`, `size-outlier`, `intensity-outlier` (of
    CT).
    """
    if not cases:
        return []
    spacing, shape = _typical([case.spacing for case in cases]), _typical([case.shape for case in cases])
    single = [issue for case in cases for issue in _spacing(case, spacing, shape) or _size(case, spacing, shape)]
    issues = single or _unit(dataset_file, cases)
    for channel, name in enumerate(channels):
        if name.lower() == "ct":
            issues += _air(cases, channel)
    return issues + _orientations(dataset_file, cases)


def far_off(shape: Sequence[float], spacing: Sequence[float], usual: Sequence[float], extent: Sequence[float]) -> bool:
    """Whether a spacing is so far from the usual one, axis by axis, that the unit is in doubt.

    Parameters
    ----------
    shape, spacing
        Of the case.
    usual, extent
        The usual spacing, and the usual extent along the same axes (mm).
    """
    edges = np.divide(spacing, usual)
    extents = np.multiply(shape, spacing) / np.asarray(extent)
    both = np.where(edges >= 1, np.minimum(edges, extents), np.minimum(1 / edges, 1 / extents))
    return bool((both >= FAR).any() or (np.maximum(edges, 1 / edges) >= VERY_FAR).any())


def times(factor: float) -> str:
    """Return a factor as text: `1000 times`, `0.001 times`."""
    return f"{factor:,.0f} times" if factor >= 100 else f"{factor:.3g} times"


def mm(sizes: Sequence[float]) -> str:
    """Return lengths as text."""
    return f"({', '.join(f'{size:.4g}' for size in sizes)}) mm"


def _typical(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the median along each axis of the sizes; of two the geometric mean, which is far from both."""
    return tuple(float(size) for size in np.exp(np.median(np.log(rows), axis=0)))


def _unit(file: Path, cases: Sequence[ComparedCase]) -> list[Issue]:
    if all(set(case.spacing) == {1.0} for case in cases):
        return []  # pictures have no size
    longest = median(max(np.multiply(case.shape, case.spacing)) for case in cases)
    if EXTENT[0] <= longest <= EXTENT[1]:
        return []
    unit = "metres" if longest < EXTENT[0] else "micrometres"
    value = f"what is scanned is {longest:.3g} mm long (median of the cases), by the spacing in the headers"
    return [Issue(file, "spacing-unit", value, f"spacing is in mm: see that it is not in {unit}", fatal=False)]


def _orientations(file: Path, cases: Sequence[ComparedCase]) -> list[Issue]:
    """Warn of volumes whose files store axes in different directions or orders; slices lie anywhere in the body."""
    counts = by_frequency(Counter(case.orientation for case in cases if case.orientation and 1 not in case.shape))
    if len(counts) < 2:
        return []
    stored = ", ".join(f"{codes} ({counted(count, 'case')})" for codes, count in counts.items())
    value = f"images are stored in different orientations: {stored}; networks see axes as files store them"
    advice = "plan or preprocess with --reorient turns all to right, anterior, superior first"
    return [Issue(file, "orientations", value, advice, fatal=False)]


def _spacing(case: ComparedCase, usual: Sequence[float], shape: Sequence[float]) -> list[Issue]:
    if not far_off(case.shape, case.spacing, usual, [edge * count for edge, count in zip(usual, shape, strict=True)]):
        return []
    factors = np.divide(case.spacing, usual)
    farthest = float(max(factors, key=lambda factor: abs(math.log(factor))))
    value = f"spacing (z, y, x) is {mm(case.spacing)}, {times(farthest)} that of the median case, {mm(usual)}"
    advice = "see that the header is in mm and of this scan; a case that is resampled by it is of no use"
    return [Issue(case.file, "spacing-outlier", value, advice, case.name, fatal=False)]


def _size(case: ComparedCase, spacing: Sequence[float], shape: Sequence[float]) -> list[Issue]:
    """Warn of a case that has many times more, or fewer, voxels and millimetres than the others; or one slice."""
    factor = math.prod(case.shape) / math.prod(shape)
    room = factor * math.prod(case.spacing) / math.prod(spacing)
    single = min(case.shape) == 1 and min(shape) >= 10
    if not (max(factor, room) <= 1 / VOXELS or min(factor, room) >= VOXELS or single):
        return []
    typical = tuple(round(size) for size in shape)
    value = f"(z, y, x) is {case.shape} voxels, {times(factor)} those of the median case, {typical}"
    return [Issue(case.file, "size-outlier", value, "see that it is a scan like the others", case.name, fatal=False)]


def _air(cases: Sequence[ComparedCase], channel: int) -> list[Issue]:
    """Warn of CTs that hold no air where others do, or the reverse: Hounsfield units, and something else."""
    known = [case for case in cases if len(case.lows) > channel]
    if len(known) < 3:
        return []
    usual = median(case.lows[channel] for case in known)
    advice = "see that all are in Hounsfield units, none shifted by 1024 or scaled; CTs share one normalisation"
    found = []
    for case in known:
        low = case.lows[channel]
        if min(low, usual) <= AIR and max(low, usual) >= 0:
            value = f"the smallest intensity of the CT is {low:g}, that of the median case {usual:g}"
            found.append(Issue(case.file, "intensity-outlier", value, advice, case.name, fatal=False))
    return found
