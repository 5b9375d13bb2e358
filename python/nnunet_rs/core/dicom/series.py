"""Series found in a folder, however named and nested: told apart, put in order, named; what is left out is reported."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nnunet_rs.core.content import COPY_AGAIN
from nnunet_rs.core.dicom.headers import LABELS, TRAITS, personal_words, read_planes
from nnunet_rs.core.dicom.library import is_dicom
from nnunet_rs.core.dicom.plane import Origin, Plane
from nnunet_rs.core.dicom.private import Shown, is_private
from nnunet_rs.core.dicom.stack import ORIENTATION_TOLERANCE, Stack, is_even, repeats, stacked
from nnunet_rs.core.dicom.walk import files_below
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.image_file import Grid
from nnunet_rs.core.issues import Issue, IssueError

_SAME_SPACING = 1e-3  # relative


@dataclass(frozen=True, slots=True)
class Series:
    """Planes that make one image."""

    name: str  # of the case; without anything of the patient
    place: Path  # the folder that holds the files, or the only file
    part: str  # what tells it from the rest of its series: "echo time 4.6"; empty: it is the whole series
    stack: Stack
    issues: tuple[Issue, ...]  # of the files and of the stack; a fatal one forbids its use
    shown: Shown  # how its files are called

    @property
    def origin(self) -> Origin:
        """What the series says of itself."""
        return self.stack.planes[0].origin

    @property
    def grid(self) -> Grid:
        """Where its voxels are."""
        return Grid(self.shown.path(self.place), self.stack.shape, self.stack.spacing, self.stack.header.affine)

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files, in the order of the slices, each once."""
        return tuple(dict.fromkeys(plane.file for plane in self.stack.planes))


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder holds."""

    series: tuple[Series, ...]
    left_out: tuple[Issue, ...]  # a file each: no image, a localizer, damaged …
    labels: tuple[Path, ...]  # SEG and RTSTRUCT files
    others: tuple[Path, ...]  # files that are no DICOM
    shown: Shown  # how files are called; issues name them so


def find_series(
    root: Path, tick: Callable[[int], None] = lambda _: None, *, named: Path | None = None, private: bool = True
) -> Found:
    """Look through a folder and the folders below it, or at one file.

    Parameters
    ----------
    root
        A folder, or a DICOM file. Hidden files are passed over.
    tick
        Is told how many files have been read.
    named
        What the user calls the root, where that is another path (of a zip).
    private
        Hide folders and files named after the patient in what issues say.

    Raises
    ------
    DatasetError
        No such file or folder; pydicom is not installed.
    """
    if not root.exists():
        raise DatasetError(f"{root}: no such file or folder; give a folder, zip or file of DICOM")
    planes, left, others = _read(root, tick)
    words = {plane.origin.personal for plane in planes} | {personal_words(issue.file) for issue in left}
    shown = Shown(root, named or root, frozenset().union(*words) if private else frozenset())
    kept, twice = _without_duplicates(planes, shown)
    series = named_series(_split(kept, shown))
    labels = tuple(issue.file for issue in left if LABELS in issue.value)
    return Found(tuple(series), (*map(shown.issue, left), *twice), labels, tuple(others), shown)


def _read(root: Path, tick: Callable[[int], None]) -> tuple[list[Plane], list[Issue], list[Path]]:
    """Return the planes of all files, what is wrong with others, and those that are no DICOM."""
    planes: list[Plane] = []
    left: list[Issue] = []
    others: list[Path] = []
    for count, path in enumerate(files_below(root), 1):
        tick(count)
        if not is_dicom(path):
            others.append(path)
            continue
        try:
            planes += read_planes(path)
        except IssueError as error:
            left.append(error.issue)
    return planes, left, others


def _without_duplicates(planes: Sequence[Plane], shown: Shown) -> tuple[list[Plane], list[Issue]]:
    """Leave out files that repeat another's image."""
    kept: dict[tuple[str, str, int], Plane] = {}
    alone: list[Plane] = []
    issues: list[Issue] = []
    for plane in planes:
        key, file = (plane.origin.series, plane.uid, plane.frame), shown.path(plane.file)
        if not plane.uid:
            alone.append(plane)
        elif key not in kept:
            kept[key] = plane
        elif replace(plane, file=kept[key].file) != kept[key]:
            value = f"has the SOP Instance UID of {shown.path(kept[key].file).name} and another header"
            issues.append(Issue(file, "duplicate", value, "move the wrong one of them away", fatal=False))
        elif plane.frame == 0:
            value = f"is {shown.path(kept[key].file).name} once more"
            issues.append(Issue(file, "duplicate", value, "it is left out", fatal=False))
    return [*kept.values(), *alone], issues


# ---- told apart ------------------------------------------------------------------------------------------------------


def _split(planes: Iterable[Plane], shown: Shown) -> Iterator[Series]:
    by_series: dict[tuple[str, str, str, str], list[Plane]] = {}
    for plane in planes:
        key = plane.origin.study, plane.origin.series, plane.sop_class, plane.origin.frame_of_reference
        by_series.setdefault(key, []).append(plane)
    for some in by_series.values():
        place = _place(some, shown.root)
        grids = _by_grid(some)
        mixed = _mixed(grids, shown.path(place))
        parts = [(named, part) for grid in grids for named, part in _by_traits(grid)]
        for named, part in parts:
            stack = stacked(part, shown.path(place))
            yield Series("", place, named, stack, (*_truncated(part, shown), *stack.issues, *mixed), shown)


def _truncated(planes: Sequence[Plane], shown: Shown) -> Iterator[Issue]:
    """Tell of the first file that ends within its pixels."""
    for plane in [plane for plane in planes if plane.lacks][:1]:
        value = f"ends early: {plane.lacks} bytes of its pixels are missing"
        yield Issue(shown.path(plane.file), "file-truncated", value, COPY_AGAIN)


def _place(planes: Sequence[Plane], root: Path) -> Path:
    files = {plane.file for plane in planes}
    if len(files) == 1:
        return next(iter(files))
    return root if root.is_file() else Path(os.path.commonpath([path.parent for path in files]))


def _by_grid(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Put planes of one orientation, size and pixel spacing together; the most come first."""
    groups: list[list[Plane]] = []
    for plane in planes:
        group = next((group for group in groups if _same_grid(group[0], plane)), None)
        if group is None:
            groups.append([plane])
        else:
            group.append(plane)
    return sorted(groups, key=len, reverse=True)


def _same_grid(one: Plane, other: Plane) -> bool:
    """Whether two planes may lie in one stack."""
    if (one.size, one.samples, one.rows is None) != (other.size, other.samples, other.rows is None):
        return False
    turn = np.subtract(_turn(one), _turn(other))
    spacing, theirs = (np.array(plane.pixel_spacing or (1.0, 1.0)) for plane in (one, other))
    return bool(np.abs(turn).max() <= ORIENTATION_TOLERANCE and (np.abs(spacing / theirs - 1) <= _SAME_SPACING).all())


def _turn(plane: Plane) -> tuple[float, ...]:
    return (*(plane.rows or (0.0,) * 3), *(plane.columns or (0.0,) * 3))


def _mixed(groups: Sequence[Sequence[Plane]], place: Path) -> list[Issue]:
    """Warn of a series whose images do not lie on one grid: each grid becomes an image of its own."""
    if len(groups) < 2:
        return []
    sizes = {(group[0].size, group[0].samples, group[0].pixel_spacing) for group in groups}
    rule = "mixed-sizes" if len(sizes) > 1 else "mixed-orientations"
    shown = ", ".join(f"{len(group)} of {_grid_text(group[0], rule)}" for group in groups[:4])
    more = f" and {len(groups) - 4} more" if len(groups) > 4 else ""
    return [Issue(place, rule, f"the series has {shown}{more}", "each is an image of its own", fatal=False)]


def _grid_text(plane: Plane, rule: str) -> str:
    if rule == "mixed-sizes":
        spacing = plane.pixel_spacing or (1.0, 1.0)
        return f"{plane.size[1]} x {plane.size[0]} pixels of {spacing[1]:g} x {spacing[0]:g} mm"
    cosines = (*(plane.rows or ()), *(plane.columns or ()))
    return "orientation " + ("\\".join(f"{round(cosine, 4) + 0:g}" for cosine in cosines) or "unknown")


def _by_traits(planes: Sequence[Plane]) -> list[tuple[str, Sequence[Plane]]]:
    """Separate images at one position by echo, b-value, time …, where a value of the header does."""
    parts: list[tuple[str, Sequence[Plane]]] = [("", planes)]
    for trait in TRAITS:
        parts = [piece for named, part in parts for piece in _by_trait(named, part, trait)]
    return parts


def _by_trait(named: str, planes: Sequence[Plane], trait: str) -> list[tuple[str, Sequence[Plane]]]:
    """Split by one value where that leaves fewer images at a position, or makes uneven slices even."""
    groups: dict[str, list[Plane]] = {}
    for plane in planes:
        groups.setdefault(dict(plane.traits).get(trait, "none"), []).append(plane)
    most = repeats(planes)
    if len(groups) > 1 and most == 1 and not is_even(planes):
        useful = all(len(group) > 1 and is_even(group) for group in groups.values())
    else:
        useful = 1 < len(groups) <= most
    if not useful:
        return [(named, planes)]
    before = f"{named}, " if named else ""
    return [(f"{before}{trait} {value}", group) for value, group in sorted(groups.items(), key=_as_number)]


def _as_number(item: tuple[str, list[Plane]]) -> tuple[float, str]:
    found = re.match(r"-?\d+(\.\d+)?", item[0])
    return (float(found[0]) if found else 0.0), item[0]


# ---- names -----------------------------------------------------------------------------------------------------------


def named_series(series: Iterable[Series]) -> list[Series]:
    """Name series as cases: by their folder where it holds nothing else, or by modality and a hash of their UID.

    No name holds a word of the patient's name or ID.
    """
    found = list(series)
    folders = [_folder_name(one) for one in found]
    keys = [name.lower() for name in folders]
    unique = {name for name, key in zip(folders, keys, strict=True) if keys.count(key) == 1}
    named = [
        replace(one, name=name if name in unique else _hashed(one)) for one, name in zip(found, folders, strict=True)
    ]
    return list(_numbered(named))


def _folder_name(series: Series) -> str:
    """Return the name of a folder, or of a lone file, that may name a case; empty where it tells of the patient."""
    place = series.shown.named if series.place == series.shown.root else series.place
    name = re.sub(r"[^\w.-]+", "_", place.stem if place.is_file() else place.name).strip("._")
    tells = re.search(r"[^\W_]", name) and name.lower() not in ("dicom", "dcm", "images")
    return name if tells and not is_private(name, series.origin.personal | series.shown.personal) else ""


def _hashed(series: Series) -> str:
    text = f"{series.origin.study} {series.origin.series} {series.part}"
    if not series.origin.series:
        text = " ".join(sorted(path.name for path in series.files))
    modality = re.sub(r"\W+", "", series.origin.modality.lower()) or "image"
    return f"{modality}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _numbered(series: Sequence[Series]) -> Iterator[Series]:
    """Give series that would be named alike a number: grids of one series."""
    count: dict[str, int] = {}
    for one in series:
        count[one.name] = count.get(one.name, 0) + 1
        yield one if count[one.name] == 1 else replace(one, name=f"{one.name}_{count[one.name]}")
