"""TIFF through tifffile, as nnU-Net reads it: numbers as stored, pages as slices, samples as channels.

Colour maps, white-is-zero and the orientation tag say how to show a picture; tifffile, nnU-Net and this library take
the numbers in the order in which they are stored. The last two are reported as warnings.
"""

from __future__ import annotations

import logging
import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core import itk
from nnunet_rs.core.content import COPY_AGAIN, DEFLATE, ends_early, read_content, reason, require_kind, require_memory
from nnunet_rs.core.files import read_json, write_json
from nnunet_rs.core.image_file import ImageFile, in_pixels
from nnunet_rs.core.image_format import Format
from nnunet_rs.core.issues import Issue, IssueError
from nnunet_rs.core.types import Header, IntArray, Shape, Spacing3

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

NAME = "tiff"

# The largest ratio of a compression: none, LZW, JPEG of two kinds, Deflate, PackBits, Deflate, Zstandard.
_RATIOS = {1: 1, 5: 1 << 12, 6: 1 << 12, 7: 1 << 12, 8: DEFLATE, 32773: 64, 32946: DEFLATE, 50000: 1 << 16}
# Further ones that are read: faxes, JPEG 2000, LERC, LZMA, Zstandard, WebP, JPEG XL. Those of JPEG XR and PNG write to
# standard error.
_ALSO_READ = {2, 3, 4, 32771, 33003, 33005, 34712, 34887, 34925, 34926, 50001, 50002, 52546}
_REDUCED = 1  # bit of NewSubfileType: a smaller copy of another page
_ONE_STACK = "save it as one stack of slices of one size"


def read(path: Path) -> ImageFile:
    """Read a file whole.

    The spacing of a stack may stand in a JSON file `{case}.json` beside it, `{"spacing": [z, y, x]}` (nnU-Net's
    convention); else it is 1, and `spacing-assumed` warns of it.

    Raises
    ------
    IssueError
        `missing`, `unreadable`, `file-empty`, `format`, `dimensions`, `voxel-type`, `memory`, `file-truncated`,
        `spacing-invalid`.
    """
    with _opened(path) as series:
        shape, order = _layout(path, series)
        _require_whole(path, series)
        voxels = _samples(path, series, order).reshape(shape)
        page = series[0].keyframe
        issues = _shown_otherwise(path, page)
    spacing = _spacing(path)
    if spacing is None and shape[1] > 1:
        value = "there is no file of the stack's spacing, 1 x 1 x 1 mm is assumed"
        advice = f'write {sidecar(path).name} beside it: {{"spacing": [z, y, x]}}'
        issues += (Issue(path, "spacing-assumed", value, advice, fatal=False),)
    return in_pixels(NAME, path, voxels, spacing or (1.0, 1.0, 1.0), issues=issues)


def read_grid(path: Path) -> tuple[Shape, Spacing3]:
    """Read shape (c, z, y, x) and spacing (z, y, x) without the voxels; errors as `read`."""
    with _opened(path) as series:
        shape, _ = _layout(path, series)
    return shape, _spacing(path) or (1.0, 1.0, 1.0)


# ---- spacing ---------------------------------------------------------------------------------------------------------


def sidecar(path: Path) -> Path:
    """Where the spacing of a case's files stands."""
    return path.with_name(re.sub(r"_\d{4}$", "", path.stem) + ".json")


def _spacing(path: Path) -> Spacing3 | None:
    """Return what stands beside the file; None where nothing does."""
    file = sidecar(path)
    if not file.is_file():
        return None
    content = read_json(file)
    spacing = content.get("spacing") if isinstance(content, dict) else None
    if not (isinstance(spacing, list) and len(spacing) == 3 and all(type(size) in (int, float) for size in spacing)):
        raise IssueError(Issue(file, "spacing-invalid", f"spacing is {spacing!r}", "give three numbers: z, y, x in mm"))
    z, y, x = (size if abs(size) < 1e300 else math.inf for size in spacing)
    return float(z), float(y), float(x)


# ---- voxels ----------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[list[TiffPageSeries]]:
    """Open a file and find its images; what tifffile raises inside becomes `unreadable`."""
    require_kind(path, read_content(path, 132), "TIFF")
    import tifffile

    _silence_tifffile()
    try:
        with tifffile.TiffFile(path, _multifile=False) as file:
            _require_pages(path, file)
            yield _images(path, file)
    except (IssueError, MemoryError):
        raise
    except Exception as error:  # what is wrong with a file is raised as anything
        value = f"is a damaged TIFF, or one of a kind that tifffile does not read: {reason(error)}"
        raise IssueError(Issue(path, "unreadable", value, f"{COPY_AGAIN}, or save it uncompressed")) from error


@cache
def _silence_tifffile() -> None:
    """Keep what it logs from the terminal: it is reported as an issue or not at all. Once, as loggers keep handlers."""
    logging.getLogger("tifffile").addHandler(logging.NullHandler())


def _require_pages(path: Path, file: TiffFile) -> None:
    """Follow the chain of pages, which tifffile gives up where it breaks without a word of those that are lost."""
    order, wide = ("<" if file.byteorder == "<" else ">"), file.is_bigtiff
    size, entry, many, next_ = path.stat().st_size, *((20, "Q", "Q") if wide else (12, "H", "I"))
    seen: set[int] = set()
    with path.open("rb") as stream:

        def number(at: int, code: str) -> int:
            stream.seek(at)
            held = stream.read(struct.calcsize(code))
            if len(held) < struct.calcsize(code):
                value = f"ends early: page {len(seen)} lies beyond its {size} bytes"
                raise IssueError(Issue(path, "file-truncated", value, COPY_AGAIN))
            return int(struct.unpack(order + code, held)[0])

        at = number(8 if wide else 4, next_)
        while at and at not in seen:
            seen.add(at)
            at = number(at + struct.calcsize(many) + entry * number(at, many), next_)
    promised = int((file.imagej_metadata or {}).get("images", 1) or 1) if file.is_imagej else 1
    images = sum(_images_of(one) for one in file.series) if promised > 1 else promised
    if at or len(file.pages) != len(seen) or promised > images:
        value = f"its pages are a chain that breaks: {len(seen)} of {max(promised, len(seen) + 1)} can be found"
        raise IssueError(Issue(path, "file-truncated", value, COPY_AGAIN))


def _images_of(series: TiffPageSeries) -> int:
    return math.prod(size for size, axis in zip(series.shape, series.axes, strict=True) if axis not in "YXS")


def _images(path: Path, file: TiffFile) -> list[TiffPageSeries]:
    """Return what the file holds, smaller copies of it left out: one series, or pages alike."""
    found = [one for one in file.series if one.shape and 0 not in one.shape]
    full = [one for one in found if not int(one.keyframe.subfiletype or 0) & _REDUCED] or found
    if not full:
        raise IssueError(Issue(path, "dimensions", "holds no image", COPY_AGAIN))
    if len({(one.shape, str(one.dtype), one.axes) for one in full}) > 1:
        shapes = ", ".join(" x ".join(map(str, one.shape)) for one in full[:3])
        raise IssueError(Issue(path, "dimensions", f"{len(full)} images that differ: {shapes}", _ONE_STACK))
    return full


def _layout(path: Path, series: list[TiffPageSeries]) -> tuple[Shape, list[int]]:
    """Return the shape (c, z, y, x), and the order that brings the axes of the array into it."""
    axes = [*("P" if len(series) > 1 else ""), *series[0].axes]
    sizes = [*((len(series),) if len(series) > 1 else ()), *series[0].shape]
    kind = series[0].dtype
    if kind is None or kind.kind not in "biuf":
        value = f"{kind or 'unknown'} samples"
        raise IssueError(Issue(path, "voxel-type", value, "save it with integer or float samples"))
    compression = series[0].keyframe.compression
    if int(compression) not in _RATIOS | dict.fromkeys(_ALSO_READ):
        value = f"compression {getattr(compression, 'name', '')} ({int(compression)})"
        raise IssueError(Issue(path, "unreadable", value, "save it with Deflate, or uncompressed"))
    long = [axis for axis, name in enumerate(axes) if name not in "YXS" and sizes[axis] > 1]
    channels = [axis for axis, name in enumerate(axes) if name == "S"]
    if len(long) == 2 and not channels:  # slices and channels, as microscopes write them
        channels = [axis for axis in long if axes[axis] == "C"]
        compression = series[0].keyframe.compression
    if int(compression) not in _RATIOS | dict.fromkeys(_ALSO_READ):
        value = f"compression {getattr(compression, 'name', '')} ({int(compression)})"
        raise IssueError(Issue(path, "unreadable", value, "save it with Deflate, or uncompressed"))
    long = [axis for axis in long if axis not in channels]
    if len(long) > 1 or len(channels) > 1 or axes.count("Y") != 1 or axes.count("X") != 1:
        value = f"axes {''.join(axes)} of size {' x '.join(map(str, sizes))}"
        raise IssueError(Issue(path, "dimensions", value, _ONE_STACK))
    spatial = [*long, axes.index("Y"), axes.index("X")]
    order = [*channels, *(axis for axis in range(len(axes)) if axis not in (*channels, *spatial)), *spatial]
    c, z = (math.prod(sizes[axis] for axis in some) for some in (channels, long))
    return (c, z, sizes[spatial[-2]], sizes[spatial[-1]]), order


def _samples(path: Path, series: list[TiffPageSeries], order: list[int]) -> NDArray[Any]:
    parts = [np.asarray(one.asarray(maxworkers=1)) for one in series]
    if any(part.shape != one.shape for part, one in zip(parts, series, strict=True)):
        raise IssueError(
            Issue(path, "unreadable", "its pages are not of the size that its header promises", COPY_AGAIN)
        )
    samples = np.stack(parts) if len(parts) > 1 else parts[0]
    if samples.dtype.kind == "b":
        samples = samples.astype(np.uint8)
    return samples.transpose(order)


def _require_whole(path: Path, series: list[TiffPageSeries]) -> None:
    """Raise where the file holds less than its header promises, before memory is asked for."""
    size = path.stat().st_size
    needed = sum(one.nbytes for one in series)
    require_memory(path, needed, f"{' x '.join(map(str, series[0].shape))} samples")
    for one in series:
        if one.dataoffset is not None:
            if one.dataoffset + one.nbytes > size:
                raise ends_early(path, size - one.dataoffset, one.nbytes)
            continue
        for page in one.pages:
            if page is None:
                raise IssueError(Issue(path, "file-truncated", "pages that its header names are missing", COPY_AGAIN))
            _require_whole_page(path, page, one.keyframe, size)


def _require_whole_page(path: Path, page: Any, keyframe: TiffPage, size: int) -> None:
    counts, offsets = page.databytecounts, page.dataoffsets
    ends = [offset + count for offset, count in zip(offsets, counts, strict=False) if offset and count]
    parts = math.prod(keyframe.chunked)
    if len(ends) < max(1, parts):
        value = f"{len(ends)} of {parts} strips or tiles are there"
        raise IssueError(Issue(path, "file-truncated", value, COPY_AGAIN))
    if max(ends) > size:
        raise ends_early(path, size - min(offsets), max(ends) - min(offsets))
    stored, needed = sum(counts), _packed(keyframe)
    ratio = _RATIOS.get(int(keyframe.compression))
    if ratio is not None and needed > ratio * stored and not keyframe.is_subsampled:
        raise ends_early(path, ratio * stored, needed)


def _packed(page: TiffPage) -> int:
    """Bytes of a page's samples at their depth in bits."""
    bits = page.bitspersample if isinstance(page.bitspersample, int) else min(page.bitspersample)
    return int(math.prod(page.shape)) * int(bits) // 8


def _shown_otherwise(path: Path, page: TiffPage) -> tuple[Issue, ...]:
    """Warn of what a viewer applies and the readers of nnU-Net and this library do not."""
    advice = "the numbers are taken as stored, as nnU-Net takes them; see that image and labels agree"
    found = []
    turned = page.tags.get(274)
    if turned is not None and turned.value != 1:
        value = f"the orientation tag is {int(turned.value)}: viewers show it turned or mirrored"
        found.append(Issue(path, "orientation-tag", value, advice, fatal=False))
    if page.photometric == 0:
        value = "white is zero (PhotometricInterpretation 0): viewers show it inverted"
        found.append(Issue(path, "white-is-zero", value, advice, fatal=False))
    return tuple(found)


# ---- writing ---------------------------------------------------------------------------------------------------------


def write_labels(path: Path, labels: IntArray, header: Header) -> None:
    """Write labels (z, y, x); the spacing of a stack goes into a JSON file beside it.

    Raises
    ------
    NnunetError
        A file cannot be written.
    """
    itk.write_labels(path, labels, header, as_slice=True)
    if len(labels) > 1:
        spacing = np.linalg.norm(np.asarray(header.affine)[:3, :3], axis=0)[::-1]
        write_json(path.with_suffix(".json"), {"spacing": spacing.tolist()})


def _companions(path: Path) -> tuple[Path, ...]:
    """Where the spacing of a stack is or would be."""
    return tuple(dict.fromkeys((path.with_suffix(".json"), sidecar(path))))


FORMAT = Format(
    name=NAME,
    endings={".tiff": "Tiff3DIO", ".tif": "Tiff3DIO"},
    read=read,
    read_grid=read_grid,
    write_labels=write_labels,
    placed=False,
    nnunet_slices={".tif": "NaturalImage2DIO"},
    companions=_companions,
)
