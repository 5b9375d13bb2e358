"""What folders hold: each is listed once, and what nobody uses of it is reported by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.io import companions
from nnunet_rs.core.issues import Issue
from nnunet_rs.core.names import HIDDEN, SEGMENTATION, SKIPPED, ZIP, ending_of, has_ending, may_be_folders, strip_ending
from nnunet_rs.core.text import examples
from nnunet_rs.core.workspace import DATASET_JSON


@dataclass(frozen=True, slots=True)
class Listing:
    """Names in one folder, hidden ones left out."""

    files: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Folders:
    """Folders that were looked into; each is listed once, and no file is asked for anything (100 000 cases)."""

    listed: dict[Path, Listing] = field(default_factory=dict)

    def listing(self, folder: Path) -> Listing:
        """Names in `folder`, the hidden ones left out; none if there is no such folder.

        Raises
        ------
        DatasetError
            The folder may not be read.
        """
        if folder not in self.listed:
            self.listed[folder] = _listing(folder)
        return self.listed[folder]

    def files(self, folder: Path) -> frozenset[str]:
        """File names in `folder`; errors as `listing`."""
        return self.listing(folder).files

    def images(self, folder: Path, ending: str | tuple[str, ...]) -> list[str]:
        """Names in `folder` that a listing takes: of this ending, not beginning with `_`; sorted.

        Where a single ending is one of images that may be folders (DICOM), folders and zips count too.
        """
        listing, names = self.listing(folder), self.files(folder)
        found = {name for name in names if has_ending(name, ending)}
        if isinstance(ending, str) and may_be_folders(ending):
            found |= listing.folders | {name for name in names if has_ending(name, ZIP)}
        return sorted(name for name in found if not name.startswith(SKIPPED))

    def has(self, path: Path) -> bool:
        """Whether a file is there; or a folder, where the name may be that of a folder of DICOM."""
        listing = self.listing(path.parent)
        return path.name in listing.files or (path.name in listing.folders and may_be_folders(ending_of(path.name)))


def left_out(folder: Path, listing: Listing, used: Collection[str], ending: str = "") -> list[Issue]:
    """Report by name what a folder holds and nobody uses, a warning for each reason.

    Parameters
    ----------
    folder, listing
        The folder and what it holds.
    used
        Names that are used, or that another issue tells of.
    ending
        That of the dataset's files; empty: any that can be read.

    Returns
    -------
    list of Issue
        Rules `ending` (images of another ending than the dataset's) and `left-out` (all others).
    """
    endings = {ending_of(name) for name in used}
    belonging = {file.suffix for ending in endings for file in companions(Path(f"x{ending}"))}
    rest = {name for name in listing.files - set(used) if not has_ending(name, tuple(belonging))}
    issues = [
        _left_out(folder, listing.folders - set(used), "left-out", "folder", "folders within are not looked into")
    ]
    for rule, reason, advice, holds in _reasons(ending):
        some = {name for name in rest if holds(name)}
        issues.append(_left_out(folder, some, rule, "file", reason, advice))
        rest -= some
    issues.append(_left_out(folder, rest, "left-out", "file", f"not listed in {DATASET_JSON}"))
    return [issue for issue in issues if issue is not None]


_Reason = tuple[str, str, str, Callable[[str], bool]]  # rule, reason, advice, whether it holds of a name
_MOVE = "move away what does not belong here"


def _reasons(ending: str) -> tuple[_Reason, ...]:
    file_ending = (f"file_ending is {ending}", "convert them, or move them away") if ending else ("", "")
    return (
        ("left-out", "names that begin with _ are taken for no data", "rename what is meant", _begins_low),
        ("ending", *file_ending, lambda name: bool(ending) and _is_image(name) and not has_ending(name, ending)),
        ("left-out", "a segmentation by its ending, no image", _MOVE, lambda name: has_ending(name, SEGMENTATION)),
        ("left-out", "not of a format that is read", _MOVE, lambda name: not _is_image(name)),
    )


def _begins_low(name: str) -> bool:
    return name.startswith(SKIPPED)


def _is_image(name: str) -> bool:
    return has_ending(name) or has_ending(name, SEGMENTATION)


def _left_out(
    folder: Path, names: Collection[str], rule: str, kind: str, reason: str, advice: str = _MOVE
) -> Issue | None:
    if not names:
        return None
    verb = "is" if len(names) == 1 else "are"
    value = f"{len(names)} {kind}{'s' * (len(names) > 1)} {verb} left out ({examples(names)}): {reason}"
    return Issue(folder, rule, value, advice, fatal=False)


def _listing(folder: Path) -> Listing:
    try:
        with os.scandir(folder) as entries:
            kinds = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return Listing()
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be listed: {error.strerror}; check its permissions") from error
    shown = [(name, is_folder) for name, is_folder in kinds if not name.startswith(HIDDEN)]
    return Listing(
        frozenset(name for name, is_folder in shown if not is_folder),
        frozenset(name for name, is_folder in shown if is_folder),
    )


def same_case(names: Collection[str], case: str) -> list[str]:
    """Return the names that are `case` but for their ending, sorted."""
    return sorted(name for name in names if strip_ending(name) == case and not name.startswith(SKIPPED))
