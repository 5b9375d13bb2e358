"""Segmentations as SimpleITK writes them and images that it wrote; reading is tested format by format."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.io import read_grid, read_labels, read_scan, read_volume, write_labels
from nnunet_rs.core.issues import IssueError

DIRECTION = (0.0, -1.0, 0.0, 0.8, 0.0, -0.6, 0.6, 0.0, 0.8)  # a rotation, row by row
ORIGIN = (-12.5, 30.0, 7.75)


def saved(path: Path, array: np.ndarray, *, vector: bool = False, placed: bool = False) -> Path:
    image = sitk.GetImageFromArray(array, isVector=vector)
    if placed:
        image.SetSpacing((0.7, 0.9, 2.5))
        image.SetDirection(DIRECTION)
        image.SetOrigin(ORIGIN)
    sitk.WriteImage(image, str(path))
    return path


def noise(shape: tuple[int, ...], kind: str = "u1") -> np.ndarray:
    return np.random.default_rng(3).integers(0, 200, shape).astype(kind)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize("kind", ["u1", "i2", "f4", "f8"])
def test_volumes_and_their_place(tmp_path: Path, ending: str, kind: str) -> None:
    array = noise((3, 4, 5), kind)
    path = saved(tmp_path / f"a{ending}", array, placed=True)
    volume = read_volume([path])
    np.testing.assert_array_equal(volume.data[0], array)
    assert volume.data.dtype == np.float32
    assert volume.spacing == (2.5, 0.9, 0.7)
    assert read_grid(path) == ((1, 3, 4, 5), (2.5, 0.9, 0.7))
    # The affine is that of the same image written as NIfTI by ITK and read by nibabel.
    sitk.WriteImage(sitk.ReadImage(str(path)), str(tmp_path / "a.nii"))
    np.testing.assert_allclose(volume.header.affine, nibabel.load(tmp_path / "a.nii").affine, atol=1e-5)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".mhd"])
def test_written_labels_lie_where_the_image_lies(tmp_path: Path, ending: str) -> None:
    volume = read_volume([saved(tmp_path / "a.mha", noise((3, 4, 5), "i2"), placed=True)])
    labels = noise((3, 4, 5))
    path = tmp_path / "out" / f"b{ending}"
    write_labels(path, labels.astype(np.int64), volume.header)
    written = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), labels)
    np.testing.assert_allclose(written.GetSpacing(), (0.7, 0.9, 2.5), rtol=1e-12)
    np.testing.assert_allclose(written.GetOrigin(), ORIGIN, rtol=1e-12)
    np.testing.assert_allclose(written.GetDirection(), DIRECTION, atol=1e-12)
    back = read_labels(path)
    np.testing.assert_array_equal(back.data, labels)
    assert not [one for one in path.parent.iterdir() if one.name.startswith(".")]


def test_nifti_and_nrrd_stand_in_for_one_another(tmp_path: Path) -> None:
    volume = read_volume([saved(tmp_path / "a.nrrd", noise((3, 4, 5)), placed=True)])
    write_labels(tmp_path / "b.nii.gz", noise((3, 4, 5)), volume.header)
    again = read_labels(tmp_path / "b.nii.gz")
    np.testing.assert_allclose(again.header.affine, volume.header.affine, atol=1e-5)
    np.testing.assert_allclose(again.spacing, volume.spacing, rtol=1e-6)
    write_labels(tmp_path / "c.nrrd", again.data, again.header)
    np.testing.assert_allclose(sitk.ReadImage(str(tmp_path / "c.nrrd")).GetDirection(), DIRECTION, atol=1e-6)


@pytest.mark.parametrize("ending", [".png", ".tif", ".tiff", ".bmp"])
def test_a_picture_is_one_slice_and_colours_are_channels(tmp_path: Path, ending: str) -> None:
    grey, colour = noise((6, 7)), noise((6, 7, 3))
    volume = read_volume([saved(tmp_path / f"a{ending}", grey)])
    np.testing.assert_array_equal(volume.data, grey[np.newaxis, np.newaxis])
    assert volume.spacing == (1.0, 1.0, 1.0)
    path = saved(tmp_path / f"b{ending}", colour, vector=True)
    volume = read_volume([path])
    np.testing.assert_array_equal(volume.data[:, 0], np.moveaxis(colour, -1, 0))
    assert volume.data.flags.c_contiguous
    assert read_grid(path) == ((3, 1, 6, 7), (1.0, 1.0, 1.0))
    write_labels(tmp_path / f"c{ending}", (grey[np.newaxis] > 99).astype(np.int32), volume.header)
    assert sitk.ReadImage(str(tmp_path / f"c{ending}")).GetSize() == (7, 6)
    np.testing.assert_array_equal(read_labels(tmp_path / f"c{ending}").data, grey[np.newaxis] > 99)


def test_vectors_and_a_fourth_axis_are_channels(tmp_path: Path) -> None:
    array = noise((3, 4, 5, 2), "i2")
    volume = read_volume([saved(tmp_path / "a.nrrd", array, vector=True)])
    np.testing.assert_array_equal(volume.data, np.moveaxis(array, -1, 0))
    volume = read_volume([saved(tmp_path / "b.mha", array)])  # four axes: t, z, y, x
    np.testing.assert_array_equal(volume.data, array)
    assert read_scan(tmp_path / "b.mha").shape == (4, 5, 2)


def test_the_spacing_of_a_tiff_stack_stands_beside_it(tmp_path: Path) -> None:
    stack = noise((3, 6, 7))
    path = saved(tmp_path / "case_0000.tif", stack)
    assert read_volume([path]).spacing == (1.0, 1.0, 1.0)
    (tmp_path / "case.json").write_text(json.dumps({"spacing": [4, 0.5, 0.5]}))
    volume = read_volume([path])
    assert volume.spacing == (4.0, 0.5, 0.5)
    assert read_grid(path) == ((1, 3, 6, 7), (4.0, 0.5, 0.5))
    write_labels(tmp_path / "out.tif", stack, volume.header)
    assert json.loads((tmp_path / "out.json").read_text()) == {"spacing": [4.0, 0.5, 0.5]}
    assert read_labels(tmp_path / "out.tif").spacing == (4.0, 0.5, 0.5)
    (tmp_path / "case.json").write_text("{}")
    with pytest.raises(IssueError, match=r"case\.json: spacing-invalid: spacing is None; give three numbers"):
        read_volume([path])


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("a.png", b"", "file-empty"),
        ("a.png", b"no picture", "format"),
        ("a.tif", b"no picture", "format"),
        ("a.bmp", b"no picture", "format"),
        ("a.nrrd", b"no picture", "format"),
        ("a.mha", b"no picture", "format"),
        ("a.mha", b"\x89PNG\r\n\x1a\n", "format"),
        ("a.nrrd", b"NRRD0004\ntype: uchar\n", "header-invalid"),
        ("a.mha", b"ObjectType = Image\n", "header-invalid"),
    ],
)
def test_broken_files_are_told(tmp_path: Path, name: str, content: bytes, rule: str) -> None:
    (tmp_path / name).write_bytes(content)
    for read in (read_scan, read_grid):
        with pytest.raises(IssueError) as caught:
            read(tmp_path / name)
        assert caught.value.issue.rule == rule
        assert "\n" not in str(caught.value)


def test_a_truncated_file_is_told(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nrrd", noise((8, 9, 10)))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(IssueError, match=r"a\.nrrd: file-truncated: ends early: 620 bytes of voxels"):
        read_volume([path])


def test_missing_and_complex_files(tmp_path: Path) -> None:
    with pytest.raises(IssueError, match="missing: no such file"):
        read_volume([tmp_path / "a.png"])
    path = saved(tmp_path / "a.nrrd", np.zeros((3, 4, 5), np.complex64))
    with pytest.raises(IssueError, match="voxel-type: complex"):
        read_volume([path])


def test_what_a_picture_cannot_hold_writes_nothing(tmp_path: Path) -> None:
    header = read_volume([saved(tmp_path / "a.png", noise((6, 7)))]).header
    with pytest.raises(ValueError, match="holds one slice, the labels have 2"):
        write_labels(tmp_path / "b.png", np.zeros((2, 6, 7), np.uint8), header)
    with pytest.raises(NnunetError, match=r"b\.png: cannot be written: .*format holds such labels"):
        write_labels(tmp_path / "b.png", np.full((1, 6, 7), 70000), header)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_labels_in_colour_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IssueError, match=r"channels: 3 channels .* in one label file"):
        read_labels(saved(tmp_path / "a.png", noise((6, 7, 3)), vector=True))
