"""Labels from SEG and RTSTRUCT files, on the grid of what they are held against."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from nnunet_rs.core.dicom.headers import label_kind
from nnunet_rs.core.dicom.lattice import affine_of, extended, moved, way_between
from nnunet_rs.core.dicom.library import is_dicom
from nnunet_rs.core.dicom.named_labels import values_of
from nnunet_rs.core.dicom.segmentation import read_names, read_segments
from nnunet_rs.core.dicom.series import find_series
from nnunet_rs.core.dicom.structure_set import Contours, fill_contours, read_contours
from nnunet_rs.core.image_file import Grid, ImageFile
from nnunet_rs.core.issues import Issue, IssueError
from nnunet_rs.core.text import examples
from nnunet_rs.core.types import Header, LabelSet


def is_label_file(path: Path) -> bool:
    """Whether a file, or the only labels in a folder, are read by this module."""
    if path.is_dir():
        return True
    known = path.suffix.lower() in ("", ".dcm", ".zip")
    return known and path.is_file() and is_dicom(path) and bool(label_kind(path))


def label_file(path: Path) -> Path:
    """Return the file itself, or the only SEG or RTSTRUCT file in a folder.

    Raises
    ------
    IssueError
        `format`: there is none; `case-twice`: there are several.
    """
    files = find_series(path).labels if path.is_dir() else (path,)
    if len(files) > 1:
        value = f"{len(files)} files of labels: {examples([file.name for file in files])}"
        raise IssueError(Issue(path, "case-twice", value, "leave one"))
    if not files or not label_kind(files[0]):
        raise IssueError(Issue(path, "format", "DICOM, and no labels", "give a SEG or RTSTRUCT file"))
    return files[0]


def structures_in(path: Path) -> list[tuple[str, int]]:
    """Return the structures of a file and the values they stand for where nobody declares them; no voxel is read."""
    path = label_file(path)
    named = read_contours(path).names if label_kind(path) == "RTSTRUCT" else read_names(path)
    values, _ = values_of(path, named, None)
    return [(one.name, values[one.number]) for one in named]


def read_labels_on(path: Path, grid: Grid, labels: LabelSet | None = None) -> ImageFile:
    """Read a SEG or RTSTRUCT file onto a grid.

    Parameters
    ----------
    path
        The file.
    grid
        Whose voxels must be the SEG's, axes in any order and direction; contours lie in its planes.
    labels
        Which values the names stand for; None: see `named_labels.values_of`.

    Raises
    ------
    IssueError
        As `read_segments`, `read_contours` and `fill_contours`; `grid-mismatch`; `outside`: labels lie outside the
        grid.
    """
    path = label_file(path)
    if label_kind(path) == "RTSTRUCT":
        return fill_contours(read_contours(path), grid, labels)
    found = read_segments(path, labels)
    way = way_between(path, affine_of(found.grid), grid)
    voxels, lost = moved(found.voxels[0], way, grid.shape)
    issues = found.issues
    if lost:
        value = f"{lost} labelled voxels lie outside {grid.file.name}"
        issues += (Issue(path, "outside", value, "see that image and labels belong together"),)
    header = Header("itk", grid.affine)
    return ImageFile(path, voxels[np.newaxis], grid.spacing, header, issues=issues)


def common_grid(paths: tuple[Path, Path], labels: LabelSet | None = None) -> Grid:
    """Return a grid for two files of DICOM, of which one at least is a SEG: its planes, and all that they reach.

    Raises
    ------
    IssueError
        `no-grid`: both are RTSTRUCT; otherwise as `read_labels_on`.
    """
    files = [label_file(path) for path in paths]
    kinds = [label_kind(file) for file in files]
    if "SEG" not in kinds:
        value = "two RTSTRUCT files: contours alone have no voxels"
        raise IssueError(Issue(files[0], "no-grid", value, "give one of the two as NIfTI or SEG"))
    first = kinds.index("SEG")
    grid = read_segments(files[first], labels).grid
    other = files[1 - first]
    if kinds[1 - first] == "RTSTRUCT":
        return _reaching(grid, read_contours(other))
    theirs = read_segments(other, labels).grid
    return replace(extended(grid, *way_between(other, affine_of(theirs), grid).corners(theirs.shape)), file=grid.file)


def _reaching(grid: Grid, contours: Contours) -> Grid:
    points = [points for some in contours.on(grid).values() for points in some if len(points)]
    if not points:
        return grid
    every = np.concatenate(points)
    return extended(grid, np.rint(every.min(axis=0)).astype(int), np.rint(every.max(axis=0)).astype(int))
