"""Series that were found, each standing as one file in a folder: what takes a file an image takes a series so.

The files of a series may lie among others, in several folders, or be frames of one file. Its stand-in NAME.dcm holds
nothing; the series itself, whose headers were read, is remembered while the folder is there. What lasts is the path
ROOT/NAME.dcm, of the folder or zip ROOT that holds the series and of the name that it has there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnunet_rs.core.dicom.series import Series

NAME = "dicom"  # of the format, as it stands in `Header.format`
ENDING = ".dcm"


@dataclass(frozen=True, slots=True)
class StandIn:
    """A series, and the name that it gets: of a case, or of one channel of it."""

    name: str
    series: Series

    @property
    def lasting(self) -> Path:
        """The path that finds the series again."""
        return self.series.shown.named / (self.series.name + ENDING)


_standing_in: dict[Path, StandIn] = {}


@contextmanager
def stand_ins(series: Sequence[StandIn]) -> Iterator[Path]:
    """Give a temporary folder with a file for each series, as new as the newest of its files, or as the zip."""
    with tempfile.TemporaryDirectory(prefix="nnunet-rs-") as name:
        files = {Path(name, one.name + ENDING): one for one in series}
        _standing_in.update(files)
        try:
            for file, one in files.items():
                file.touch()
                named = one.series.shown.named
                sources = (named,) if named.is_file() else one.series.files  # what was unpacked from a zip is new
                newest = max(path.stat().st_mtime for path in sources)
                os.utime(file, (newest, newest))
            yield Path(name)
        finally:
            for file in files:
                del _standing_in[file]


def series_behind(path: Path) -> Series | None:
    """Return the series that a file stands for; None: it stands for none."""
    found = _standing_in.get(path)
    return None if found is None else found.series


def lasting(path: Path) -> Path:
    """Return the path that finds an image again: of a stand-in that of its series, else the path itself."""
    found = _standing_in.get(path)
    return path if found is None else found.lasting


def is_there(path: Path) -> bool:
    """Whether an image's path leads somewhere: to a file, a folder, or a series by its name."""
    return path.exists() or is_series_name(path)


def is_series_name(path: Path) -> bool:
    """Whether a path may be that of a series by its name: ROOT/NAME.dcm, where ROOT is there and no such file is."""
    return path.suffix == ENDING and not path.exists() and path.parent.exists()
