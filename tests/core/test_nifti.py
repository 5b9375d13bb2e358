"""NIfTI files against nibabel 5.4, and against what real archives do wrong."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnunet_rs.core import nifti
from nnunet_rs.core.image_file import compare_grids
from nnunet_rs.core.io import read_grid, read_labels, read_volume, write_labels
from nnunet_rs.core.issues import IssueError

KINDS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


def oblique(spacing: tuple[float, ...] = (1.5, 0.8, 3.0)) -> np.ndarray:
    """A rotation about two axes, spacing along x, y, z, and an origin."""
    a, b = 0.3, -0.2
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag(spacing)
    affine[:3, 3] = [-91.5, 12.25, 40]
    return affine


def voxels(shape: tuple[int, ...] = (4, 5, 6), kind: str = "i2") -> np.ndarray:
    return np.random.default_rng(1).integers(0, 100, shape).astype(kind)


def saved(path: Path, array: np.ndarray, affine: Any = None, **fields: Any) -> Path:
    """Write (x, y, z[, c]) with nibabel, then set header fields."""
    image = nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine)
    for field, value in fields.items():
        image.header[field] = value
    nibabel.save(image, path)
    return path


def patched(path: Path, changes: dict[str, Any]) -> Path:
    """Change header fields of a written `.nii` as nibabel would not."""
    content = path.read_bytes()
    header = nibabel.Nifti1Header(content[:348], check=False)
    for field, value in changes.items():
        header[field] = value
    path.write_bytes(header.binaryblock + content[348:])
    return path


def rule(call: Callable[[], object]) -> str:
    with pytest.raises(IssueError) as caught:
        call()
    assert str(caught.value.issue.file) in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value.issue.rule


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


@pytest.mark.parametrize("shape", [(4, 5, 6, 2, 2), (4,), (4, 5, 1, 2, 2)])
def test_files_of_too_few_or_too_many_axes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = saved(tmp_path / "a.nii", voxels(shape))
    assert rule(lambda: read_volume([path])) == "dimensions"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("c8", "complex64"),
        ("c16", "complex128"),
        (np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]), "RGB24"),
        (np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")]), "RGBA32"),
    ],
)
def test_voxels_that_are_no_real_numbers_are_named(tmp_path: Path, kind: Any, name: str) -> None:
    path = saved(tmp_path / "a.nii", np.zeros((2, 2, 2), kind))
    with pytest.raises(IssueError, match=f"voxel-type: {name} \\(code"):
        read_volume([path])


@pytest.mark.parametrize("version", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_two_axes_are_one_slice(tmp_path: Path, version: Any) -> None:
    array = voxels((4, 5))
    nibabel.save(version(array, oblique()), tmp_path / "a.nii.gz")
    volume = read_volume([tmp_path / "a.nii.gz"])
    np.testing.assert_array_equal(volume.data[0, 0], array.T)
    np.testing.assert_array_equal(volume.header.affine, nibabel.load(tmp_path / "a.nii.gz").affine)
    assert read_grid(tmp_path / "a.nii.gz")[0] == (1, 1, 5, 4)
    write_labels(tmp_path / "b.nii.gz", volume.data[0].astype(np.uint8), volume.header)
    again = nibabel.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(np.asarray(again.dataobj), array)  # two axes, as the image has
    np.testing.assert_array_equal(again.affine, volume.header.affine)
    np.testing.assert_array_equal(read_labels(tmp_path / "b.nii.gz").data, volume.data[0])


@pytest.mark.parametrize("fields", [{}, {"pixdim": [1, 2, 3, 0, 0, 0, 0, 0], "srow_z": [0, 0, 0, 7]}])
def test_a_slice_may_leave_its_third_axis_out(tmp_path: Path, fields: dict[str, Any]) -> None:
    path = patched(saved(tmp_path / "a.nii", voxels((4, 5)), np.diag([2, 3, 1, 1])), fields)
    volume = read_volume([path])
    assert volume.spacing == (1.0, 3.0, 2.0)
    np.testing.assert_array_equal(np.asarray(volume.header.affine)[:3, :3], np.diag([2, 3, 1]))


def test_a_slice_by_itk_is_read_as_its_volume(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(voxels((5, 4)))
    image.SetSpacing((0.5, 0.25))
    image.SetOrigin((3.0, 4.0))
    SimpleITK.WriteImage(image, str(tmp_path / "a.nii.gz"))
    volume = read_volume([tmp_path / "a.nii.gz"])
    np.testing.assert_array_equal(volume.data[0, 0], voxels((5, 4)))
    assert volume.spacing == (1.0, 0.25, 0.5)
    np.testing.assert_allclose(np.asarray(volume.header.affine)[:2, 3], (-3, -4))


@pytest.mark.parametrize("unit", [1e-6, 1e-9])
def test_small_voxels_are_voxels(tmp_path: Path, unit: float) -> None:
    """Micrometres told in metres."""
    volume = read_volume([saved(tmp_path / "a.nii", voxels(), oblique() * unit)])
    np.testing.assert_allclose(volume.spacing, np.multiply((3.0, 0.8, 1.5), unit), rtol=1e-6)


def both_forms(path: Path, sform: Any, qform: Any) -> Path:
    image = nibabel.Nifti1Image(voxels(), None)
    image.header.set_qform(qform, code=1)
    image.header.set_sform(sform, code=2)
    image.header["pixdim"][1:4] = np.linalg.norm(qform[:3, :3], axis=0)
    nibabel.save(image, path)
    return path


def test_an_sform_of_zeros_gives_way_to_the_qform(tmp_path: Path) -> None:
    path = both_forms(tmp_path / "a.nii", oblique(), oblique())
    patched(path, {"srow_x": [0] * 4, "srow_y": [0] * 4, "srow_z": [0] * 4})
    scan = nifti.read(path)
    (issue,) = scan.issues
    assert (issue.rule, issue.fatal) == ("qform-sform", False)
    assert issue.advice.startswith("the qform is used")
    np.testing.assert_allclose(scan.header.affine, oblique(), atol=1e-5)
    write_labels(tmp_path / "b.nii", voxels((6, 5, 4), "u1"), scan.header)
    np.testing.assert_allclose(nibabel.load(tmp_path / "b.nii").affine, oblique(), atol=1e-5)


def test_a_label_placed_by_the_qform_belongs_to_an_image_that_has_both(tmp_path: Path) -> None:
    shifted = oblique()
    shifted[0, 3] += 40
    image = nifti.read(both_forms(tmp_path / "a.nii", shifted, oblique()))
    label = nifti.read(saved(tmp_path / "b.nii", voxels(), oblique()))
    (issue,) = compare_grids(image.grid, label.grid)
    assert (issue.rule, issue.fatal) == ("qform-sform", False)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"datatype": 12345}, "voxel-type"),
        ({"vox_offset": np.nan}, "header-invalid"),
        ({"vox_offset": 8}, "header-invalid"),
        ({"dim": [3, 0, 5, 6, 1, 1, 1, 1]}, "dimensions"),
        ({"dim": [9, 4, 5, 6, 1, 1, 1, 1]}, "dimensions"),
        ({"dim": [3, -4, 5, 6, 1, 1, 1, 1]}, "dimensions"),
        ({"scl_slope": 2, "scl_inter": np.nan}, "header-invalid"),
        ({"srow_x": [np.nan] * 4}, "header-invalid"),
        ({"srow_x": [0] * 4}, "header-invalid"),
        ({"pixdim": [1, 0, 1, 1, 0, 0, 0, 0]}, "spacing-invalid"),
        ({"pixdim": [1, 1, 0, 1, 0, 0, 0, 0], "sform_code": 0, "qform_code": 0}, "spacing-invalid"),
        ({"pixdim": [1, 1, np.nan, 1, 0, 0, 0, 0]}, "spacing-invalid"),
        ({"pixdim": [1, 1, 1, 1.01, 0, 0, 0, 0]}, "spacing-affine"),
        ({"quatern_b": 2, "qform_code": 1, "sform_code": 0}, "header-invalid"),
    ],
)
def test_headers_that_contradict(tmp_path: Path, fields: dict[str, Any], expected: str) -> None:
    path = patched(saved(tmp_path / "a.nii", voxels()), fields)
    assert rule(lambda: read_volume([path])) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"qform_code": 1, "qoffset_x": 5}, "qform-sform"),
        ({"qform_code": 1, "quatern_b": 2}, "qform-sform"),
        ({"xyzt_units": 3}, "units"),
        ({"xyzt_units": 2}, None),
        ({"sform_code": 0, "qform_code": 0}, None),
        ({"vox_offset": 0}, None),
    ],
)
def test_headers_that_are_taken_with_a_warning_or_none(tmp_path: Path, fields: dict[str, Any], expected: Any) -> None:
    path = patched(saved(tmp_path / "a.nii", voxels(), sform_code=2), fields)
    scan = nifti.read(path)
    assert [issue.rule for issue in scan.issues] == ([expected] if expected else [])
    assert not any(issue.fatal for issue in scan.issues)
    read_volume([path])


def test_nan_and_infinity_are_told_with_count_and_place(tmp_path: Path) -> None:
    array = np.zeros((3, 4, 5), "f4")
    array[2, 3, 1] = np.nan
    array[2, 3, 4] = -np.inf
    with pytest.raises(IssueError, match="non-finite: 2 voxels are not finite, the first is nan at z=1 y=3 x=2"):
        read_volume([saved(tmp_path / "a.nii", array)])


def test_what_float32_cannot_hold_is_not_finite(tmp_path: Path) -> None:
    assert rule(lambda: read_volume([saved(tmp_path / "a.nii", np.full((2, 2, 2), 1e300))])) == "non-finite"
    path = patched(saved(tmp_path / "b.nii", voxels()), {"scl_slope": 3e38, "scl_inter": 0})
    assert rule(lambda: read_volume([path])) == "non-finite"


@pytest.mark.parametrize("sign", [0, 7, float("nan")])
def test_a_sign_that_is_none_counts_as_1(tmp_path: Path, sign: float) -> None:
    """pixdim[0], the handedness of the qform, is 0 in many files."""
    image = nibabel.Nifti1Image(voxels(), None)
    image.header.set_qform(oblique(), code=1)
    path = tmp_path / "a.nii"
    nibabel.save(image, path)
    expected = read_volume([path]).header.affine
    pixdim = image.header["pixdim"].copy()
    pixdim[0] = sign
    patched(path, {"pixdim": pixdim, "sform_code": 0})
    assert read_volume([path]).header.affine == expected


@given(st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_header_is_read_or_told_never_more(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    path = tmp_path / "a.nii"
    content = bytearray(saved(path, voxels(), affine=oblique()).read_bytes())
    for place, value in changes:
        content[place] = value
    path.write_bytes(content)
    with suppress(IssueError):
        read_volume([path])
    with suppress(IssueError):
        read_labels(path)
    with suppress(IssueError):
        read_grid(path)
