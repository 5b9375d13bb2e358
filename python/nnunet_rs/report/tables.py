"""Tables of results as plain values; `cli` decides how a terminal shows them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnunet_rs.core.text import times

if TYPE_CHECKING:
    from pathlib import Path

    from nnunet_rs.core.issues import Issue
    from nnunet_rs.evaluate.comparison import Comparison
    from nnunet_rs.evaluate.structures_folder import CaseStructures
    from nnunet_rs.evaluate.summary import Summary
    from nnunet_rs.plan.schema import Configuration, Plan
    from nnunet_rs.select.choice import Candidate, Choice


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under headings; where all headings are empty, there is none.

    The first column is aligned left, the others right, unless they hold words.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    summary: bool = False  # the last row sums the others up
    words: bool = False  # all columns are aligned left

    def lines(self) -> list[str]:
        """Lay the table out in aligned columns, for a file or a pipe."""
        table = [self.columns, *self.rows] if any(self.columns) else self.rows
        widths = [max(len(row[column]) for row in table) for column in range(len(self.columns))]
        rows = (_aligned(row, widths, self.words) for row in table)
        return [line for line in (self.title, *rows, self.note) if line]


def number(value: float | None, digits: int = 3) -> str:
    """Show a score; an undefined one is a dash."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def scores_table(title: str, summary: Summary, note: str = "") -> Table:
    """Show what was scored: one row a class or region, the foreground mean last.

    Columns without a single value (surface distances that were not measured) are left out.
    """
    notes = (note, _FEWER if summary.rests_on_fewer() else "")
    head, *body = (tuple(row) for row in summary.table())
    kept = [i for i in range(len(head)) if any(row[i] != "-" for row in body)]
    rows = tuple(tuple(row[i] for i in kept) for row in body)
    return Table(title, tuple(head[i] for i in kept), rows, "\n".join(filter(None, notes)), summary=True)


_FEWER = (
    "(4/8): a mean over 4 of 8 values. HD95 and ASD exist where prediction and reference have the structure, "
    "sensitivity where the reference has it"
)


def comparison_table(names: tuple[str, str], metric: str, rows: Sequence[Comparison]) -> Table:
    """Show how two sets of predictions compare: one row a class or region, the foreground mean last."""
    body = tuple(
        (row.name, str(row.cases), number(row.first, 4), number(row.second, 4), *_difference(row)) for row in rows
    )
    note = "p: paired permutation test, two-sided, of each row by itself"
    if metric in ("hd95", "asd"):
        note += "; less is better"
    if any(rows[-1].missing):
        missing = ", ".join(f"{count} in {name}" for name, count in zip(names, rows[-1].missing, strict=True))
        note += (
            "\na structure in prediction or reference only has no distance, and counts with the image's diagonal: "
            f"{missing}"
        )
    title = f"mean {metric} over the same cases"
    return Table(title, ("class", "cases", *names, "difference", "p"), body, note, summary=True)


def _difference(row: Comparison) -> tuple[str, str]:
    return (f"{row.difference:+.4f}", f"{row.p_value:.2g}") if row.cases else ("-", "-")


def structures_table(cases: Sequence[CaseStructures]) -> Table:
    """Show the structures of segmentations: one row each, volumes over the cases that hold it."""
    names = [structure.name for structure in cases[0].structures] if cases else []
    rows = []
    for place, name in enumerate(names):
        found = [case.structures[place] for case in cases if case.structures[place].voxels]
        volumes = sorted(structure.volume / 1000 for structure in found)
        mean = sum(volumes) / len(volumes) if volumes else None
        ends = (volumes[0], volumes[-1]) if volumes else (None, None)
        parts = str(max((structure.components for structure in found), default=0))
        rows.append((name, f"{len(found)} of {len(cases)}", *(_ml(value) for value in (mean, *ends)), parts))
    columns = ("structure", "cases", "mean, ml", "smallest", "largest", "components at most")
    return Table("Volumes", columns, tuple(rows), "over the cases that hold the structure")


def _ml(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 1 else f"{value:.1f}"


def choice_table(choice: Choice, note: str = "") -> Table:
    """Show what `best` compared: one row a configuration or pair, the chosen one first."""
    classes = tuple(choice.candidates[0].per_class)
    rows = tuple(
        (found.name, number(found.dice), *(_class_mean(found, name) for name in classes)) for found in choice.candidates
    )
    folds = f"{len(choice.folds)} fold{'' if len(choice.folds) == 1 else 's'}"
    if any("/" in cell for row in rows for cell in row[2:]):
        note = "\n".join(filter(None, (note, "(2/5): a mean over 2 of 5 cases; the others have no such class")))
    return Table(f"Dice over the cases held out in {folds}", ("configuration", "mean", *classes), rows, note)


def _class_mean(candidate: Candidate, name: str) -> str:
    """Show a class' mean Dice, and on how many cases it rests unless on all."""
    from nnunet_rs.evaluate.summary import mean_cell  # NumPy: not for who only asks for help

    value = candidate.per_class.get(name)
    known = candidate.cases_in_mean.get(name, candidate.cases)
    return "-" if value is None else mean_cell(value, known, candidate.cases)


def issues_table(root: Path, issues: Sequence[Issue]) -> Table:
    """Show what is wrong with a dataset: one row an issue, files by their path in the dataset."""
    rows = tuple(
        ("error" if issue.fatal else "warning", _place(issue.file, root), issue.rule, issue.value, issue.advice)
        for issue in issues
    )
    return Table(f"{root}:", ("", "file", "rule", "found", "what to do"), rows, words=True)


def _place(file: Path, root: Path) -> str:
    return str(file.relative_to(root) if file.is_relative_to(root) else file)


def plan_table(plan: Plan) -> Table:
    """Show the configurations of a plan: one column each, one row a choice."""
    chosen = list(plan.configurations.values())
    rows = tuple((name, *(show(each) for each in chosen)) for name, show in _CHOICES)
    title = f"{plan.dataset}, planned by the rules of {plan.recipe}"
    return Table(title, ("", *(each.name for each in chosen)), rows)


_CHOICES: tuple[tuple[str, Callable[[Configuration], str]], ...] = (
    ("target spacing, mm", lambda chosen: times(chosen.spacing)),
    ("median size, voxels", lambda chosen: times(chosen.median_shape)),
    ("patch, voxels", lambda chosen: times(chosen.patch_size)),
    ("batch", lambda chosen: str(chosen.batch_size)),
    ("stages", lambda chosen: str(len(chosen.features))),
    ("feature maps", lambda chosen: f"{chosen.features[0]} to {chosen.features[-1]}"),
    ("pooled by", lambda chosen: times([math.prod(axis) for axis in zip(*chosen.strides, strict=True)])),
    ("Dice in the loss, over", lambda chosen: "the batch" if chosen.batch_dice else "each sample"),
    ("memory, GB", lambda chosen: f"{chosen.memory_gb:.2g}" if chosen.memory_gb else "-"),
)


def _aligned(row: tuple[str, ...], widths: list[int], words: bool) -> str:
    first = row[0].ljust(widths[0])
    justified = str.ljust if words else str.rjust
    rest = (justified(cell, width) for cell, width in zip(row[1:], widths[1:], strict=True))
    return "  ".join((first, *rest)).rstrip()
