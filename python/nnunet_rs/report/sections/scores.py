"""How well the cases held out were segmented: Dice by class, fold and case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from nnunet_rs.core.text import counted
from nnunet_rs.evaluate.summary import Summary, mean_cell, mean_of_known
from nnunet_rs.report.blocks import Block, Charts, Folded, Missing, Section, Text
from nnunet_rs.report.charts import Chart, Row, Scale, strips
from nnunet_rs.report.steps import Step, steps_of
from nnunet_rs.report.tables import Table, number, scores_table
from nnunet_rs.report.workfolder import Training, WorkContents

MOST_CLASSES = 40  # drawn; tables have all of them
LISTED = 200  # cases listed by name: the lowest scores
LISTED_CLASSES = 10  # columns of that list


def scores_section(work: WorkContents, steps: tuple[Step, ...]) -> Section:
    """Show the scores of every configuration on the cases that its folds did not see."""
    return Section("scores", "Scores", tuple(_blocks(work, steps)))


def _blocks(work: WorkContents, steps: tuple[Step, ...]) -> Iterator[Block]:
    validated = work.validated()
    if not validated:
        what = "No case held out has been scored yet; training a fold ends with that."
        yield Missing(what, steps_of(steps, "validate") or steps_of(steps, "train")[:1])
        return
    yield Text(
        "Every case is segmented by the fold that did not see it, in full and on its own grid. A class that is neither "
        "in the reference nor in the prediction has no score; one that is in only one of them scores 0, but has no "
        "surface distance, and no sensitivity where it is not in the reference."
    )
    yield Charts(
        tuple(_chart(name, summary) for name, summary in validated.items()),
        "Each dot is a case; the box holds the middle half, the heavy line is the median.",
        "Dice, class by class",
    )
    for name, summary in validated.items():
        folds = [training for training in work.of(name) if training.summary is not None]
        cases = counted(len(summary.cases), "case")
        yield scores_table(f"{name}: {cases} held out in {counted(len(folds), 'fold')}", summary, _note(summary))
        if len(folds) > 1:
            yield _by_fold(name, folds, summary)
        yield Folded(f"{name}: case by case", (_by_case(name, summary),))


def _note(summary: Summary) -> str:
    distances = f" NSD with a tolerance of {summary.tolerance:g} mm." if summary.tolerance is not None else ""
    return (
        "Means over the cases; the interval is that of the mean, by bootstrap. sens. sensitivity, prec. precision, "
        "HD95 95th percentile of the surface distance, ASD the average symmetric surface distance, NSD normalised "
        f"surface Dice.{distances}"
    )


def _chart(name: str, summary: Summary) -> Chart:
    values = summary.values("dice")
    shown = summary.targets[:MOST_CLASSES]
    rows = [Row(target.name, values[:, place], place + 1) for place, target in enumerate(shown)]
    if len(summary.targets) > 1:
        rows.append(Row("mean of the classes", mean_of_known(values.T)))
    low = float(np.nanmin(values)) if np.isfinite(values).any() else 0.0
    return strips(name, rows, Scale("Dice", (0 if low < 0.5 else max(0.0, low - 0.05), 1.005)), width=400)


def _by_fold(name: str, folds: list[Training], together: Summary) -> Table:
    """One row a class, one column a fold."""
    summaries: Mapping[int, Summary] = {t.fold: t.summary for t in folds if t.summary is not None}
    columns = [*(_means(summary) for summary in summaries.values()), _means(together)]
    rows = [
        (target.name, *(column[place] if place < len(column) else "-" for column in columns))
        for place, target in enumerate(together.targets)
    ]
    last = ("mean", *(number(s.foreground_mean()) for s in summaries.values()), number(together.foreground_mean()))
    head = (
        "class",
        *(f"fold {fold} ({len(s.cases)})" for fold, s in summaries.items()),
        f"all ({len(together.cases)})",
    )
    note = (
        "In brackets: cases, and of how many a class' mean is where not of all. The last column is the mean over all "
        "cases, not over folds."
    )
    return Table(f"{name}: mean Dice by fold", head, (*rows, last), note, summary=True)


def _means(summary: Summary) -> list[str]:
    """Show the mean Dice of each class."""
    pairs = zip(summary.mean("dice"), summary.known("dice"), strict=True)
    return [mean_cell(float(mean), int(known), len(summary.cases)) for mean, known in pairs]


def _by_case(name: str, summary: Summary) -> Table:
    values = summary.values("dice")
    means = mean_of_known(values.T)
    order = sorted(range(len(means)), key=lambda k: (np.isnan(means[k]), means[k]))
    shown = summary.targets[:LISTED_CLASSES]
    rows = tuple(
        (summary.cases[k].name, number(means[k]), *(number(values[k, place]) for place in range(len(shown))))
        for k in order[:LISTED]
    )
    left = len(order) - len(rows)
    rest = (
        f" {left} cases with higher scores are not listed; summary.csv beside the predictions has them." if left else ""
    )
    head = ("case", "mean", *(target.name for target in shown))
    return Table(f"{name}: Dice of each case, the lowest first", head, rows, f"A dash: no score.{rest}")
