"""Numbers, sizes and times as people write them."""

from __future__ import annotations

import pytest
from nnunet_rs.core.text import by, clock, counted, times


def test_sizes() -> None:
    assert by((128, 96.5, 3)) == "128 x 96.5 x 3"
    assert by((0.12345, 2), ".3g") == "0.123 x 2"
    assert times((0.123456, 2)) == "0.1235 × 2"


def test_counts() -> None:
    assert [counted(count, "case") for count in range(3)] == ["no cases", "1 case", "2 cases"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.41, "0.4 s"), (12.2, "12 s"), (59.7, "1:00"), (185, "3:05"), (3723, "1:02:03")]
)
def test_times(seconds: float, text: str) -> None:
    assert clock(seconds) == text
