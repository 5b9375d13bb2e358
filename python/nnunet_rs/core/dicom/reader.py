"""One DICOM image: a file, a folder or a zip that holds exactly one series that can be used."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from nnunet_rs.core.content import DEFLATE
from nnunet_rs.core.dicom.headers import label_kind
from nnunet_rs.core.dicom.library import is_dicom
from nnunet_rs.core.dicom.listing import is_series_name, series_behind
from nnunet_rs.core.dicom.pixels import read_pixels
from nnunet_rs.core.dicom.series import Found, Series, find_series
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.image_file import ImageFile
from nnunet_rs.core.issues import Issue, IssueError, require_none
from nnunet_rs.core.types import Shape, Spacing3
from nnunet_rs.core.unzip import unpacked

_SHOWN = 3


def read(path: Path) -> ImageFile:
    """Read a series as it is stored; of a SEG file the labels, on the grid of its own planes.

    Raises
    ------
    IssueError
        `missing`, `no-image`, `no-grid`, `several-series`, and the fatal issues of the series and of its pixels.
    """
    with _found(path) as (file, series):
        if series is not None:
            return read_series(series)
        kind = label_kind(file) if file.is_file() and is_dicom(file) else ""
        if kind == "RTSTRUCT":
            value = "an RTSTRUCT file: contours alone have no voxels"
            raise IssueError(Issue(path, "no-grid", value, "give it as the label, or reference, of an image"))
        if kind == "SEG":
            from nnunet_rs.core.dicom.segmentation import read_segments  # which needs names, and these formats

            return read_segments(file)
        return read_series(only_series(file, path))


def read_grid(path: Path) -> tuple[Shape, Spacing3]:
    """Return shape (c, z, y, x) and spacing (z, y, x) without the voxels; errors as `read`."""
    with _found(path) as (file, series):
        stack = (series or only_series(file, path)).stack
    return (stack.planes[0].samples, *stack.shape), stack.spacing


def read_series(series: Series) -> ImageFile:
    """Read a series that was found.

    Raises
    ------
    IssueError
        Its first fatal issue, or what is wrong with its pixels.
    """
    require_none(series.issues)
    try:
        pixels = read_pixels(series.stack)
    except IssueError as error:
        raise IssueError(series.shown.issue(error.issue)) from error
    return ImageFile(
        file=series.shown.path(series.place),
        voxels=pixels.voxels,
        spacing=series.stack.spacing,
        header=series.stack.header,
        slope=pixels.slope,
        intercept=pixels.intercept,
        issues=series.issues,
    )


@contextmanager
def _found(path: Path) -> Iterator[tuple[Path, Series | None]]:
    """Give what a path leads to, and the series that it names; None: it is no name of a series."""
    standing = series_behind(path)
    if standing is not None:
        yield path, standing
    elif is_series_name(path):
        with opened(path.parent) as folder:
            yield path, series_called(folder, path)
    else:
        with opened(path) as folder:
            yield folder, None


def series_called(folder: Path, path: Path) -> Series:
    """Return the series of a folder that a path (`listing.StandIn.lasting`) names.

    Raises
    ------
    IssueError
        `missing`: there is none of this name.
    """
    found = _listed(folder, path.parent, max(_changed(folder)))
    series = next((one for one in found.series if one.name == path.stem), None)
    if series is None:
        value = f"no such file, and {path.parent.name} holds no series that is called {path.stem}"
        raise IssueError(Issue(path, "missing", value, "`nnunet-rs dicom` lists what a folder holds"))
    return series


def _changed(root: Path) -> Iterator[int]:
    """Yield when a file or folder, and each folder below it, was changed."""
    yield root.stat().st_mtime_ns
    for folder, _, _ in os.walk(root):
        yield Path(folder).stat().st_mtime_ns


@lru_cache(maxsize=2)
def _listed(folder: Path, named: Path, _: int) -> Found:
    """Find the series of a folder once while it stays as it is: a report asks for one after the other."""
    return find_series(folder, named=named)


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Give a folder or file as it is, a zip's content in a temporary folder; errors name the zip."""
    if not path.exists():
        raise IssueError(Issue(path, "missing", "no such file or folder", "restore it, or take the case out"))
    if path.is_file() and zipfile.is_zipfile(path):
        with unpacked(path, ratio=DEFLATE, broken=DatasetError) as folder:
            try:
                yield folder
            except IssueError as error:  # the user knows the zip only
                inside = error.issue.file
                if not inside.is_relative_to(folder):
                    raise
                raise IssueError(replace(error.issue, file=path / inside.relative_to(folder))) from error
    else:
        yield path


def only_series(folder: Path, named: Path) -> Series:
    """Return the only series that can be used; `named` is what the user knows.

    Raises
    ------
    IssueError
        `no-image`, `several-series` (and in its place `mixed-orientations`, `mixed-sizes` or `several-phases` where
        one series holds several images), or why the only file is no image.
    """
    found = find_series(folder, named=named)
    if not found.series:
        raise IssueError(_nothing(found, named))
    if len(found.series) == 1:
        (series,) = found.series
        lost = tuple(issue for issue in found.left_out if issue.fatal)
        return replace(series, issues=(*lost, *series.issues))
    raise IssueError(_several(found.series, named))


def _nothing(found: Found, named: Path) -> Issue:
    """Say why there is no image, by the first file that might have been one."""
    if found.left_out:
        first = min(found.left_out, key=lambda issue: not issue.fatal)
        return replace(first, fatal=True)
    if found.others:
        return Issue(named, "no-image", f"{len(found.others)} files, none is DICOM", "give the folder of a series")
    return Issue(named, "no-image", "holds no file", "give the folder of a series")


def _several(series: tuple[Series, ...], named: Path) -> Issue:
    mixed = [issue for one in series for issue in one.issues if issue.rule.startswith("mixed-")]
    same = len({(one.origin.study, one.origin.series) for one in series}) == 1
    if same and mixed:
        return Issue(named, mixed[0].rule, mixed[0].value, "give one folder for each; `nnunet-rs dicom` lists them")
    shown = ", ".join(_shown(one) for one in series[:_SHOWN])
    more = f" and {len(series) - _SHOWN} more" if len(series) > _SHOWN else ""
    rule = "several-phases" if same else "several-series"
    return Issue(
        named, rule, f"{len(series)} images: {shown}{more}", "give one folder for each; `nnunet-rs dicom` lists them"
    )


def _shown(series: Series) -> str:
    z, y, x = series.stack.shape
    what = " ".join(word for word in (series.origin.modality, series.part) if word)
    return f"{what} ({x} x {y} x {z})"
