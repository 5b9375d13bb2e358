"""Nonsense gets an answer that names the rule; no panic crosses into Python."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.core.kernels import (
    Blend,
    Elastic,
    ForegroundAccumulator,
    IntensityChanges,
    SpatialWarp,
    WindowAccumulator,
    foreground_statistics,
    gaussian_importance,
    logits_to_labels,
    logits_to_regions,
    resample_image,
    resample_labels,
    resample_probabilities,
    warp,
    window_starts,
)

IMAGE = np.zeros((1, 2, 3, 4), dtype=np.float32)
LABELS = np.zeros((2, 3, 4), dtype=np.uint8)
SHAPE = (2, 2, 2)


def regions(array: Any, shape: Any, **kwargs: Any) -> Any:
    count = len(array) if isinstance(array, np.ndarray) and array.ndim else 1
    return logits_to_regions(array, shape, [1] * count, **kwargs)


CHANNELED = [resample_image, logits_to_labels, regions, resample_probabilities]
ALL = [*((function, IMAGE) for function in CHANNELED), (resample_labels, LABELS)]


@pytest.mark.parametrize(("function", "array"), ALL)
@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        ((2, 2), ValueError, "shape must have 3 axes"),
        ((2, 2, 2, 2), ValueError, "shape must have 3 axes"),
        ((), ValueError, "shape must have 3 axes"),
        ((2, 0, 2), ValueError, "shape must have between 1 and 16777216 voxels along every axis; got"),
        ((2, -1, 2), ValueError, "sizes and counts must be between 0 and"),
        ((2, 2**70, 2), ValueError, "sizes and counts must be between 0 and"),
        ((2, 2.5, 2), TypeError, "sizes and counts must be integers; got 2.5"),
        ((2, None, 2), TypeError, "sizes and counts must be integers; got None"),
        ("abc", TypeError, "sizes and counts must be integers; got 'a'"),
        (7, TypeError, "not iterable"),
        ((2**24, 2**24, 2**24), (ValueError, MemoryError), "(array is too big|allocate)"),
        ((2**60, 2**3, 2), (ValueError, MemoryError), "(array is too big|allocate|dimension)"),
        ((2**25, 1, 1), ValueError, "shape must have between 1 and 16777216 voxels"),
    ],
)
def test_shapes_that_cannot_be(function, array, shape, error, message):
    with pytest.raises(error, match=message):
        function(array, shape)


@pytest.mark.parametrize(("function", "array"), ALL)
def test_arrays_that_cannot_be(function, array):
    with pytest.raises(TypeError, match="must be a numpy array; got"):
        function(array.tolist(), SHAPE)
    with pytest.raises(TypeError, match="must be a numpy array; got"):
        function(None, SHAPE)
    for axes in (0, 1, array.ndim - 2, array.ndim + 1):
        with pytest.raises((ValueError, IndexError), match=r"must have \d or \d axes|tuple index"):
            function(np.zeros((1,) * axes, array.dtype), SHAPE)
    for axis in range(-3, 0):
        empty = np.zeros([0 if a - array.ndim == axis else n for a, n in enumerate(array.shape)], array.dtype)
        with pytest.raises(ValueError, match="must have between 1 and 16777216 voxels along every axis; got"):
            function(empty, SHAPE)


@pytest.mark.parametrize(("function", "array"), ALL)
@pytest.mark.parametrize("dtype", ["float64", "complex64", "O", "U3", ">f4", ">i2", "M8[s]", "V8"])
def test_dtypes_that_cannot_be(function, array, dtype):
    with pytest.raises(TypeError, match=r"must be (of an integer dtype|float32).*, in the processor's byte order; got"):
        function(np.zeros(array.shape, dtype=dtype), SHAPE)


@pytest.mark.parametrize(("function", "array"), ALL)
def test_options_that_cannot_be(function, array):
    with pytest.raises(ValueError, match="threads must be between 1 and 1024; got 0"):
        function(array, SHAPE, threads=0)
    with pytest.raises(ValueError, match="threads must be between 1 and 1024; got 2000000"):
        function(array, SHAPE, threads=2_000_000)
    with pytest.raises(ValueError, match="sizes and counts must be between"):
        function(array, SHAPE, threads=-1)
    with pytest.raises(ValueError, match="lowres_axis must be an axis between 0 and 2; got 3"):
        function(array, SHAPE, lowres_axis=3)
    with pytest.raises(ValueError, match="lowres_axis must be an axis between 0 and 1; got 2"):
        function(array[..., 0], SHAPE[:2], lowres_axis=2)
    with pytest.raises(TypeError, match="sizes and counts must be integers"):
        function(array, SHAPE, lowres_axis="z")
    with pytest.raises(TypeError, match="unexpected keyword"):
        function(array, SHAPE, mode="reflect")


@pytest.mark.parametrize("order", [2, 4, 5, 99])
def test_orders_that_cannot_be(order):
    with pytest.raises(
        ValueError, match=rf"order must be 0 \(nearest\), 1 \(linear\) or 3 \(cubic spline\); got {order}"
    ):
        resample_image(IMAGE, SHAPE, order=order)


def test_classes_that_cannot_be():
    with pytest.raises(ValueError, match="logits must have between 1 and 65536 classes"):
        logits_to_labels(np.zeros((0, 2, 2), np.float32), (2, 2))
    with pytest.raises(ValueError, match="logits must have between 1 and 65536 classes"):
        logits_to_labels(np.zeros((65537, 1, 1), np.float16), (2, 2))
    with pytest.raises(ValueError, match="paint must hold 1 value, one a region; got"):
        logits_to_regions(IMAGE, SHAPE, [1, 2])
    with pytest.raises(ValueError, match="paint must hold values between 0 and 65535; got 65536"):
        logits_to_regions(IMAGE, SHAPE, [65536])
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'float16'; got 'float64'"):
        resample_probabilities(IMAGE, SHAPE, dtype="float64")


numbers = st.one_of(st.integers(-3, 6), st.integers(), st.floats(), st.none(), st.booleans(), st.text(max_size=2))
arrays = st.one_of(
    st.builds(
        lambda shape, dtype: np.zeros(shape, dtype=dtype),
        st.lists(st.integers(0, 4), max_size=6),
        st.sampled_from(["f4", "f2", "f8", "u1", "i2", "i8", "?", "O", "c8", ">f4"]),
    ),
    numbers,
)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([function for function, _ in ALL]),
    arrays,
    st.one_of(st.lists(numbers, max_size=5), numbers),
    st.fixed_dictionaries({}, optional={"lowres_axis": numbers, "threads": st.one_of(st.integers(-2, 4), st.none())}),
)
def test_nonsense_is_refused_or_done(function, array, shape, options):
    try:
        result = function(array, shape, **options)
    except (ValueError, TypeError, MemoryError):
        return
    assert result.shape[-len(shape) :] == tuple(int(n) for n in shape)


shapes = st.one_of(st.lists(st.one_of(st.integers(-1, 5), numbers), max_size=4), numbers)


def blend(classes: Any, size: Any, tile: Any, array: Any, start: Any) -> None:
    sums = Blend(classes, size, tile, stream_axis=0)
    sums.add(array, start)
    sums.finish()


def window_sums(classes: Any, size: Any, tile: Any, array: Any, start: Any) -> None:
    sums = WindowAccumulator(classes, size, tile)
    sums.add(array, start, activation="softmax", mirrored=tile)
    sums.mean(start, size)


def accumulate(channels: Any, _: Any, __: Any, image: Any, labels: Any) -> None:
    accumulator = ForegroundAccumulator(channels)
    accumulator.add(image, labels)
    accumulator.finish()


def move(number: Any, shape: Any, matrix: Any, array: Any, centre: Any) -> None:
    warp(array, array, SpatialWarp(shape, matrix, centre, Elastic(number, number, number)), label_border=number)


def intensities(channel: Any, shape: Any, _: Any, image: Any, number: Any) -> None:
    changes = IntensityChanges()
    for note in (
        lambda: changes.simulate_low_resolution(channel, shape),
        lambda: changes.noise(channel, number, channel),
        lambda: changes.blur(channel, number),
        lambda: changes.gamma(channel, number, invert=number),
    ):
        with suppress(ValueError, TypeError, OverflowError):
            note()
    changes.apply(image)


ANYTHING = [
    intensities,
    blend,
    window_sums,
    accumulate,
    move,
    lambda _, size, tile, __, step: window_starts(size, tile, step),
    lambda _, size, *__: gaussian_importance(size),
    lambda _, __, ___, image, labels: foreground_statistics(image, labels),
    lambda *_: ForegroundAccumulator.from_bytes(b"nonsense"),
]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ANYTHING), numbers, shapes, shapes, arrays, st.one_of(arrays, shapes))
def test_nonsense_is_refused_or_done_everywhere(work, number, first, second, array, third):
    try:
        work(number, first, second, array, third)
    except (ValueError, TypeError, MemoryError, OverflowError):
        return


@pytest.mark.parametrize("size", [(2**62, 2, 2), (2**40, 2**40, 2**40), (2**63, 1, 1), (10**5, 10**5, 10**5)])
def test_sizes_beyond_memory(size):
    for work in (
        lambda: Blend(3, size, (1, 1, 1)),
        lambda: Blend(3, size, size),
        lambda: WindowAccumulator(3, size, size),
        lambda: WindowAccumulator(3, size, (1, 1, 1)),
        lambda: gaussian_importance(size),
        lambda: window_starts(size, (1, 1, 1)),
        lambda: warp(IMAGE, None, SpatialWarp(size, ((1, 0, 0), (0, 1, 0), (0, 0, 1)), (0, 0, 0), Elastic(1, 2, 3))),
    ):
        with pytest.raises(
            (ValueError, MemoryError), match=r"must|does not give \d+ bytes|more bytes than|sizes and counts"
        ):
            work()
