"""Segmentations written as NIfTI beside their image, against nibabel 5.4."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from image_files import oblique, patched, saved, voxels
from nnunet_rs.core.io import read_labels, read_volume, write_labels
from nnunet_rs.core.nifti import write_channels


def forms(kind: str) -> nibabel.Nifti1Image:
    """An image whose header says where it is by sform, qform, both alike, both differing, or not at all."""
    image = nibabel.Nifti1Image(voxels(), None)
    image.header.set_zooms((1.5, 0.8, 3.0))
    image.header.set_xyzt_units("mm", "sec")
    if kind in ("qform", "both", "different"):
        image.header.set_qform(oblique(), code=1)
    if kind in ("sform", "both", "different"):
        image.header.set_sform(oblique() if kind != "different" else oblique() + np.eye(4, k=3) * 9, code=4)
    if kind == "axis-aligned":
        image.header.set_sform(np.array([[-1.5, 0, 0, 9], [0, 0.8, 0, 8], [0, 0, 3, 7], [0, 0, 0, 1]]), code=2)
    return image


@pytest.mark.parametrize("kind", ["sform", "qform", "both", "different", "axis-aligned", "none"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_written_labels_open_beside_their_image(tmp_path: Path, kind: str, order: str) -> None:
    image = forms(kind)
    header = image.header.as_byteswapped(order)
    header["magic"], header["vox_offset"] = b"n+1", 352
    content = np.asarray(image.dataobj).astype(order + "i2").tobytes(order="F")
    (tmp_path / "image.nii").write_bytes(header.binaryblock + bytes(4) + content)

    volume = read_volume([tmp_path / "image.nii"])
    labels = (volume.data[0] > 50).astype(np.uint8)
    write_labels(tmp_path / "labels.nii.gz", labels, volume.header)

    given_, written = nibabel.load(tmp_path / "image.nii"), nibabel.load(tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), labels.T)
    assert written.get_data_dtype() == np.uint8
    assert written.shape == given_.shape
    np.testing.assert_array_equal(written.affine, given_.affine)
    for form in ("get_sform", "get_qform"):
        ours, theirs = (getattr(one, form)(coded=True) for one in (written, given_))
        assert ours[1] == theirs[1]
        np.testing.assert_array_equal(ours[0], theirs[0])
    assert written.header.get_zooms() == given_.header.get_zooms()
    assert written.header.get_xyzt_units() == given_.header.get_xyzt_units()
    for field in ("srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d", "pixdim", "qoffset_x"):
        np.testing.assert_array_equal(written.header[field], given_.header[field], field)


def test_labels_of_a_scaled_4d_image_are_plain_and_3d(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", voxels((4, 5, 6, 2)), affine=oblique(), cal_max=900, intent_code=1007)
    volume = read_volume([patched(path, {"scl_slope": 2, "scl_inter": -1024, "aux_file": b"lut"})])
    write_labels(tmp_path / "b.nii", np.full((6, 5, 4), 7, np.int64), volume.header)
    written = nibabel.load(tmp_path / "b.nii")
    assert written.shape == (4, 5, 6)
    assert (written.get_fdata() == 7).all()
    assert (written.header["cal_max"], written.header["intent_code"], written.header["aux_file"]) == (0, 0, b"")
    np.testing.assert_array_equal(written.affine, nibabel.load(path).affine)


@pytest.mark.parametrize(("top", "kind"), [(255, "u1"), (256, "u2"), (65535, "u2"), (65536, "i4")])
def test_the_smallest_type_that_holds_the_values(tmp_path: Path, top: int, kind: str) -> None:
    header = read_volume([saved(tmp_path / "a.nii", voxels())]).header
    labels = np.zeros((6, 5, 4), np.int64)
    labels[0, 0, 0] = top
    write_labels(tmp_path / "b.nii.gz", labels, header)
    assert nibabel.load(tmp_path / "b.nii.gz").get_data_dtype() == np.dtype(kind)
    np.testing.assert_array_equal(read_labels(tmp_path / "b.nii.gz").data, labels)


def test_the_same_labels_give_the_same_bytes(tmp_path: Path) -> None:
    header = read_volume([saved(tmp_path / "a.nii.gz", voxels())]).header
    for name in ("b.nii.gz", "c.nii.gz"):
        write_labels(tmp_path / name, voxels((6, 5, 4), "u1"), header)
    assert (tmp_path / "b.nii.gz").read_bytes() == (tmp_path / "c.nii.gz").read_bytes()
    assert gzip.decompress((tmp_path / "b.nii.gz").read_bytes())[:4] == (348).to_bytes(4, "little")


def test_channels_of_a_slice_open_beside_it(tmp_path: Path) -> None:
    """The slice's header leaves its third axis out; a file of channels needs it."""
    path = saved(tmp_path / "a.nii", voxels((4, 5)), np.diag([2, 3, 1, 1]))
    image = read_volume([patched(path, {"pixdim": [1, 2, 3, 0, 0, 0, 0, 0], "srow_z": [0, 0, 0, 7]})])
    scores = np.arange(40, dtype=np.float32).reshape(2, 1, 5, 4)
    write_channels(tmp_path / "b.nii.gz", [scores], scores.shape, image.header)
    again = read_volume([tmp_path / "b.nii.gz"])
    np.testing.assert_array_equal(again.data, scores)
    assert (again.spacing, again.header.affine) == (image.spacing, image.header.affine)


def test_labels_of_another_grid_are_refused(tmp_path: Path) -> None:
    header = read_volume([saved(tmp_path / "a.nii", voxels())]).header
    with pytest.raises(ValueError, match=r"labels \(z, y, x\) are \(4, 5, 6\), the header's grid is \(6, 5, 4\)"):
        write_labels(tmp_path / "b.nii", np.zeros((4, 5, 6), np.uint8), header)
    with pytest.raises(ValueError, match="integer array"):
        write_labels(tmp_path / "b.nii", np.zeros((6, 5, 4), np.float32), header)
    assert not (tmp_path / "b.nii").exists()
