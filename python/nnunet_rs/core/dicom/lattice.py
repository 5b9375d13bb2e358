"""Arrays moved from one grid to another whose voxels coincide: axes swapped or turned round, cropped, padded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.image_file import Grid
from nnunet_rs.core.issues import Issue, IssueError

_BESIDE = 0.2  # voxels by which centres may lie beside each other, at the far end of the grid


def affine_of(grid: Grid) -> NDArray[np.float64]:
    """Voxel (x, y, z) to world, RAS."""
    return np.asarray(grid.affine, np.float64)


@dataclass(frozen=True, slots=True)
class Way:
    """From indices (x, y, z) on one grid to those on another."""

    axes: tuple[int, int, int]  # axis i of the target is axis axes[i] of the source
    signs: tuple[int, int, int]
    offset: tuple[int, int, int]

    def corners(self, shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and last index on the target, along x, y, z, of an array (z, y, x) on the source."""
        ends = np.array(list(product(*((0, size - 1) for size in shape[::-1]))))
        there = ends[:, self.axes] * self.signs + self.offset
        return there.min(axis=0), there.max(axis=0)


def way_between(path: Path, source: NDArray[np.float64], target: Grid) -> Way:
    """See how voxels of one grid (its affine) lie on another.

    Raises
    ------
    IssueError
        `grid-mismatch`: they do not coincide.
    """
    turn = np.linalg.inv(affine_of(target)) @ source
    whole = np.rint(turn[:3]).astype(int)
    swapped = (np.abs(whole[:, :3]).sum(axis=0) == 1).all() and (np.abs(whole[:, :3]).sum(axis=1) == 1).all()
    drift = np.abs(turn[:3, :3] - whole[:, :3]).max() * max(target.shape) + np.abs(turn[:3, 3] - whole[:, 3]).max()
    if not swapped or drift > _BESIDE:
        shown = [[round(float(number), 3) for number in row] for row in turn[:3]]
        value = f"its voxels are not those of {target.file.name}: from its indices to those it is {shown}"
        raise IssueError(Issue(path, "grid-mismatch", value, "give labels and image of one grid"))
    axes = [int(np.flatnonzero(row[:3])[0]) for row in whole]
    signs = [int(row[axis]) for row, axis in zip(whole, axes, strict=True)]
    return Way(tuple(axes), tuple(signs), tuple(map(int, whole[:, 3])))  # type: ignore[arg-type]


def moved(voxels: NDArray[Any], way: Way, shape: tuple[int, ...]) -> tuple[NDArray[Any], int]:
    """Bring an array (z, y, x) to a grid of another shape (z, y, x); return how many voxels that are not 0 are lost."""
    turned = voxels.transpose([2 - axis for axis in way.axes][::-1])
    turned = np.flip(turned, tuple(2 - axis for axis, sign in enumerate(way.signs) if sign < 0))
    low, high = way.corners(voxels.shape)
    start, stop = np.maximum(low, 0), np.minimum(high + 1, shape[::-1])
    out = np.zeros(shape, voxels.dtype)
    if (start < stop).all():
        inner = tuple(slice(a - c, b - c) for a, b, c in zip(start, stop, low, strict=True))[::-1]
        out[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))[::-1]] = turned[inner]
    return out, int(np.count_nonzero(voxels) - np.count_nonzero(out))


def extended(grid: Grid, low: NDArray[Any], high: NDArray[Any]) -> Grid:
    """Return a grid that holds the indices `low` to `high` (x, y, z) as well."""
    first, last = np.minimum(low, 0), np.maximum(high, np.array(grid.shape[::-1]) - 1)
    affine = affine_of(grid).copy()
    affine[:3, 3] += affine[:3, :3] @ first
    x, y, z = (int(size) for size in last - first + 1)
    return replace(grid, shape=(z, y, x), affine=tuple(tuple(map(float, row)) for row in affine), qform=None)
