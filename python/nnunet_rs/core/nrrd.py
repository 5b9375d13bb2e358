"""NRRD files, as http://teem.sourceforge.net/nrrd/format.html describes them and ITK reads them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_rs.core import itk, raw
from nnunet_rs.core.content import read_content, require_kind
from nnunet_rs.core.issues import Issue, IssueError

NAME = "nrrd"

_TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_KINDS = {name: kind for kind, names in _TYPES.items() for name in names.split(", ")}
_ENCODINGS = {
    **dict.fromkeys(("txt", "text", "ascii"), "text"),
    **dict.fromkeys(("gz", "gzip"), "gzip"),
    **dict.fromkeys(("bz2", "bzip2"), "bzip2"),
    "raw": "raw",
    "hex": "hex",
}
_IN_SPACE = {"domain", "space", "time", "none", "???", ""}  # kinds of axes along which there are places, not components
_RAS = {"right-anterior-superior", "ras", "right-anterior-superior-time", "rast"}
_LAS = {"left-anterior-superior", "las", "left-anterior-superior-time", "last"}


def _layout(path: Path) -> raw.Layout:
    content = read_content(path, raw.HEADER)
    require_kind(path, content, "NRRD")
    fields, end = _fields(path, content)
    sizes = raw.sizes_of(path, raw.numbers(path, "sizes", fields.get("sizes", ""), int))
    kinds = [kind.lower() for kind in fields.get("kinds", "").split()] or [""] * len(sizes)
    vectors = _vectors(path, fields.get("space directions", ""))
    dimension = raw.numbers(path, "dimension", fields.get("dimension", ""), int)
    if not [len(sizes)] == [len(kinds)] == [len(vectors or sizes)] == dimension:
        raise IssueError(
            raw.invalid(path, "dimension, sizes, kinds and space directions count different numbers of axes")
        )
    if "complex" in kinds:
        raise IssueError(Issue(path, "voxel-type", "complex numbers", "save it with integer or float voxels"))
    inside = [kind in _IN_SPACE and (not vectors or vectors[axis] is not None) for axis, kind in enumerate(kinds)]
    spatial = [axis for axis in range(len(sizes)) if inside[axis]]
    axes = raw.axes_of(path, spatial, [axis for axis in range(len(sizes)) if not inside[axis]], sizes)
    placement, known = _placement(path, fields, [axis for axis in axes[:0:-1] if axis is not None], vectors)
    data, start, lines = _data(path, fields, end)
    x, y, z = (*(float(np.linalg.norm(vector)) for vector in placement.directions), 1.0)[:3]
    issues = (*(() if known else (raw.spacing_assumed(path),)), *_quantised(path, fields))
    kind, encoding = _voxel_type(path, fields)
    return raw.Layout(NAME, path, data, start, lines, kind, encoding, sizes, axes, placement, (z, y, x), issues)


def _fields(path: Path, content: bytes) -> tuple[dict[str, str], int]:
    """Return the fields by their names in small letters, and where the header ends."""
    fields: dict[str, str] = {}
    start = content.find(b"\n") + 1
    while 0 < start < len(content):
        end = content.find(b"\n", start)
        line = content[start : len(content) if end < 0 else end].decode("utf-8", "replace").strip()
        start = end + 1
        if not line:
            return fields, start
        name, colon, value = line.partition(":")
        if not line.startswith("#") and colon and not value.startswith("="):
            fields[re.sub(r"\s+", " ", name.strip().lower())] = value.strip()
    if "data file" in fields or "datafile" in fields:
        return fields, len(content)
    raise IssueError(raw.invalid(path, "the header does not end (there is no empty line)"))


def _voxel_type(path: Path, fields: dict[str, str]) -> tuple[np.dtype[Any], str]:
    name, encoding = fields.get("type", "").lower(), _ENCODINGS.get(fields.get("encoding", "").lower(), "")
    if name not in _KINDS:
        raise IssueError(Issue(path, "voxel-type", f"type is {name!r}", "save it with integer or float voxels"))
    if not encoding:
        value = f"encoding is {fields.get('encoding', 'missing')!r}"
        raise IssueError(Issue(path, "header-invalid", value, "save it as raw, gzip, bzip2, ascii or hex"))
    kind = np.dtype(_KINDS[name])
    endian = fields.get("endian", "").lower()
    if kind.itemsize > 1 and encoding != "text":
        if endian not in ("little", "big"):
            raise IssueError(raw.invalid(path, f"endian is {endian or 'missing'}, not little or big"))
        kind = kind.newbyteorder("<" if endian == "little" else ">")
    return kind, encoding


def _vectors(path: Path, text: str) -> list[list[float] | None]:
    """Return a field's vectors; None stands for `none`."""
    words = re.findall(r"none|\([^()]*\)", text)
    return [None if word == "none" else raw.numbers(path, "space directions", word[1:-1]) for word in words]


def _placement(
    path: Path, fields: dict[str, str], axes: list[int], vectors: list[list[float] | None]
) -> tuple[raw.ItkGeometry, bool]:
    """Return where the voxels are, axes x, y (and z), and whether the header tells their size."""
    if vectors:
        directions = [(vectors[axis] or [])[:3] for axis in axes]
        (origin, *_) = [(vector or [])[:3] for vector in _vectors(path, fields.get("space origin", ""))] or [[]]
        if any(len(vector) not in (2, 3) for vector in directions) or len(origin) not in (0, 2, 3):
            raise IssueError(
                raw.invalid(path, "space directions and space origin are not vectors of two or three numbers")
            )
        signs = _signs(fields.get("space", "").lower())
        return raw.ItkGeometry(_times(origin, signs), tuple(_times(vector, signs) for vector in directions)), True
    words = raw.numbers(path, "spacings", fields.get("spacings", ""))
    known = bool(words) and all(axis < len(words) and np.isfinite(words[axis]) for axis in axes)
    spacing = [words[axis] if axis < len(words) and not np.isnan(words[axis]) else 1.0 for axis in axes]
    return raw.ItkGeometry(_lowest(path, fields, axes, spacing), tuple(map(tuple, np.diag(spacing).tolist()))), known


def _lowest(path: Path, fields: dict[str, str], axes: list[int], spacing: list[float]) -> tuple[float, ...]:
    """Return the first voxel's place by the least coordinates of its axes: of its centre, or of the voxel's border."""
    lowest = raw.numbers(path, "axis mins", fields.get("axis mins", fields.get("axismins", "")))
    if any(axis >= len(lowest) or not np.isfinite(lowest[axis]) for axis in axes):
        return ()
    centres = fields.get("centers", fields.get("centerings", "")).split()
    inward = [0.0 if axis < len(centres) and centres[axis] == "node" else 0.5 for axis in axes]
    return tuple(lowest[axis] + part * size for axis, part, size in zip(axes, inward, spacing, strict=True))


def _signs(space: str) -> tuple[float, float, float]:
    """Return what turns a space into ITK's, which points left, back and up; unknown ones are taken as they are."""
    if space in _RAS:
        return -1.0, -1.0, 1.0
    return (1.0, -1.0, 1.0) if space in _LAS else (1.0, 1.0, 1.0)


def _times(vector: list[float], signs: tuple[float, float, float]) -> tuple[float, ...]:
    return tuple(number * sign for number, sign in zip(vector, signs, strict=False))


def _data(path: Path, fields: dict[str, str], end: int) -> tuple[Path, int, int]:
    """Return the file that holds the voxels, where in it they begin, and how many lines are left out before."""
    name = fields.get("data file", fields.get("datafile", ""))
    skips = (fields.get("byte skip", fields.get("byteskip", "0")), fields.get("line skip", fields.get("lineskip", "0")))
    (skip,), (lines,) = ((raw.numbers(path, "skip", text, int) or [0])[:1] for text in skips)
    if skip < -1 or not 0 <= lines < raw.HEADER:
        raise IssueError(raw.invalid(path, f"byte skip is {skip}, line skip is {lines}"))
    if name:
        return raw.data_file(path, name), skip, lines
    return path, -1 if skip < 0 else end + skip, lines


def _quantised(path: Path, fields: dict[str, str]) -> tuple[Issue, ...]:
    held = [name for name in ("old min", "oldmin", "old max", "oldmax") if name in fields]
    if not held:
        return ()
    value = f"{held[0]} is {fields[held[0]]}: the voxels were other numbers once"
    return (Issue(path, "scaling", value, "they are taken as stored, as ITK takes them", fatal=False),)


FORMAT = raw.format_of(NAME, (".nrrd",), _layout, itk.write_labels)
