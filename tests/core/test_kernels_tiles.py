"""Window starts and importance against nnU-Net's formulas and scipy.ndimage (checked with 1.17), and by hand."""

from __future__ import annotations

from itertools import product
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.core.kernels import gaussian_importance, window_starts
from scipy.ndimage import gaussian_filter

axes = st.integers(1, 300).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size)))


def reference_starts(size: int, tile: int, step: float) -> list[int]:
    """nnU-Net 2.8 compute_steps_for_sliding_window, one axis."""
    count = int(np.ceil((size - tile) / (tile * step))) + 1
    stride = (size - tile) / (count - 1) if count > 1 else 0
    return [int(np.round(stride * i)) for i in range(count)]


def test_starts_by_hand():
    assert window_starts((110,), (64,)) == [(0,), (23,), (46,)]
    assert window_starts((5, 8), (5, 4)) == [(0, 0), (0, 2), (0, 4)]
    assert window_starts((9, 12), (4, 6), step=1) == [(0, 0), (0, 6), (2, 0), (2, 6), (5, 0), (5, 6)]


@settings(max_examples=60, deadline=None)
@given(axes=st.lists(axes, min_size=1, max_size=2), step=st.floats(0.2, 1))
def test_starts_equal_nnunet(axes, step):
    size, tile = zip(*axes, strict=True)
    expected = list(product(*(reference_starts(s, t, step) for s, t in axes)))
    assert window_starts(size, tile, step) == expected


@settings(max_examples=60, deadline=None)
@given(axes=st.lists(axes, min_size=1, max_size=2))
def test_windows_cover_and_stay_inside(axes):
    size, tile = zip(*axes, strict=True)
    for axis, starts in enumerate(zip(*window_starts(size, tile), strict=True)):
        distinct = sorted(set(starts))
        assert distinct[0] == 0
        assert distinct[-1] == size[axis] - tile[axis]
        assert max(np.diff(distinct), default=0) <= ceil(tile[axis] / 2)


@settings(max_examples=40, deadline=None)
@given(tile=st.lists(st.integers(1, 40), min_size=1, max_size=3))
def test_importance_equals_scipy(tile):
    impulse = np.zeros(tile)
    impulse[tuple(n // 2 for n in tile)] = 1
    expected = gaussian_filter(impulse, [n / 8 for n in tile], mode="constant")
    expected /= expected.max()
    weights = gaussian_importance(tile)
    assert weights.dtype == np.float32
    assert weights.shape == tuple(tile)
    assert weights.min() > 0  # so there is nothing to replace
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_importance_of_large_tiles_is_nowhere_zero():
    for tile in ((512,), (128, 128, 128), (1, 320, 256)):
        assert gaussian_importance(tile).min() > 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (((4,), (5,)), ValueError, r"size must be at least the tile \[5\] along every axis .*; got \[4\]"),
        (((4, 4), (2,)), ValueError, "size must be at least the tile"),
        (((), ()), ValueError, "tile must have at least one axis"),
        (((4,), (0,)), ValueError, r"tile must have at least one axis and at least 1 voxel along each; got \[0\]"),
        (((4,), (2,), 0), ValueError, r"step must be above 0 and at most 1, a fraction of the tile; got 0.0"),
        (((4,), (2,), 1.5), ValueError, "step must be above 0"),
        (((4,), (2,), float("nan")), ValueError, "step must be above 0"),
        (((2**62,), (1,)), ValueError, "at most 4194304 windows"),
        (((2**12,) * 3, (4,) * 3), ValueError, "at most 4194304 windows"),
        (((-4,), (2,)), ValueError, "sizes and counts must be between 0"),
        (((2**64,), (2,)), ValueError, "sizes and counts must be between 0"),
        (((4.0,), (2,)), TypeError, "sizes and counts must be integers"),
        ((4, 2), TypeError, "not iterable"),
    ],
)
def test_windows_that_cannot_be(arguments, error, message):
    with pytest.raises(error, match=message):
        window_starts(*arguments)


@pytest.mark.parametrize(
    ("tile", "error", "message"),
    [
        ((), ValueError, "tile must have at least one axis"),
        ((3, 0), ValueError, "at least 1 voxel"),
        ((2**40, 2**40), MemoryError, "the importance of a tile would take more bytes than an address"),
        ((2**50,), MemoryError, "does not give 4503599627370496 bytes for the importance of a tile"),
        ((-1,), ValueError, "sizes and counts"),
        (None, TypeError, "not iterable"),
    ],
)
def test_tiles_that_cannot_be(tile, error, message):
    with pytest.raises(error, match=message):
        gaussian_importance(tile)
