from __future__ import annotations

import pytest
from nnunet_rs.cli.progress import Count, after, rate


@pytest.mark.parametrize(
    ("done", "seconds", "shown"), [(0, 1, "-"), (1, 0, "-"), (1, 2, "2.0 s each"), (24, 2, "12/s"), (1, 0.3, "3.33/s")]
)
def test_speeds(done: float, seconds: float, shown: str) -> None:
    assert rate(done, seconds) == shown


def test_parts_of_a_unit_count_when_they_make_a_whole() -> None:
    count = Count("read", 2, lambda _: None)
    for _ in range(9):
        count.advance(0.1)
    assert count.stands() == "0 of 2"
    count.advance(0.1)
    assert count.stands("/") == "1/2"


def test_what_is_added_to_a_line() -> None:
    assert (after("case_1"), after("")) == ("; case_1", "")
