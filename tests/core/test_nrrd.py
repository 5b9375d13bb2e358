"""NRRD against SimpleITK, and files written by hand."""

from __future__ import annotations

import bz2
import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from image_files import same_as_itk
from nnunet_rs.core.io import read_labels, read_scan
from nnunet_rs.core.issues import IssueError

KINDS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
NAMES = {"i1": "int8", "u1": "uchar", "i2": "short", "u2": "unsigned short", "i4": "int", "u4": "uint32_t"}
NAMES |= {"i8": "long long", "u8": "uint64", "f4": "float", "f8": "double"}
COUNT = np.arange(24)
SHORT = "type: short\nendian: little\nencoding: raw\n"
SHORTS = COUNT.astype("<i2").tobytes()


def nrrd(path: Path, header: str, content: bytes = b"") -> Path:
    path.write_bytes(f"NRRD0005\n{header}\n\n".encode() + content)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("raw", bytes),
        ("gzip", gzip.compress),
        ("gz", lambda stored: gzip.compress(stored[:7]) + gzip.compress(stored[7:])),
        ("bzip2", bz2.compress),
        ("hex", lambda stored: stored.hex(" ").encode()),
    ],
)
def test_every_type_byte_order_and_encoding(
    tmp_path: Path, kind: str, endian: str, encoding: str, encode: Callable[[bytes], bytes]
) -> None:
    stored = COUNT.astype(kind).astype(np.dtype(kind).newbyteorder("<" if endian == "little" else ">")).tobytes()
    header = f"type: {NAMES[kind]}\ndimension: 3\nsizes: 2 3 4\nencoding: {encoding}\nendian: {endian}"
    path = nrrd(tmp_path / "a.nrrd", header, encode(stored))
    np.testing.assert_array_equal(read_scan(path).voxels, COUNT.reshape(1, 4, 3, 2))
    np.testing.assert_array_equal(read_labels(path).data, COUNT.reshape(4, 3, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_voxels_as_text(tmp_path: Path, kind: str) -> None:
    text = " ".join(map(str, COUNT.tolist())).encode()
    path = nrrd(tmp_path / "a.nrrd", f"type: {NAMES[kind]}\ndimension: 3\nsizes: 2 3 4\nencoding: ascii", text)
    np.testing.assert_array_equal(read_scan(path).voxels, COUNT.reshape(1, 4, 3, 2))


@pytest.mark.parametrize(
    "header",
    [
        "dimension: 3\nsizes: 2 3 4",
        "dimension: 2\nsizes: 6 4\nspacings: 0.5 2",
        "dimension: 3\nsizes: 2 3 4\nspacings: 0.5 2 3",
        "dimension: 3\nsizes: 2 3 4\nspacings: 0.5 2 3\naxis mins: 1 2 3\ncenters: cell node cell",
        "dimension: 3\nsizes: 2 3 4\nspace dimension: 3\nspace directions: (0.5,0,0) (0,2,0.1) (0,0,3)",
        "dimension: 3\nsizes: 2 3 4\nkinds: vector domain domain\nspacings: nan 2 3",
        "dimension: 3\nsizes: 2 3 4\nkinds: domain domain list",
        "dimension: 3\nsizes: 2 3 4\nkinds: domain list domain",
        *(
            f"dimension: 3\nsizes: 2 3 4\nspace: {space}\nspace directions: (0.5,0,0) (0,2,0.1) (0,0,3)\n"
            "space origin: (1,2,3)"
            for space in ("left-posterior-superior", "RAS", "left-anterior-superior", "scanner-xyz")
        ),
        "dimension: 4\nsizes: 2 3 2 2\nkinds: list domain domain domain\nspace: LPS\n"
        "space directions: none (1,0,0) (0,1,0) (0,0,1)\nspace origin: (1,2,3)",
        "# a remark\ncontent: a: b\nkey:=value: too\ndimension: 3\nsizes: 2 3 4",
    ],
)
def test_voxels_and_their_place_are_those_of_itk(tmp_path: Path, header: str) -> None:
    same_as_itk(nrrd(tmp_path / "a.nrrd", SHORT + header, SHORTS))


@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("compressed", [False, True])
def test_what_itk_writes(tmp_path: Path, shape: tuple[int, ...], compressed: bool) -> None:
    image = sitk.GetImageFromArray(np.arange(np.prod(shape)).reshape(shape).astype(np.int16))
    image.SetSpacing([0.5, 0.7, 2.5, 1.0][: len(shape)])
    image.SetOrigin([1.0, 2.0, 3.0, 4.0][: len(shape)])
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"), compressed)
    same_as_itk(tmp_path / "a.nrrd")


@pytest.mark.parametrize("skip", [("byte skip: 3", b"abc"), ("byte skip: -1", b"abc"), ("line skip: 2", b"abc\nd\n")])
def test_what_is_left_out_before_the_voxels(tmp_path: Path, skip: tuple[str, bytes]) -> None:
    header = f"{SHORT}dimension: 3\nsizes: 2 3 4\n{skip[0]}"
    same_as_itk(nrrd(tmp_path / "a.nrrd", header, skip[1] + SHORTS))


def test_voxels_in_a_file_beside(tmp_path: Path) -> None:
    (tmp_path / "v.raw").write_bytes(SHORTS)
    (tmp_path / "a.nrrd").write_text(f"NRRD0004\r\n{SHORT}dimension: 3\r\nsizes: 2 3 4\r\ndata file: v.raw\r\n")
    same_as_itk(tmp_path / "a.nrrd")
    (tmp_path / "v.raw").write_bytes(SHORTS[:-5])
    with pytest.raises(IssueError, match=r"v\.raw: file-truncated: ends early: 43 bytes of voxels"):
        read_scan(tmp_path / "a.nrrd")
    (tmp_path / "v.raw").unlink()
    with pytest.raises(IssueError, match=r"v\.raw: missing: no such file"):
        read_scan(tmp_path / "a.nrrd")


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("dimension: 3\nsizes: 2 3 4\nspace: LPS\nspace directions: (1,0,0) (0,1,0) (0,0,0)", "spacing-invalid"),
        ("dimension: 3\nsizes: 2 3 4\nspace: LPS\nspace directions: (1,0,0) (0,1,0) (1,1,0)", "cannot be inverted"),
        ("dimension: 3\nsizes: 2 3 4\nspacings: 0.5 2 -3", None),  # a length
        ("dimension: 3\nsizes: 2 3\n", "count different numbers of axes"),
        ("dimension: 3\nsizes: 2 3 0", "dimensions: size 2 x 3 x 0"),
        ("dimension: 3\nsizes: 2 x 4", "sizes is '2 x 4', not numbers"),
        ("dimension: 5\nsizes: 2 3 2 1 2", "dimensions: "),
        ("dimension: 1\nsizes: 24", "dimensions: "),
        ("dimension: 3\nsizes: 2 3 4\nkinds: complex domain domain", "voxel-type: complex numbers"),
        ("dimension: 3\nsizes: 2 3 4\ntype: block", "voxel-type: type is 'block'"),
        ("dimension: 3\nsizes: 2 3 4\nencoding: zrl", "encoding is 'zrl'"),
        ("dimension: 3\nsizes: 2 3 4\nendian: none", "endian is none"),
        ("dimension: 3\nsizes: 2 3 4\ndata file: LIST", r"several files \(LIST\)"),
        ("dimension: 3\nsizes: 2 3 4\ndata file: a%02d.raw 1 3 1", "several files"),
        (
            "dimension: 3\nsizes: 20000 30000 40000",
            "ends early: 48 bytes of voxels, the header promises 4",
        ),
    ],
)
def test_headers_that_are_refused(tmp_path: Path, header: str, text: str | None) -> None:
    path = nrrd(tmp_path / "a.nrrd", SHORT + header, SHORTS)
    try:
        told = " ".join(map(str, read_scan(path).issues))
    except IssueError as error:
        told = str(error)
    assert text is None or re.search(text, told), told


def test_damaged_compressed_voxels_are_told(tmp_path: Path) -> None:
    header = "type: short\nendian: little\nencoding: gzip\ndimension: 3\nsizes: 20 30 4"
    whole = gzip.compress(np.random.default_rng(0).integers(0, 99, 2400).astype("<i2").tobytes())
    for cut in (0, 5, 12, 100, len(whole) - 9):
        with pytest.raises(IssueError, match=r"a\.nrrd: file-truncated: .*end"):
            read_scan(nrrd(tmp_path / "a.nrrd", header, whole[:cut]))
    changed = bytearray(whole)
    changed[-6] ^= 1  # of the checksum
    with pytest.raises(IssueError, match=r"unreadable: the compressed voxels are damaged"):
        read_scan(nrrd(tmp_path / "a.nrrd", header, bytes(changed)))


def test_an_assumed_spacing_and_other_numbers_are_warnings(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd", f"{SHORT}dimension: 3\nsizes: 2 3 4\nold min: 0.5", SHORTS)
    assert [(issue.rule, issue.fatal) for issue in read_scan(path).issues] == [
        ("spacing-assumed", False),
        ("scaling", False),
    ]
