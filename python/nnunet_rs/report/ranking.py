"""Which of many scored cases to look at: the best, the median, the worst, and others evenly between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan


@dataclass(frozen=True, slots=True)
class Ranked:
    """A case and where it stands among the others."""

    name: str
    place: int  # from 0, the best
    count: int  # of cases that have a Dice

    @property
    def rank(self) -> str:
        """What the place is called: best, worst, median, or nothing.

        Of an even number of cases the worse of the two in the middle is the median.
        """
        return {self.count // 2: "median", self.count - 1: "worst", 0: "best"}.get(self.place, "")


def ranked(dice: Mapping[str, float], wanted: int = 3) -> tuple[Ranked, ...]:
    """Choose cases evenly from the best to the worst; a single one is the median.

    Parameters
    ----------
    dice
        Of each case, by name; NaN where it has none. Among equals the names decide.
    wanted
        How many to choose, at least 1; there may be fewer cases.
    """
    order = sorted((name for name, value in dice.items() if not isnan(value)), key=lambda name: (-dice[name], name))
    count = len(order)
    return tuple(Ranked(order[place], place, count) for place in _places(count, min(wanted, count)))


def _places(count: int, wanted: int) -> list[int]:
    """Divide 0 to count - 1 evenly, both ends included; halves are rounded up, as the median's place is."""
    if wanted == 1:
        return [count // 2]
    gaps = wanted - 1
    return [(2 * k * (count - 1) + gaps) // (2 * gaps) for k in range(wanted)]
