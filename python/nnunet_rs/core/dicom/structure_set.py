"""RTSTRUCT read: contours in the patient's space, filled on a grid by the voxels whose centres they hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.content import COPY_AGAIN, reason
from nnunet_rs.core.dicom.lattice import affine_of
from nnunet_rs.core.dicom.library import read_dataset
from nnunet_rs.core.dicom.named_labels import Named, values_of
from nnunet_rs.core.image_file import Grid, ImageFile, smallest_integer
from nnunet_rs.core.issues import Issue, IssueError
from nnunet_rs.core.types import Header, LabelSet

_CLOSED = ("CLOSED_PLANAR", "CLOSED_PLANAR_XOR", "CLOSEDPLANAR_XOR")
_FLAT = 0.2  # voxels by which a contour may leave its plane
_BETWEEN = 0.3  # voxels by which a plane may lie beside a slice without a word


@dataclass(frozen=True, slots=True, eq=False)
class Contours:
    """A structure set's closed contours, by the number of their structure; points (n, 3) in mm, RAS."""

    file: Path
    names: tuple[Named, ...]
    points: dict[int, list[NDArray[np.float64]]]
    issues: tuple[Issue, ...]

    def on(self, grid: Grid) -> dict[int, list[NDArray[np.float64]]]:
        """Return the points as voxel indices (x, y, z)."""
        way = np.linalg.inv(affine_of(grid))
        return {
            number: [points @ way[:3, :3].T + way[:3, 3] for points in some] for number, some in self.points.items()
        }


def read_contours(path: Path) -> Contours:
    """Read the contours of an RTSTRUCT file.

    Raises
    ------
    IssueError
        `unreadable`, `header-invalid`.
    """
    dataset, _ = read_dataset(path)
    try:
        names = tuple(
            Named(int(item.ROINumber), str(item.get("ROIName") or ""), str(item.get("ROIDescription") or ""))
            for item in dataset.get("StructureSetROISequence") or ()
        )
        points: dict[int, list[NDArray[np.float64]]] = {}
        open_ones = 0
        for item in dataset.get("ROIContourSequence") or ():
            for contour in item.get("ContourSequence") or ():
                if str(contour.get("ContourGeometricType")) in _CLOSED:
                    points.setdefault(int(item.ReferencedROINumber), []).append(_points(path, contour))
                else:
                    open_ones += 1
    except IssueError:
        raise
    except Exception as error:  # pydicom converts a value when it is asked for, and raises anything
        value = f"its contours cannot be read: {reason(error)}"
        raise IssueError(Issue(path, "unreadable", value, COPY_AGAIN)) from error
    issues: tuple[Issue, ...] = ()
    if open_ones:
        value = f"{open_ones} points and open lines are left out: they hold no voxel"
        issues = (Issue(path, "left-out", value, "only closed contours count", fatal=False),)
    return Contours(path, names, points, issues)


def _points(path: Path, contour: Any) -> NDArray[np.float64]:
    numbers = np.array([float(number) for number in contour.ContourData], np.float64)
    if len(numbers) % 3 or not np.isfinite(numbers).all() or np.abs(numbers).max(initial=0) > 1e9:
        value = f"a contour of {len(numbers)} numbers is no list of points x, y, z"
        raise IssueError(Issue(path, "header-invalid", value, COPY_AGAIN + ", or export it anew"))
    return numbers.reshape(-1, 3) * (-1, -1, 1)  # LPS to RAS


def fill_contours(contours: Contours, grid: Grid, labels: LabelSet | None = None) -> ImageFile:
    """Fill contours on a grid: a voxel is inside where its centre is, by the even-odd rule, which makes holes.

    Raises
    ------
    IssueError
        `label-undeclared`; `grid-mismatch`: the contours do not lie in planes of the grid.
    """
    values, issues = values_of(contours.file, contours.names, labels)
    wanted = {number: some for number, some in contours.on(grid).items() if number in values}
    out = np.zeros(grid.shape, smallest_integer(0, max(values.values(), default=0)))
    issues += contours.issues
    if wanted:
        axis = _axis(contours.file, [points for some in wanted.values() for points in some], grid)
        issues += _remarks(contours, wanted, axis, grid)
        planes = np.moveaxis(out, 2 - axis, 0)
        for number, value in values.items():
            for index, mask in _filled(wanted.get(number, []), axis, planes.shape):
                planes[index][mask] = value
    header = Header("itk", grid.affine)
    return ImageFile(contours.file, out[np.newaxis], grid.spacing, header, issues=tuple(issues))


def _axis(path: Path, contours: Sequence[NDArray[np.float64]], grid: Grid) -> int:
    """Return the axis (x, y, z: 0, 1, 2) that the contours lie across."""
    spans = np.array([np.ptp(points, axis=0) for points in contours]).max(axis=0)
    axis = int(spans.argmin())
    if spans[axis] > _FLAT:
        value = f"contours lie across the planes of {grid.file.name}, by up to {spans[axis]:.2f} voxels"
        raise IssueError(Issue(path, "grid-mismatch", value, "give labels and image of one grid"))
    return axis


def _remarks(
    contours: Contours, wanted: dict[int, list[NDArray[np.float64]]], axis: int, grid: Grid
) -> Iterator[Issue]:
    """Warn of contours between slices, outside the grid, and of slices that a structure leaves out."""
    names = {one.number: one.name for one in contours.names}
    size = grid.shape[2 - axis]
    for number, some in wanted.items():
        at = np.array([points[:, axis].mean() for points in some])
        slices = np.unique(np.rint(at).astype(int))
        between = int((np.abs(at - np.rint(at)) > _BETWEEN).sum())
        outside = int(((slices < 0) | (slices >= size)).sum())
        gaps = int((np.diff(slices) == 2).sum())
        for count, what in (
            (between, "contours lie between slices, and count for the nearest"),
            (outside, "slices with contours lie outside the image"),
            (gaps if gaps >= max(2, len(slices) // 2) else 0, "slices between contours have none, and stay empty"),
        ):
            if count:
                value = f"'{names.get(number, number)}': {count} {what}"
                yield Issue(contours.file, "contour-slices", value, "see that image and contours agree", fatal=False)


def _filled(
    contours: Sequence[NDArray[np.float64]], axis: int, shape: tuple[int, ...]
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yield the masks of a structure, slice by slice; `shape` is of the planes, the slices first."""
    rest = [other for other in (2, 1, 0) if other != axis]  # rows, columns
    by_slice: dict[int, list[NDArray[np.float64]]] = {}
    for points in contours:
        if len(points) > 2:
            by_slice.setdefault(round(float(points[:, axis].mean())), []).append(points[:, rest])
    for index, some in sorted(by_slice.items()):
        if 0 <= index < shape[0]:
            yield index, fill_polygons(some, (shape[1], shape[2]))


def fill_polygons(polygons: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which voxel centres (whole numbers) lie inside closed polygons (row, column), by the even-odd rule.

    Every edge crosses some rows; right of each crossing the inside turns to outside and back. A centre on an edge
    belongs to the side of growing indices.
    """
    starts = np.concatenate(polygons)
    stops = np.concatenate([np.roll(points, -1, axis=0) for points in polygons])
    low, high = np.minimum(starts[:, 0], stops[:, 0]), np.maximum(starts[:, 0], stops[:, 0])
    first = np.clip(np.ceil(low), 0, shape[0]).astype(np.int64)
    last = np.clip(np.ceil(high), 0, shape[0]).astype(np.int64)  # not crossed any more
    count = last - first
    edge = np.repeat(np.arange(len(starts)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    part = (row - starts[edge, 0]) / (stops[edge, 0] - starts[edge, 0])
    crossing = starts[edge, 1] + part * (stops[edge, 1] - starts[edge, 1])
    column = np.clip(np.ceil(crossing), 0, shape[1]).astype(np.int64)
    turns = np.zeros((shape[0], shape[1] + 1), np.int64)
    np.add.at(turns, (row, column), 1)
    inside: NDArray[np.bool_] = np.cumsum(turns, axis=1)[:, :-1] % 2 == 1
    return inside
