"""PNG and BMP: one slice, colours as channels, and numbers as stored: never scaled to another bit depth.

A picture with a palette is its colours as an image, and its indices as labels. Neither format holds a place; the dots
per inch that it may hold speak of printing and differ between an image and its labels: spacing is 1.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from nnunet_rs.core import itk
from nnunet_rs.core.content import COPY_AGAIN, DEFLATE, ends_early, read_content, reason, require_kind, require_memory
from nnunet_rs.core.image_file import ImageFile, in_pixels
from nnunet_rs.core.image_format import Format
from nnunet_rs.core.issues import Issue, IssueError
from nnunet_rs.core.raw import ISAL_ERROR
from nnunet_rs.core.types import Header, IntArray, Shape, Spacing3

NAME = "picture"

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6  # PNG's colour types
_SAMPLES = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}
_DEPTHS = {
    _GREY: (1, 2, 4, 8, 16),
    _RGB: (8, 16),
    _PALETTE: (1, 2, 4, 8),
    _GREY_ALPHA: (8, 16),
    _RGBA: (8, 16),
}
Decoded: TypeAlias = tuple[NDArray[Any], NDArray[np.uint8] | None]

_RUN = 255  # pixels that two bytes of a run-length encoded BMP can stand for


@dataclass(frozen=True, slots=True)
class Picture:
    """What a header says."""

    height: int
    width: int
    depth: int  # bits of a sample; of a BMP, of a pixel
    channels: int  # of the image that is read
    colour: int = _GREY  # of a PNG
    start: int = 0  # of a BMP: the first byte of its pixels
    upward: bool = True  # of a BMP: the last row comes first
    encoding: int = 0  # of a BMP: 0 is none
    palette: NDArray[np.uint8] | None = None  # (n, 3) red, green, blue


def read(path: Path) -> ImageFile:
    """Read a picture as a volume of one slice.

    Raises
    ------
    IssueError
        `missing`, `unreadable`, `file-empty`, `format`, `header-invalid`, `dimensions`, `channels`, `memory`,
        `file-truncated`.
    """
    content = read_content(path)
    picture = _header(path, content)
    require_memory(path, picture.height * picture.width * 8, f"{picture.width} x {picture.height} pixels")
    decode = _png if path.suffix.lower() == ".png" else _bmp
    samples, palette = decode(path, content, picture)
    if palette is not None:
        return _painted(path, samples, palette, picture)
    return in_pixels(NAME, path, np.moveaxis(np.atleast_3d(samples), -1, 0)[:, np.newaxis])


def read_grid(path: Path) -> tuple[Shape, Spacing3]:
    """Read shape (c, 1, y, x) and spacing (z, y, x) from the header; errors as `read`."""
    picture = _header(path, read_content(path, 4096))
    return (picture.channels, 1, picture.height, picture.width), (1.0, 1.0, 1.0)


def _header(path: Path, content: bytes) -> Picture:
    png = path.suffix.lower() == ".png"
    require_kind(path, content, "PNG" if png else "BMP")
    try:
        picture = _png_header(path, content) if png else _bmp_header(path, content)
    except struct.error:
        raise IssueError(Issue(path, "file-truncated", "ends early, within the header", COPY_AGAIN)) from None
    if min(picture.width, picture.height) < 1:
        raise IssueError(Issue(path, "dimensions", f"size {picture.width} x {picture.height}", COPY_AGAIN))
    return picture


def _painted(path: Path, indices: NDArray[Any], palette: NDArray[np.uint8], picture: Picture) -> ImageFile:
    """Look a palette's colours up; the greys of a BMP, which has no other way to hold them, are one channel."""
    if int(indices.max()) >= len(palette):
        value = f"a pixel has colour {int(indices.max())} of a palette of {len(palette)}"
        raise IssueError(Issue(path, "unreadable", value, COPY_AGAIN))
    black_white = picture.depth == 1 and palette.tolist() == [[0, 0, 0], [255, 255, 255]]
    if picture.channels == 1:
        voxels = indices[np.newaxis] if black_white else palette[indices, 0][np.newaxis]
    else:
        voxels = np.moveaxis(palette[indices], -1, 0)
    return in_pixels(NAME, path, voxels[:, np.newaxis], indices=indices[np.newaxis, np.newaxis])


def _plain(samples: NDArray[Any]) -> NDArray[Any]:
    """Return 0 and 1 for pictures of one bit, which NumPy holds as truth values."""
    return samples.astype(np.uint8) if samples.dtype.kind == "b" else samples


# ---- PNG -------------------------------------------------------------------------------------------------------------


def _png_header(path: Path, content: bytes) -> Picture:
    width, height, depth, colour, packing, filters, order = struct.unpack(">IIBBBBB", content[16:29])
    if content[12:16] != b"IHDR" or depth not in _DEPTHS.get(colour, ()) or packing or filters or order > 1:
        value = f"bit depth {depth} of colour type {colour}, methods {packing}, {filters}, {order} are none of PNG's"
        raise IssueError(Issue(path, "header-invalid", value, COPY_AGAIN))
    channels = {_PALETTE: 3, _GREY_ALPHA: 1}.get(colour, _SAMPLES[colour])
    return Picture(height, width, depth, channels, colour)


def _chunks(path: Path, content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the parts of a file by name, each with a right checksum, up to the last."""
    at = 8
    while True:
        if at + 12 > len(content):
            raise IssueError(Issue(path, "file-truncated", f"ends early, after {len(content)} bytes", COPY_AGAIN))
        size, name = struct.unpack(">I4s", content[at : at + 8])
        part = content[at + 8 : at + 8 + size]
        (checksum,) = struct.unpack(">I", content[at + 8 + size : at + 12 + size].ljust(4, b"\0"))
        if at + 12 + size > len(content):
            raise ends_early(path, len(part), size)
        if zlib.crc32(part, zlib.crc32(name)) != checksum:
            value = f"the checksum of its part {name.decode('latin-1')!r} is wrong"
            raise IssueError(Issue(path, "unreadable", value, COPY_AGAIN))
        yield name, part
        if name == b"IEND":
            return
        at += 12 + size


def _png(path: Path, content: bytes, picture: Picture) -> Decoded:
    """Decode the samples (y, x) or (y, x, c), and the palette (n, 3) that they point into."""
    rows, palette = [], b""
    for name, part in _chunks(path, content):
        if name == b"acTL":
            raise IssueError(Issue(path, "dimensions", "an animation of several pictures", "save each as a file"))
        rows += [part] if name == b"IDAT" else []
        palette = part if name == b"PLTE" else palette
    needed = picture.height * -(-picture.width * picture.depth * _SAMPLES[picture.colour] // 8)
    stored = b"".join(rows)
    if needed > DEFLATE * len(stored):
        raise ends_early(path, DEFLATE * len(stored), needed)
    _require_rows(path, stored, needed)
    samples = _png_samples(path, content, picture)
    if picture.colour == _PALETTE:
        return samples, np.frombuffer(palette, np.uint8, len(palette) // 3 * 3).reshape(-1, 3)
    return (_without_alpha(path, samples) if picture.colour == _GREY_ALPHA else samples), None


def _require_rows(path: Path, stored: bytes, needed: int) -> None:
    """Raise where compressed rows are damaged or too few; libpng writes to standard error, Pillow passes it over."""
    inflate = isal_zlib.decompressobj()
    there = 0
    try:
        while not inflate.eof:
            part = inflate.decompress(stored, 1 << 20)
            stored, there = inflate.unconsumed_tail, there + len(part)
            if not part and not inflate.eof:
                raise ends_early(path, there, needed)
    except ISAL_ERROR as error:
        raise IssueError(Issue(path, "unreadable", f"the compressed rows are damaged: {error}", COPY_AGAIN)) from error
    if there < needed:
        raise ends_early(path, there, needed)


def _png_samples(path: Path, content: bytes, picture: Picture) -> NDArray[Any]:
    try:
        if picture.depth == 16 and picture.colour != _GREY:  # Pillow would halve them
            import imagecodecs

            colours: NDArray[Any] = imagecodecs.png_decode(content)[..., : _SAMPLES[picture.colour]]
            return colours
        from PIL.PngImagePlugin import PngImageFile

        with PngImageFile(io.BytesIO(content)) as image:
            samples = _plain(np.asarray(image))
    except Exception as error:  # what is wrong with a file is raised as anything
        raise IssueError(Issue(path, "unreadable", f"is a damaged PNG: {reason(error)}", COPY_AGAIN)) from error
    if picture.colour == _GREY and picture.depth in (2, 4):  # Pillow stretches them to 0 … 255
        samples = (samples // (255 // (2**picture.depth - 1))).astype(np.uint8)
    return samples


def _without_alpha(path: Path, samples: NDArray[Any]) -> NDArray[Any]:
    alpha = samples[..., 1]
    if int(alpha.min()) != np.iinfo(alpha.dtype).max:
        value = "grey, and an alpha channel that is not opaque everywhere"
        raise IssueError(Issue(path, "channels", value, "save it as grey, without transparency"))
    return samples[..., 0]


# ---- BMP -------------------------------------------------------------------------------------------------------------


def _bmp_header(path: Path, content: bytes) -> Picture:
    start, size = struct.unpack("<II", content[10:18])
    if size == 12:  # OS/2
        width, height, _, depth = struct.unpack("<HHHH", content[18:26])
        encoding, used, entry = 0, 0, 3
    else:
        width, height, _, depth, encoding = struct.unpack("<iiHHI", content[18:34])
        (used,) = struct.unpack("<I", content[46:50])
        entry = 4
    if depth not in (1, 2, 4, 8, 16, 24, 32) or used > 1 << 16:
        value = f"{depth} bits a pixel, {used} colours are none of BMP's"
        raise IssueError(Issue(path, "header-invalid", value, COPY_AGAIN))
    if depth > 8:
        return Picture(abs(height), width, depth, 3 if depth < 32 else _bmp_channels(content), start=start)
    count = min(used or 2**depth, 2**depth)
    colours = np.frombuffer(content[14 + size : 14 + size + entry * count], np.uint8)
    palette = colours[: colours.size // entry * entry].reshape(-1, entry)[:, 2::-1]
    grey = bool((palette == palette[:, :1]).all())
    return Picture(
        abs(height), width, depth, 1 if grey else 3, start=start, upward=height > 0, encoding=encoding, palette=palette
    )


def _bmp_channels(content: bytes) -> int:
    """Count the channels of a BMP of 32 bits: four where its header has a mask for alpha, else the last is padding."""
    (size, encoding) = struct.unpack("<I", content[14:18]) + struct.unpack("<I", content[30:34])
    alpha = struct.unpack("<I", content[66:70])[0] if encoding == 3 and size >= 56 else 0
    return 4 if alpha else 3


def _bmp(path: Path, content: bytes, picture: Picture) -> Decoded:
    """Decode the pixels (y, x), or (y, x, c) in red, green, blue order."""
    row = -(-picture.width * picture.depth // 32) * 4
    there, needed = len(content) - picture.start, picture.height * row
    if picture.encoding in (0, 3) and there < needed:
        raise ends_early(path, there, needed)
    if picture.encoding in (1, 2) and picture.height * picture.width > _RUN * max(there, 0):
        raise ends_early(path, there, picture.height * picture.width // _RUN)
    if picture.depth <= 8 and picture.encoding == 0:
        rows = np.frombuffer(content, np.uint8, needed, picture.start).reshape(picture.height, row)
        indices = _unpacked(rows, picture.depth)[:, : picture.width]
        return (indices[::-1] if picture.upward else indices), picture.palette
    from PIL.BmpImagePlugin import BmpImageFile

    try:
        with BmpImageFile(io.BytesIO(content)) as image:
            samples = np.asarray(image)
    except Exception as error:  # what is wrong with a file is raised as anything
        raise IssueError(Issue(path, "unreadable", f"is a damaged BMP: {reason(error)}", COPY_AGAIN)) from error
    return _plain(samples), picture.palette


def _unpacked(rows: NDArray[np.uint8], depth: int) -> NDArray[np.uint8]:
    """Take bytes apart into pixels of `depth` bits, the highest bits first."""
    if depth == 8:
        return rows
    shifts = np.arange(8 - depth, -1, -depth, dtype=np.uint8)
    return ((rows[..., np.newaxis] >> shifts) & np.uint8(2**depth - 1)).reshape(len(rows), -1)


# ---- writing ---------------------------------------------------------------------------------------------------------


def write_labels(path: Path, labels: IntArray, header: Header) -> None:
    """Write one slice of labels (1, y, x).

    Raises
    ------
    ValueError
        There are several slices.
    NnunetError
        The file cannot be written.
    """
    if len(labels) != 1:
        raise ValueError(f"{path}: a {path.suffix.lower()} file holds one slice, the labels have {len(labels)}")
    itk.write_labels(path, labels, header, as_slice=True)


FORMAT = Format(
    name=NAME,
    endings={".png": "NaturalImage2DIO", ".bmp": "NaturalImage2DIO"},
    read=read,
    read_grid=read_grid,
    write_labels=write_labels,
    placed=False,
    flat=True,
)
