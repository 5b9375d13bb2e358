"""One file as it was read, whatever its format: voxels, grid, and how to turn voxels into intensities or labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.issues import Issue, IssueError, fatal
from nnunet_rs.core.types import FloatArray, Header, IntArray, Shape3, Spacing3

# Headers hold float32 numbers and tools round them; what differs by less than the first number is the same, by less
# than the second a warning, by more an issue.
SPACING_TOLERANCE = (1e-5, 1e-3)  # relative
DIRECTION_TOLERANCE = (1e-4, 1e-3)  # of direction cosines
ORIGIN_TOLERANCE = (1e-2, 1e-1)  # of the smallest voxel edge
SCALED_LABEL_TOLERANCE = 1e-5  # relative; scl_slope is a float32: 0.1 * 10 is 1.0000000149
WIDEST_STEP = 0.25  # scaled labels may lie half a step of scl_slope beside a whole number, but no further than this
# Times the rows of an affine: ITK's world points left and back, nibabel's right and front.
LPS_TO_RAS = np.array([[-1.0], [-1.0], [1.0], [1.0]])


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the voxels of a file are."""

    file: Path
    shape: Shape3  # z, y, x
    spacing: Spacing3  # of z, y, x
    affine: tuple[tuple[float, ...], ...]  # voxel (x, y, z) to world, as in Header
    qform: tuple[tuple[float, ...], ...] | None = None  # what the header says besides, where that differs


@dataclass(frozen=True, slots=True, eq=False)
class ImageFile:
    """A file's content; an image holds channels, a label file holds one."""

    file: Path
    voxels: NDArray[Any]  # (c, z, y, x), as stored: any number type, maybe read-only, maybe of foreign byte order
    spacing: Spacing3  # of z, y, x
    header: Header
    slope: float = 1.0  # intensity = slope * voxel + intercept
    intercept: float = 0.0
    issues: tuple[Issue, ...] = ()  # of the header; the voxels could be read nevertheless
    qform: tuple[tuple[float, ...], ...] | None = None  # as in Grid
    indices: NDArray[Any] | None = None  # of a picture with a palette, (1, z, y, x): its labels; `voxels` are colours

    @property
    def shape(self) -> Shape3:
        """Size along z, y, x."""
        _, z, y, x = self.voxels.shape
        return z, y, x

    @property
    def grid(self) -> Grid:
        """What another file of the case must share."""
        return Grid(self.file, self.shape, self.spacing, self.header.affine, self.qform)

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
            if self._exact_in_float32:
                np.multiply(self.voxels, np.float32(self.slope), out=out, dtype=np.float32)
                np.add(out, np.float32(self.intercept), out=out)
                return
            for channel, planes in enumerate(self.voxels):
                for z, plane in enumerate(planes):  # plane by plane: no float64 copy of the volume
                    out[channel, z] = plane * np.float64(self.slope) + self.intercept

    @property
    def _exact_in_float32(self) -> bool:
        """Whether scaled voxels are whole numbers below 2^24, as Hounsfield units are: float32 holds them all."""
        slope, intercept, kind = self.slope, self.intercept, self.voxels.dtype
        whole = float(slope).is_integer() and float(intercept).is_integer() and kind.kind in "iu"
        return whole and kind.itemsize <= 2 and abs(slope) * (1 << 16) + abs(intercept) < 1 << 24

    def labels(self) -> IntArray:
        """Return the values as a new integer array (z, y, x) of native byte order.

        Integers keep their type; floating-point files with integral values become the smallest type that holds them.

        Raises
        ------
        IssueError
            `channels` (more than one), `non-finite`, `label-not-integral`.
        """
        channels = self.voxels if self.indices is None else self.indices
        if channels.shape[0] != 1:
            value = f"{channels.shape[0]} channels (colours or volumes) in one label file"
            raise IssueError(Issue(self.file, "channels", value, "save the labels as one channel of whole numbers"))
        voxels = channels[0]
        if voxels.dtype.kind in "iub" and not self.scaled:
            kind = np.dtype(np.uint8) if voxels.dtype.kind == "b" else voxels.dtype.newbyteorder("=")
            native: IntArray = voxels.astype(kind, order="C")
            return native
        return self._integral(voxels)

    def _integral(self, voxels: NDArray[Any]) -> IntArray:
        scale = np.float64(self.slope)
        ends = [float(end) * self.slope + self.intercept for end in (voxels.min(), voxels.max())]
        if not np.isfinite(ends).all():
            raise IssueError(Issue(self.file, "non-finite", "NaN or infinity among the labels", "write whole numbers"))
        if max(map(abs, ends)) >= 2**31:
            value = f"values from {ends[0]:g} to {ends[1]:g}"
            raise IssueError(Issue(self.file, "label-not-integral", value, "see that it is a label file"))
        labels = np.empty(voxels.shape, smallest_integer(round(min(ends)), round(max(ends))))
        for z, plane in enumerate(voxels):
            values = plane * scale + self.intercept if self.scaled else plane
            labels[z] = np.rint(values)
            step = min(abs(self.slope) / 2, WIDEST_STEP)
            bound = step + SCALED_LABEL_TOLERANCE * np.maximum(np.abs(values), 1) if self.scaled else 0
            wrong = np.abs(values - labels[z]) > bound
            if wrong.any():
                raise IssueError(self._not_integral(z, values, wrong))
        return labels

    def _not_integral(self, z: int, values: NDArray[Any], wrong: NDArray[np.bool_]) -> Issue:
        y, x = np.argwhere(wrong)[0]
        value = f"value {float(values[y, x])!r} at z={z} y={y} x={x}"
        return Issue(self.file, "label-not-integral", value, "round the labels to whole numbers and save them again")


def in_pixels(
    name: str,
    file: Path,
    voxels: NDArray[Any],
    spacing: Spacing3 = (1.0, 1.0, 1.0),
    *,
    indices: NDArray[Any] | None = None,
    issues: tuple[Issue, ...] = (),
) -> ImageFile:
    """Return a file of a format that holds no place: the first voxel is the world's origin, axes are the world's.

    Parameters
    ----------
    name
        Of the format.
    file
        Where it lies.
    voxels
        (c, z, y, x).
    spacing
        Of z, y, x in mm.
    indices
        As in ImageFile.
    issues
        Found so far.
    """
    if not (np.isfinite(spacing).all() and min(spacing) > 0):
        value = f"spacing (z, y, x) is {spacing}"
        issues += (Issue(file, "spacing-invalid", value, "give three positive numbers: z, y, x in mm"),)
    affine = LPS_TO_RAS * np.diag([*spacing[::-1], 1.0])
    header = Header(name, tuple(tuple(map(float, row)) for row in affine))
    return ImageFile(file, voxels, spacing, header, issues=issues, indices=indices)


def smallest_integer(low: int, high: int) -> np.dtype[Any]:
    """Return the smallest of uint8, uint16, int32, int64 that holds `low` to `high`: types that every format knows."""
    for kind in (np.uint8, np.uint16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.dtype(kind)
    return np.dtype(np.int64)


def compare_grids(reference: Grid, other: Grid) -> tuple[Issue, ...]:
    """List how the voxel grid of `other` differs from that of `reference`; an empty tuple means: voxel on voxel.

    Rules: `shape-mismatch` (alone, the rest would be noise), `spacing-mismatch`, `orientation-mismatch`,
    `origin-mismatch`. Differences between the two tolerances above are warnings. Where headers say two places (sform
    and qform) and one of these agrees, `qform-sform` warns of it.
    """
    there = _named(reference.file, other.file)
    if other.shape != reference.shape:
        value = f"(z, y, x) is {other.shape}, {there} has {reference.shape}"
        advice = "store it on the image's grid (resample it by nearest neighbour), or pair the right files"
        return (Issue(other.file, "shape-mismatch", value, advice),)
    if not all(0 < size < np.inf for size in (*other.spacing, *reference.spacing)):
        return ()  # the reader tells of that; what follows from it would be noise
    found = _differences(reference, other)
    if fatal(found) and _agree_otherwise(reference, other):
        value = f"it lies where one of sform and qform says that {there} lies, not where the other says"
        return (Issue(other.file, "qform-sform", value, "taken as voxel on voxel", fatal=False),)
    return found


def _agree_otherwise(reference: Grid, other: Grid) -> bool:
    """Whether any two of the places that two headers give agree."""
    return any(
        not fatal(_differences(replace(reference, affine=first), replace(other, affine=second)))
        for first in (reference.affine, reference.qform)
        for second in (other.affine, other.qform)
        if first is not None and second is not None
    )


def _differences(reference: Grid, other: Grid) -> tuple[Issue, ...]:
    there = _named(reference.file, other.file)
    (turn, start), (turn_r, start_r) = _pose(other), _pose(reference)
    spacing = np.abs(np.divide(other.spacing, reference.spacing) - 1).max()
    shift = np.linalg.norm(start - start_r) / np.float64(min(reference.spacing))
    found = [
        ("spacing-mismatch", spacing, SPACING_TOLERANCE, other.spacing, reference.spacing),
        ("orientation-mismatch", np.abs(turn - turn_r).max(), DIRECTION_TOLERANCE, _axes(turn), _axes(turn_r)),
        ("origin-mismatch", shift, ORIGIN_TOLERANCE, _row(start), _row(start_r)),
    ]
    stored = _letters(turn) != _letters(turn_r)
    return tuple(
        _difference(other.file, rule, f"{ours}, {there} has {theirs}", not amount <= issue, stored)
        for rule, amount, (same, issue), ours, theirs in found
        if not amount <= same  # NaN is a difference
    )


def _named(file: Path, other: Path) -> str:
    """Return a file's name; with its folder where the other one is named alike."""
    return str(file if file.name == other.name else file.name)


def _pose(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Direction cosines (3, 3) and position of the first voxel (mm) of a grid."""
    affine = np.asarray(grid.affine)
    return affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0), affine[:3, 3]


def _difference(file: Path, rule: str, value: str, is_fatal: bool, stored: bool) -> Issue:
    advice = "accepted as a rounding difference"
    if is_fatal and stored:  # the axes point elsewhere
        advice = "store it again in the image's orientation; copy the header only if the voxels are in its order"
    elif is_fatal:
        advice = "copy the image's header, if the voxels belong together"
    return Issue(file, rule, value, advice, fatal=is_fatal)


def _axes(turn: NDArray[np.float64]) -> str:
    return f"{_letters(turn)} {_row(turn.T)}"


def _letters(turn: NDArray[np.float64]) -> str:
    """Say where x, y and z point (to the Left or Right, Anterior, Posterior, Superior, Inferior)."""
    towards = [int(np.abs(column).argmax()) for column in turn.T]
    return "".join(("LPI", "RAS")[int(turn[world, axis] > 0)][world] for axis, world in enumerate(towards))


def _row(numbers: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(number), 5) + 0.0 for number in numbers.ravel())
