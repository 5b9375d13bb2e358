from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.labels import decode_labels, encode_labels, present_classes, undeclared_values
from nnunet_rs.core.types import LabelSet

PLAIN = LabelSet(("background", "a", "b"), (0, 1, 2))
SPARSE = LabelSet(("background", "a", "b"), (0, 5, 500), ignore=600)
KINDS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"]


@pytest.mark.parametrize("kind", KINDS)
def test_consecutive_values_stay(kind: str) -> None:
    raw = np.array([[[0, 1], [2, 2]]], kind)
    classes = encode_labels(raw, PLAIN)
    assert classes.dtype == np.uint8
    np.testing.assert_array_equal(classes, raw)


@pytest.mark.parametrize("kind", ["u2", "i2", "u4", "i4", "u8", "i8"])
def test_other_values_and_the_ignore_label_are_mapped_there_and_back(kind: str) -> None:
    raw = np.array([[[0, 500], [5, 600]]], kind)
    classes = encode_labels(raw, SPARSE)
    assert classes.tolist() == [[[0, 2], [1, 3]]]
    back = decode_labels(classes, SPARSE)
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back, raw)


def test_an_ignore_label_after_the_classes_is_their_number() -> None:
    labels = LabelSet(("background", "a"), (0, 1), ignore=2)
    raw = np.array([[[0, 1, 2]]], np.uint8)
    np.testing.assert_array_equal(encode_labels(raw, labels), raw)
    np.testing.assert_array_equal(decode_labels(raw, labels), raw)


@pytest.mark.parametrize(
    ("labels", "values", "text"),
    [
        (PLAIN, [0, 3, 3, 9], r"values 3 \(2 voxels\), 9 \(1 voxel\) are not declared .* which has 0, 1, 2$"),
        (PLAIN, [0, -1], r"values -1 \(1 voxel\)"),
        (SPARSE, [0, 4, 5], r"values 4 \(1 voxel\) .* which has 0, 5, 500 and ignore 600"),
        (SPARSE, [0, 601], r"values 601"),
        (SPARSE, [0, -5], r"values -5"),
        (PLAIN, [0, 2**31], r"values 2147483648"),
    ],
)
def test_undeclared_values_are_told_with_their_voxels(labels: LabelSet, values: list[int], text: str) -> None:
    with pytest.raises(DatasetError, match=text):
        encode_labels(np.array(values).reshape(1, 1, -1), labels)


def test_more_undeclared_values_than_a_message_lists_are_counted() -> None:
    with pytest.raises(DatasetError, match=r"values 3 \(1 voxel\), .*10 \(1 voxel\) … and 12 more are not declared"):
        encode_labels(np.arange(23).reshape(1, 1, -1), PLAIN)


def test_many_classes_need_two_bytes() -> None:
    labels = LabelSet(tuple(map(str, range(300))), tuple(range(0, 600, 2)))
    raw = np.array([[[598, 0, 20]]], np.uint16)
    classes = encode_labels(raw, labels)
    assert classes.dtype == np.uint16
    assert classes.tolist() == [[[299, 0, 10]]]
    np.testing.assert_array_equal(decode_labels(classes, labels), raw)


@given(st.sets(st.integers(1, 65535), min_size=1, max_size=20), st.booleans(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_decode_reverts_encode(values: set[int], ignored: bool, chance: object) -> None:
    ordered = sorted(values)
    ignore = ordered.pop() if ignored and len(ordered) > 1 else None
    labels = LabelSet(tuple(map(str, [0, *ordered])), (0, *ordered), ignore=ignore)
    raw = np.random.default_rng(0).choice([0, *ordered, *([ignore] if ignore else [])], (3, 4, 5))
    np.testing.assert_array_equal(decode_labels(encode_labels(raw, labels), labels), raw)


def test_decode_refuses_what_is_no_class() -> None:
    with pytest.raises(ValueError, match="must be 0 … 2, got 0 … 3"):
        decode_labels(np.array([0, 3]), PLAIN)


def test_no_voxels_are_no_fault() -> None:
    empty = np.zeros((0, 2, 2), np.int16)
    assert encode_labels(empty, PLAIN).shape == decode_labels(empty, SPARSE).shape == (0, 2, 2)


def test_classes_that_are_there() -> None:
    assert present_classes(np.array([[[0, 2]], [[2, 2]]], np.uint8), PLAIN) == (True, False, True, False)
    assert undeclared_values(np.array([0, 7, 7, 1]), PLAIN) == ((7, 2),)


@given(st.integers(0, 2**32), st.sampled_from([np.uint8, np.uint16]), st.tuples(*[st.integers(0, 9)] * 3))
def test_present_classes_are_the_unique_ones(seed: int, kind: type, shape: tuple[int, ...]) -> None:
    classes = np.random.default_rng(seed).choice([0, 0, 0, 0, 1, 3], shape).astype(kind)
    expected = tuple(c in classes for c in range(PLAIN.count + 1))
    assert present_classes(classes, PLAIN) == expected
    assert present_classes(np.repeat(classes, 40, axis=2), PLAIN) == expected
