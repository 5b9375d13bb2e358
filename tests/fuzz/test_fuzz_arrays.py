"""Arrays and arguments of any kind, given to every public function on arrays: a result, or an error that says why."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import nnunet_rs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunet_rs import _kernels  # noqa: TID251 — what stands behind core.kernels must hold by itself
from nnunet_rs.core import kernels
from numpy.typing import NDArray

Answered = Callable[..., Any]

DTYPES = ("f4", "f4", "f4", "f2", "f8", "u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "?", "c8", "c16", ">f4", "O")
ODD = ("U2", "S3", "M8[s]", "m8[s]", "V8", "V0", "g")
RECORD = np.dtype([("a", "u1"), ("b", "<f4")])  # its fields do not lie where a processor wants them
HUGE = (2**16, 2**24, 2**24 + 1, 2**31, 2**32, 2**53 + 1, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**40)


class Liar:
    """Says that it is as long as an address can count."""

    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, index: int) -> float:
        return 1.0 if index < 3 else 1e9


class Endless:
    """Yields without end."""

    def __iter__(self) -> Any:
        while True:
            yield 1


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Arrays of few elements and any other property."""
    axes = draw(st.one_of(st.integers(2, 5), st.integers(0, 8), st.sampled_from([32, 33, 64])))
    longest = 5 if axes <= 5 else 1
    shape = draw(st.lists(st.one_of(st.integers(1, longest), st.just(0)), min_size=axes, max_size=axes))
    dtype = draw(st.one_of(st.sampled_from(DTYPES), st.sampled_from([*ODD, RECORD])))
    try:
        array: NDArray[Any] = np.zeros(shape, dtype)
    except ValueError:  # NumPy below 2 has no more than 32 axes
        array = np.zeros(shape[:32], dtype)
    if array.dtype.kind in "fiu" and array.size and axes <= 8:
        values = draw(st.lists(st.one_of(st.integers(0, 3), *wild(array.dtype)), min_size=1, max_size=8))
        with np.errstate(all="ignore"):
            array.flat[: len(values)] = np.asarray(values, array.dtype)
    return draw(st.sampled_from(VIEWS))(array)


def wild(dtype: np.dtype[Any]) -> list[Any]:
    """What fills arrays besides small numbers."""
    if dtype.kind == "f":
        return [st.sampled_from([np.nan, np.inf, -np.inf, -0.0, 6e4, 1e-30])]
    return [st.sampled_from([np.iinfo(dtype).min, np.iinfo(dtype).max])]


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


VIEWS: list[Callable[[Any], Any]] = [
    lambda array: array,
    lambda array: array,
    lambda array: array[..., ::-1] if array.ndim else array,
    lambda array: array[::-1] if array.ndim else array,
    lambda array: array.T,
    lambda array: np.asfortranarray(array),
    lambda array: array[..., ::2] if array.ndim else array,
    lambda array: np.broadcast_to(array, (3, *array.shape)) if array.ndim < 32 else array,
    read_only,
    lambda array: array["b"] if array.dtype == RECORD else array,
    lambda array: array.tolist(),
]

numbers = st.one_of(
    st.integers(0, 5),
    st.integers(-3, 8),
    st.sampled_from(HUGE),
    st.sampled_from([-(2**63), -1e400, 1e-300, float("nan"), float("inf"), 0.5, 3.0, True, None, "2", b"1", 1j]),
    st.just(np.int64(3)),
    st.just(np.float32(2)),
    st.builds(Liar),
)


def tame(shape: Any) -> Any:
    """A shape of few voxels, or of more than any system has memory for: between them a test would take that memory."""
    if not isinstance(shape, (list, tuple)) or not all(isinstance(n, (int, np.integer)) for n in shape):
        return shape
    return [4] * len(shape) if 2**22 < math.prod(int(n) for n in shape) < 2**44 else shape


shapes = st.one_of(
    st.lists(st.integers(1, 6), min_size=2, max_size=3),
    st.lists(st.one_of(st.integers(0, 6), numbers), max_size=4).map(tuple),
    st.sampled_from([(1,) * 33, (1,) * 100, (2**20, 1, 1), (1, 1, 2**20), (2**20, 2**20, 2**20), (2**62, 4, 4)]),
    st.sampled_from(["abc", {}, {1, 2, 3}, range(2**62), np.array([2, 2, 2]), 7, None]),
    st.builds(Liar),
    st.builds(Endless),
).map(tame)
matrices = st.one_of(
    st.just(np.eye(3).tolist()), st.just(np.eye(2)), st.lists(shapes, max_size=3), shapes, st.just(range(2**40))
)
threads = st.one_of(st.sampled_from([1, 1, 2, None]), numbers)
names = st.one_of(st.sampled_from(["none", "softmax", "sigmoid", "float32", "float16"]), numbers, st.text(max_size=3))
slabs = st.one_of(
    st.none(), shapes, st.lists(st.integers(0, 6), min_size=5, max_size=5), st.lists(st.integers(0, 3), max_size=16)
)

ERRORS = (ValueError, TypeError, MemoryError)


def check(answered: Answered, work: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call: the answer, or None where there is an error that may be."""
    with answered(*ERRORS):
        return work(*arguments, **options)
    return None


@given(arrays(), shapes, numbers, numbers, threads)
def test_resampling(answered: Answered, array: Any, shape: Any, order: Any, axis: Any, count: Any) -> None:
    for function in (nnunet_rs.resample_image, _kernels.resample_image):
        check(answered, function, array, shape, order=order, lowres_axis=axis, threads=count)
        check(answered, function, array, shape)
    for function in (nnunet_rs.resample_labels, _kernels.resample_labels):
        check(answered, function, array, shape, lowres_axis=axis, threads=count)
        check(answered, function, array, shape)


@given(arrays(), shapes, shapes, slabs, numbers, threads, names)
def test_logits(
    answered: Answered, array: Any, shape: Any, paint: Any, slab: Any, axis: Any, count: Any, name: Any
) -> None:
    for options in ({}, {"lowres_axis": axis, "threads": count}, {"slab": slab}):
        check(answered, nnunet_rs.logits_to_labels, array, shape, **options)
        check(answered, kernels.logits_to_regions, array, shape, paint, **options)
        check(answered, kernels.resample_probabilities, array, shape, dtype=name, **options)
        check(answered, _kernels.resample_probabilities, array, shape, half=bool(axis), **options)


@given(arrays(), arrays(), numbers, numbers, st.binary(max_size=64), threads)
def test_foreground(
    answered: Answered, image: Any, labels: Any, channels: Any, memory: Any, data: bytes, count: Any
) -> None:
    for marks in (labels, np.ones(image.shape[1:], np.uint8) if isinstance(image, np.ndarray) else labels):
        check(answered, nnunet_rs.foreground_statistics, image, marks, threads=count)
        check(answered, _kernels.foreground_statistics, image, marks)
        for accumulator in (kernels.ForegroundAccumulator(1, memory=0), kernels.ForegroundAccumulator(2)):
            check(answered, accumulator.add, image, marks, threads=count)
            check(answered, accumulator.add, image, marks)
            check(answered, accumulator.merge, accumulator)
            check(answered, accumulator.refine, image, marks)
            check(answered, accumulator.finish)
            check(answered, kernels.ForegroundAccumulator.from_bytes, accumulator.to_bytes())
    check(answered, kernels.ForegroundAccumulator, channels, memory=memory)
    check(answered, kernels.ForegroundAccumulator.from_bytes, data)
    check(answered, kernels.ForegroundAccumulator.from_bytes, image)


@given(st.integers(0, 400), st.integers(0, 255), st.booleans())
def test_bytes_of_accumulators(answered: Answered, place: int, value: int, cut: bool) -> None:
    made = kernels.ForegroundAccumulator(1, memory=1 << 16)
    made.add(np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4) / 7, np.ones((2, 3, 4), np.uint8))
    data = bytearray(made.to_bytes())
    place %= len(data)
    if cut:
        del data[place:]
    else:
        data[place] = value
    read = check(answered, kernels.ForegroundAccumulator.from_bytes, bytes(data))
    if read is not None:
        check(answered, read.finish)
        check(answered, read.merge, made)
        check(answered, read.finish)
        assert read.to_bytes()


@given(shapes, shapes, numbers)
def test_windows(answered: Answered, size: Any, tile: Any, step: Any) -> None:
    check(answered, nnunet_rs.window_starts, size, tile, step)
    check(answered, nnunet_rs.window_starts, size, tile)
    check(answered, nnunet_rs.gaussian_importance, tile)


@given(numbers, shapes, shapes, numbers, names, threads, arrays(), shapes)
def test_blending(
    answered: Answered, classes: Any, size: Any, tile: Any, axis: Any, name: Any, count: Any, patch: Any, start: Any
) -> None:
    if isinstance(patch, np.ndarray) and patch.ndim in (3, 4) and all(patch.shape):
        classes, tile = patch.shape[0], patch.shape[1:]
    for options in ({}, {"stream_axis": axis}, {"dtype": name, "threads": count}):
        for shape in (size, tile):
            made = check(answered, nnunet_rs.Blend, classes, shape, tile, **options)
            if made is not None:
                for place in (start, (0,) * 2, (0,) * 3):
                    check(answered, made.add, patch, place)
                check(answered, made.finish)
                check(answered, made.add, patch, start)


@given(numbers, shapes, shapes, names, shapes, threads, arrays(), shapes, numbers)
def test_sums(
    answered: Answered,
    classes: Any,
    size: Any,
    tile: Any,
    name: Any,
    mirrored: Any,
    count: Any,
    output: Any,
    start: Any,
    row: Any,
) -> None:
    if isinstance(output, np.ndarray) and output.ndim == 4 and all(output.shape):
        classes, tile = output.shape[0], output.shape[1:]
    for shape in (size, tile):
        made = check(answered, kernels.WindowAccumulator, classes, shape, tile, threads=count)
        if made is not None:
            check(answered, made.add, output, start, activation=name, mirrored=mirrored)
            check(answered, made.add, output, (0, 0, 0))
            check(answered, made.mean, start, shape)
            check(answered, made.mean, (0, 0, 0), shape)
            check(answered, made.forget, row, 2)
            check(answered, made.mean, (0, 0, 0), tile)


@given(arrays(), arrays(), shapes, matrices, shapes, numbers, numbers, threads)
def test_warping(
    answered: Answered,
    image: Any,
    labels: Any,
    shape: Any,
    matrix: Any,
    centre: Any,
    number: Any,
    border: Any,
    count: Any,
) -> None:
    elastic = kernels.Elastic(number, border, 1)
    for bend in (None, elastic):
        p = kernels.SpatialWarp(shape, matrix, centre, bend)
        check(answered, kernels.warp, image, labels, p, order=number, threads=count)
        check(answered, kernels.warp, image, None, p, border=number, label_border=border)
        three = kernels.SpatialWarp((2, 3, 4), np.eye(3).tolist(), (1, 1, 1), bend)
        check(answered, kernels.warp, image, image, three, label_border=border)
        check(answered, _kernels.Warp, shape, matrix, centre, bend, threads=count)


@given(arrays(), numbers, numbers, shapes, shapes, threads)
def test_changes_in_place(
    answered: Answered, array: Any, channel: Any, number: Any, shape: Any, axes: Any, count: Any
) -> None:
    changes = kernels.IntensityChanges()
    check(answered, changes.noise, channel, number, 1)
    check(answered, changes.noise, channel, 1.0, number)
    check(answered, changes.blur, channel, number)
    check(answered, changes.scale, channel, number)
    check(answered, changes.contrast, channel, number)
    check(answered, changes.gamma, channel, number, invert=True)
    check(answered, changes.apply, array, threads=count)
    small = not isinstance(shape, tuple) or all(isinstance(n, int) and n < 2**16 for n in shape)
    if small:  # others take gigabytes where there are such
        check(answered, changes.simulate_low_resolution, channel, shape)
    check(answered, changes.apply, array)
    for function in (kernels.mirror, _kernels.mirror):
        check(answered, function, array, axes, threads=count)
        check(answered, function, array, [0, 1])


small_shapes = st.lists(st.integers(1, 6), min_size=2, max_size=3)


@given(small_shapes, small_shapes, st.integers(0, 2**32 - 1), st.sampled_from(VIEWS[:6]))
def test_nearest_resampling_picks_voxels(shape: Any, target: Any, seed: int, view: Any) -> None:
    target = (target * 2)[: len(shape)]
    image = view(np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32))
    if image.ndim != len(shape) + 1 or image.shape[0] != 1:  # transposed
        image = image.reshape((1, *shape))
    picked = [(2 * np.arange(m) + 1) * n // (2 * m) for n, m in zip(image.shape[1:], target, strict=True)]
    expected = image[np.ix_([0], *picked)]
    np.testing.assert_array_equal(nnunet_rs.resample_image(image, target, order=0), expected)
    same = nnunet_rs.resample_labels(image[0].astype(np.int16), image.shape[1:])
    np.testing.assert_array_equal(same, image[0].astype(np.int16))


@given(small_shapes, st.integers(0, 2**32 - 1), st.sampled_from(["u1", "i2", "f4", "f8", "u8", "c8", "f2"]))
def test_mirrored_statistics_and_labels(shape: Any, seed: int, dtype: str) -> None:
    image = (np.random.default_rng(seed).normal(size=(2, *shape)) * 50).astype(dtype)
    turned = image[..., ::-1].copy()
    kernels.mirror(image, [len(shape) - 1])
    np.testing.assert_array_equal(image, turned)
    if dtype == "c8":
        return
    stats = nnunet_rs.foreground_statistics(image, np.ones(shape, bool))[0]
    values = image[0].astype(np.float64)
    assert stats.mean == pytest.approx(values.mean(), abs=1e-9, rel=1e-12)
    assert (stats.min, stats.max) == (values.min(), values.max())
    assert stats.median == pytest.approx(np.median(values), abs=1e-12, rel=1e-14)
    if dtype in ("f4", "f2"):
        labels = nnunet_rs.logits_to_labels(image, shape)
        np.testing.assert_array_equal(labels, image.argmax(axis=0))
