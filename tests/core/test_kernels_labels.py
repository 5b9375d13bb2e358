"""Label resampling against one linear resampling per label with scipy.ndimage (checked with 1.17), and by hand."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.core.kernels import resample_labels
from scipy.ndimage import zoom


def weights_per_label(labels: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The labels that occur, and each one's indicator resampled linearly: (labels, *shape)."""
    values = np.unique(labels)
    factors = [b / a for a, b in zip(labels.shape, shape, strict=True)]
    kwargs = {"order": 1, "mode": "nearest", "grid_mode": True}
    return values, np.stack([zoom((labels == v).astype(np.float64), factors, **kwargs) for v in values])


def assert_greatest_weight_wins(result: np.ndarray, labels: np.ndarray) -> None:
    assert result.dtype == labels.dtype
    values, weights = weights_per_label(labels, result.shape)
    assert np.isin(result, values).all()
    won = np.take_along_axis(weights, np.searchsorted(values, result)[None], axis=0)[0]
    assert (won >= weights.max(axis=0) - 1e-12).all()


def vote_exactly(labels: np.ndarray, index: tuple[int, ...], shape: tuple[int, ...], lowres_axis: int | None) -> int:
    """One output voxel in exact fractions, ties and all."""
    axes = []
    for axis, (i, n_in, n_out) in enumerate(zip(index, labels.shape, shape, strict=True)):
        position = Fraction((2 * i + 1) * n_in, 2 * n_out) - Fraction(1, 2)
        nearest = (position + Fraction(1, 2)).__floor__()
        if axis == lowres_axis:
            axes.append(([(nearest, Fraction(1))], nearest))
            continue
        floor = position.__floor__()
        t = position - floor
        ends = [(min(max(floor, 0), n_in - 1), 1 - t), (min(max(floor + 1, 0), n_in - 1), t)]
        axes.append((ends, nearest))
    weights: dict[int, Fraction] = {}
    for corner in product(*[ends for ends, _ in axes]):
        value = labels[tuple(at for at, _ in corner)]
        weight = Fraction(1)
        for _, w in corner:
            weight *= w
        weights[value] = weights.get(value, Fraction(0)) + weight
    most = max(weights.values())
    winners = {value for value, weight in weights.items() if weight == most}
    nearest = labels[tuple(n for _, n in axes)]
    return nearest if nearest in winners else min(winners)


sizes = st.integers(1, 12)
shapes = st.integers(2, 3).flatmap(lambda n: st.tuples(st.tuples(*[sizes] * n), st.tuples(*[sizes] * n)))
dtypes = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]


@settings(max_examples=60, deadline=None)
@given(shapes, st.integers(1, 9), st.sampled_from(dtypes), st.integers(0, 99))
def test_the_greatest_linear_weight_wins(shapes, count, dtype, seed):
    source, target = shapes
    labels = np.random.default_rng(seed).integers(0, count, source).astype(dtype)
    assert_greatest_weight_wins(resample_labels(labels, target), labels)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(1, 5)] * 3),
    st.tuples(*[st.integers(1, 5)] * 3),
    st.integers(2, 4),
    st.sampled_from([None, 0, 1, 2]),
    st.integers(0, 99),
)
def test_ties_go_to_the_nearest_voxels_label_or_else_the_smallest(source, target, count, lowres_axis, seed):
    labels = np.random.default_rng(seed).integers(-2, count - 2, source).astype(np.int8)
    result = resample_labels(labels, target, lowres_axis=lowres_axis)
    for index in np.ndindex(target):
        assert result[index] == vote_exactly(labels, index, target, lowres_axis)


@pytest.mark.parametrize("target", [(30, 80, 70), (9, 20, 300), (25, 41, 39), (50, 40, 33)])
def test_large_blobs(target):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, (7, 6, 9)).repeat(4, 0).repeat(7, 1).repeat(8, 2).astype(np.int8)[:25, :40, :70]
    assert_greatest_weight_wins(resample_labels(labels, target), labels)


def test_coarse_axis_takes_the_nearest_slice():
    labels = np.random.default_rng(0).integers(0, 3, (4, 6, 5)).astype(np.uint8)
    result = resample_labels(labels, (6, 9, 9), lowres_axis=0)
    nearest = (2 * np.arange(6) + 1) * 4 // 12
    flat = np.stack([resample_labels(plane, (9, 9)) for plane in labels])
    np.testing.assert_array_equal(result, flat[nearest])


def test_a_line_by_hand():
    # Positions -1/4, 1/4, 3/4, 5/4 of the input's two voxels.
    labels = np.array([[4, 7]], dtype=np.int16)
    np.testing.assert_array_equal(resample_labels(labels, (1, 4)), [[4, 4, 7, 7]])


def test_three_labels_at_one_corner():
    # The output voxel lies in the middle of four; two of them are 5.
    labels = np.array([[1, 5], [5, 2]], dtype=np.uint8)
    np.testing.assert_array_equal(resample_labels(labels, (1, 1)), [[5]])


def test_extreme_values_are_only_names():
    labels = np.array([[-(2**63), 2**63 - 1]], dtype=np.int64)
    np.testing.assert_array_equal(resample_labels(labels, (2, 4)), labels[[0, 0]][:, [0, 0, 1, 1]])


def test_booleans_stay_booleans():
    result = resample_labels(np.eye(3, dtype=bool), (6, 6))
    assert result.dtype == np.bool_
    assert result[0, 0]


@pytest.mark.parametrize("dtype", dtypes)
def test_the_same_shape_is_an_exact_copy(dtype):
    labels = np.random.default_rng(0).integers(0, 100, (5, 6, 7)).astype(dtype)
    for lowres_axis in (None, 0, 2):
        np.testing.assert_array_equal(resample_labels(labels, (5, 6, 7), lowres_axis=lowres_axis), labels)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(dtypes), st.integers(0, 999))
def test_takes_any_strides(dtype, seed):
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 3, (12, 40, 14)).astype(dtype)
    view = np.transpose(base, rng.permutation(3))
    view = view[tuple(slice(None, None, step) for step in rng.choice([-2, -1, 1, 2], 3))]
    target = tuple(int(n) for n in rng.integers(1, 30, 3))
    lowres_axis = rng.choice([None, 0, 1, 2])
    expected = resample_labels(np.ascontiguousarray(view), target, lowres_axis=lowres_axis)
    np.testing.assert_array_equal(resample_labels(view, target, lowres_axis=lowres_axis), expected)


def test_one_and_many_threads_give_the_same_labels():
    labels = np.random.default_rng(0).integers(0, 30, (20, 33, 35)).astype(np.uint8)
    one = resample_labels(labels, (31, 20, 50), threads=1)
    for threads in (2, 5, None):
        np.testing.assert_array_equal(resample_labels(labels, (31, 20, 50), threads=threads), one)
