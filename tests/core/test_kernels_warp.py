"""Warping against scipy.ndimage.map_coordinates (checked with 1.17) and batchgenerators 0.25, and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from batchgenerators.augmentations.utils import interpolate_img
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.core.kernels import Elastic, SpatialWarp, warp
from scipy.ndimage import gaussian_filter, map_coordinates

sides = st.integers(1, 16)
grids = st.integers(2, 3).flatmap(lambda n: st.tuples(st.tuples(*[sides] * n), st.tuples(*[sides] * n)))


def parameters(size: Any, shape: Any, seed: int, elastic: Elastic | None = None) -> SpatialWarp:
    """Any linear map about somewhere in the middle of the image."""
    rng = np.random.default_rng(seed)
    matrix = rng.uniform(-1.2, 1.2, (len(size), len(size)))
    centre = [(n - 1) * rng.uniform(0.2, 0.8) for n in size]
    return SpatialWarp(shape, tuple(map(tuple, matrix.tolist())), tuple(centre), elastic)


def unit(axes: int) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, np.eye(axes).tolist()))


def positions(p: SpatialWarp) -> np.ndarray:
    mesh = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in p.shape), indexing="ij")
    centre = np.reshape(p.centre, (-1, *[1] * len(p.shape)))
    return np.tensordot(np.array(p.matrix), np.array(mesh), axes=1) + centre


def near_a_border(where: np.ndarray, size: Any, slack: float = 1e-6) -> np.ndarray:
    """Positions that rounding could carry in or out of the image."""
    last = np.reshape(size, (-1, *[1] * (where.ndim - 1))) - 1
    return (np.minimum(np.abs(where), np.abs(where - last)) < slack).any(axis=0)


@settings(max_examples=60, deadline=None)
@given(grid=grids, order=st.sampled_from([0, 1, 3]), seed=st.integers(0, 999), threads=st.sampled_from([1, 2]))
def test_images_equal_scipy(grid, order, seed, threads):
    size, shape = grid
    image = (np.random.default_rng(seed).standard_normal((2, *size)) * 50 + 100).astype(np.float32)
    p = parameters(size, shape, seed)
    result, none = warp(image, None, p, order=order, border=-7, threads=threads)
    assert none is None
    assert result.dtype == np.float32
    assert result.shape == (2, *shape)
    where = positions(p)
    options = {"order": order, "mode": "constant", "cval": -7}
    expected = [map_coordinates(channel.astype(np.float64), where, **options) for channel in image]
    wrong = np.abs(result - expected) > (1e-4 * np.abs(image).max())
    if order == 0:
        wrong &= (np.abs(where % 1 - 0.5) > 1e-6).all(axis=0)
    assert not (wrong & ~near_a_border(where, size)).any()


@settings(max_examples=60, deadline=None)
@given(grid=grids, seed=st.integers(0, 999), dtype=st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "f4"]))
def test_labels_equal_batchgenerators(grid, seed, dtype):
    size, shape = grid
    labels = np.random.default_rng(seed).integers(0, 6, (1, *size)).astype(dtype)
    p = parameters(size, shape, seed)
    image = np.zeros((1, *size), np.float32)
    _, result = warp(image, labels, p, label_border=9)
    assert result.dtype == labels.dtype
    where = positions(p)
    expected = interpolate_img(labels[0], where, order=1, mode="constant", cval=9, is_seg=True)
    scores = [map_coordinates((labels[0] == label).astype(float), where, order=1) for label in np.unique(labels)]
    ranked = np.sort([*scores, np.zeros(shape)], axis=0)
    tied = ranked[-1] - ranked[-2] < 1e-5
    assert not ((result[0] != expected) & ~tied & ~near_a_border(where, size)).any()


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("size", [(5, 6, 7), (6, 7), (1, 1, 1), (2, 1, 3)])
def test_identity(order, size):
    rng = np.random.default_rng(0)
    image, labels = rng.standard_normal((2, *size)).astype(np.float32), rng.integers(0, 4, (1, *size)).astype(np.uint8)
    centre = tuple((n - 1) / 2 for n in size)
    moved, marks = warp(image, labels, SpatialWarp(size, unit(len(size)), centre), order=order)
    np.testing.assert_allclose(moved, image, atol=2e-6)
    np.testing.assert_array_equal(marks, labels)


def test_by_hand():
    image = np.array([[[0, 1, 2], [3, 4, 5]]], np.float32)
    # Half a voxel down and to the right; what lies beyond the last voxels' centres is border.
    shifted = SpatialWarp((2, 3), unit(2), (1.0, 1.5))
    moved, marks = warp(image, image.astype(np.uint8), shifted, order=1, border=-1, label_border=9)
    assert moved.tolist() == [[[2, 3, -1], [-1, -1, -1]]]
    assert marks.tolist() == [[[4, 5, 9], [9, 9, 9]]]  # ties of four go to the nearest, half-way the later one
    # A quarter turn.
    turned, _ = warp(image, None, SpatialWarp((3, 2), ((0, -1), (1, 0)), (0.5, 1.0)), order=1)
    assert turned.tolist() == [[[3, 0], [4, 1], [5, 2]]]
    # Two thirds against one third.
    line = np.array([[[5, 8]]], np.int16)
    _, marks = warp(np.zeros((1, 1, 2), np.float32), line, SpatialWarp((1, 1), unit(2), (0.0, 1 / 3)))
    assert marks.item() == 5


def displacement(shape: tuple[int, ...], elastic: Elastic) -> np.ndarray:
    """What a deformation does, read off an image whose values are its coordinates."""
    margin = 16
    size = tuple(n + 2 * margin if n > 1 else 1 for n in shape)
    ramps = np.array(np.meshgrid(*map(np.arange, size), indexing="ij"), dtype=np.float32)
    centre = tuple((n - 1) / 2 for n in size)
    moved, _ = warp(ramps, None, SpatialWarp(shape, unit(len(shape)), centre, elastic), order=1)
    still, _ = warp(ramps, None, SpatialWarp(shape, unit(len(shape)), centre), order=1)
    return moved - still


@pytest.mark.parametrize(("shape", "sigma"), [((60, 80), 9.0), ((40, 48, 44), 6.0), ((24, 30, 26), 2.5)])
def test_elastic_fields_have_the_std_of_smoothed_noise(shape, sigma):
    fields = np.array([displacement(shape, Elastic(50.0, sigma, seed)) for seed in range(12)])
    rng = np.random.default_rng(0)
    noise = [gaussian_filter(rng.uniform(-1, 1, shape), sigma, mode="constant") * 50 for _ in range(30)]
    middle = tuple(slice(n // 4, -n // 4) for n in shape)
    for part in (middle, tuple(slice(0, 4) for _ in shape)):  # and at the corner, where less noise is added up
        expected = np.std([field[part] for field in noise])
        assert np.std(fields[(slice(None), slice(None), *part)]) == pytest.approx(expected, rel=0.35)
    assert abs(np.mean(fields)) < 0.3 * np.std(fields)


def test_axes_and_seeds_have_fields_of_their_own():
    one = displacement((30, 30, 30), Elastic(100.0, 3.0, 1))
    other = displacement((30, 30, 30), Elastic(100.0, 3.0, 2))
    everything = np.concatenate([one, other]).reshape(6, -1)
    correlation = np.corrcoef(everything) - np.eye(6)
    assert np.abs(correlation).max() < 0.5
    np.testing.assert_array_equal(one, displacement((30, 30, 30), Elastic(100.0, 3.0, 1)))
    np.testing.assert_allclose(2 * one, displacement((30, 30, 30), Elastic(200.0, 3.0, 1)), atol=1e-3)


@settings(max_examples=15, deadline=None)
@given(grid=grids, seed=st.integers(0, 99))
def test_threads_and_strides_do_not_matter(grid, seed):
    size, shape = grid
    rng = np.random.default_rng(seed)
    image, labels = rng.standard_normal((2, *size)).astype(np.float32), rng.integers(0, 4, (1, *size)).astype(np.int16)
    p = parameters(size, shape, seed, Elastic(20.0, 3.0, seed))
    one = warp(image, labels, p, threads=1)
    for result in (warp(image, labels, p, threads=3), warp(np.asfortranarray(image), np.asfortranarray(labels), p)):
        np.testing.assert_array_equal(result[0], one[0])
        np.testing.assert_array_equal(result[1], one[1])
    flipped = warp(image[:, ::-1], labels[:, ::-1], p)
    copied = warp(image[:, ::-1].copy(), labels[:, ::-1].copy(), p)
    np.testing.assert_array_equal(flipped[0], copied[0])


def test_a_part_of_a_large_image_is_filtered_alike():
    image = np.random.default_rng(0).standard_normal((1, 90, 100, 80)).astype(np.float32)
    p = SpatialWarp((8, 8, 8), ((0.9, 0.1, 0), (-0.1, 0.9, 0), (0, 0.1, 1)), (44.0, 51.0, 40.5))
    result, _ = warp(image, None, p)
    expected = map_coordinates(image[0].astype(np.float64), positions(p), order=3)
    np.testing.assert_allclose(result[0], expected, atol=1e-5)


def test_everything_outside_is_border():
    image, labels = np.ones((1, 4, 4), np.float32), np.ones((1, 4, 4), np.uint8)
    for order in (0, 1, 3):
        moved, marks = warp(image, labels, SpatialWarp((3, 3), unit(2), (50.0, 50.0)), order=order, border=2.5)
        assert (moved == 2.5).all()
        assert (marks == 0).all()


IMAGE, LABELS, SAME = (
    np.zeros((1, 3, 4, 5), np.float32),
    np.zeros((1, 3, 4, 5), np.uint8),
    SpatialWarp((2, 2, 2), unit(3), (1, 1, 1)),
)


def test_sizes_that_differ():
    with pytest.raises(ValueError, match=r"labels must have the image's size \[3, 4, 5\]; got \[3, 4, 4\]"):
        warp(IMAGE, LABELS[..., :4], SAME)


def changed(**values: Any) -> SpatialWarp:
    return SpatialWarp(**{"shape": SAME.shape, "matrix": SAME.matrix, "centre": SAME.centre, **values})


@pytest.mark.parametrize(
    ("p", "error", "message"),
    [
        (changed(shape=(2,)), ValueError, r"shape must have 2 or 3 axes; got \[2\]"),
        (changed(shape=(2, 2)), ValueError, "matrix must have 2 rows of 2 numbers"),
        (changed(shape=(2, 0, 2)), ValueError, "shape must have 1 to 65536 voxels along every axis"),
        (changed(shape=(2**16,) * 3), ValueError, "fewer than 2147483648 in all"),
        (changed(shape=(2**63,) * 3), ValueError, "shape must have 1 to 65536 voxels"),
        (changed(shape=(2, -2, 2)), ValueError, "sizes and counts"),
        (changed(matrix=((1, 0), (0, 1))), ValueError, "matrix must have 3 rows of 3 numbers"),
        (changed(matrix=((1, 0, 0), (0, 1), (0, 0, 1))), ValueError, "matrix must have 3 rows"),
        (changed(matrix=((np.nan, 0, 0), *unit(3)[1:])), ValueError, "matrix must hold finite numbers"),
        (changed(matrix=((np.inf, 0, 0), *unit(3)[1:])), ValueError, "matrix must hold finite numbers"),
        (changed(centre=(0, 0)), ValueError, r"centre must have 3 numbers; got \[0.0, 0.0\]"),
        (changed(centre=(0, 0, np.nan)), ValueError, "centre must hold finite numbers"),
        (changed(elastic=Elastic(np.nan, 3, 0)), ValueError, "alpha must be a finite number of at most 1e9; got NaN"),
        (changed(elastic=Elastic(1e300, 3, 0)), ValueError, "alpha must be a finite number"),
        (changed(elastic=Elastic(1, 0, 0)), ValueError, "sigma must be above 0 and at most 1000 voxels; got 0.0"),
        (changed(elastic=Elastic(1, np.inf, 0)), ValueError, "sigma must be above 0"),
        (changed(elastic=Elastic(1, 3, -1)), (ValueError, OverflowError, TypeError), "elastic"),
        (changed(elastic=Elastic("a", 3, 0)), TypeError, "elastic"),
        (changed(matrix="abc"), TypeError, "matrix"),
    ],
)
def test_parameters_that_cannot_be(p, error, message):
    with pytest.raises(error, match=message):
        warp(IMAGE, LABELS, p)


@pytest.mark.parametrize(
    ("image", "labels", "options", "error", "message"),
    [
        (IMAGE[0], LABELS, {}, ValueError, r"shape must have 2 axes, as image has; got \[2, 2, 2\]"),
        (IMAGE[0, 0], LABELS, {}, ValueError, "image must have 3 or 4 axes"),
        (IMAGE, LABELS[0], {}, ValueError, "shape must have 2 axes, as labels has"),
        (IMAGE[:, :0], LABELS, {}, ValueError, "image must have between 1 and"),
        (IMAGE.astype(np.float64), LABELS, {}, TypeError, "image must be float32"),
        (
            IMAGE,
            LABELS.astype(np.int64),
            {},
            TypeError,
            "labels must be of an integer dtype of up to 32 bits or float32",
        ),
        (IMAGE, LABELS.tolist(), {}, TypeError, "labels must be a numpy array"),
        (IMAGE, LABELS, {"order": 2}, ValueError, "order must be 0"),
        (IMAGE, LABELS, {"order": -1}, ValueError, "sizes and counts"),
        (IMAGE, LABELS, {"border": "a"}, TypeError, "border"),
        (
            IMAGE,
            LABELS,
            {"label_border": 256},
            ValueError,
            "label_border must be a value of the labels' dtype; got 256",
        ),
        (IMAGE, LABELS, {"label_border": -1}, ValueError, "label_border must be a value of the labels' dtype; got -1"),
        (IMAGE, LABELS, {"threads": 0}, ValueError, "threads must be between 1 and 1024; got 0"),
    ],
)
def test_arguments_that_cannot_be(image, labels, options, error, message):
    with pytest.raises(error, match=message):
        warp(image, labels, SAME, **options)


def test_nothing_is_read_of_what_is_not_finite_elsewhere():
    image = np.zeros((1, 40, 40), np.float32)
    image[0, 0, 0] = np.nan
    p = SpatialWarp((4, 4), unit(2), (30.0, 30.0))
    for order in (0, 1, 3):
        assert np.isfinite(warp(image, None, p, order=order)[0]).all()
    assert np.isnan(warp(image, None, SpatialWarp((4, 4), unit(2), (1.5, 1.5)), order=1)[0]).any()
