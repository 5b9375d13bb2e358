"""Series that were found, each standing as one file in a folder: what takes a file an image takes a series so.

The files of a series may lie among others, in several folders, or be frames of one file. Its stand-in NAME.dcm holds
nothing; the series itself, whose headers were read, is remembered while the folder is there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nnunet_rs.core.dicom.series import Series

ENDING = ".dcm"
_standing_in: dict[Path, Series] = {}


@contextmanager
def stand_ins(series: Sequence[Series]) -> Iterator[Path]:
    """Give a temporary folder with a file for each series, as new as the newest of the series' own files."""
    with tempfile.TemporaryDirectory(prefix="nnunet-rs-") as name:
        files = {Path(name, one.name + ENDING): one for one in series}
        _standing_in.update(files)
        try:
            for file, one in files.items():
                file.touch()
                newest = max(path.stat().st_mtime for path in one.files)
                os.utime(file, (newest, newest))
            yield Path(name)
        finally:
            for file in files:
                del _standing_in[file]


def series_behind(path: Path) -> Series | None:
    """Return the series that a file stands for; None: it stands for none."""
    return _standing_in.get(path)
