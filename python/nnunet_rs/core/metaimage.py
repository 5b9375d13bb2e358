"""MetaImage files (.mha, .mhd), as https://itk.org/Wiki/ITK/MetaIO/Documentation describes them and ITK reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nnunet_rs.core import itk, raw
from nnunet_rs.core.content import kind_of, read_content, require_kind
from nnunet_rs.core.issues import Issue, IssueError
from nnunet_rs.core.types import Header, IntArray, Spacing3

NAME = "metaimage"

_TYPES = {  # LONG has four bytes, whatever the machine
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


def _layout(path: Path) -> raw.Layout:
    content = read_content(path, raw.HEADER)
    fields, end = _fields(content)
    if "NDims" not in fields or kind_of(content) not in ("", "MetaImage"):
        require_kind(path, content, "MetaImage")
    data, start = _data(path, fields, end)
    sizes = raw.sizes_of(path, raw.numbers(path, "DimSize", fields.get("DimSize", ""), int))
    count = _number(path, fields, "NDims", 0)
    if count != len(sizes):
        raise IssueError(raw.invalid(path, f"NDims is {count}, DimSize has {len(sizes)} numbers"))
    channels = _number(path, fields, "ElementNumberOfChannels", 1)
    sizes = raw.sizes_of(path, [channels, *sizes])
    axes = raw.axes_of(path, list(range(1, len(sizes))), [0], sizes)
    placement, spacing, known = _placement(path, fields, len(sizes) - 1)
    issues = (*(() if known else (raw.spacing_assumed(path),)), *_intensity_function(path, fields))
    kind, encoding = _voxel_type(path, fields)
    return raw.Layout(NAME, path, data, start, 0, kind, encoding, sizes, axes, placement, spacing, issues)


def _fields(content: bytes) -> tuple[dict[str, str], int]:
    """Return the fields by their names, and where the header ends: after ElementDataFile, which is the last."""
    fields: dict[str, str] = {}
    start = 0
    while start < len(content):
        end = content.find(b"\n", start)
        end = len(content) if end < 0 else end
        name, _, value = content[start:end].decode("utf-8", "replace").partition("=")
        start = end + 1
        fields[name.strip()] = value.strip()
        if name.strip() == "ElementDataFile":
            break
    return fields, start


def _number(path: Path, fields: dict[str, str], name: str, default: int) -> int:
    found = raw.numbers(path, name, fields.get(name, ""), int)
    return int(found[0]) if found else default


def _true(fields: dict[str, str], *names: str, default: bool = False) -> bool:
    given = [fields[name] for name in names if fields.get(name)]
    return given[0][:1] in "Tt1" if given else default


def _voxel_type(path: Path, fields: dict[str, str]) -> tuple[np.dtype[Any], str]:
    name = fields.get("ElementType", "")
    if name not in _TYPES:
        value = f"ElementType is {name or 'missing'}"
        raise IssueError(Issue(path, "voxel-type", value, "save it with integer or float voxels"))
    big = _true(fields, "BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    kind = np.dtype(_TYPES[name]).newbyteorder(">" if big else "<")
    if not _true(fields, "BinaryData", default=True):
        return kind, "text"
    return kind, "zlib" if _true(fields, "CompressedData") else "raw"


def _placement(path: Path, fields: dict[str, str], count: int) -> tuple[raw.ItkGeometry, Spacing3, bool]:
    """Return where the voxels are, their spacing (z, y, x), and whether the header tells it."""
    axes = min(count, 3)
    text = fields.get("ElementSpacing") or fields.get("ElementSize", "")
    spacing = _vector(path, "ElementSpacing", text, count) or [1.0] * count
    origin = _vector(path, "Offset", _first(fields, "Offset", "Position", "Origin"), count) or [0.0] * count
    turned = _vector(path, "TransformMatrix", _first(fields, "TransformMatrix", "Rotation", "Orientation"), count**2)
    matrix = np.reshape(turned, (count, count)) if turned else np.eye(count)  # one row per axis of voxels
    with np.errstate(all="ignore"):
        directions = matrix[:axes, :axes] * np.asarray(spacing[:axes])[:, np.newaxis]
    x, y, z = (*(float(size) for size in spacing[:axes]), 1.0)[:3]
    placement = raw.ItkGeometry(tuple(origin[:axes]), tuple(map(tuple, directions.tolist())))
    return placement, (z, y, x), bool(text)


def _first(fields: dict[str, str], *names: str) -> str:
    return next((fields[name] for name in names if fields.get(name)), "")


def _vector(path: Path, name: str, text: str, count: int) -> list[float]:
    found: list[float] = raw.numbers(path, name, text)
    if found and len(found) < count:
        raise IssueError(raw.invalid(path, f"{name} has {len(found)} numbers, not {count}"))
    return found[:count]


def _data(path: Path, fields: dict[str, str], end: int) -> tuple[Path, int]:
    """Return the file that holds the voxels, and where in it they begin."""
    name, skip = fields.get("ElementDataFile", ""), _number(path, fields, "HeaderSize", 0)
    if not name:
        raise IssueError(raw.invalid(path, "ElementDataFile is missing: the header is cut short"))
    if skip < -1:
        raise IssueError(raw.invalid(path, f"HeaderSize is {skip}"))
    if name.upper() == "LOCAL":
        return path, -1 if skip < 0 else end
    return raw.data_file(path, name), skip


def _intensity_function(path: Path, fields: dict[str, str]) -> tuple[Issue, ...]:
    slope = raw.numbers(path, "slope", fields.get("ElementToIntensityFunctionSlope", "")) or [1.0]
    offset = raw.numbers(path, "offset", fields.get("ElementToIntensityFunctionOffset", "")) or [0.0]
    if (slope[0], offset[0]) == (1, 0):
        return ()
    value = f"ElementToIntensityFunction is {slope[0]:g} * voxel + {offset[0]:g}"
    return (Issue(path, "scaling", value, "voxels are taken as stored, as ITK takes them", fatal=False),)


def _write_labels(path: Path, labels: IntArray, header: Header) -> None:
    """Write labels; of a .mhd the voxels lie in a file of their own, which the header names."""
    itk.write_labels(path, labels, header, voxels_apart=path.suffix.lower() == ".mhd")


def _companions(path: Path) -> tuple[Path, ...]:
    """Where the voxels of a .mhd are or would be."""
    endings = (".raw", ".zraw") if path.suffix.lower() == ".mhd" else ()
    return tuple(path.with_suffix(ending) for ending in endings)


FORMAT = raw.format_of(NAME, (".mha", ".mhd"), _layout, _write_labels, _companions)
