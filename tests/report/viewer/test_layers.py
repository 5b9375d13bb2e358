from __future__ import annotations

import nibabel
import numpy as np
import pytest
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.types import LabelSet
from nnunet_rs.report.viewer.layers import Voxels, colour_table, difference, distance, nifti, outlined, steps, window

AFFINE = np.array([[-2.0, 0, 0, 5], [0, 1, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])


def opened(content: bytes) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image.from_bytes(content)


@pytest.mark.parametrize("kind", ["uint8", ">i2", "uint16", "int32", "float32", "float64", "int64", "float16", "int8"])
def test_a_layer_arrives_as_it_is(kind: str) -> None:
    data = np.arange(24).reshape(2, 3, 4).astype(kind)
    found = opened(nifti(Voxels(data, AFFINE, 0.5, -1.0), 1))
    np.testing.assert_allclose(np.asarray(found.dataobj).T, data.astype(float) * 0.5 - 1)
    np.testing.assert_allclose(found.affine, AFFINE)


def test_every_nth_voxel_stays_where_it_is() -> None:
    data = np.arange(5 * 6 * 7).reshape(5, 6, 7).astype(np.int16)
    found = opened(nifti(Voxels(data, AFFINE), 2))
    np.testing.assert_array_equal(np.asarray(found.dataobj).T, data[::2, ::2, ::2])
    assert found.affine @ (1, 1, 1, 1) == pytest.approx(AFFINE @ (2, 2, 2, 1))


def test_large_volumes_come_in_steps() -> None:
    assert steps((10, 20, 30)) == (1,)
    assert steps((400, 512, 512)) == (3, 2, 1)
    assert steps((1000, 1000, 1000))[-1] == 1


def test_a_ct_shows_soft_tissue_and_others_nearly_all() -> None:
    ct = Voxels(np.array([[[-1000, 0, 50]]], np.int16), AFFINE)
    assert window(ct) == (-160, 240)
    assert window(Voxels(ct.data + 1000, AFFINE, 1, -1000)) == (-160, 240)
    low, high = window(Voxels(np.linspace(0, 100, 1001, dtype=np.float32).reshape(1, 1, -1), AFFINE))
    assert (low, high) == pytest.approx((0.6, 99.5), abs=0.2)
    assert window(Voxels(np.full((1, 1, 2), np.nan), AFFINE)) == (0, 1)
    low, high = window(Voxels(np.zeros((2, 2, 2)), AFFINE))
    assert low < high


def test_differences_tell_missed_from_too_much() -> None:
    found, truth = (Voxels(np.array([[values]], np.uint8), AFFINE) for values in ([0, 1, 1, 2, 0], [1, 0, 1, 1, 0]))
    assert difference(found, truth).data.tolist() == [[[1, 2, 0, 1, 0]]]
    with pytest.raises(DatasetError, match="other sizes"):
        difference(found, Voxels(truth.data[..., :2], AFFINE))


def test_labels_have_names_and_colours() -> None:
    rows = colour_table(LabelSet(("background", "liver", "tumour"), (0, 1, 7)))
    assert [(row["value"], row["name"]) for row in rows] == [(1, "liver"), (7, "tumour")]
    assert rows[0]["colour"] != rows[1]["colour"]
    assert [row["name"] for row in colour_table(None, (3, 9))] == ["label 3", "label 9"]


def test_grids_that_lie_elsewhere_are_told_by_their_corners() -> None:
    data = np.zeros((2, 3, 4))
    moved, shifted, turned = AFFINE.copy(), AFFINE.copy(), AFFINE.copy()
    moved[:3, 3] += (30, 40, 0)
    shifted[0, 3] += 0.4  # less than half of the smallest voxel, 1 mm
    turned[0, 0] = 2
    assert distance(Voxels(data, AFFINE), Voxels(data, moved)) == pytest.approx(50)
    assert distance(Voxels(data, AFFINE), Voxels(data, shifted)) == 0
    assert distance(Voxels(data, AFFINE), Voxels(data, turned)) == pytest.approx(12)  # 4 mm for each of 3 steps


def test_an_outline_leaves_what_lies_within_free() -> None:
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[1:4, 1:5, 1:6] = 1
    labels[1:4, 1:5, 4:6] = 2
    found = outlined(labels)
    inside = np.zeros(labels.shape, bool)
    inside[2, 2:4, 2] = True  # of the first; the second is two voxels wide
    assert np.array_equal(found, np.where(inside, 0, labels))
    flat = np.zeros((1, 6, 7), bool)
    flat[0, 2:4, 2] = True
    assert np.array_equal(outlined(labels[2:3]), np.where(flat, 0, labels[2:3]))  # a slice by itself
    sent = opened(nifti(Voxels(labels, AFFINE), 1, outline=True))
    assert np.array_equal(np.asarray(sent.dataobj).T, found)
