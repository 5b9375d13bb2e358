"""Blending against a plain weighted mean, whole and streamed, and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.core.kernels import Blend, gaussian_importance, window_starts

axes = st.integers(1, 14).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size)))
grids = st.lists(axes, min_size=2, max_size=3).map(lambda pairs: tuple(zip(*pairs, strict=True)))


def patches(classes: int, tile: tuple[int, ...], count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(count)
    return [rng.standard_normal((classes, *tile)).astype(np.float32) for _ in range(count)]


def reference(size: Any, tile: Any, starts: Any, values: Any) -> np.ndarray:
    """Weighted mean in float64."""
    weight = gaussian_importance(tile).astype(np.float64)
    sums, weights = np.zeros((values[0].shape[0], *size)), np.zeros(size)
    for start, value in zip(starts, values, strict=True):
        window = tuple(slice(s, s + t) for s, t in zip(start, tile, strict=True))
        sums[(slice(None), *window)] += value * weight
        weights[window] += weight
    return sums / weights


def run(blend: Blend, starts: Any, values: Any) -> list[np.ndarray]:
    parts = [blend.add(value, start) for start, value in zip(starts, values, strict=True)]
    return [part for part in [*parts, blend.finish()] if part is not None]


@settings(max_examples=40, deadline=None)
@given(grid=grids, classes=st.integers(1, 3), threads=st.sampled_from([1, 3]))
def test_equals_weighted_mean(grid, classes, threads):
    size, tile = grid
    starts = window_starts(size, tile)
    values = patches(classes, tile, len(starts))
    (result,) = run(Blend(classes, size, tile, threads=threads), starts, values)
    assert result.dtype == np.float32
    assert result.shape == (classes, *size)
    expected = reference(size, tile, starts, values)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5 * max(np.abs(v).max() for v in values))


@settings(max_examples=40, deadline=None)
@given(grid=grids, data=st.data(), dtype=st.sampled_from(["float32", "float16"]))
def test_streamed_equals_whole(grid, data, dtype):
    size, tile = grid
    axis = data.draw(st.integers(0, len(size) - 1))
    starts = sorted(window_starts(size, tile), key=lambda start: start[axis])
    values = patches(2, tile, len(starts))
    (whole,) = run(Blend(2, size, tile, dtype=dtype), starts, values)
    parts = run(Blend(2, size, tile, dtype=dtype, stream_axis=axis, threads=2), starts, values)
    assert whole.dtype == dtype
    assert all(part.shape[1 + axis] <= tile[axis] for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1 + axis), whole)


@settings(max_examples=20, deadline=None)
@given(grid=grids)
def test_half_precision_holds_probabilities(grid):
    size, tile = grid
    starts = window_starts(size, tile)
    values = [np.abs(value).clip(0, 1) for value in patches(1, tile, len(starts))]
    (half,) = run(Blend(1, size, tile, dtype="float16"), starts, [value.astype(np.float16) for value in values])
    assert half.min() >= 0
    assert half.max() <= 1.01
    # Corners have weights below what half precision holds: there the mean is of the windows, if not as weighted.
    constant = [np.full_like(value, 0.3) for value in values]
    (half,) = run(Blend(1, size, tile, dtype="float16"), starts, constant)
    np.testing.assert_allclose(half.astype(np.float32), 0.3, rtol=0.01)


def test_by_hand():
    blend = Blend(1, (1, 3), (1, 2))
    # A tile of 2 peaks at its second voxel.
    low = np.exp(-0.5 * 4**2)
    blend.add(np.array([[[1, 2]]], np.float32), (0, 0))
    blend.add(np.array([[[5, 7]]], np.float32), (0, 1))
    np.testing.assert_allclose(blend.finish(), [[[1, (2 + 5 * low) / (1 + low), 7]]], rtol=1e-6)


def test_any_strides():
    size, tile = (6, 6, 6), (4, 4, 4)
    starts = window_starts(size, tile)
    value = np.random.default_rng(0).standard_normal((4, 2, 8, 4)).astype(np.float32).transpose(1, 0, 3, 2)[..., ::-2]
    (strided,) = run(Blend(2, size, tile), starts, [value] * len(starts))
    (plain,) = run(Blend(2, size, tile), starts, [np.ascontiguousarray(value)] * len(starts))
    np.testing.assert_array_equal(strided, plain)


def test_a_stream_holds_a_tile_only():
    size, tile = (4096, 4, 4), (8, 4, 4)
    blend = Blend(1, size, tile, stream_axis=0)
    planes = 0
    for start in window_starts(size, tile):
        part = blend.add(np.ones((1, *tile), np.float32), start)
        planes += 0 if part is None else part.shape[1]
        assert planes == start[0]
    assert planes + blend.finish().shape[1] == 4096


PATCH = np.zeros((1, 2, 2), np.float32)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((0, (4, 4), (2, 2)), {}, ValueError, "classes must be at least 1; got 0"),
        ((-1, (4, 4), (2, 2)), {}, ValueError, "sizes and counts"),
        ((1, (4,), (2,)), {}, ValueError, r"tile must have 2 or 3 axes of at least 1 voxel; got \[2\]"),
        ((1, (4, 4), (2, 0)), {}, ValueError, "tile must have 2 or 3 axes"),
        ((1, (4, 1), (2, 2)), {}, ValueError, r"size must be at least the tile \[2, 2\] .*; got \[4, 1\]"),
        ((1, (4, 4, 4), (2, 2)), {}, ValueError, "size must be at least the tile"),
        ((1, (4, 4), (2, 2)), {"stream_axis": 2}, ValueError, "stream_axis must be one of the volume's 2 axes; got 2"),
        ((1, (4, 4), (2, 2)), {"dtype": "float64"}, ValueError, "dtype must be 'float32' or 'float16'; got 'float64'"),
        ((1, (4, 4), (2, 2)), {"threads": 0}, ValueError, "threads must be between 1 and 1024; got 0"),
        ((2**40, (2**20, 2**20), (2, 2)), {}, MemoryError, "the sums of a blend would take more bytes than an address"),
        (
            (2**20, (2**15, 2**15), (2, 2)),
            {},
            MemoryError,
            "does not give 4503599627370496 bytes for the sums of a blend",
        ),
    ],
)
def test_blends_that_cannot_be(arguments, options, error, message):
    with pytest.raises(error, match=message):
        Blend(*arguments, **options)


@pytest.mark.parametrize(
    ("patch", "start", "error", "message"),
    [
        (PATCH[0], (0, 0), ValueError, r"patch must have shape \[1, 2, 2\] \(classes, \*tile\); got \[2, 2\]"),
        (PATCH[:, :1], (0, 0), ValueError, "patch must have shape"),
        (PATCH, (0, 3), ValueError, r"start must keep the tile \[2, 2\] inside the volume \[4, 4\]; got \[0, 3\]"),
        (PATCH, (0,), ValueError, "start must keep"),
        (PATCH, (2**63, 0), ValueError, "start must keep"),
        (PATCH, (0, -1), ValueError, "sizes and counts"),
        (PATCH.astype(np.float64), (0, 0), TypeError, "patch must be float32 or float16, .*; got float64"),
        (PATCH.tolist(), (0, 0), TypeError, "patch must be a numpy array"),
    ],
)
def test_windows_that_cannot_be(patch, start, error, message):
    blend = Blend(1, (4, 4), (2, 2))
    with pytest.raises(error, match=message):
        blend.add(patch, start)


def test_gaps_and_disorder_are_refused():
    with pytest.raises(ValueError, match=r"windows must cover every voxel; got .16 voxels left out"):
        Blend(1, (4, 4), (2, 2)).finish()
    blend = Blend(1, (12, 2), (2, 2), stream_axis=0)
    blend.add(PATCH, (0, 0))
    with pytest.raises(ValueError, match="start must arrive in order and leave no gap along axis 0: between 0 and 2"):
        blend.add(PATCH, (3, 0))
    blend.add(PATCH, (2, 0))
    with pytest.raises(ValueError, match="start must arrive in order"):
        blend.add(PATCH, (1, 0))
    with pytest.raises(ValueError, match=r"windows must cover every voxel; got .16 voxels left out"):
        blend.finish()


def test_a_finished_blend_is_done():
    blend = Blend(1, (2, 2), (2, 2))
    blend.add(PATCH, (0, 0))
    blend.finish()
    for use in (blend.finish, lambda: blend.add(PATCH, (0, 0))):
        with pytest.raises(ValueError, match=r"blend must not be used after finish\(\)"):
            use()
