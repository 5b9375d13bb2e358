"""pydicom, imported when the first DICOM file is met, and kept from printing."""

from __future__ import annotations

import logging
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from nnunet_rs.core.content import COPY_AGAIN, read_content, reason
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.issues import Issue, IssueError

INSTALL = "pip install 'nnunet-rs[dicom]'"
_PREAMBLE = 132  # bytes up to and with "DICM"
# Without a preamble a file begins with an element of group 2 or 8, in either byte order.
_BARE = (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")


@cache
def pydicom() -> Any:
    """Return the module; what it logs is kept from the terminal.

    Raises
    ------
    DatasetError
        It is not installed.
    """
    try:
        import pydicom as module
    except ImportError:
        raise DatasetError(f"DICOM is read and written by pydicom, which is not installed: {INSTALL}") from None
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    return module


def is_dicom(path: Path) -> bool:
    """Whether a file's first bytes are those of DICOM, with its preamble or without."""
    try:
        first = read_content(path, _PREAMBLE + 4)
    except IssueError:
        return False
    if first[128:132] == b"DICM":
        return True
    # group, element, then a value representation of two letters or a length below 64 KiB
    return first[:2] in _BARE and len(first) > 8 and (first[4:6].isalpha() or 0 in first[4:8])


def read_dataset(path: Path, tags: list[Any] | None = None, *, pixels: bool = True) -> tuple[Any, int]:
    """Read a file.

    Parameters
    ----------
    path
        With preamble or without.
    tags
        What of it is wanted; None: everything.
    pixels
        Read the pixels too.

    Returns
    -------
    dataset
        A pydicom.FileDataset.
    rest
        How many bytes follow what was read (without `pixels`); of a file that is compressed as a whole, more than 0.

    Raises
    ------
    IssueError
        `missing`, `unreadable`, `file-empty`.
    """
    module = pydicom()
    # What it warns of is reported as an issue, or of no matter; a filter is kept once, however often it is asked for.
    warnings.filterwarnings("ignore", module=r"pydicom(\..*)?")
    size = path.stat().st_size if path.is_file() else len(read_content(path, 1))
    if not size:
        read_content(path)  # says that it is empty
    try:
        with path.open("rb") as stream:
            dataset = module.dcmread(stream, stop_before_pixels=not pixels, specific_tags=tags, force=True)
            return dataset, size - stream.tell() or int(_deflated(dataset))
    except MemoryError:
        raise
    except OSError as error:
        raise IssueError(
            Issue(path, "unreadable", str(error.strerror or reason(error)), "check permissions and the disk")
        ) from error
    except Exception as error:  # what is wrong with a file is raised as anything
        raise IssueError(Issue(path, "unreadable", f"is damaged: {reason(error)}", COPY_AGAIN)) from error


def _deflated(dataset: Any) -> bool:
    """Whether the file is compressed as a whole; then nobody knows what follows."""
    return str(dataset.file_meta.get("TransferSyntaxUID", "")) == "1.2.840.10008.1.2.1.99"
