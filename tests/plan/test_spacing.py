"""Target spacing, median shapes and the low resolution's steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunet_rs.plan.schema import Fingerprint
from nnunet_rs.plan.spacing import (
    coarsest_axis,
    front_axis,
    has_one_slice,
    has_short_axis,
    median_of_cases,
    median_shape,
    percentile,
    raised,
    shape_at,
    target_spacing,
    transposed,
)

Make = Callable[..., Fingerprint]
FLOATS = st.floats(0.01, 1000, allow_nan=False)


def varied(made: Fingerprint, spacings: list[tuple[float, float, float]]) -> Fingerprint:
    return replace(made, cases=tuple(replace(c, spacing=s) for c, s in zip(made.cases, spacings, strict=True)))


@given(st.lists(FLOATS, min_size=1, max_size=40), st.sampled_from([10.0, 50.0]))
def test_percentile_is_numpys_to_the_last_bit(values: list[float], percent: float) -> None:
    assert percentile(values, percent) == np.percentile(values, percent)


def test_target_is_the_median_of_each_axis(fingerprint: Make) -> None:
    made = varied(fingerprint((9, 9, 9), cases=4), [(1, 5, 2), (2, 5, 2), (4, 6, 3), (8, 7, 9)])
    assert target_spacing(made, None, 3) == (3, 5.5, 2.5)


def test_a_much_coarser_axis_takes_its_tenth_percentile(fingerprint: Make) -> None:
    # 11 cases: the 10th percentile is the second smallest; 10 mm exceed 3 x 1 mm, 10 voxels are fewer than 100 / 3
    spacings = [(float(z), 1.0, 1.0) for z in range(5, 16)]
    made = varied(fingerprint((10, 100, 100), cases=11), spacings)
    assert target_spacing(made, 10, 3) == (6, 1, 1)
    assert target_spacing(made, None, 3) == (10, 1, 1)


def test_the_tenth_percentile_never_goes_below_the_next_coarsest(fingerprint: Make) -> None:
    spacings = [(0.5, 1.0, 1.5), (0.5, 1.0, 1.5), (10.0, 1.0, 1.5), (10.0, 1.0, 1.5), (10.0, 1.0, 1.5)]
    made = varied(fingerprint((10, 100, 100), cases=5), spacings)
    assert target_spacing(made, 10, 3) == (1.5 + 1e-5, 1, 1.5)


@pytest.mark.parametrize(("shape", "coarse"), [((40, 100, 100), 10.0), ((10, 100, 100), 2.9)])
def test_a_coarse_axis_with_many_voxels_or_little_coarser_keeps_its_median(
    fingerprint: Make, shape: tuple[int, int, int], coarse: float
) -> None:
    made = varied(fingerprint(shape, cases=3), [(0.9, 1, 1), (coarse, 1, 1), (coarse, 1, 1)])
    assert target_spacing(made, 10, 3) == (coarse, 1, 1)


def test_median_shape_rounds_each_case_or_none(fingerprint: Make) -> None:
    made = varied(fingerprint((11, 11, 11), cases=2), [(0.5, 1, 1), (0.7, 1, 1)])  # 5.5 and 7.7 at 1 mm along z
    assert median_shape(made, (1, 1, 1), round_cases=False) == pytest.approx((6.6, 11, 11))
    assert median_shape(made, (1, 1, 1), round_cases=True) == (7, 11, 11)  # of 6 and 8
    assert median_of_cases(made) == ((0.6, 1, 1), (11, 11, 11))


def test_working_order_puts_the_first_of_the_coarsest_in_front() -> None:
    assert coarsest_axis((1, 3, 2)) == 1
    assert coarsest_axis((2, 2, 1)) == 0
    assert front_axis(2) == (2, 0, 1)
    assert transposed((4.0, 5.0, 6.0), (2, 0, 1)) == (6, 4, 5)


def test_spacing_is_raised_along_the_fine_axes_first() -> None:
    assert raised((4.0, 1.0, 2.0), 1.5) == (4, 1.5, 2)  # only y is more than twice as fine as z
    assert raised((3.0, 1.5, 2.0), 1.5) == (4.5, 2.25, 3)


def test_shape_at_another_spacing() -> None:
    assert shape_at((2.0, 1.0, 4.0), (1.0, 1.0, 1.0), (10.0, 10.0, 10.0)) == (5, 10, 2.5)


def test_flat_data() -> None:
    assert has_one_slice((1.0, 50.0, 50.0))
    assert not has_one_slice((50.0, 1.0, 50.0))  # v2 looks at the first working axis only
    assert has_short_axis((50.0, 3.4, 50.0))
    assert not has_short_axis((4.0, 50.0, 50.0))
