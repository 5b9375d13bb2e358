import numpy as np
import pytest
from nnunet_rs.report.palette import PALETTE, class_colour, dashes, hatching, hue


def test_the_first_seven_classes_are_the_palette_and_further_ones_differ() -> None:
    colours = [class_colour(index) for index in range(1, 20)]
    assert len(PALETTE) == 7
    assert len(set(colours)) == 19


def test_classes_of_one_colour_have_other_dashes_and_hatchings() -> None:
    for index in range(1, 22):
        same = [other for other in range(1, 22) if other != index and hue(other) == hue(index)]
        assert len(same) == 2
        for other in same:
            assert dashes(other) != dashes(index)
            assert not np.array_equal(hatching(other, (16, 16)), hatching(index, (16, 16)))


@pytest.mark.parametrize("index", range(1, 8))
def test_a_hatching_leaves_most_of_an_area_open(index: int) -> None:
    assert 0.1 < hatching(index, (64, 64)).mean() < 0.5


def test_a_hatching_by_hand() -> None:
    first_row = hatching(1, (2, 9))[0]
    assert first_row.tolist() == [True, True, False, False, False, False, False, False, True]
    assert hatching(1, (2, 9))[1, 0]  # the stripes climb to the left
    assert hatching(3, (4, 3)).tolist() == [[True] * 3, [True] * 3, [False] * 3, [False] * 3]
