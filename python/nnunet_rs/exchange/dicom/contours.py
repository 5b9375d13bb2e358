"""Outlines of a mask: closed polygons halfway between the voxels inside and those outside, holes joined by a slit."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEVEL = 0.5


def outlines(mask: NDArray[np.bool_]) -> Iterator[NDArray[np.float64]]:
    """Yield closed polygons (n, 2) of column and row, in voxels; every polygon has its area inside.

    A hole becomes part of the polygon around it: a slit of no width leads there and back ("keyhole", as DICOM PS3.3
    C.8.8.6.3 advises), so that readers fill it right by the even-odd rule and by the winding rule.

    Parameters
    ----------
    mask
        One slice (row, column).
    """
    from contourpy import FillType, contour_generator

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return
    top, left = int(rows[0]) - 1, int(columns[0]) - 1
    part = np.zeros((rows[-1] - top + 2, columns[-1] - left + 2), np.float64)
    part[1:-1, 1:-1] = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    generator = contour_generator(z=part, fill_type=FillType.OuterOffset)
    filled: Any = generator.filled(_LEVEL, 2.0)  # polygons with their holes, and where each ring begins
    points, offsets = filled
    for polygon, starts in zip(points, offsets, strict=True):
        rings = [polygon[a : b - 1] for a, b in pairwise(starts)]  # the last is the first
        yield _joined([_simplified(ring) for ring in rings]) + np.array([left, top])


def _simplified(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leave out points that lie on the line between their neighbours."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9
    return ring[turns] if turns.sum() > 2 else ring


def _joined(rings: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Join holes to the outline, each from its leftmost point to the nearest point of what is joined already."""
    outline = rings[0]
    for hole in sorted(rings[1:], key=lambda ring: float(ring[:, 0].min())):
        start = int(hole[:, 0].argmin())
        nearest = int(((outline - hole[start]) ** 2).sum(axis=1).argmin())
        way = np.concatenate([hole[start:], hole[: start + 1]])
        outline = np.concatenate([outline[: nearest + 1], way, outline[nearest:]])
    return outline
