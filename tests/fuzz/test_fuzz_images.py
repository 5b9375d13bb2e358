"""Image files of every format, cut, changed and with extreme headers: read right, or refused by name."""

from __future__ import annotations

import gzip
import io
import re
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnunet_rs.core.io import read_grid, read_labels, read_scan, read_volume
from nnunet_rs.core.issues import IssueError
from PIL import Image

ARRAY = np.random.default_rng(0).integers(0, 3, (4, 10, 12)).astype(np.uint8)
EXTREMES = [0, 1, -1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1]
WORDS = [
    "",
    "0",
    "-1",
    "1",
    "nan",
    "inf",
    "1e400",
    str(10**12),
    f"{10**6} " * 3,
    "9" * 400,
    "none",
    "raw",
    "True",
    "()",
    "\0",
]

Answered = Callable[..., Any]


def nifti(version: type = nibabel.Nifti1Image, kind: str = "u1") -> bytes:
    return bytes(version(ARRAY.T.astype(kind), np.diag([1.0, 2.0, 3.0, 1.0])).to_bytes())


def tiff(array: np.ndarray = ARRAY, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **{"photometric": "minisblack", **options})
    return stream.getvalue()


def picture(kind: str, mode: str) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(ARRAY[0] * 80)
    image.convert(mode).save(stream, kind)
    return stream.getvalue()


def by_itk(ending: str, kind: str, compressed: bool = False) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{ending}")
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(ARRAY.astype(kind)), str(path), compressed)
        return path.read_bytes()


FILES: dict[str, bytes] = {
    "nifti.nii": nifti(),
    "float.nii": nifti(kind="f4"),
    "second.nii": nifti(nibabel.Nifti2Image, "i2"),
    "zipped.nii.gz": gzip.compress(nifti(kind="i2"), mtime=0),
    "raw.nrrd": by_itk(".nrrd", "i2"),
    "zipped.nrrd": by_itk(".nrrd", "f4", compressed=True),
    "raw.mha": by_itk(".mha", "i2"),
    "zipped.mha": by_itk(".mha", "u1", compressed=True),
    "grey.png": picture("PNG", "L"),
    "bit.png": picture("PNG", "1"),
    "palette.png": picture("PNG", "P"),
    "colour.png": picture("PNG", "RGBA"),
    "grey.bmp": picture("BMP", "L"),
    "bit.bmp": picture("BMP", "1"),
    "colour.bmp": picture("BMP", "RGB"),
    "plain.tif": tiff(),
    "zlib.tif": tiff(compression="zlib", predictor=2),
    "lzw.tif": tiff(ARRAY.astype("u2"), compression="lzw"),
    "packbits.tif": tiff(compression="packbits"),
    "zstd.tif": tiff(ARRAY.astype("f4"), compression="zstd"),
    "tiled.tif": tiff(ARRAY[0], tile=(16, 16), bigtiff=True),
    "jpeg.tif": tiff(ARRAY[0], compression="jpeg"),
    "imagej.tif": tiff(ARRAY, imagej=True, photometric="minisblack"),
    "colour.tif": tiff(np.stack([ARRAY[0]] * 3, -1), photometric="rgb"),
}
NAMES = sorted(FILES)
DAMAGED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture
def read(tmp_path: Path, answered: Answered) -> Callable[[str, bytes], None]:
    """Read a content in every way: each gives an answer, and they agree about the grid."""

    def every_way(name: str, content: bytes) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        for way in (read_volume, read_labels, read_grid):
            with answered():
                way(path)
        told = ""
        try:
            scan = read_scan(path)
            assert read_grid(path)[0] == scan.voxels.shape
        except IssueError as error:
            told = str(error)
        assert not told or told.startswith(str(tmp_path))
        assert not re.search("0x[0-9a-f]{4}", told), "no addresses of memory"
        assert "\n" not in told
        assert len(told) < 700

    return every_way


@given(st.sampled_from(NAMES), st.data())
@DAMAGED
def test_changed_bytes(read: Callable[[str, bytes], None], name: str, data: st.DataObject) -> None:
    content = bytearray(FILES[name])
    near = st.integers(0, min(400, len(content) - 1)) | st.integers(0, len(content) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(near)] = data.draw(st.integers(0, 255))
    read(name, bytes(content))


@given(st.sampled_from(NAMES), st.data())
@DAMAGED
def test_cut_files_and_files_with_more(read: Callable[[str, bytes], None], name: str, data: st.DataObject) -> None:
    content = FILES[name]
    at = data.draw(st.integers(0, len(content)))
    tail = data.draw(st.sampled_from(["cut", "more", "hole", "twice"]))
    ends = {"cut": b"", "more": content[at:] + content[:at], "hole": content[at + 3 :], "twice": content}
    read(name, content[:at] + ends[tail])


@given(st.sampled_from(NAMES), st.data())
@DAMAGED
def test_fields_at_their_extremes(read: Callable[[str, bytes], None], name: str, data: st.DataObject) -> None:
    content = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 3))):
        width, order = data.draw(st.sampled_from([1, 2, 4, 8])), data.draw(st.sampled_from(["<", ">"]))
        at = data.draw(st.integers(0, min(len(content), 400) - width) | st.integers(0, len(content) - width))
        value = data.draw(st.sampled_from(EXTREMES)) % 2 ** (8 * width)
        content[at : at + width] = struct.pack(order + " BH I   Q"[width], value)
    read(name, _with_checksums(bytes(content)) if name.endswith(".png") else bytes(content))


@given(st.sampled_from([name for name in NAMES if name.endswith((".nrrd", ".mha"))]), st.data())
@DAMAGED
def test_words_of_a_header(read: Callable[[str, bytes], None], name: str, data: st.DataObject) -> None:
    mark = b": " if name.endswith(".nrrd") else b" = "
    lines = FILES[name].split(b"\n")
    fields = [number for number, line in enumerate(lines) if mark in line and len(line) < 200]
    for _ in range(data.draw(st.integers(1, 3))):
        number = data.draw(st.sampled_from(fields))
        word = data.draw(st.sampled_from(WORDS) | st.text(max_size=12)).encode("utf-8", "replace")
        lines[number] = lines[number].split(mark)[0] + mark + word
    read(name, b"\n".join(lines))


def _with_checksums(content: bytes) -> bytes:
    """Make the checksums of a PNG's parts right again, so that what they hold is read."""
    parts, at = [content[:8]], 8
    while at + 12 <= len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        held = content[at + 4 : at + 8 + size]
        parts.append(content[at : at + 4] + held + struct.pack(">I", zlib.crc32(held)))
        at += 12 + size
    return b"".join(parts)
