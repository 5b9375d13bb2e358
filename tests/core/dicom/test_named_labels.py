"""What classes are called where SEG and RTSTRUCT files alone say so."""

from __future__ import annotations

import pytest
from nnunet_rs.core.dicom.named_labels import common_names, names_by_value


def test_files_that_agree_name_the_values() -> None:
    found = [("Liver", 2), ("tumour", 1), ("liver", 2), ("left  kidney", 5), ("Left_Kidney", 5)]
    assert names_by_value(found) == {2: "Liver", 1: "tumour", 5: "left  kidney"}
    assert names_by_value([]) == {}


@pytest.mark.parametrize("more", [("liver", 3), ("spleen", 1), ("3", 3), ("", 3), ("spleen", 0)])
def test_names_that_are_not_clear_are_not_taken(more: tuple[str, int]) -> None:
    assert names_by_value([("liver", 1), ("tumour", 2)]) == {1: "liver", 2: "tumour"}
    assert names_by_value([("liver", 1), ("tumour", 2), more]) == {}


def test_names_of_both_sides_are_numbered() -> None:
    ours, theirs = [("tumour", 1), ("Liver", 2), ("tumour", 3)], [("liver", 1), ("tumour", 7)]
    assert common_names(ours, theirs) == {1: "Liver", 2: "tumour"}
    assert common_names(ours, [*theirs, ("spleen", 9)]) == {}
    assert common_names([("1", 4)], [("1", 5)]) == {}
