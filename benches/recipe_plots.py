"""Plots and a table of what `benches/recipes.py` measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

LEAST_SPAN = 0.02  # of Dice in a panel
COLOURS = ("#0b6e99", "#d1495b", "#5c8a3a", "#8d5fa8", "#c9822b", "#4a4a4a")
MARKS = "osD^vP"


def draw(lines: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write dice.png and dice.svg, a panel a dataset, and runs.md."""
    if not lines:
        print("nothing to draw: there is no run yet")
        return
    (folder / "runs.md").write_text(summary(lines))
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    datasets = list(dict.fromkeys(line["dataset"] for line in lines))
    recipes = sorted({line["recipe"] for line in lines})
    columns = min(3, len(datasets))
    rows = -(-len(datasets) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.2 * columns, 3.3 * rows), squeeze=False, sharex=True)
    for axis in axes.flat[len(datasets) :]:
        axis.set_axis_off()
    for axis, dataset in zip(axes.flat, datasets, strict=False):
        _panel(axis, [line for line in lines if line["dataset"] == dataset], recipes)
        axis.set_title(dataset.replace("_", " "), fontsize=10)
    for axis in axes.flat[max(0, len(datasets) - columns) : len(datasets)]:  # the lowest panel of every column
        axis.set_xlabel("processor time, minutes")
        axis.tick_params(axis="x", labelbottom=True)
    for axis in axes[:, 0]:
        axis.set_ylabel("Dice, held-out cases")
    handles, labels = _legend(axes)
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(recipes)), frameon=False)
    figure.set_layout_engine("constrained")
    for ending in ("png", "svg"):
        figure.savefig(folder / f"dice.{ending}", dpi=120)
    pyplot.close(figure)
    print(f"{folder / 'dice.png'}, {folder / 'dice.svg'}, {folder / 'runs.md'}")


def minutes(line: dict[str, Any]) -> float:
    """Processor time of a run; of a resumed one, what its training took on all its threads."""
    seconds = line["processor_seconds"]
    return float((line["training_seconds"] * line["threads"] if seconds is None else seconds) / 60)


def _panel(axis: Any, lines: Sequence[dict[str, Any]], recipes: Sequence[str]) -> None:
    """Draw the runs of a dataset as points, and a line through the means of each budget."""
    from matplotlib.ticker import LogLocator, NullFormatter

    for index, recipe in enumerate(recipes):
        colour, mark = COLOURS[index % len(COLOURS)], MARKS[index % len(MARKS)]
        by_budget = defaultdict(list)
        for line in lines:
            if line["recipe"] == recipe:
                by_budget[line["budget"]].append(line)
                axis.plot(minutes(line), line["dice"], mark, color=colour, alpha=0.35, markersize=4)
                if "detection" in line:
                    axis.plot(minutes(line), line["detection"]["f1"], "x", color=colour, markersize=5)
        ordered = [by_budget[budget] for budget in sorted(by_budget)]
        if ordered:
            times, dices = ([mean(map(f, group)) for group in ordered] for f in (minutes, lambda line: line["dice"]))
            axis.plot(times, dices, mark + "-", color=colour, label=recipe, markersize=6)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    low, high = axis.get_ylim()
    around = max(0.0, LEAST_SPAN - (high - low)) / 2  # a panel that shows less makes chance look like a trend
    axis.set_ylim(low - around, high + around)
    axis.grid(True, which="both", color="#e5e5e5", linewidth=0.6)
    if any("detection" in line for line in lines):
        axis.text(0.98, 0.98, "×: F1 of lesions", transform=axis.transAxes, ha="right", va="top", fontsize=8)


def _legend(axes: Any) -> tuple[list[Any], list[str]]:
    found: dict[str, Any] = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)


def summary(lines: Sequence[dict[str, Any]]) -> str:
    """Return a table in Markdown: a row for each dataset, budget and recipe, means over the seeds."""
    rows = [
        "| data set | budget | recipe | Dice | seeds | iterations | F1 of lesions |",
        "|---|---|---|---|---|---|---|",
    ]
    groups = defaultdict(list)
    for line in lines:
        groups[line["dataset"], line["budget"], line["recipe"]].append(line)
    for (dataset, budget, recipe), group in sorted(groups.items()):
        dices = [line["dice"] for line in group]
        spread = f" ± {stdev(dices):.3f}" if len(dices) > 1 else ""
        f1 = [line["detection"]["f1"] for line in group if "detection" in line]
        shown = f"{mean(f1):.3f}" if f1 else ""
        count = f"{mean(line['iterations'] for line in group):.0f}"
        name = dataset.replace("_", " ")
        cells = (name, f"{budget / 60:g} min", recipe, f"{mean(dices):.3f}{spread}", str(len(group)), count, shown)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"
