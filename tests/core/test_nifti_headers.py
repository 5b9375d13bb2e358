"""Headers of NIfTI files: axes, where voxels lie, what contradicts itself; against nibabel 5.4 and ITK."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import oblique, patched, rule, saved, voxels
from nnunet_rs.core import nifti
from nnunet_rs.core.image_file import compare_grids
from nnunet_rs.core.io import read_grid, read_labels, read_volume, write_labels
from nnunet_rs.core.issues import IssueError


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
