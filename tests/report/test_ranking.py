from math import nan

import pytest
from nnunet_rs.report.ranking import ranked

FOUR = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ({"a": 0.6, "b": 0.9, "c": 0.15}, {"best": "b", "median": "a", "worst": "c"}),
        (FOUR, {"best": "d", "median": "b", "worst": "a"}),
        ({"a": 0.5, "b": 0.7, "empty": nan}, {"best": "b", "worst": "a"}),
        ({"b": 0.5, "a": 0.5}, {"best": "a", "worst": "b"}),
        ({"a": 0.5}, {"best": "a"}),
        ({"empty": nan}, {}),
        ({}, {}),
    ],
)
def test_who_is_best_median_and_worst(dice: dict[str, float], expected: dict[str, str]) -> None:
    assert {case.rank: case.name for case in ranked(dice)} == expected


@pytest.mark.parametrize(
    ("wanted", "expected"), [(1, [("b", 2, "median")]), (2, [("d", 0, "best"), ("a", 3, "worst")])]
)
def test_fewer_than_three(wanted: int, expected: list[tuple[str, int, str]]) -> None:
    assert [(case.name, case.place, case.rank) for case in ranked(FOUR, wanted)] == expected


@pytest.mark.parametrize("wanted", [4, 9])
def test_all_of_them(wanted: int) -> None:
    found = ranked(FOUR, wanted)
    assert [case.name for case in found] == ["d", "c", "b", "a"]
    assert [case.rank for case in found] == ["best", "", "median", "worst"]
    assert {case.count for case in found} == {4}


def test_evenly_between() -> None:
    dice = {f"{k:02d}": 1 - k / 100 for k in range(11)}
    assert [case.place for case in ranked(dice, 5)] == [0, 3, 5, 8, 10]
