"""Tables of results as plain values; `cli` decides how a terminal shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under headings; the first column is aligned left, the others right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    summary: bool = False  # the last row sums the others up

    def lines(self) -> list[str]:
        """Lay the table out in aligned columns for a file or a pipe."""
        table = [self.columns, *self.rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(self.columns))]
        body = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in cells
            ).rstrip()
            for cells in (list(enumerate(zip(row, widths, strict=True))) for row in table)
        ]
        return [text for text in (self.title, *body, self.note) if text]


def number(value: float | None, digits: int = 3) -> str:
    """Show a score; an undefined one is a dash."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def dice_table(title: str, scores: Mapping[str, Sequence[float]], note: str = "") -> Table:
    """Summarise Dice per class over cases.

    Parameters
    ----------
    title
        What was scored.
    scores
        Class name to one Dice a case, NaN where the class is in neither segmentation.

    Returns
    -------
    Table
        Mean, median, minimum and maximum of the defined values, and their number; the last row means over classes.
    """
    rows = [_row(name, [value for value in values if math.isfinite(value)]) for name, values in scores.items()]
    means = [sum(known) / len(known) for known in map(_known, scores.values()) if known]
    mean = sum(means) / len(means) if means else math.nan
    rows.append(("mean of classes", number(mean), "", "", "", ""))
    return Table(title, ("class", "Dice", "median", "min", "max", "cases"), tuple(rows), note, summary=True)


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _row(name: str, known: list[float]) -> tuple[str, ...]:
    if not known:
        return (name, "-", "-", "-", "-", "0")
    ordered = sorted(known)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return (
        name,
        *(number(value) for value in (sum(known) / len(known), median, ordered[0], ordered[-1])),
        str(len(known)),
    )
