"""Mirroring in place against numpy.flip."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.core.kernels import mirror

sizes = st.integers(2, 3).flatmap(lambda n: st.tuples(*[st.integers(0, 7)] * n))


@settings(max_examples=60, deadline=None)
@given(
    size=sizes,
    dtype=st.sampled_from(["?", "i1", "u2", "f2", "f4", "i4", "f8", "c8", ">i2"]),
    chosen=st.sets(st.integers(0, 2)),
    layout=st.sampled_from([np.copy, np.asfortranarray, lambda a: np.repeat(a, 2, -1)[..., ::2]]),
    threads=st.sampled_from([1, 3]),
)
def test_equals_numpys_flip(size: Any, dtype: str, chosen: Any, layout: Any, threads: int) -> None:
    axes = [axis for axis in chosen if axis < len(size)]
    array = np.random.default_rng(0).integers(0, 2**8, (2, *size)).astype(dtype)
    turned = layout(array)
    mirror(turned, axes, threads=threads)
    np.testing.assert_array_equal(turned, np.flip(array, [axis + 1 for axis in axes]))


ARRAY = np.zeros((1, 2, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("array", "axes", "error", "message"),
    [
        (ARRAY, [3], ValueError, "axes must name axes between 0 and 2; got 3"),
        (ARRAY[0], [2], ValueError, "axes must name axes between 0 and 1; got 2"),
        (ARRAY, [-1], ValueError, "sizes and counts"),
        (ARRAY, 1, TypeError, "axes"),
        (ARRAY[0, 0], [], ValueError, "array must have 3 or 4 axes"),
        (ARRAY.astype(np.complex128), [0], TypeError, "array must be of numbers of 8 to 64 bits"),
        (ARRAY.astype(object), [0], TypeError, "array must be of numbers of 8 to 64 bits"),
        (ARRAY.tolist(), [0], TypeError, "array must be a numpy array"),
        (np.broadcast_to(np.float32(1), (1, 2, 2)), [0], ValueError, "must not be read-only"),
    ],
)
def test_what_cannot_be_mirrored(array: Any, axes: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        mirror(array, axes)


@pytest.mark.parametrize("dtype", [[("a", "i4"), ("b", "i4")], "U1", "S4", "M8[s]", "m8[s]", "V8", "O"])
def test_what_is_no_number_is_not_mirrored(dtype):
    with pytest.raises(TypeError, match="array must be of numbers of 8 to 64 bits"):
        mirror(np.zeros((1, 2, 2), dtype), [0])


@pytest.mark.parametrize("dtype", ["?", "c8", ">i4", "f2", ">f8"])
def test_numbers_of_any_kind_and_byte_order_are_mirrored(dtype):
    array = np.arange(12).reshape(1, 3, 4).astype(dtype)
    expected = array[:, ::-1, ::-1].copy()
    mirror(array, [0, 1])
    np.testing.assert_array_equal(array, expected)


def test_elements_that_share_memory_are_not_mirrored():
    shared = np.lib.stride_tricks.as_strided(np.zeros(10, np.float32), (1, 3, 3), (0, 4, 4))
    with pytest.raises(ValueError, match="memory of its own for every element"):
        mirror(shared, [0])
