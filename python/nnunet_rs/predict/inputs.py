"""What a user names as images and as a place for results, as cases and names."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.io import can_read, endings, find_format, read_grid
from nnunet_rs.core.names import CHANNEL, strip_ending
from nnunet_rs.core.types import Case

_FILE = re.compile(r"\.[A-Za-z]\w{1,7}")  # how files end; .2 and .v are left to folders


@dataclass(frozen=True, slots=True)
class ResultPlace:
    """Where the result of one case goes."""

    folder: Path
    name: str = ""  # of the case; empty: as its images are named
    ending: str = ""  # of the segmentation; empty: as of its images

    @property
    def is_file(self) -> bool:
        """Whether a file was named, not a folder."""
        return bool(self.name)


def one_case(files: Sequence[Path], channels: int) -> Case:
    """Take the files that a user names for one case.

    Parameters
    ----------
    files
        One file, or one a channel: in the order of the numbers in their names, or else as given.
    channels
        What the model takes.

    Raises
    ------
    DatasetError
        A file that is not there, is of no known format or a folder; numbers of several cases; not one file a channel.
    """
    for file in files:
        if file.is_dir():
            raise DatasetError(f"{file}: is a folder; give one folder, or the files of one case")
        if not file.is_file():
            raise DatasetError(f"{file}: no such file or folder")
        if not can_read(file):
            raise DatasetError(f"{file}: the ending is not one of an image that can be read; convert it")
    numbers = [CHANNEL.fullmatch(strip_ending(file.name)) for file in files]
    if len(files) > 1 and all(numbers):
        files = _by_number(files, [match for match in numbers if match])
    if len(files) not in (1, channels):
        raise DatasetError(
            f"{', '.join(map(str, files))}: {len(files)} files, the model takes {channels} "
            f"channel{'s' if channels > 1 else ''}; give a file for each, or for several cases a folder"
        )
    match = CHANNEL.fullmatch(strip_ending(files[0].name))
    return Case(match["case"] if match else strip_ending(files[0].name), tuple(files))


def result_place(output: Path, images: Sequence[Path]) -> ResultPlace:
    """Distinguish a file from a folder by its ending, unless a folder is there.

    Raises
    ------
    DatasetError
        The format cannot hold the segmentation of these images, or is none.
    """
    named, own = find_format(output), find_format(images[0])
    if output.is_dir():
        return ResultPlace(output)
    if named is None:
        require_folder_name(output)
        return ResultPlace(output)
    name = strip_ending(output.name)
    ending = output.name[len(name) :]
    if not named.placed and (own is None or own.placed):
        raise DatasetError(
            f"{output}: a {ending} file cannot say where in space {images[0].name} lies; name a segmentation of the "
            "image's format"
        )
    if named.flat and not (own is not None and own.flat):
        (_, slices, _, _), _ = read_grid(images[0])
        if slices > 1:
            raise DatasetError(f"{output}: a {ending} file holds one slice, {images[0].name} has {slices}; name a .tif")
    return ResultPlace(output.parent, name, ending)


def require_folder_name(output: Path) -> None:
    """Check that a name that is no image's is not meant as one: of a folder that is not there yet.

    Raises
    ------
    DatasetError
        It ends as files do, in letters after a dot.
    """
    if not os.path.lexists(output) and _FILE.fullmatch(output.suffix):
        raise DatasetError(
            f"{output}: {output.suffix} is no format that is written; end it in one of {' '.join(endings())}, "
            "or, if it is a folder, make that first"
        )


def _by_number(files: Sequence[Path], matches: Sequence[re.Match[str]]) -> list[Path]:
    cases = sorted({match["case"] for match in matches})
    if len(cases) > 1:
        raise DatasetError(
            f"{files[0]}: and {files[-1].name} are of different cases ({', '.join(cases[:3])}); for several "
            "cases give a folder"
        )
    numbered = sorted(zip((int(match["channel"]) for match in matches), files, strict=True))
    if [number for number, _ in numbered] != list(range(len(files))):
        found = ", ".join(f"{number:04d}" for number, _ in numbered)
        raise DatasetError(f"{files[0].parent}: the files given are channels {found}; give each from 0000 on, once")
    return [file for _, file in numbered]
