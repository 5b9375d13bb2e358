"""Foreground statistics against NumPy (float64), whole datasets in every order, and by hand."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nnunet_rs.core.kernels import ForegroundAccumulator, foreground_statistics
from nnunet_rs.core.types import ChannelStats

INTEGERS = [f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)]
FLOATS = ["f2", "f4", "f8"]
SINGLES = ["f4", "f2", "u1", "i1", "u2", "i2"]  # dtypes whose values float32 holds

shapes = st.lists(st.integers(1, 7), min_size=2, max_size=3).map(tuple)


@st.composite
def volumes(draw, dtypes=tuple(INTEGERS + FLOATS)):
    """An image of one or two channels and labels, some of them foreground."""
    shape, dtype = draw(shapes), np.dtype(draw(st.sampled_from(dtypes)))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    spread = draw(st.sampled_from([0.5, 20, 3000] if dtype != "f2" else [0.5, 20]))
    image = rng.normal(draw(st.sampled_from([0, 40])), spread, (draw(st.integers(1, 2)), *shape))
    if dtype.kind != "f":
        image = np.clip(image, max(np.iinfo(dtype).min, -(2**40)), min(np.iinfo(dtype).max, 2**40))
    labels = draw(arrays(st.sampled_from(["u1", "i2", "i8", "?"]), shape, elements=st.integers(0, 1)))
    labels.flat[0] = 1
    return image.astype(dtype), labels


def expected(values: np.ndarray) -> ChannelStats:
    v = values.astype(np.float64)
    low, median, high = np.percentile(v, [0.5, 50, 99.5])
    return ChannelStats(v.mean(), v.std(), median, v.min(), v.max(), low, high)


def assert_equal(result: ChannelStats, reference: ChannelStats) -> None:
    scale = max(abs(reference.min), abs(reference.max))
    for name in ChannelStats.__slots__:
        assert getattr(result, name) == pytest.approx(getattr(reference, name), rel=1e-12, abs=1e-12 * scale), name
    assert (result.min, result.max) == (reference.min, reference.max)


@settings(max_examples=120, deadline=None)
@given(volume=volumes(), threads=st.sampled_from([1, 2, None]))
def test_equals_numpy(volume, threads):
    image, labels = volume
    results = foreground_statistics(image, labels, threads=threads)
    assert len(results) == image.shape[0]
    for result, channel in zip(results, image, strict=True):
        assert_equal(result, expected(channel[labels > 0]))


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_extremes_of_every_dtype(dtype):
    if dtype[0] == "f":
        info = np.finfo(dtype)
        values = np.array([info.tiny, -info.tiny, info.smallest_subnormal, 0.0, -0.0, 1, -1], dtype)
    else:
        info = np.iinfo(dtype)
        values = np.array([info.min, info.max, 0, 1, 2], dtype)
    (result,) = foreground_statistics(values.reshape(1, 1, 1, -1), np.ones((1, 1, values.size), np.uint8))
    assert_equal(result, expected(values))


def test_by_hand():
    image = np.array([[[1, 2, 3], [6, 99, 99]]], np.float32)
    labels = np.array([[1, 2, 1], [3, 0, -1]], np.int8)
    (stats,) = foreground_statistics(image, labels)
    assert (stats.mean, stats.median, stats.min, stats.max) == (3, 2.5, 1, 6)
    assert stats.std == 3.5**0.5
    assert stats.percentile_00_5 == pytest.approx(1.015, abs=1e-12)
    assert stats.percentile_99_5 == pytest.approx(5.955, abs=1e-12)


@pytest.mark.parametrize("value", [3.7, -1e-41, 0.0, -0.0, 3e38, 123456.79])
def test_constants_are_exact(value):
    image = np.full((1, 5, 6, 7), value, np.float32)
    (stats,) = foreground_statistics(image, np.ones((5, 6, 7), np.uint8))
    v = float(np.float32(value))
    assert stats == ChannelStats(v, 0.0, v, v, v, v, v)
    assert str(stats.min) != "-0.0"


@settings(max_examples=40, deadline=None)
@given(volume=volumes(), data=st.data())
def test_strides_do_not_matter(volume, data):
    image, labels = volume
    axes = data.draw(st.permutations(range(labels.ndim)))
    steps = tuple(slice(None, None, data.draw(st.sampled_from([1, -1, 2]))) for _ in axes)
    view, marks = image[(slice(None), *steps)].transpose(0, *(a + 1 for a in axes)), labels[steps].transpose(axes)
    marks = np.where(marks.any(), marks, 1)
    plain = foreground_statistics(np.ascontiguousarray(view), np.ascontiguousarray(marks))
    assert foreground_statistics(view, marks) == plain
    assert foreground_statistics(view, np.asfortranarray(marks)) == plain
    padded = np.zeros((*image.shape, 2), image.dtype)
    padded[..., 0] = image
    assert foreground_statistics(padded[..., 0], labels) == foreground_statistics(image, labels)


def test_threads_do_not_matter():
    rng = np.random.default_rng(0)
    image = rng.normal(300, 80, (1, 60, 200, 200)).astype(np.float32)
    labels = rng.integers(0, 3, (60, 200, 200), dtype=np.uint8)
    results = {foreground_statistics(image, labels, threads=threads) for threads in (1, 2, 5)}
    assert len(results) == 1
    assert_equal(results.pop()[0], expected(image[0][labels > 0]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_no_number_is_counted(bad, dtype):
    image = np.ones((2, 2, 3, 4), dtype)
    image[1, 0, 0, :3] = bad
    labels = np.ones((2, 3, 4), np.uint8)
    message = "image must be finite in the foreground; got 3 NaN or infinite voxels in channel 1"
    with pytest.raises(ValueError, match=message):
        foreground_statistics(image, labels)
    labels[0, 0, :3] = 0
    assert foreground_statistics(image, labels)[1].max == 1


def cases(kind: str, count: int = 6) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cases of two channels; those of CT have whole values, those of MR all kinds."""
    rng = np.random.default_rng(len(kind))
    made = []
    for index in range(count):
        shape = tuple(rng.integers(4, 14, 3))
        image = rng.normal(40 + 10 * index, 150, (2, *shape))
        labels = rng.integers(0, 3, shape).astype(np.uint8) * (index != 2)  # one case without foreground
        made.append(((image.round() if kind == "ct" else image).astype(np.float32), labels))
    return made


def together(made: list[tuple[np.ndarray, np.ndarray]]) -> tuple[ChannelStats, ...]:
    values = np.concatenate([image[:, labels > 0] for image, labels in made], axis=1)
    return foreground_statistics(values[:, np.newaxis], np.ones((1, values.shape[1]), np.uint8))


@pytest.mark.parametrize("kind", ["ct", "mr"])
@pytest.mark.parametrize("memory", [512 << 20, 4000, 0])
def test_datasets_in_any_order(kind, memory):
    made = cases(kind)
    whole = together(made)
    for seed in range(3):
        random.Random(seed).shuffle(made)
        first, second = (ForegroundAccumulator(2, memory=memory) for _ in range(2))
        for index, (image, labels) in enumerate(made):
            (second if index % 3 == seed else first).add(image, labels, threads=1 + index % 2)
        first = ForegroundAccumulator.from_bytes(first.to_bytes())
        first.merge(second)
        assert first.pending == (memory == 0) or memory == 4000
        if first.pending:
            with pytest.raises(ValueError, match=r"cases must be shown to refine\(\) once each before finish\(\)"):
                first.finish()
            for image, labels in made:
                first.refine(image, labels)
            first = ForegroundAccumulator.from_bytes(first.to_bytes())
        assert first.finish() == whole


@settings(max_examples=40, deadline=None)
@given(volume=volumes(tuple(SINGLES)), threads=st.sampled_from([1, 2]))
def test_one_case_is_the_function(volume, threads):
    image, labels = volume
    accumulator = ForegroundAccumulator(image.shape[0])
    accumulator.add(image, labels, threads=threads)
    for result, reference in zip(accumulator.finish(), foreground_statistics(image, labels), strict=True):
        assert_equal(result, reference)


def test_cases_are_added_from_many_threads():
    made = cases("mr", 12)
    accumulator = ForegroundAccumulator(2)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda case: accumulator.add(*case), made))
    assert accumulator.finish() == together(made)


def test_a_bad_case_changes_nothing():
    made = cases("ct")
    accumulator = ForegroundAccumulator(2)
    for image, labels in made:
        accumulator.add(image, labels)
        broken = image.copy()
        broken[0][labels > 0] = np.nan
        if labels.any():
            with pytest.raises(ValueError, match="NaN or infinite voxels in channel 0"):
                accumulator.add(broken, labels)
    assert accumulator.finish() == together(made)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=60), cut=st.integers(0, 400), flip=st.integers(0, 400))
def test_damaged_bytes_are_refused(data, cut, flip):
    with pytest.raises(ValueError, match="bytes must"):
        ForegroundAccumulator.from_bytes(data)
    accumulator = ForegroundAccumulator(1)
    accumulator.add(np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2), np.ones((2, 2, 2), np.uint8))
    whole = accumulator.to_bytes()
    with pytest.raises(ValueError, match="bytes must"):
        ForegroundAccumulator.from_bytes(whole[: min(cut, len(whole) - 1)])
    changed = bytearray(whole)
    changed[flip % len(whole)] ^= 0x55
    with suppress(ValueError):  # whatever is accepted has statistics, or says why not
        ForegroundAccumulator.from_bytes(bytes(changed)).finish()


IMAGE, LABELS = np.zeros((1, 2, 3, 4), np.float32), np.ones((2, 3, 4), np.uint8)


@pytest.mark.parametrize("use", [foreground_statistics, lambda *a, **k: ForegroundAccumulator(1).add(*a, **k)])
@pytest.mark.parametrize(
    ("image", "labels", "error", "message"),
    [
        (IMAGE[0], LABELS, ValueError, r"image must have a channel axis before the axes of the labels, \[2, 3, 4\]"),
        (IMAGE[..., :2], LABELS, ValueError, r"got \[1, 2, 3, 2\]"),
        (IMAGE, np.ones((1, 1, 2, 3, 4), np.uint8), ValueError, "labels must have 1, 2 or 3 axes"),
        (np.float32(1), LABELS, TypeError, "image must be a numpy array"),
        (np.zeros((), np.float32), LABELS, ValueError, "image must have a channel axis"),
        (IMAGE, LABELS.astype(np.float32), TypeError, "labels must be of an integer dtype, .*; got float32"),
        (IMAGE, LABELS.astype(">i4"), TypeError, "labels must be of an integer dtype, in the processor's byte order"),
        (IMAGE.astype(">f4"), LABELS, TypeError, "in the processor's byte order; got >f4"),
        (IMAGE.astype(np.complex64), LABELS, TypeError, "image must be"),
        (IMAGE.astype(object), LABELS, TypeError, "image must be"),
        (None, LABELS, TypeError, "image must be a numpy array"),
    ],
)
def test_arguments_that_cannot_be(use, image, labels, error, message):
    with pytest.raises(error, match=message):
        use(image, labels)


def test_no_foreground():
    message = r"labels must mark at least one foreground voxel \(label above 0\); got 0"
    for labels in (LABELS * 0, np.full_like(LABELS, -1, dtype=np.int8), np.ones((2, 0, 4), np.uint8)):
        image = np.zeros((1, *labels.shape), np.float32)
        for dtype in ("f4", "f8", "i2"):
            with pytest.raises(ValueError, match=message):
                foreground_statistics(image.astype(dtype), labels)
        accumulator = ForegroundAccumulator(1)
        accumulator.add(image, labels)
        assert not accumulator.pending
        with pytest.raises(ValueError, match=message):
            accumulator.finish()
    assert foreground_statistics(np.zeros((0, 2, 3, 4), np.float32), LABELS) == ()


def test_accumulators_that_cannot_be():
    with pytest.raises(ValueError, match="channels must be between 1 and 65535; got 0"):
        ForegroundAccumulator(0)
    with pytest.raises(ValueError, match="sizes and counts"):
        ForegroundAccumulator(-1)
    accumulator = ForegroundAccumulator(2)
    with pytest.raises(ValueError, match="image must have 2 channels; got 1"):
        accumulator.add(IMAGE, LABELS)
    with pytest.raises(ValueError, match="other must have 2 channels; got 1"):
        accumulator.merge(ForegroundAccumulator(1))
    with pytest.raises(TypeError, match="image must be float32, or float16 or an integer dtype of up to 16 bits"):
        accumulator.add(IMAGE.astype(np.float64), LABELS)
    with pytest.raises(ValueError, match="threads must be between 1 and 1024; got 0"):
        accumulator.add(IMAGE, LABELS, threads=0)
