from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nnunet_rs.core.document import decode, encode
from nnunet_rs.core.geometry import Geometry, invertible, lowres_axis, new_shape, nonzero_box
from nnunet_rs.core.types import Header

HEADER = Header("nifti", ((1.0, 0.0, 0.0, 0.5),) * 4, b"\x00\xff header")
SPACINGS = st.tuples(*[st.sampled_from([0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 3.01, 5.0, 9.0])] * 3)


def geometry(**changes: Any) -> Geometry:
    values: dict[str, Any] = {
        "shape": (4, 5, 6),
        "spacing": (3.0, 1.0, 2.0),
        "transpose": (1, 0, 2),
        "box": ((1, 4), (0, 2), (3, 6)),  # of 5, 4, 6
        "resampled": (7, 8, 9),
        "header": HEADER,
    }
    return Geometry(**{**values, **changes})


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e30])
def test_axes_span_space_whatever_their_unit(scale: float) -> None:
    assert invertible(np.diag([1.0, 2.0, 3.0]) * scale)
    assert not invertible(np.array([[1.0, 0, 1], [0, 1, 1], [0, 0, 0]]) * scale)
    assert not invertible(np.diag([1.0, 0.0, 3.0]) * scale)
    assert not invertible(np.diag([1.0, np.inf, 3.0]))


def test_the_box_of_two_voxels_in_two_channels() -> None:
    data = np.zeros((2, 6, 40, 50), np.float32)
    data[0, 2, 33, 20] = -1
    data[1, 4, 7, 44] = np.nan
    assert nonzero_box(data) == ((2, 5), (7, 34), (20, 45))


def test_an_image_of_zeros_is_kept_whole() -> None:
    assert nonzero_box(np.zeros((1, 2, 3, 4))) == ((0, 2), (0, 3), (0, 4))


@given(hnp.arrays(np.int16, hnp.array_shapes(min_dims=4, max_dims=4, max_side=20), fill=st.just(0)))
@settings(max_examples=60, deadline=None)
def test_the_box_equals_that_of_the_mask(data: np.ndarray) -> None:
    mask = (data != 0).any(axis=0)
    if mask.any():
        expected = tuple((int(at.min()), int(at.max()) + 1) for at in np.nonzero(mask))
        assert nonzero_box(data) == expected
    else:
        assert nonzero_box(data) == tuple((0, size) for size in mask.shape)


@pytest.mark.parametrize(
    ("spacing", "target", "axis"),
    [
        ((5, 1, 1), (1, 1, 1), 0),
        ((1, 1, 5), (1, 1, 1), 2),
        ((1, 1, 1), (1, 5, 1), 1),  # the target decides when the case is isotropic
        ((1, 5, 1), (5, 1, 1), 1),  # the case comes first
        ((3, 1, 1), (3, 1, 1), None),  # not more than 3
        ((0.24, 1.25, 1.25), (9, 1, 1), None),  # two coarse axes; the target is not asked
        ((1, 1, 1), (1, 1, 1), None),
    ],
)
def test_the_coarse_axis(spacing: tuple[float, ...], target: tuple[float, ...], axis: int | None) -> None:
    assert lowres_axis(spacing, target) == axis


@given(SPACINGS, SPACINGS)
@settings(max_examples=200, deadline=None)
def test_the_coarse_axis_follows_the_text_of_the_method(spacing: tuple[float, ...], target: tuple[float, ...]) -> None:
    expected = None
    for candidate in (spacing, target):
        largest, smallest = sorted(candidate)[-1], sorted(candidate)[0]
        if largest / smallest > 3:
            if candidate.count(largest) == 1:
                expected = candidate.index(largest)
            break
    assert lowres_axis(spacing, target) == expected


@pytest.mark.parametrize(
    ("shape", "spacing", "target", "expected"),
    [
        ((10, 20, 30), (2, 1, 1), (1, 1, 2), (20, 20, 15)),
        ((5, 7, 1), (1, 1, 1), (2, 2, 2), (2, 4, 1)),  # 2.5 -> 2 and 3.5 -> 4: halves to even; 0.5 -> 0 -> 1
        ((512, 512), (0.7, 0.7), (0.75, 0.75), (478, 478)),
    ],
)
def test_the_new_size(shape: Any, spacing: Any, target: Any, expected: tuple[int, ...]) -> None:
    assert new_shape(shape, spacing, target) == expected


def test_undo_puts_each_voxel_where_it_was() -> None:
    full = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    one = geometry()
    cropped = full.transpose(1, 0, 2)[1:4, 0:2, 3:6]
    assert one.cropped_shape == cropped.shape == (3, 2, 3)
    assert one.working_spacing == (1.0, 3.0, 2.0)
    back = one.undo(cropped)
    inside = np.zeros(full.shape, bool)
    inside[0:2, 1:4, 3:6] = True
    np.testing.assert_array_equal(back, np.where(inside, full, 0))


def test_undo_takes_channels_and_a_value_for_outside() -> None:
    back = geometry().undo(np.ones((2, 3, 2, 3), np.float16), fill=0.25)
    assert back.dtype == np.float16
    assert back.shape == (2, 4, 5, 6)
    assert back.sum() == 36 + 0.25 * (240 - 36)


@given(st.permutations([0, 1, 2]), st.data())
@settings(max_examples=40, deadline=None)
def test_undo_reverts_transpose_and_crop(order: list[int], data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * 3))
    full = np.random.default_rng(0).integers(1, 9, shape, np.uint8)
    working = full.transpose(order)
    box = []
    for size in working.shape:
        start = data.draw(st.integers(0, size - 1))
        box.append((start, data.draw(st.integers(start + 1, size))))
    one = geometry(shape=shape, transpose=tuple(order), box=tuple(box))
    inside = tuple(slice(*ends) for ends in box)
    back = one.undo(working[inside])
    np.testing.assert_array_equal(back.transpose(order)[inside], working[inside])
    assert np.count_nonzero(back) == working[inside].size


def test_undo_refuses_another_grid() -> None:
    with pytest.raises(ValueError, match=r"must be of shape \(3, 2, 3\), got \(7, 8, 9\)"):
        geometry().undo(np.zeros((7, 8, 9)))


def test_json_comes_back() -> None:
    one = geometry()
    assert decode(Geometry, json.loads(json.dumps(encode(one))), "geometry") == one
