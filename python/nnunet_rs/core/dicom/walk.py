"""The files below a folder, among which those of DICOM series lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.files import TEMPORARY

_HIDDEN = (".", "__MACOSX")


def files_below(root: Path) -> Iterator[Path]:
    """Yield the files of a folder and of those below it, sorted; links to folders are not followed."""
    if root.is_file():
        yield root
        return
    for folder, below, names in os.walk(root, onerror=_raise):
        below[:] = sorted(name for name in below if not name.startswith((*_HIDDEN, TEMPORARY)))
        for name in sorted(names):
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _raise(error: OSError) -> None:
    raise DatasetError(f"{error.filename}: cannot be listed: {error.strerror}; check its permissions") from error
