"""Deciding a volume slab by slab is deciding it whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.core.kernels import logits_to_labels, logits_to_regions, resample_probabilities

sizes = st.tuples(*[st.integers(1, 9)] * 3)


def needed(index, n_in, n_out, nearest):
    """First and last plane that plane `index` of the result lies between."""
    if nearest:
        plane = (2 * index + 1) * n_in // (2 * n_out)
        return plane, plane
    floor, rest = divmod((2 * index + 1) * n_in - n_out, 2 * n_out)
    return min(max(floor, 0), n_in - 1), min(max(floor + (rest > 0), 0), n_in - 1)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, st.integers(0, 2), st.sampled_from([None, 0, 1, 2]), st.data())
def test_any_slab_equals_that_part_of_the_whole(size, shape, axis, lowres, data):
    logits = np.random.default_rng(sum(size)).normal(size=(3, *size)).astype(np.float32)
    first = data.draw(st.integers(0, shape[axis] - 1))
    stop = data.draw(st.integers(first + 1, shape[axis]))
    n_in, n_out, nearest = size[axis], shape[axis], axis == lowres
    low = needed(first, n_in, n_out, nearest)[0]
    high = needed(stop - 1, n_in, n_out, nearest)[1] + 1
    part = np.take(logits, range(low, high), axis=axis + 1)
    small = tuple(stop - first if i == axis else n for i, n in enumerate(shape))
    slab = (axis, low, n_in, first, n_out)
    for whole, cut in (
        (
            logits_to_labels(logits, shape, lowres_axis=lowres),
            logits_to_labels(part, small, lowres_axis=lowres, slab=slab),
        ),
        (
            logits_to_regions(logits, shape, (1, 2, 3), lowres_axis=lowres),
            logits_to_regions(part, small, (1, 2, 3), lowres_axis=lowres, slab=slab),
        ),
        (
            resample_probabilities(logits, shape, lowres_axis=lowres),
            resample_probabilities(part, small, lowres_axis=lowres, slab=slab),
        ),
    ):
        from_end = axis + whole.ndim - 3
        np.testing.assert_array_equal(cut, np.take(whole, range(first, stop), axis=from_end))


def test_parts_along_two_axes():
    logits = np.random.default_rng(0).normal(size=(3, 6, 5, 4)).astype(np.float32)
    whole = logits_to_labels(logits, (9, 11, 7))
    slab = (0, 1, 6, 3, 9, 1, 2, 5, 6, 11)  # planes 3 to 5 and rows 6 to 8 of the result
    part = logits_to_labels(logits[:, 1:5, 2:5], (3, 3, 7), slab=slab)
    np.testing.assert_array_equal(part, whole[3:6, 6:9])


@pytest.mark.parametrize(
    ("slab", "message"),
    [
        ((0, 0, 4, 0), "slab must be"),
        ((3, 0, 4, 0, 8), "slab must be"),
        ((0, 3, 4, 0, 8), "slab must lie within its whole"),
        ((0, 0, 4, 6, 8), "slab must lie within its whole"),
        ((0, 0, 4, 3, 8), "slab must hold the planes"),
    ],
)
def test_slabs_that_cannot_be_are_refused(slab, message):
    with pytest.raises(ValueError, match=message):
        logits_to_labels(np.zeros((2, 2, 3, 3), np.float32), (4, 3, 3), slab=slab)


@pytest.mark.parametrize(
    ("slab", "message"),
    [
        ((), "five numbers"),
        ((0, 0, 4, 0), "must be \\(axis, start, planes, out_start, out_planes\\)"),
        ((0, 0, 4, 0, 4, 0, 0, 8, 0, 8), "name every axis once"),
        ((0, 0, 4, 0, 4, 1, 0, 4, 0, 4, 0, 0, 4, 0, 4), "name every axis once"),
        ((0, 0, 4, 0, 4) * 4, "five numbers for one, or for each of up to 3 axes"),
        ((3, 0, 4, 0, 4), "axis below 3"),
    ],
)
def test_slabs_that_cannot_be(slab, message):
    with pytest.raises(ValueError, match=message):
        logits_to_labels(np.zeros((2, 4, 4, 4), np.float32), (4, 4, 4), slab=slab)


def test_parts_along_two_axes_are_those_of_the_whole():
    logits = np.random.default_rng(0).normal(size=(3, 6, 8, 5)).astype(np.float32)
    whole = logits_to_labels(logits, (12, 16, 5))
    part = logits_to_labels(logits[:, 1:4, 2:7], (4, 6, 5), slab=(1, 2, 8, 6, 16, 0, 1, 6, 3, 12))
    np.testing.assert_array_equal(part, whole[3:7, 6:12])
