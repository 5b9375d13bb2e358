"""What every reader does first: take a file's bytes, and say what is wrong where they are not what they should be."""

from __future__ import annotations

import re
from pathlib import Path

from nnunet_rs.core.issues import Issue, IssueError
from nnunet_rs.core.resources import available_memory

COPY_AGAIN = "copy or download the file again"
DEFLATE = 1032  # deflate's largest ratio

# First bytes, and what a file that begins with them is.
_KINDS = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"NRRD", "NRRD"),
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x89HDF", "HDF5"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"\\\\\\MINC", "MINC"),
    (b"\x5c\x01\0\0", "NIfTI"),
    (b"\0\0\x01\x5c", "NIfTI"),
    (b"version https://git-lfs", "Git LFS pointer"),
)
_ENDINGS = {"PNG": ".png", "TIFF": ".tif", "NRRD": ".nrrd", "BMP": ".bmp", "NIfTI": ".nii", "MetaImage": ".mha"}


def read_content(path: Path, limit: int | None = None) -> bytes:
    """Read a file's bytes; only the first `limit` where it is given.

    Raises
    ------
    IssueError
        `missing`, `unreadable`, `file-empty`.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read() if limit is None else stream.read(limit)
    except FileNotFoundError:
        raise IssueError(Issue(path, "missing", "no such file", "restore it, or take the case out")) from None
    except OSError as error:
        raise IssueError(Issue(path, "unreadable", str(error.strerror), "check permissions and the disk")) from error
    if not content:
        raise IssueError(Issue(path, "file-empty", "0 bytes", COPY_AGAIN))
    return content


def require_kind(path: Path, content: bytes, wanted: str) -> None:
    """Raise `format` where a file's first bytes are not those of its ending's format."""
    found = kind_of(content)
    if found == wanted:
        return
    if not found:
        value = f"the first bytes are {content[:8].hex(' ')}, it is no {wanted} file"
        raise IssueError(Issue(path, "format", value, COPY_AGAIN))
    advice = f"name it {_ENDINGS[found]}" if found in _ENDINGS else f"save it as {wanted}"
    if found == "Git LFS pointer":
        advice = "fetch the file itself: git lfs pull"
    elif found == "JPEG":
        advice += " from a source without JPEG's losses"
    raise IssueError(Issue(path, "format", f"the content is {found}, not {wanted}", advice))


def kind_of(content: bytes) -> str:
    """Name the format that a file's first bytes tell; empty where they tell none."""
    found = next((name for magic, name in _KINDS if content.startswith(magic)), "")
    if found or not re.match(rb"(\s*(Comment|ObjectType|ObjectSubType|NDims)\s*[=:])", content):
        return found or ("DICOM" if content[128:132] == b"DICM" else "")
    return "MetaImage"


def ends_early(path: Path, there: int, needed: int) -> IssueError:
    """Return the issue of a file that holds fewer bytes of voxels than its header promises."""
    value = f"ends early: {max(there, 0)} bytes of voxels, the header promises {needed}"
    return IssueError(Issue(path, "file-truncated", value, COPY_AGAIN))


def require_memory(path: Path, needed: int, grid: str) -> None:
    """Raise `memory` before voxels are asked for that this machine cannot hold; `grid` says what the header promises.

    Raises
    ------
    IssueError
        `memory`.
    """
    free = available_memory()
    if needed > free:
        value = f"{grid} take {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB of memory are free"
        raise IssueError(
            Issue(path, "memory", value, "see that the header is right, or use a machine with more memory")
        )


def reason(error: BaseException) -> str:
    """Return a library's error as one line, without addresses of memory."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = re.sub(r"\s*\(?\b0x[0-9a-fA-F]{4,}\)?|<[^<>]* object at [^<>]*>", "", lines[-1] if lines else "")
    return text.strip()[:200] or type(error).__name__
