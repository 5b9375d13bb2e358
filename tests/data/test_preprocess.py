from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.core.errors import DatasetError, PlanError
from nnunet_rs.core.types import Header, LabelSet, Volume
from nnunet_rs.data.preprocess import Cropped, narrowed, nonzero_mask, prepare
from nnunet_rs.plan.schema import ChannelStats, Configuration, Normalization, Plan
from scipy.ndimage import binary_fill_holes
from skimage.transform import resize

HEADER = Header("nifti", tuple(tuple(row) for row in np.eye(4).tolist()))
STATS = ChannelStats(0, 1, 0, -1, 1, -1, 1)


def _configuration(name: str, spacing: tuple[float, ...], patch: tuple[int, ...]) -> Configuration:
    ones = ((1,) * len(patch),)
    return Configuration(
        name, spacing, patch, 2, patch, ones, ones, (8,), (2,), (), False, False, False, memory_estimate=1
    )


def _plan(
    spacing: tuple[float, float, float],
    transpose: tuple[int, int, int] = (0, 1, 2),
    scheme: Normalization | None = None,
) -> Plan:
    return Plan(
        dataset="made",
        recipe="paper",
        transpose=transpose,
        channels=("MRI",),
        labels=LabelSet(("background", "a"), (0, 1)),
        normalization=(scheme or Normalization("none", False, STATS),),
        configurations={
            "2d": _configuration("2d", spacing[1:], (8, 8)),
            "3d_fullres": _configuration("3d_fullres", spacing, (8, 8, 8)),
        },
    )


def _volume(shape: tuple[int, ...] = (6, 9, 8), spacing: tuple[float, float, float] = (2, 1, 1)) -> Volume:
    """Non-zero but for a margin of one voxel before and two behind."""
    data = np.zeros((1, *shape), np.float32)
    inner = data[:, 1:-2, 1:-2, 1:-2]
    inner[...] = np.random.default_rng(0).uniform(1, 2, inner.shape)
    return Volume(data, spacing, HEADER)


def test_crop_only_where_spacing_is_the_target() -> None:
    volume = _volume()
    labels = np.arange(volume.data[0].size, dtype=np.uint16).reshape(volume.data.shape[1:])
    found = prepare(volume, _plan((2, 1, 1)), "3d_fullres", labels)
    np.testing.assert_array_equal(found.image, volume.data[:, 1:-2, 1:-2, 1:-2])
    np.testing.assert_array_equal(found.labels, labels[1:-2, 1:-2, 1:-2])
    assert found.mask is None
    assert found.geometry.box == ((1, 4), (1, 7), (1, 6))
    assert found.geometry.resampled == found.geometry.cropped_shape == (3, 6, 5)


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [
        (0, 255, np.uint8),
        (0, 256, np.int16),
        (-1, 3, np.int16),
        (0, 40_000, np.uint16),
        (-1, 40_000, None),
        (0, 1e9, None),
    ],
)
def test_integers_are_held_as_such(low: float, high: float, kind: type | None) -> None:
    data = np.full((1, 2, 3, 4), low, np.float32)
    data[0, 1, 2, 3] = high
    found = narrowed(Cropped(data, None, ((0, 2), (0, 3), (0, 4)), (2, 3, 4), (1, 1, 1), HEADER)).image
    assert found.dtype == (kind or np.float32)
    np.testing.assert_array_equal(found, data)


@pytest.mark.parametrize("place", [(0, 0, 0, 0), (0, 1, 2, 3)])
def test_one_fraction_keeps_floats(place: tuple[int, ...]) -> None:
    data = np.ones((1, 2, 3, 4), np.float32)
    data[place] = 1.5
    assert narrowed(Cropped(data, None, ((0, 2), (0, 3), (0, 4)), (2, 3, 4), (1, 1, 1), HEADER)).image is data


def test_the_volume_is_not_changed() -> None:
    volume = _volume()
    before = volume.data.copy()
    prepare(volume, _plan((2, 1, 1), scheme=Normalization("zscore", False, STATS)), "3d_fullres")
    np.testing.assert_array_equal(volume.data, before)


def test_resampled_as_skimage_does() -> None:
    volume = _volume((20, 18, 16), (1, 1, 1))
    found = prepare(volume, _plan((1.5, 0.8, 1.2)), "3d_fullres")
    inner = volume.data[0, 1:-2, 1:-2, 1:-2]
    assert found.geometry.resampled == (11, 19, 11)  # 17/1.5, 15/.8, 13/1.2
    expected = resize(inner.astype(np.float64), (11, 19, 11), order=3, mode="edge", anti_aliasing=False)
    np.testing.assert_allclose(found.image[0], expected, atol=2e-5)


def test_two_dimensional_keeps_the_slices() -> None:
    found = prepare(_volume(), _plan((9, 0.5, 0.5)), "2d", np.ones((6, 9, 8), np.uint8))
    assert found.image.shape == (1, 3, 12, 10)
    assert found.labels is not None
    assert found.labels.shape == (3, 12, 10)


def test_working_axes_and_the_way_back() -> None:
    volume = _volume((6, 9, 8), (1, 1, 4))
    labels = np.random.default_rng(1).integers(0, 2, (6, 9, 8)).astype(np.uint8)
    plan = _plan((4, 1, 1), transpose=(2, 0, 1))
    found = prepare(volume, plan, "3d_fullres", labels)
    np.testing.assert_array_equal(found.image[0], volume.data[0].transpose(2, 0, 1)[1:-2, 1:-2, 1:-2])
    assert found.image.flags.c_contiguous
    assert found.labels is not None
    inside = np.zeros_like(labels)
    inside[1:-2, 1:-2, 1:-2] = labels[1:-2, 1:-2, 1:-2]
    np.testing.assert_array_equal(found.geometry.undo(found.labels), inside)
    assert found.geometry.working_spacing == (4, 1, 1)


def test_anisotropic_labels_keep_to_their_slices() -> None:
    volume = _volume((9, 16, 16), (5, 1, 1))
    labels = np.zeros((9, 16, 16), np.uint8)
    labels[3] = 1
    found = prepare(volume, _plan((2.5, 1, 1)), "3d_fullres", labels)
    assert found.labels is not None
    assert found.labels.any(axis=(1, 2)).tolist() == [False] * 4 + [True] * 2 + [False] * 6


def test_mask_goes_with_the_image() -> None:
    volume = _volume((20, 20, 20), (1, 1, 1))
    volume.data[0, 1:5, 1:5, 1:5] = 0  # a corner: outside
    volume.data[0, 9, 9, 9] = 0  # a hole: inside
    masked = Normalization("zscore", True, STATS)
    whole = prepare(volume, _plan((1, 1, 1), scheme=masked), "3d_fullres")
    assert whole.mask is not None
    assert not whole.mask[:4, :4, :4].any()
    assert whole.mask.sum() == whole.mask.size - 64
    assert not whole.image[0][~whole.mask].any()
    assert whole.image[0, 8, 8, 8] != 0
    half = prepare(volume, _plan((2, 2, 2), scheme=masked), "3d_fullres")
    assert half.mask is not None
    assert half.mask.shape == half.image.shape[1:]
    assert not half.mask[:2, :2, :2].any()
    assert half.mask[3:, 3:, 3:].all()


def test_an_empty_image_is_kept_whole() -> None:
    volume = replace(_volume(), data=np.zeros((1, 6, 9, 8), np.float32))
    found = prepare(volume, _plan((2, 1, 1), scheme=Normalization("zscore", True, STATS)), "3d_fullres")
    assert found.image.shape == (1, 6, 9, 8)
    assert not found.image.any()


@given(st.integers(0, 1000), st.tuples(*[st.integers(1, 7)] * 3))
@settings(max_examples=40, deadline=None)
def test_nonzero_mask_fills_holes_as_scipy_does(seed: int, shape: tuple[int, int, int]) -> None:
    image = (np.random.default_rng(seed).random((2, *shape)) > 0.55).astype(np.float32)
    np.testing.assert_array_equal(nonzero_mask(image), binary_fill_holes((image != 0).any(axis=0)))


def test_faults() -> None:
    with pytest.raises(PlanError, match=r"no configuration '3d_lowres'; did you mean 3d_fullres\? there are 2d"):
        prepare(_volume(), _plan((1, 1, 1)), "3d_lowres")
    with pytest.raises(DatasetError, match=r"labels of shape \(2, 2, 2\) on an image of shape \(6, 9, 8\)"):
        prepare(_volume(), _plan((1, 1, 1)), "3d_fullres", np.zeros((2, 2, 2), np.uint8))
    two = replace(_volume(), data=np.ones((2, 4, 4, 4), np.float32))
    with pytest.raises(PlanError, match="the plan normalises 1 channels, the image has 2"):
        prepare(two, _plan((1, 1, 1)), "3d_fullres")
