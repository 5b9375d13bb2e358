"""Voxels as the headers of NRRD and MetaImage describe them: plain, compressed, or written as text."""

from __future__ import annotations

import bz2
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from isal import igzip_lib, isal_zlib
from numpy.typing import NDArray

from nnunet_rs.core.content import COPY_AGAIN, ends_early, read_content
from nnunet_rs.core.geometry import invertible, rounded
from nnunet_rs.core.image_file import LPS_TO_RAS, ImageFile
from nnunet_rs.core.image_format import Format, no_companions
from nnunet_rs.core.issues import Issue, IssueError
from nnunet_rs.core.types import Header, IntArray, Shape, Spacing3

ISAL_ERROR: type[Exception] = cast(Any, igzip_lib).IsalError  # its stub declares an instance
HEADER = 1 << 20  # bytes that a header may have
_LONGEST = 2**31 - 1  # voxels along an axis
_GRID = "set sizes, spacing and directions in the program that made it, and save it again"


@dataclass(frozen=True, slots=True)
class ItkGeometry:
    """Where a header says that voxels are, in ITK's terms: world axes point left, back and up (LPS)."""

    origin: tuple[float, ...]  # of the first voxel, mm
    directions: tuple[tuple[float, ...], ...]  # one vector per axis x, y, z: from a voxel to the next, mm

    def affine(self) -> NDArray[np.float64]:
        """Voxel (x, y, z) to world in RAS+, 4 x 4; what a slice does not say is taken from the world's axes."""
        affine = np.eye(4)
        for axis, direction in enumerate(self.directions):
            affine[: len(direction), axis] = direction
        affine[: len(self.origin), 3] = self.origin
        if len(self.directions) == 2 and not invertible(affine[:3, :3]):
            with np.errstate(all="ignore"):
                normal = np.cross(affine[:3, 0], affine[:3, 1])
                affine[:3, 2] = normal / np.linalg.norm(normal)
        placed: NDArray[np.float64] = LPS_TO_RAS * affine
        return placed


@dataclass(frozen=True, slots=True)
class Layout:
    """What a header says of its voxels."""

    format: str  # its name
    header: Path
    data: Path  # the file that holds the voxels, maybe the header's own
    start: int  # first byte of them; -1: they are the last bytes of the file
    lines: int  # lines to leave out after `start`
    kind: np.dtype[Any]
    encoding: str  # raw, zlib, gzip, bzip2, text or hex
    sizes: Shape  # the fastest axis first
    axes: tuple[int | None, ...]  # which of them are channel, z, y, x
    placement: ItkGeometry
    spacing: Spacing3
    issues: tuple[Issue, ...] = ()

    @property
    def shape(self) -> Shape:
        """Size (c, z, y, x)."""
        return tuple(1 if axis is None else self.sizes[axis] for axis in self.axes)


def read_layout(layout: Layout) -> ImageFile:
    """Read the voxels that a header describes.

    Raises
    ------
    IssueError
        `missing`, `unreadable`, `file-empty`, `file-truncated`, `header-invalid`.
    """
    count = math.prod(layout.sizes)
    voxels = _decoded(layout, _stored(layout), count).reshape(layout.sizes[::-1])
    order = [len(layout.sizes) - 1 - axis for axis in layout.axes if axis is not None]
    voxels = voxels.transpose(order + [axis for axis in range(voxels.ndim) if axis not in order])
    affine = layout.placement.affine()
    return ImageFile(
        file=layout.header,
        voxels=voxels.reshape(layout.shape),
        spacing=layout.spacing,
        header=Header(layout.format, tuple(tuple(map(float, row)) for row in affine)),
        issues=(*_place_issues(layout, affine), *layout.issues),
    )


def format_of(
    name: str,
    endings: Sequence[str],
    layout_of: Callable[[Path], Layout],
    write_labels: Callable[[Path, IntArray, Header], None],
    companions: Callable[[Path], tuple[Path, ...]] = no_companions,
) -> Format:
    """Return the format whose headers a function understands.

    `read` and `read_grid` raise IssueError: `missing`, `unreadable`, `file-empty`, `format`, `header-invalid`,
    `voxel-type`, `dimensions`, `file-truncated`.
    """

    def read_grid(path: Path) -> tuple[Shape, Spacing3]:
        layout = layout_of(path)
        return layout.shape, layout.spacing

    return Format(
        name=name,
        endings=dict.fromkeys(endings, "SimpleITKIO"),
        read=lambda path: read_layout(layout_of(path)),
        read_grid=read_grid,
        write_labels=write_labels,
        companions=companions,
    )


def data_file(path: Path, name: str) -> Path:
    """Return the file of voxels that a header names.

    Raises
    ------
    IssueError
        `header-invalid`: there are several.
    """
    if name.upper().startswith("LIST") or "%" in name:
        value = f"the voxels lie in several files ({name})"
        raise IssueError(Issue(path, "header-invalid", value, "save it as one file"))
    return path.parent / name


def sizes_of(path: Path, sizes: list[int]) -> Shape:
    """Return the sizes of a header; refuse those that are none."""
    if not sizes or min(sizes) < 1 or max(sizes) > _LONGEST:
        text = " x ".join(map(str, sizes)) or "unknown"
        raise IssueError(Issue(path, "dimensions", f"size {text[:80]}", _GRID))
    return tuple(sizes)


def axes_of(path: Path, spatial: list[int], others: list[int], sizes: Shape) -> tuple[int | None, ...]:
    """Return which axes are channel, z, y, x; the last of four in space counts as the channel."""
    others = [axis for axis in others if sizes[axis] > 1]
    if len(spatial) == 4 and (not others or sizes[spatial[3]] == 1):
        others = others or [spatial[3]]
        spatial = spatial[:3]
    if len(spatial) not in (2, 3) or len(others) > 1:
        value = f"size {' x '.join(map(str, sizes))}, {len(spatial)} axes in space"
        raise IssueError(Issue(path, "dimensions", value, "save it in 2-D or 3-D, with one axis of channels at most"))
    x, y, z = (*spatial, None)[:3]
    return (others[0] if others else None, z, y, x)


def numbers(path: Path, field: str, text: str, kind: type[Any] = float) -> list[Any]:
    """Turn a header field's words into numbers."""
    try:
        return [kind(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise IssueError(invalid(path, f"{field} is {text[:60]!r}, not numbers")) from None


def invalid(path: Path, value: str) -> Issue:
    """Return the issue of a header that contradicts its format."""
    return Issue(path, "header-invalid", value, "open it in the program that made it and save it again")


def spacing_assumed(path: Path) -> Issue:
    """Return the warning that a file says nothing of its voxels' size."""
    value = "the header gives no spacing, 1 x 1 x 1 mm is assumed"
    return Issue(path, "spacing-assumed", value, "set the voxel size in the header", fatal=False)


def _place_issues(layout: Layout, affine: NDArray[np.float64]) -> tuple[Issue, ...]:
    if not (np.isfinite(layout.spacing).all() and min(layout.spacing) > 0):
        value = f"spacing (z, y, x) is {layout.spacing}"
        return (Issue(layout.header, "spacing-invalid", value, "set the voxel size in mm in the header"),)
    if not (np.isfinite(affine).all() and invertible(affine[:3, :3])):
        return (invalid(layout.header, f"the affine {rounded(affine)} cannot be inverted"),)
    return ()


# ---- bytes -----------------------------------------------------------------------------------------------------------


def _stored(layout: Layout) -> memoryview:
    """Return the bytes that hold the voxels, as they are stored."""
    try:
        content = read_content(layout.data)
    except ValueError:  # a name that no file can have
        raise IssueError(invalid(layout.header, "the header names no file of voxels")) from None
    start = layout.start
    if start < 0:
        needed = math.prod(layout.sizes) * layout.kind.itemsize
        if layout.encoding != "raw":
            raise IssueError(invalid(layout.header, "the voxels are the file's last bytes, and compressed"))
        start = max(0, len(content) - needed)
    for _ in range(layout.lines):
        start = content.find(b"\n", start) + 1
        if not start:
            raise ends_early(layout.data, 0, math.prod(layout.sizes) * layout.kind.itemsize)
    return memoryview(content)[start:]


def _decoded(layout: Layout, stored: memoryview, count: int) -> NDArray[Any]:
    needed = count * layout.kind.itemsize
    if layout.encoding == "text":
        return _from_text(layout, stored, count)
    plain: bytes | memoryview = stored
    if layout.encoding in ("zlib", "gzip"):
        plain = _inflated(layout.data, stored, needed, 15 if layout.encoding == "zlib" else 31)
    elif layout.encoding == "bzip2":
        plain = _unpacked(layout.data, stored, needed, bz2.BZ2Decompressor)
    elif layout.encoding == "hex":
        plain = _from_hex(layout, stored)
    if len(plain) < needed:
        raise ends_early(layout.data, len(plain), needed)
    return np.frombuffer(plain, layout.kind, count)


def _inflated(path: Path, stored: memoryview, needed: int, bits: int) -> bytes:
    return _unpacked(path, stored, needed, lambda: isal_zlib.decompressobj(wbits=bits))


def _unpacked(path: Path, stored: memoryview, needed: int, make: Any) -> bytes:
    """Decompress up to `needed` bytes of one or several streams, and the end of the last, which has the checksum."""
    parts, left, rest = [], needed, bytes(stored)
    try:
        while rest and left:
            stream = make()
            part = stream.decompress(rest, left)
            parts.append(part)
            left -= len(part)
            rest = stream.unused_data if stream.eof else b""
            more = b"" if left or stream.eof else stream.decompress(getattr(stream, "unconsumed_tail", b""), 1)
            if not stream.eof and not more:
                value = f"the compressed voxels end early: {needed - left} bytes of {needed}"
                raise IssueError(Issue(path, "file-truncated", value, COPY_AGAIN))
    except (ISAL_ERROR, zlib.error, OSError, EOFError, ValueError) as error:
        raise IssueError(
            Issue(path, "unreadable", f"the compressed voxels are damaged: {error}", COPY_AGAIN)
        ) from error
    return b"".join(parts)


def _from_text(layout: Layout, stored: memoryview, count: int) -> NDArray[Any]:
    words = bytes(stored).split()
    if len(words) < count:
        value = f"ends early: {len(words)} numbers, the header promises {count}"
        raise IssueError(Issue(layout.data, "file-truncated", value, COPY_AGAIN))
    try:
        return np.array(words[:count]).astype(layout.kind.newbyteorder("="))
    except (ValueError, OverflowError):
        raise IssueError(invalid(layout.data, f"the voxels are text that is no {layout.kind.name}")) from None


def _from_hex(layout: Layout, stored: memoryview) -> bytes:
    try:
        return bytes.fromhex(bytes(stored).decode("ascii"))
    except ValueError:
        raise IssueError(invalid(layout.data, "the voxels are no hexadecimal numbers")) from None
