"""One file as it was read, whatever its format: voxels, grid, and how to turn voxels into intensities or labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.faults import Fault, FaultError
from nnunet_rs.core.types import FloatArray, Header, IntArray, Shape3, Spacing3

# Headers hold float32 numbers and tools round them; what differs by less than the first number is the same, by less
# than the second a warning, by more a fault.
SPACING_TOLERANCE = (1e-5, 1e-3)  # relative
DIRECTION_TOLERANCE = (1e-4, 1e-3)  # of direction cosines
ORIGIN_TOLERANCE = (1e-2, 1e-1)  # of the smallest voxel edge
SCALED_LABEL_TOLERANCE = 1e-5  # scl_slope is a float32: 0.1 * 10 is 1.0000000149


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the voxels of a file are."""

    file: Path
    shape: Shape3  # z, y, x
    spacing: Spacing3  # of z, y, x
    affine: tuple[tuple[float, ...], ...]  # voxel (x, y, z) to world, as in Header


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """A file's content; an image holds channels, a label file holds one."""

    file: Path
    voxels: NDArray[Any]  # (c, z, y, x), as stored: any number type, maybe read-only, maybe of foreign byte order
    spacing: Spacing3  # of z, y, x
    header: Header
    slope: float = 1.0  # intensity = slope * voxel + intercept
    intercept: float = 0.0
    faults: tuple[Fault, ...] = ()  # of the header; the voxels could be read nevertheless

    @property
    def shape(self) -> Shape3:
        """Size along z, y, x."""
        _, z, y, x = self.voxels.shape
        return z, y, x

    @property
    def grid(self) -> Grid:
        """What another file of the case must share."""
        return Grid(self.file, self.shape, self.spacing, self.header.affine)

    @property
    def scaled(self) -> bool:
        """Whether stored voxels are not yet intensities."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    def write_image(self, out: FloatArray) -> None:
        """Write the intensities into a float32 array (c, z, y, x); scaling is done in float64."""
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite, and found as that
            if not self.scaled:
                out[...] = self.voxels
                return
            for channel, planes in enumerate(self.voxels):
                for z, plane in enumerate(planes):  # plane by plane: no float64 copy of the volume
                    out[channel, z] = plane * np.float64(self.slope) + self.intercept

    def labels(self) -> IntArray:
        """Return the values as a new integer array (z, y, x) of native byte order.

        Integers keep their type; floating-point files with integral values become the smallest type that holds them.

        Raises
        ------
        FaultError
            `channels` (more than one), `non-finite`, `label-not-integral`.
        """
        if self.voxels.shape[0] != 1:
            value = f"{self.voxels.shape[0]} volumes in one label file"
            raise FaultError(Fault(self.file, "channels", value, "save the labels as one volume of one channel"))
        voxels = self.voxels[0]
        if voxels.dtype.kind in "iub" and not self.scaled:
            kind = np.dtype(np.uint8) if voxels.dtype.kind == "b" else voxels.dtype.newbyteorder("=")
            native: IntArray = voxels.astype(kind, order="C")
            return native
        return self._integral(voxels)

    def _integral(self, voxels: NDArray[Any]) -> IntArray:
        scale = np.float64(self.slope)
        ends = [float(end) * self.slope + self.intercept for end in (voxels.min(), voxels.max())]
        if not np.isfinite(ends).all():
            raise FaultError(Fault(self.file, "non-finite", "NaN or infinity among the labels", "write whole numbers"))
        if max(map(abs, ends)) >= 2**31:
            value = f"values from {ends[0]:g} to {ends[1]:g}"
            raise FaultError(Fault(self.file, "label-not-integral", value, "see that it is a label file"))
        labels = np.empty(voxels.shape, smallest_integer(round(min(ends)), round(max(ends))))
        for z, plane in enumerate(voxels):
            values = plane * scale + self.intercept if self.scaled else plane
            labels[z] = np.rint(values)
            bound = SCALED_LABEL_TOLERANCE * np.maximum(np.abs(values), 1) if self.scaled else 0
            wrong = np.abs(values - labels[z]) > bound
            if wrong.any():
                raise FaultError(self._not_integral(z, values, wrong))
        return labels

    def _not_integral(self, z: int, values: NDArray[Any], wrong: NDArray[np.bool_]) -> Fault:
        y, x = np.argwhere(wrong)[0]
        value = f"value {float(values[y, x])!r} at z={z} y={y} x={x}"
        return Fault(self.file, "label-not-integral", value, "round the labels to whole numbers and save them again")


def smallest_integer(low: int, high: int) -> np.dtype[Any]:
    """Return the smallest of uint8, uint16, int32, int64 that holds `low` to `high`: types that every format knows."""
    for kind in (np.uint8, np.uint16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.dtype(kind)
    return np.dtype(np.int64)


def compare_grids(reference: Grid, other: Grid) -> tuple[Fault, ...]:
    """List how the voxel grid of `other` differs from that of `reference`; an empty tuple means: voxel on voxel.

    Rules: `shape-mismatch` (alone, the rest would be noise), `spacing-mismatch`, `orientation-mismatch`,
    `origin-mismatch`. Differences between the two tolerances above are warnings.
    """
    against = f"{reference.file.name} has"
    if other.shape != reference.shape:
        value = f"(z, y, x) is {other.shape}, {against} {reference.shape}"
        return (Fault(other.file, "shape-mismatch", value, "resample it to the image's grid, or pair the right files"),)
    if not all(0 < size < np.inf for size in (*other.spacing, *reference.spacing)):
        return ()  # the reader tells of that; what follows from it would be noise
    (turn, start), (turn_r, start_r) = _pose(other), _pose(reference)
    spacing = np.abs(np.divide(other.spacing, reference.spacing) - 1).max()
    shift = np.linalg.norm(start - start_r) / np.float64(min(reference.spacing))
    found = [
        ("spacing-mismatch", spacing, SPACING_TOLERANCE, other.spacing, reference.spacing),
        ("orientation-mismatch", np.abs(turn - turn_r).max(), DIRECTION_TOLERANCE, _axes(turn), _axes(turn_r)),
        ("origin-mismatch", shift, ORIGIN_TOLERANCE, _row(start), _row(start_r)),
    ]
    return tuple(
        _difference(other.file, rule, f"{here}, {against} {there}", fatal=not amount <= fault)
        for rule, amount, (same, fault), here, there in found
        if not amount <= same  # NaN is a difference
    )


def _pose(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Direction cosines (3, 3) and position of the first voxel (mm) of a grid."""
    affine = np.asarray(grid.affine)
    return affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0), affine[:3, 3]


def _difference(file: Path, rule: str, value: str, fatal: bool) -> Fault:
    advice = "copy the image's header, if the voxels belong together" if fatal else "accepted as a rounding difference"
    return Fault(file, rule, value, advice, fatal=fatal)


def _axes(turn: NDArray[np.float64]) -> str:
    """Say where x, y and z point, as letters (to the Left or Right, Anterior, Posterior, Superior, Inferior)."""
    towards = [int(np.abs(column).argmax()) for column in turn.T]
    letters = "".join(("LPI", "RAS")[int(turn[world, axis] > 0)][world] for axis, world in enumerate(towards))
    return f"{letters} {_row(turn.T)}"


def _row(numbers: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(number), 5) + 0.0 for number in numbers.ravel())
