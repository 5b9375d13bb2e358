"""NIfTI files against nibabel 5.4, and against what real archives do wrong."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from image_files import patched, rule, saved, voxels
from nnunet_rs.core.io import read_grid, read_labels, read_volume
from nnunet_rs.core.issues import IssueError

KINDS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_every_voxel_type_and_byte_order_reads_as_nibabel_reads_it(
    tmp_path: Path, kind: str, order: str, version: Any
) -> None:
    header = version.header_class(endianness=order)
    header.set_data_dtype(np.dtype(kind).newbyteorder(order))
    image = version(voxels(kind=kind), np.diag([1, 2, 3, 1]), header)
    nibabel.save(image, tmp_path / "a.nii.gz")
    volume = read_volume([tmp_path / "a.nii.gz"])
    expected = nibabel.load(tmp_path / "a.nii.gz").get_fdata(dtype=np.float32).T
    np.testing.assert_array_equal(volume.data[0], expected)
    assert volume.data.dtype == np.float32
    assert volume.data.flags.c_contiguous
    assert volume.data.flags.writeable
    assert volume.spacing == (3.0, 2.0, 1.0)
    labels = read_labels(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(labels.data, expected)
    assert labels.data.dtype.kind in "iu"
    assert labels.data.dtype.isnative
    assert read_grid(tmp_path / "a.nii.gz") == ((1, 6, 5, 4), (3.0, 2.0, 1.0))


@pytest.mark.parametrize(("slope", "inter"), [(0.5, -1024.0), (1.0, 7.0), (1.0, 0.0), (0.0, 5.0)])
def test_intensities_are_scaled_as_nibabel_scales_them(tmp_path: Path, slope: float, inter: float) -> None:
    path = patched(saved(tmp_path / "a.nii", voxels()), {"scl_slope": slope, "scl_inter": inter})
    expected = nibabel.load(path).get_fdata(dtype=np.float32).T
    np.testing.assert_array_equal(read_volume([path]).data[0], expected)


def test_the_last_axis_of_a_4d_file_holds_channels(tmp_path: Path) -> None:
    array = voxels((4, 5, 6, 3))
    volume = read_volume([saved(tmp_path / "a.nii.gz", array)])
    np.testing.assert_array_equal(volume.data, np.moveaxis(array, -1, 0).transpose(0, 3, 2, 1))


@pytest.mark.parametrize("shape", [(4, 5, 6, 1), (4, 5, 6, 1, 1), (4, 5, 1), (1, 1, 1)])
def test_axes_of_size_one(tmp_path: Path, shape: tuple[int, ...]) -> None:
    volume = read_volume([saved(tmp_path / "a.nii", voxels(shape))])
    assert volume.data.shape == (1, *shape[2::-1])


def test_vectors_as_itk_writes_them_are_channels(tmp_path: Path) -> None:
    array = voxels((4, 5, 6, 1, 2))
    volume = read_volume([saved(tmp_path / "a.nii", array)])
    np.testing.assert_array_equal(volume.data[1], array[:, :, :, 0, 1].T)


def test_several_gzip_members_and_padding_are_one_file(tmp_path: Path) -> None:
    plain = saved(tmp_path / "a.nii", voxels()).read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(plain[:400]) + gzip.compress(plain[400:]) + bytes(512))
    np.testing.assert_array_equal(read_volume([tmp_path / "b.nii.gz"]).data[0], voxels().T)


# ---- labels ----------------------------------------------------------------------------------------------------------


def test_float_labels_with_whole_numbers_are_taken(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", np.array([0, 1, 300], "f4").reshape(1, 1, 3))
    labels = read_labels(path).data
    assert labels.dtype == np.uint16
    assert labels.ravel().tolist() == [0, 1, 300]


def test_labels_scaled_by_a_rounded_slope_are_taken(tmp_path: Path) -> None:
    path = patched(saved(tmp_path / "a.nii", np.array([[[0, 10, 30]]], "i2")), {"scl_slope": 0.1, "scl_inter": 0})
    assert read_labels(path).data.ravel().tolist() == [0, 1, 3]


@pytest.mark.parametrize(("kind", "top"), [("i2", 2), ("u1", 2), ("i1", 3), ("u1", 117)])
def test_labels_within_half_a_step_of_the_slope_are_taken(tmp_path: Path, kind: str, top: int) -> None:
    """nibabel scales floats that it stores as integers: 1 becomes 1.0000153."""
    labels = np.random.default_rng(0).integers(0, top + 1, (4, 5, 6))
    image = nibabel.Nifti1Image(labels.astype(np.float64), np.eye(4))
    image.header.set_data_dtype(kind)
    nibabel.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.nii.gz").data, labels.T)


@pytest.mark.parametrize(("slope", "stored"), [(0.7, 1), (0.5, 1), (0.1, 4), (0.01, 51)])
def test_scaled_labels_between_whole_numbers_are_refused(tmp_path: Path, slope: float, stored: int) -> None:
    array = np.full((2, 2, 2), stored, "i2")
    path = patched(saved(tmp_path / "a.nii", array), {"scl_slope": slope, "scl_inter": 0})
    assert rule(lambda: read_labels(path)) == "label-not-integral"


def test_a_label_that_is_no_whole_number_is_told_with_its_place(tmp_path: Path) -> None:
    array = np.zeros((2, 3, 4), "f4")
    array[1, 2, 3] = np.nextafter(np.float32(1), np.float32(2))
    with pytest.raises(IssueError, match=r"a\.nii: label-not-integral: value 1\.0000001\d* at z=3 y=2 x=1; round"):
        read_labels(saved(tmp_path / "a.nii", array))


@pytest.mark.parametrize(
    ("value", "expected"), [(np.nan, "non-finite"), (np.inf, "non-finite"), (1e30, "label-not-integral")]
)
def test_labels_that_are_no_numbers(tmp_path: Path, value: float, expected: str) -> None:
    path = saved(tmp_path / "a.nii", np.full((2, 2, 2), value, "f4"))
    assert rule(lambda: read_labels(path)) == expected


def test_labels_of_several_volumes_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii.gz", voxels((3, 3, 3, 2)))
    assert rule(lambda: read_labels(path)) == "channels"


# ---- what is wrong with files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.nii.gz", b"", "file-empty"),
        ("a.nii", b"", "file-empty"),
        ("a.nii.gz", b"PK\x03\x04 and more", "not-gzip"),
        ("a.nii.gz", gzip.compress(b"short"), "not-nifti"),
        ("a.nii", b"x" * 1000, "not-nifti"),
        ("a.nii", gzip.compress(bytes(400)), "not-nifti"),
        ("a.xyz", b"x", "format"),
        ("a", b"x", "format"),
    ],
)
def test_files_that_are_no_nifti(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert rule(lambda: read_volume([tmp_path / name])) == expected
    assert rule(lambda: read_grid(tmp_path / name)) == expected


def test_missing_file_and_folder_as_file(tmp_path: Path) -> None:
    (tmp_path / "b.nii").mkdir()
    assert rule(lambda: read_volume([tmp_path / "a.nii"])) == "missing"
    assert rule(lambda: read_volume([tmp_path / "b.nii"])) == "unreadable"


def test_an_analyze_pair_is_refused(tmp_path: Path) -> None:
    path = patched(saved(tmp_path / "a.nii", voxels()), {"magic": b"ni1"})
    assert rule(lambda: read_volume([path])) == "not-nifti"


def test_a_file_cut_at_any_place_is_told(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.nii.gz", voxels()).read_bytes()
    plain = gzip.decompress(whole)
    for cut in (3, 12, 100, len(whole) - 9, len(whole) - 4, len(whole) - 1):
        (tmp_path / "b.nii.gz").write_bytes(whole[:cut])
        assert rule(lambda: read_volume([tmp_path / "b.nii.gz"])) in ("gzip-truncated", "gzip-corrupt"), cut
    for cut in (4, 347, 348, 352, len(plain) - 1):
        (tmp_path / "b.nii").write_bytes(plain[:cut])
        assert rule(lambda: read_volume([tmp_path / "b.nii"])) in ("not-nifti", "file-truncated"), cut


def test_a_truncated_file_names_both_sizes(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", voxels())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(IssueError, match="file-truncated: ends early: 200 bytes of voxels, the header promises 240"):
        read_volume([path])


def test_a_corrupt_checksum_is_told(tmp_path: Path) -> None:
    content = bytearray(saved(tmp_path / "a.nii.gz", voxels()).read_bytes())
    content[-6] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(content)
    assert rule(lambda: read_volume([tmp_path / "a.nii.gz"])) == "gzip-corrupt"
