"""Logits to labels against resampling every class with scipy.ndimage (checked with 1.17) and deciding afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.core.kernels import logits_to_labels, logits_to_regions, resample_probabilities
from scipy.ndimage import zoom

CLOSE = 1e-5  # decisions nearer than this are float32's to make


def resampled(logits: np.ndarray, shape: tuple[int, ...], lowres_axis: int | None = None) -> np.ndarray:
    """All classes at the new resolution, float64."""
    logits = logits.astype(np.float64)
    if lowres_axis is not None:
        n_in, n_out = logits.shape[lowres_axis + 1], shape[lowres_axis]
        nearest = (2 * np.arange(n_out) + 1) * n_in // (2 * n_out)
        logits = np.take(logits, nearest, axis=lowres_axis + 1)
    factors = [b / a for a, b in zip(logits.shape[1:], shape, strict=True)]
    return np.stack([zoom(c, factors, order=1, mode="nearest", grid_mode=True) for c in logits])


def assert_greatest_wins(result: np.ndarray, values: np.ndarray) -> None:
    won = np.take_along_axis(values, result.astype(np.intp)[None], axis=0)[0]
    assert (won >= values.max(axis=0) - CLOSE).all()


sizes = st.integers(1, 20)
shapes = st.integers(2, 3).flatmap(lambda n: st.tuples(st.tuples(*[sizes] * n), st.tuples(*[sizes] * n)))
lowres_axes = st.sampled_from([None, 0, 1])


@settings(max_examples=60, deadline=None)
@given(shapes, st.integers(1, 6), st.sampled_from(["float32", "float16"]), lowres_axes, st.integers(0, 99))
def test_labels_are_the_greatest_resampled_logit(shapes, classes, dtype, lowres_axis, seed):
    source, target = shapes
    logits = np.random.default_rng(seed).standard_normal((classes, *source)).astype(dtype)
    result = logits_to_labels(logits, target, lowres_axis=lowres_axis)
    assert result.dtype == np.uint8
    assert_greatest_wins(result, resampled(logits, target, lowres_axis))


@pytest.mark.parametrize("target", [(20, 50, 90), (5, 90, 33), (12, 33, 300)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_labels_beyond_one_block(target, dtype):
    logits = np.random.default_rng(1).standard_normal((5, 12, 35, 40)).astype(dtype)
    assert_greatest_wins(logits_to_labels(logits, target), resampled(logits, target))


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(1, 5), st.sampled_from(["float32", "float16"]), lowres_axes, st.integers(0, 99))
def test_regions_are_painted_in_order(shapes, regions, dtype, lowres_axis, seed):
    source, target = shapes
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((regions, *source)).astype(dtype)
    paint = [int(v) for v in rng.integers(1, 256, regions)]
    result = logits_to_regions(logits, target, paint, lowres_axis=lowres_axis)
    values = resampled(logits, target, lowres_axis)
    expected = np.zeros(target, dtype=int)
    for value, region in zip(paint, values, strict=True):
        expected[region >= 0] = value
    certain = (np.abs(values) > CLOSE).all(axis=0)
    np.testing.assert_array_equal(result[certain], expected[certain])


@settings(max_examples=40, deadline=None)
@given(shapes, st.sampled_from(["float32", "float16"]), st.sampled_from(["float32", "float16"]), lowres_axes)
def test_probabilities_are_resampled_linearly(shapes, source_dtype, dtype, lowres_axis):
    source, target = shapes
    probabilities = np.random.default_rng(0).random((3, *source)).astype(source_dtype)
    result = resample_probabilities(probabilities, target, dtype=dtype, lowres_axis=lowres_axis)
    assert result.dtype == dtype
    tolerance = 1e-6 if dtype == "float32" else 5e-4
    np.testing.assert_allclose(result, resampled(probabilities, target, lowres_axis), atol=tolerance)


def test_equal_logits_give_the_lowest_class():
    logits = np.zeros((3, 2, 2), dtype=np.float32)
    logits[1:, 0] = 1
    np.testing.assert_array_equal(logits_to_labels(logits, (2, 2)), [[1, 1], [0, 0]])


def test_nan_never_wins_and_minus_infinity_is_a_value():
    logits = np.array([[[np.nan, -np.inf]], [[-5, -np.inf]], [[np.nan, -7]]], dtype=np.float32)
    np.testing.assert_array_equal(logits_to_labels(logits, (1, 2)), [[1, 2]])
    np.testing.assert_array_equal(logits_to_labels(np.full((2, 1, 1), np.nan, np.float32), (1, 1)), [[0]])


def test_a_logit_of_zero_is_painted():
    logits = np.zeros((1, 1, 3), dtype=np.float32)
    logits[0, 0, 2] = -1
    np.testing.assert_array_equal(logits_to_regions(logits, (1, 3), [9]), [[9, 9, 0]])


def test_labels_grow_with_the_number_of_classes():
    logits = np.zeros((256, 1, 1), dtype=np.float32)
    assert logits_to_labels(logits, (1, 1)).dtype == np.uint8
    logits = np.zeros((300, 1, 1), dtype=np.float32)
    logits[299] = 1
    result = logits_to_labels(logits, (2, 2))
    assert result.dtype == np.uint16
    assert (result == 299).all()
    assert logits_to_regions(logits[:1], (1, 1), [300]).dtype == np.uint16


@pytest.mark.parametrize("lowres_axis", [None, 0])
def test_the_same_shape_keeps_every_value(lowres_axis):
    values = np.random.default_rng(0).standard_normal((4, 5, 6, 7)).astype(np.float32)
    result = resample_probabilities(values, (5, 6, 7), lowres_axis=lowres_axis)
    np.testing.assert_array_equal(result, values)
    np.testing.assert_array_equal(logits_to_labels(values, (5, 6, 7)), values.argmax(axis=0))


def test_constant_probabilities_stay_exactly_constant():
    result = resample_probabilities(np.full((2, 3, 4, 5), 0.1, dtype=np.float32), (7, 9, 8))
    assert (result == np.float32(0.1)).all()


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["float32", "float16"]), st.integers(0, 999))
def test_takes_any_strides(dtype, seed):
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((8, 12, 40, 14)).astype(dtype)
    view = np.transpose(base, rng.permutation(4))
    view = view[tuple(slice(None, None, step) for step in rng.choice([-2, -1, 1, 2], 4))]
    target = tuple(int(n) for n in rng.integers(1, 30, 3))
    copy = np.ascontiguousarray(view)
    np.testing.assert_array_equal(logits_to_labels(view, target), logits_to_labels(copy, target))
    np.testing.assert_array_equal(resample_probabilities(view, target), resample_probabilities(copy, target))


def test_one_and_many_threads_give_the_same_result():
    logits = np.random.default_rng(0).standard_normal((7, 20, 33, 35)).astype(np.float32)
    labels = logits_to_labels(logits, (31, 60, 50), threads=1)
    probabilities = resample_probabilities(logits, (31, 60, 50), threads=1)
    for threads in (2, 5, None):
        np.testing.assert_array_equal(logits_to_labels(logits, (31, 60, 50), threads=threads), labels)
        again = resample_probabilities(logits, (31, 60, 50), threads=threads)
        assert again.tobytes() == probabilities.tobytes()
