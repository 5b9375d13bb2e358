"""Labels from SEG and RTSTRUCT files, on the grid of what they are held against."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from nnunet_rs.core.dicom.headers import SEGMENTATION, STRUCTURES
from nnunet_rs.core.dicom.lattice import affine_of, extended, moved, way_between
from nnunet_rs.core.dicom.library import is_dicom, pydicom, read_dataset
from nnunet_rs.core.dicom.segmentation import read_segments
from nnunet_rs.core.dicom.structure_set import Contours, fill_contours, read_contours
from nnunet_rs.core.image_file import Grid, ImageFile
from nnunet_rs.core.issues import Issue, IssueError
from nnunet_rs.core.types import Header, LabelSet

_ADVICE = "give a SEG or RTSTRUCT file"


def is_label_file(path: Path) -> bool:
    """Whether a file is DICOM, and so its labels are read by this module."""
    return path.is_file() and not path.name.lower().endswith((".nii", ".gz")) and is_dicom(path)


def kind_of_labels(path: Path) -> str:
    """Return "SEG" or "RTSTRUCT".

    Raises
    ------
    IssueError
        `format`: it is something else; `missing`, `unreadable`.
    """
    dataset, _ = read_dataset(path, ["SOPClassUID"], pixels=False)
    kind = str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or "")
    if kind in SEGMENTATION:
        return "SEG"
    if kind == STRUCTURES:
        return "RTSTRUCT"
    name = pydicom().uid.UID(kind).name if kind else "no kind"
    raise IssueError(Issue(path, "format", f"{name}: DICOM, and no labels", _ADVICE))


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
    if kind_of_labels(path) == "RTSTRUCT":
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
    kinds = [kind_of_labels(path) for path in paths]
    if "SEG" not in kinds:
        value = "two RTSTRUCT files: contours alone have no voxels"
        raise IssueError(Issue(paths[0], "no-grid", value, "give one of the two as NIfTI or SEG"))
    first = kinds.index("SEG")
    grid = read_segments(paths[first], labels).grid
    other = paths[1 - first]
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
