"""DICOM headers and files, cut and changed: read right, or refused by name."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pydicom")

import pydicom
from dicom_files import enhanced, picture, slice_file, write_series
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnunet_rs.core.dicom.reader import only_series, read, read_grid
from nnunet_rs.core.dicom.references import read_labels_on
from nnunet_rs.core.dicom.series import find_series
from nnunet_rs.core.image_file import Grid
from nnunet_rs.core.types import LabelSet
from nnunet_rs.exchange.dicom.rtstruct import write_rtstruct
from nnunet_rs.exchange.dicom.seg import write_seg
from nnunet_rs.exchange.dicom.source import Source
from nnunet_rs.exchange.dicom.structures import structures_of

SHAPE = (3, 6, 5)
AFFINE = ((-0.7, 0.0, 0.0, 30.0), (0.0, -0.8, 0.0, -20.0), (0.0, 0.0, 2.5, -110.0), (0.0, 0.0, 0.0, 1.0))
GRID = Grid(Path("image.nii.gz"), SHAPE, (2.5, 0.8, 0.7), AFFINE)
Answered = Callable[..., Any]
QUIET = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


def content(data: pydicom.Dataset) -> bytes:
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def single(syntax: str = "", *, deflated: bool = False) -> bytes:
    data = slice_file(picture(SHAPE)[0], (0, 0, 0), 1, ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    if syntax:
        data.compress(pydicom.uid.UID(syntax), generate_instance_uid=False)
    if deflated:
        data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    return content(data)


def labels(kind: str) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        folder = write_series(Path(name, "s"), picture(SHAPE))
        voxels = np.zeros(SHAPE, np.uint8)
        voxels[1, 2:4, 1:4] = 1
        source, known = Source(only_series(folder, folder)), structures_of(LabelSet(("background", "liver"), (0, 1)))
        target = Path(name, "x.dcm")
        if kind == "rtstruct":
            write_rtstruct(target, voxels, source, known)
        else:
            write_seg(target, voxels, source, known, kind, [voxels * 0.9])  # type: ignore[arg-type]
        return target.read_bytes()


FILES = {
    "plain": single(),
    "rle": single("1.2.840.10008.1.2.5"),
    "deflated": single(deflated=True),
    "enhanced": content(enhanced(picture(SHAPE))),
}
LABELS = {kind: labels(kind) for kind in ("binary", "labelmap", "fractional", "rtstruct")}


@st.composite
def damaged(draw: st.DrawFn, files: dict[str, bytes]) -> bytes:
    """A file that is cut, or has some bytes changed, or a piece taken out."""
    whole = bytearray(files[draw(st.sampled_from(sorted(files)))])
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(whole) - 1))
        how = draw(st.sampled_from(("cut", "change", "take", "extreme")))
        if how == "cut":
            del whole[at:]
        elif how == "change":
            whole[at] = draw(st.integers(0, 255))
        elif how == "take":
            del whole[at : at + draw(st.integers(1, 40))]
        else:
            whole[at : at + 4] = draw(st.sampled_from((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f")))
        if not whole:
            break
    return bytes(whole)


def at(name: str, held: bytes) -> Path:
    path = Path(tempfile.gettempdir(), f"nnunet-rs-fuzz-{name}.dcm")
    path.write_bytes(held)
    return path


@QUIET
@given(damaged(FILES))
def test_damaged_images(answered: Answered, held: bytes) -> None:
    path = at("image", held)
    for function in (read_grid, read, find_series):
        with answered():
            function(path)


@QUIET
@given(damaged(LABELS))
def test_damaged_labels(answered: Answered, held: bytes) -> None:
    path = at("labels", held)
    with answered():
        read_labels_on(path, GRID)


KEYWORDS = (
    "Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation SamplesPerPixel NumberOfFrames PixelSpacing "
    "ImagePositionPatient ImageOrientationPatient RescaleSlope RescaleIntercept SliceThickness InstanceNumber "
    "SeriesInstanceUID SOPInstanceUID Modality ImageType PhotometricInterpretation TransferSyntaxUID"
)
VALUES = (
    "",
    "0",
    "-1",
    "1",
    "65535",
    "1e400",
    "nan",
    "abc",
    "1\\2",
    "1\\0\\0\\0\\1",
    "1\\2\\3",
    "9999999999",
    "\0",
    "é",
)


@QUIET
@given(st.sampled_from(KEYWORDS.split()), st.sampled_from(VALUES), st.booleans())
def test_headers_that_say_anything(answered: Answered, keyword: str, value: str, remove: bool) -> None:
    data = pydicom.dcmread(io.BytesIO(FILES["plain"]))
    where = data.file_meta if keyword == "TransferSyntaxUID" else data
    tag = pydicom.tag.Tag(keyword)
    if remove:
        where.pop(tag, None)
    elif pydicom.datadict.dictionary_VR(tag) == "US":
        number = int(value) % 65536 if value.lstrip("-").isdigit() else 0
        where[tag] = pydicom.DataElement(tag, "US", number)
    else:
        raw = value.encode() + b" " * (len(value.encode()) % 2)
        vr = pydicom.datadict.dictionary_VR(tag)
        where[tag] = pydicom.dataelem.RawDataElement(tag, vr, len(raw), raw, 0, False, True)
    stream = io.BytesIO()
    try:
        data.save_as(stream, enforce_file_format=False)
    except Exception:
        return  # pydicom itself cannot write it
    path = at("header", stream.getvalue())
    with answered():
        image = read(path)
        assert np.isfinite(image.header.affine).all()


def test_files_cut_anywhere_are_whole_or_refused(answered: Answered) -> None:
    """A series of which one file is cut, at every length: never a picture with a part made up."""
    whole = FILES["plain"]
    expected = read(at("cut", whole)).voxels
    for length in range(0, len(whole), 7):
        path = at("cut", whole[:length])
        with answered():
            assert np.array_equal(read(path).voxels, expected)
