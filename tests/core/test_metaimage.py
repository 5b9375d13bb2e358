"""MetaImage against SimpleITK, and files written by hand."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from image_files import same_as_itk
from nnunet_rs.core.io import read_labels, read_scan
from nnunet_rs.core.issues import IssueError

TYPES = {"CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4", "LONG": "i4"}
TYPES |= {"ULONG": "u4", "LONG_LONG": "i8", "ULONG_LONG": "u8", "FLOAT": "f4", "DOUBLE": "f8"}
COUNT = np.arange(24)
SIZES = "ObjectType = Image\nNDims = 3\nDimSize = 2 3 4\n"
SHORT = f"{SIZES}BinaryData = True\nBinaryDataByteOrderMSB = False\nElementType = MET_SHORT\n"
SHORTS = COUNT.astype("<i2").tobytes()


def meta(path: Path, header: str, content: bytes = b"", data: str = "LOCAL") -> Path:
    path.write_bytes(f"{header}\nElementDataFile = {data}\n".encode() + content)
    return path


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_element_type(tmp_path: Path, name: str, big: bool, compressed: bool) -> None:
    """Compressed voxels whose size the header does not tell are noise to ITK, so the numbers are held against."""
    stored = COUNT.astype(np.dtype(TYPES[name]).newbyteorder(">" if big else "<")).tobytes()
    header = f"{SIZES}BinaryData = True\nBinaryDataByteOrderMSB = {big}\nElementType = MET_{name}\n"
    header += f"CompressedData = {compressed}"
    path = meta(tmp_path / "a.mha", header, zlib.compress(stored) if compressed else stored)
    np.testing.assert_array_equal(read_scan(path).voxels, COUNT.reshape(1, 4, 3, 2))
    np.testing.assert_array_equal(read_labels(path).data, COUNT.reshape(4, 3, 2))


@pytest.mark.parametrize("name", TYPES)
def test_voxels_as_text(tmp_path: Path, name: str) -> None:
    text = " ".join(map(str, COUNT.tolist())).encode()
    path = meta(tmp_path / "a.mha", f"{SIZES}BinaryData = False\nElementType = MET_{name}", text)
    np.testing.assert_array_equal(read_scan(path).voxels, COUNT.reshape(1, 4, 3, 2))


@pytest.mark.parametrize(
    "more",
    [
        "",
        "ElementSpacing = 0.5 2 3",
        "ElementSize = 0.5 2 3",
        "ElementSize = 1 1 1\nElementSpacing = 0.5 2 3",
        "Offset = 1 2 3",
        "Position = 1 2 3",
        "Origin = 1 2 3",
        "TransformMatrix = 0 1 0 -1 0 0 0 0 1\nElementSpacing = 0.5 2 3",
        "Rotation = 0 1 0 -1 0 0 0 0 1",
        "Orientation = 0 1 0 -1 0 0 0 0 1",
        "AnatomicalOrientation = LPI",
        "Comment = a = b",
        "HeaderSize = -1",
    ],
)
def test_voxels_and_their_place_are_those_of_itk(tmp_path: Path, more: str) -> None:
    same_as_itk(meta(tmp_path / "a.mha", SHORT + more, SHORTS))


@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("name", ["a.mha", "a.mhd"])
@pytest.mark.parametrize("compressed", [False, True])
def test_what_itk_writes(tmp_path: Path, shape: tuple[int, ...], name: str, compressed: bool) -> None:
    image = sitk.GetImageFromArray(np.arange(np.prod(shape)).reshape(shape).astype(np.int16))
    image.SetSpacing([0.5, 0.7, 2.5, 1.0][: len(shape)])
    image.SetOrigin([1.0, 2.0, 3.0, 4.0][: len(shape)])
    sitk.WriteImage(image, str(tmp_path / name), compressed)
    same_as_itk(tmp_path / name)


def test_components_are_channels(tmp_path: Path) -> None:
    header = SHORT.replace("NDims = 3\nDimSize = 2 3 4", "NDims = 2\nDimSize = 3 4")
    same_as_itk(meta(tmp_path / "a.mha", f"{header}ElementNumberOfChannels = 2", SHORTS))
    assert read_scan(tmp_path / "a.mha").voxels.shape == (2, 1, 4, 3)


def test_voxels_in_a_file_beside(tmp_path: Path) -> None:
    path = meta(tmp_path / "a.mhd", f"{SHORT}HeaderSize = 3", data="v.raw")
    (tmp_path / "v.raw").write_bytes(b"abc" + SHORTS)
    same_as_itk(path)
    (tmp_path / "v.raw").write_bytes(SHORTS)
    with pytest.raises(IssueError, match=r"v\.raw: file-truncated: ends early: 45 bytes of voxels"):
        read_scan(path)
    (tmp_path / "v.raw").unlink()
    with pytest.raises(IssueError, match=r"v\.raw: missing: no such file"):
        read_scan(path)


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("ObjectType = Image", "NDims is 0|dimensions"),
        (SHORT.replace("DimSize = 2 3 4", "DimSize = 2 3"), "NDims is 3, DimSize has 2 numbers"),
        (SHORT.replace("2 3 4", "2 3 -4"), "dimensions: size 1 x 2 x 3 x -4|dimensions: size 2 x 3 x -4"),
        (SHORT.replace("2 3 4", "20000 30000 40000"), "ends early: 48 bytes of voxels, the header promises"),
        (SHORT.replace("MET_SHORT", "MET_SHORT_ARRAY"), "voxel-type: ElementType is MET_SHORT_ARRAY"),
        (f"{SHORT}ElementSpacing = 1 1", "ElementSpacing has 2 numbers, not 3"),
        (f"{SHORT}ElementSpacing = 1 0 1", "spacing-invalid"),
        (f"{SHORT}TransformMatrix = 1 0 0 1 0 0 0 0 1", "cannot be inverted"),
        (f"{SHORT}Offset = 1 nan 3", "cannot be inverted"),
    ],
)
def test_headers_that_are_refused(tmp_path: Path, header: str, text: str) -> None:
    path = meta(tmp_path / "a.mha", header, SHORTS)
    try:
        told = " ".join(map(str, read_scan(path).issues))
    except IssueError as error:
        told = str(error)
    assert re.search(text, told), told


def test_what_is_cut_short_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = meta(tmp_path / "a.mha", SHORT, SHORTS).read_bytes()
    for cut in (1, len(SHORTS) - 1):
        (tmp_path / "a.mha").write_bytes(whole[:-cut])
        with pytest.raises(IssueError, match=rf"file-truncated: ends early: {48 - cut} bytes .* promises 48; copy"):
            read_scan(tmp_path / "a.mha")
    (tmp_path / "a.mha").write_bytes(whole[: whole.index(b"ElementDataFile")])
    with pytest.raises(IssueError, match="ElementDataFile is missing: the header is cut short"):
        read_scan(tmp_path / "a.mha")
    packed = zlib.compress(SHORTS)
    with pytest.raises(IssueError, match="file-truncated: the compressed voxels end early"):
        read_scan(meta(tmp_path / "a.mha", f"{SHORT}CompressedData = True", packed[:-12]))
    assert capfd.readouterr() == ("", "")


def test_an_intensity_function_and_an_assumed_spacing_are_warnings(tmp_path: Path) -> None:
    scan = read_scan(meta(tmp_path / "a.mha", f"{SHORT}ElementToIntensityFunctionSlope = 2", SHORTS))
    assert [(issue.rule, issue.fatal) for issue in scan.issues] == [("spacing-assumed", False), ("scaling", False)]
