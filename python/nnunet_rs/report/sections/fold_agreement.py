"""How far the folds agree on predicted cases, as `predict` recorded it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from nnunet_rs.report.blocks import Block, Charts, Section, Text
from nnunet_rs.report.charts import Row, Scale, strips
from nnunet_rs.report.tables import Table, number

LISTED, LISTED_STRUCTURES, DRAWN = 1000, 24, 40  # cases and structures of the table, structures of the chart

FoldDice = Mapping[str, Mapping[str, float]]  # by case, then structure


def fold_section(found: FoldDice, order: Sequence[str], structures: Sequence[str]) -> Section:
    """Show the Dice between folds: a dot a case, and all numbers, the cases in the order of the page."""
    return Section("folds", "Agreement of the folds", tuple(_blocks(found, order, structures)))


def mean_fold_dice(found: Mapping[str, float]) -> float:
    """Average a case's structures; NaN: it has none."""
    return sum(found.values()) / len(found) if found else float("nan")


def _blocks(found: FoldDice, order: Sequence[str], structures: Sequence[str]) -> Iterator[Block]:
    yield Text(
        "What each fold's network would segment by itself is compared with what the others would: shown is the Dice "
        "between two folds, averaged over all pairs of them. It is low where borders are vague, or the image is unlike "
        "those of the training. Folds that agree can all be wrong: it is no Dice with a reference."
    )
    known = [name for name in order if found.get(name)]
    rows = [
        Row(name, np.array([found[case][name] for case in known if name in found[case]]), colour=place + 1)
        for place, name in enumerate(structures[:DRAWN])
    ]
    if len(known) > 1:
        drawn = [row for row in rows if row.values.size]
        chart = strips("Dice between two folds", drawn, Scale("Dice", (0, 1)), width=620)
        yield Charts((chart,), "Each dot is a case; the box is the middle half.")
    shown = structures[:LISTED_STRUCTURES]
    body = tuple(
        (case, *(number(found[case].get(name)) for name in shown), number(mean_fold_dice(found[case])))
        for case in known[:LISTED]
    )
    left = "" if len(shown) == len(structures) else f" The first {len(shown)} of {len(structures)} structures."
    left += "" if len(known) <= LISTED else f" The first {LISTED} of {len(known)} cases."
    note = f"Mean over the pairs of folds; a dash: no fold finds the structure.{left}"
    yield Table("Dice between two folds, case by case", ("case", *shown, "mean"), body, note)
