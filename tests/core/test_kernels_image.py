"""Image resampling against skimage.transform.resize and scipy.ndimage (checked with 0.26 and 1.17), and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.core.kernels import resample_image
from skimage.transform import resize

TOLERANCE = 1e-5  # of the value range


def smooth_and_rough(shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * 100 + rng.integers(-2000, 2000)).astype(np.float32)


def reference(image: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    """nnU-Net's isotropic resampling."""
    return np.stack([resize(c.astype(np.float64), shape, order=order, mode="edge", anti_aliasing=False) for c in image])


def reference_slices(image: np.ndarray, shape: tuple[int, ...], order: int, axis: int) -> np.ndarray:
    """nnU-Net's anisotropic resampling: each slice by itself, then the nearest slice."""
    slices = np.moveaxis(image, axis + 1, 1).astype(np.float64)  # (c, n, ...)
    plane = tuple(n for a, n in enumerate(shape) if a != axis)
    kwargs = {"order": order, "mode": "edge", "anti_aliasing": False}
    resized = np.stack([np.stack([resize(s, plane, **kwargs) for s in channel]) for channel in slices])
    n_in, n_out = slices.shape[1], shape[axis]
    nearest = (2 * np.arange(n_out) + 1) * n_in // (2 * n_out)
    return np.moveaxis(resized[:, nearest], 1, axis + 1)


def assert_close(result: np.ndarray, expected: np.ndarray, image: np.ndarray) -> None:
    assert result.dtype == np.float32
    assert result.shape == expected.shape
    scale = max(float(np.ptp(image)), 1e-30)
    # The input itself is rounded to float32: a range far from zero cannot be told finer than its voxels.
    scale = max(scale, 0.05 * float(np.abs(image).max()))
    assert np.abs(result - expected).max() <= TOLERANCE * scale


sizes = st.integers(1, 24)
shapes = st.integers(2, 3).flatmap(lambda n: st.tuples(st.tuples(*[sizes] * n), st.tuples(*[sizes] * n)))


@settings(max_examples=60, deadline=None)
@given(shapes=shapes, order=st.sampled_from([0, 1, 3]), channels=st.integers(1, 3), seed=st.integers(0, 99))
def test_equals_skimage(shapes, order, channels, seed):
    source, target = shapes
    image = smooth_and_rough((channels, *source), seed)
    assert_close(resample_image(image, target, order=order), reference(image, target, order), image)


@settings(max_examples=40, deadline=None)
@given(shapes=shapes, order=st.sampled_from([0, 1, 3]), axis=st.integers(0, 2), seed=st.integers(0, 99))
def test_equals_skimage_slice_by_slice(shapes, order, axis, seed):
    source, target = shapes
    axis = min(axis, len(source) - 1)
    image = smooth_and_rough((1, *source), seed)
    if len(source) == 2:  # lines instead of slices: skimage sees them as (n, 1)
        image, lifted = image[:, None], 1
        source, target = (1, *source), (1, *target)
        result = resample_image(image[:, 0], target[1:], order=order, lowres_axis=axis)[:, None]
        axis += lifted
    else:
        result = resample_image(image, target, order=order, lowres_axis=axis)
    assert_close(result, reference_slices(image, target, order, axis), image)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((70, 5, 130), (90, 9, 61)),
        ((33, 64, 40), (20, 50, 37)),
        ((4, 4, 4), (64, 2, 1)),
        pytest.param((2, 300, 210), (2, 280, 190), id="several strips of columns along y"),
        pytest.param((300, 2, 150), (330, 2, 150), id="several strips along z, within the result"),
        pytest.param((300, 2, 150), (270, 3, 149), id="several strips along z"),
    ],
)
@pytest.mark.parametrize("order", [0, 1, 3])
def test_equals_skimage_beyond_one_block_of_lanes(source, target, order):
    image = smooth_and_rough((1, *source), 7)
    assert_close(resample_image(image, target, order=order), reference(image, target, order), image)


def test_a_line_by_hand():
    # Output voxels lie at (i + 1/2) 2/4 - 1/2 = -1/4, 1/4, 3/4, 5/4 of the input.
    image = np.array([[[0.0, 8.0]]], dtype=np.float32)
    np.testing.assert_array_equal(resample_image(image, (1, 4), order=0), [[[0, 0, 8, 8]]])
    np.testing.assert_array_equal(resample_image(image, (1, 4), order=1), [[[0, 2, 6, 8]]])


def test_half_way_takes_the_later_voxel():
    image = np.array([[[1.0, 2.0]]], dtype=np.float32)
    np.testing.assert_array_equal(resample_image(image, (1, 1), order=0), [[[2]]])


def test_splines_overshoot_and_are_clipped_to_the_channels_range():
    image = np.zeros((2, 1, 16), dtype=np.float32)
    image[0, 0, 8:] = 1
    image[1, 0, 8:] = 5
    result = resample_image(image, (1, 64))
    assert result[0].min() == 0
    assert result[0].max() == 1
    assert result[1].max() == 5


def test_slices_are_clipped_to_their_own_range():
    image = np.zeros((1, 2, 1, 16), dtype=np.float32)
    image[0, 0, 0, 8:] = 1
    image[0, 1, 0, :] = 7
    result = resample_image(image, (2, 1, 64), lowres_axis=0)
    assert result[0, 0].max() == 1
    assert (result[0, 1] == 7).all()


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("lowres_axis", [None, 0, 1, 2])
def test_the_same_shape_is_an_exact_copy(order, lowres_axis):
    image = smooth_and_rough((2, 5, 6, 7), 1)
    image[0, 0, 0, 0], image[0, 1, 1, 1], image[1, 0, 0, 0] = np.nan, -0.0, np.inf
    result = resample_image(image, (5, 6, 7), order=order, lowres_axis=lowres_axis)
    assert result is not image
    assert result.tobytes() == image.tobytes()


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("value", [0.1, -1e30, 3e38, 1e-42, 0.0])
@pytest.mark.parametrize("lowres_axis", [None, 0, 2])
def test_constant_stays_exactly_constant(order, value, lowres_axis):
    image = np.full((1, 7, 40, 9), value, dtype=np.float32)
    assert (resample_image(image, (11, 37, 50), order=order, lowres_axis=lowres_axis) == image.flat[0]).all()


def test_denormals_are_kept():
    image = np.full((1, 2, 2), 2.0**-149, dtype=np.float32)
    image[0, 0] = 2.0**-140
    assert_close(resample_image(image, (6, 2)), reference(image, (6, 2), 3), image)
    assert resample_image(image, (6, 2), order=1).max() == np.float32(2.0**-140)


@settings(max_examples=25, deadline=None)
@given(order=st.sampled_from([0, 1, 3]), seed=st.integers(0, 999))
def test_takes_any_strides(order, seed):
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((2, 12, 40, 14), dtype=np.float32)
    view = np.transpose(base, rng.permutation(4))
    view = view[tuple(slice(None, None, step) for step in rng.choice([-2, -1, 1, 2], 4))]
    target = tuple(int(n) for n in rng.integers(1, 20, 3))
    lowres_axis = rng.choice([None, 0, 1, 2])
    expected = resample_image(np.ascontiguousarray(view), target, order=order, lowres_axis=lowres_axis)
    np.testing.assert_array_equal(resample_image(view, target, order=order, lowres_axis=lowres_axis), expected)


def test_takes_broadcast_and_packed_arrays():
    broadcast = np.broadcast_to(np.arange(6, dtype=np.float32), (1, 5, 6))
    np.testing.assert_array_equal(resample_image(broadcast, (5, 9)), resample_image(broadcast.copy(), (5, 9)))
    records = np.zeros((1, 5, 6), dtype=[("flag", "u1"), ("value", "f4")])
    records["value"] = broadcast
    np.testing.assert_array_equal(resample_image(records["value"], (5, 9)), resample_image(broadcast.copy(), (5, 9)))


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("target", [(30, 50, 40), (9, 11, 12), (9, 50, 12)])
def test_one_and_many_threads_give_the_same_bits(order, target):
    image = smooth_and_rough((2, 20, 33, 35), 3)
    one = resample_image(image, target, order=order, threads=1)
    for threads in (2, 5, None):
        assert resample_image(image, target, order=order, threads=threads).tobytes() == one.tobytes()


def test_nan_reaches_only_the_taps_of_a_linear_resampling():
    image = np.zeros((2, 8, 8, 8), dtype=np.float32)
    image[0, 4, 4, 4] = np.nan
    result = resample_image(image, (12, 12, 12), order=1)
    position = (np.arange(12) + 0.5) * 8 / 12 - 0.5
    near = np.abs(position - 4) < 1
    expected = near[:, None, None] & near[:, None] & near
    np.testing.assert_array_equal(np.isnan(result[0]), expected)
    assert not np.isnan(result[1]).any()


def test_nan_under_a_spline_stays_in_its_channel_and_slice():
    # The spline through the voxels depends on every voxel of its lanes, so NaN spreads as far as SciPy's does.
    image = np.zeros((2, 4, 6, 6), dtype=np.float32)
    image[0, 1, 2, 2] = np.nan
    volume = resample_image(image, (4, 9, 9))
    np.testing.assert_array_equal(np.isnan(volume[0]).all(axis=(1, 2)), [False, True, False, False])
    assert not np.isnan(volume[0, [0, 2, 3]]).any()
    assert not np.isnan(volume[1]).any()
    slices = resample_image(image, (8, 9, 9), lowres_axis=0)
    np.testing.assert_array_equal(np.isnan(slices[0]).any(axis=(1, 2)), [0, 0, 1, 1, 0, 0, 0, 0])


@pytest.mark.parametrize("order", [0, 1])
def test_infinite_values_reach_only_their_taps(order):
    image = np.zeros((1, 1, 8), dtype=np.float32)
    image[0, 0, 3] = np.inf
    result = resample_image(image, (1, 16), order=order)
    assert np.isposinf(result).any()
    assert (result[0, 0, :5] == 0).all()
    assert (result[0, 0, 10:] == 0).all()


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_axis_alone(order, axis):
    # The other two keep their voxels, and the clipping to the range still happens.
    image = np.where(smooth_and_rough((1, 9, 34, 35), 2) > 0, np.float32(1), np.float32(0))
    target = tuple(2 * n - 1 if a == axis else n for a, n in enumerate((9, 34, 35)))
    result = resample_image(image, target, order=order)
    assert_close(result, reference(image, target, order), image)
    assert result.min() == image.min()
    assert result.max() == image.max()


def test_huge_ratios():
    image = smooth_and_rough((1, 300, 3), 5)
    assert_close(resample_image(image, (1, 2)), reference(image, (1, 2), 3), image)
    small = smooth_and_rough((1, 2, 1), 6)
    assert_close(resample_image(small, (4000, 3)), reference(small, (4000, 3), 3), small)


@pytest.mark.parametrize(
    "target",
    [
        pytest.param((9, 70, 80), id="fewer slices of more voxels, across first"),
        pytest.param((9, 20, 21), id="fewer of everything, in the planes first"),
        pytest.param((30, 20, 80), id="more slices, within the result"),
    ],
)
@pytest.mark.parametrize("order", [1, 3])
def test_every_order_of_the_axes(target, order):
    image = smooth_and_rough((1, 20, 33, 35), 8)
    assert_close(resample_image(image, target, order=order), reference(image, target, order), image)
    view = image.swapaxes(1, 3)
    swapped = target[::-1]
    assert_close(resample_image(view, swapped, order=order), reference(view, swapped, order), image)
