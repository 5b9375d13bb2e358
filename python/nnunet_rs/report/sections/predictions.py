"""What a page of predictions holds: the cases that stand out, volumes, scores, slices, and what they were made with."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isnan

import numpy as np

from nnunet_rs.core.text import counted
from nnunet_rs.evaluate.scores import scored_targets
from nnunet_rs.evaluate.structures import StructureStatistics
from nnunet_rs.evaluate.summary import Summary
from nnunet_rs.report.blocks import Block, Charts, Cover, Figure, Folded, LegendEntry, Missing, Section, Text, Viewer
from nnunet_rs.report.charts import Row, Scale, strips
from nnunet_rs.report.predicted_case import PredictedCase
from nnunet_rs.report.predictions import Predictions
from nnunet_rs.report.sections.fold_agreement import FoldDice, fold_section, mean_fold_dice
from nnunet_rs.report.sections.provenance import PACKAGES, package_version
from nnunet_rs.report.slices import difference_swatch, swatch
from nnunet_rs.report.tables import Table, number, scores_table, structures_table
from nnunet_rs.report.unusual import LEAST, Unusual

LISTED = 1000  # cases in the table of volumes: the first of the order
LISTED_STRUCTURES = 24  # columns of it
DRAWN = 40  # structures in the chart of volumes


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that a page of predictions tells of."""

    found: Predictions
    cases: Mapping[str, PredictedCase]  # in the order of the page
    order: tuple[Unusual, ...]
    shown: int  # cases of the order that are drawn
    summary: Summary | None  # None: no case could be scored
    failed: Mapping[str, str]  # cases that cannot be read, and why
    fold_dice: FoldDice  # empty: predicted by one fold, or it was not recorded

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the structures."""
        return tuple(target.name for target in scored_targets(self.found.labels))


def prediction_cover(seen: Seen) -> Cover:
    """Sum predictions up."""
    structures, cases = seen.names, [case.structures for case in seen.cases.values()]
    made = seen.found.made_with
    by = " of ".join(str(made[key]) for key in ("configuration", "dataset") if made.get(key))
    failed = [f"{name} cannot be read: {reason}" for name, reason in seen.failed.items()]
    remarks = (*failed, *seen.found.remarks, *(f"{c.name}: {text}" for c in seen.cases.values() for text in c.remarks))
    return Cover(
        title=seen.found.name,
        deck=f"{counted(len(cases), 'case')} with {counted(len(structures), 'structure')}"
        + (f", segmented by {by}. " if by else ". ")
        + _order_text(seen),
        figures=tuple(_figures(seen)),
        status=structures_table(cases),
        steps=(),
        remarks=remarks,
        kicker="Predictions",
    )


def _order_text(seen: Seen) -> str:
    if seen.summary is not None:
        return "The case with the lowest Dice comes first."
    if len(seen.cases) < LEAST:
        order = "the one on which the folds agree least comes first" if seen.fold_dice else "they are ordered by name"
        return f"Fewer than {LEAST} cases cannot be told usual or unusual; {order}."
    with_entropy = any(case.entropy is not None for case in seen.cases.values())
    compared = ["what is missing", "the volume", "the number of components"]
    compared += ["how far the folds agree"] if seen.fold_dice else []
    compared += ["how unsure the network was"] if with_entropy else []
    listed = f"{', '.join(compared[:-1])} and {compared[-1]}"
    return f"The most unusual case comes first: compared are, structure by structure, {listed}."


def _figures(seen: Seen) -> Iterator[Figure]:
    if seen.summary is not None:
        low, high = seen.summary.interval()[1]
        note = f"{counted(len(seen.summary.cases), 'case')}; 95\u00a0% interval {number(low)} to {number(high)}"
        yield Figure(number(seen.summary.foreground_mean()), "mean Dice", note)
    drawn = "all" if seen.shown == len(seen.cases) else f"the first {seen.shown}"
    yield Figure(str(len(seen.cases)), "cases", f"{drawn} as slices")
    yield Figure(str(len(seen.names)), "structures", _shortened(", ".join(seen.names)))
    if len(seen.cases) >= LEAST:
        unusual = [row for row in seen.order if row.reasons]
        yield Figure(str(len(unusual)), "unusual cases", _shortened(", ".join(row.case for row in unusual)))
    if seen.fold_dice:
        agreed = [mean_fold_dice(dice) for dice in seen.fold_dice.values()]
        yield Figure(number(float(np.mean(agreed))), "agreement of the folds", "mean Dice between two folds")
    entropies = [case.entropy for case in seen.cases.values() if case.entropy is not None]
    if entropies:
        yield Figure(f"{np.mean(entropies):.3f}", "mean entropy", "of what is foreground, or not surely background")


def _shortened(text: str) -> str:
    return text if len(text) <= 70 else f"{text[:66]} …"


def prediction_sections(seen: Seen) -> tuple[Section, ...]:
    """Lay out the page."""
    parts = [("unusual", "What stands out", _unusual(seen)), ("cases", "Cases", _cases(seen))]
    agreed = (fold_section(seen.fold_dice, list(seen.cases), seen.names),) if seen.fold_dice else ()
    if seen.summary is not None:
        parts.append(("scores", "Scores", _scores(seen.summary)))
    parts += [("volumes", "Volumes", _volumes(seen)), ("provenance", "Provenance", _provenance(seen))]
    made = [Section(anchor, title, tuple(blocks)) for anchor, title, blocks in parts]
    return (*made[:2], *agreed, *made[2:])


def _unusual(seen: Seen) -> Iterator[Block]:
    rows = [(row.case, "; ".join(row.reasons)) for row in seen.order if row.reasons]
    if rows:
        note = (
            "Told is what lies 3.5 robust standard deviations (median and median absolute deviation, of logarithms) "
            "from the median of the cases, or is missing where most others have it. Unusual is not wrong: look."
        )
        yield Table("Cases unlike the others", ("case", "why"), tuple(rows), note, words=True)
    elif len(seen.cases) < LEAST:
        yield Text(f"From {LEAST} cases on, those unlike the others are listed here.")
    else:
        yield Text("No case is far from the others.")


def _cases(seen: Seen) -> Iterator[Block]:
    rest = len(seen.cases) - seen.shown
    left = f" {counted(rest, 'case')} that come later in the order are in the tables only (--cases)." if rest else ""
    layers = "The prediction is a hatched veil" + (", the reference an outline" if seen.summary else "")
    keys = "R, P and D switch the layers" if seen.summary else "P switches the layer"
    yield Text(
        f"{layers}. Keys, once a picture is chosen: arrows or the wheel move through the slices, A, C and S choose "
        f"axial, coronal and sagittal planes, {keys}.{left}"
    )
    for place, row in enumerate(seen.order[: seen.shown]):
        yield _viewer(seen, seen.cases[row.case], row, place)
    for name, reason in seen.failed.items():
        yield Missing(f"{name} cannot be shown. {reason}")


def _viewer(seen: Seen, case: PredictedCase, row: Unusual, place: int) -> Viewer:
    labels, scored = seen.found.labels, case.scores is not None and bool(case.views and case.views[0].reference)
    measure = _dice_by_class(case, seen) if scored else _volume_by_class(case, seen)
    agreement = _agreement_by_class(case, seen)
    mean = seen.summary.case_means().get(case.name, float("nan")) if seen.summary else float("nan")
    total = sum(structure.volume for structure in case.structures.structures) / 1000
    return Viewer(
        rank=f"{place + 1} of {len(seen.order)}",
        name=case.name,
        label="mean Dice" if scored else "all structures, ml",
        value=number(mean) if scored else f"{total:.1f}",
        channels=_channel_names(case.channels, seen.found.channels),
        views=case.views,
        legend=tuple(
            LegendEntry(
                labels.names[index],
                swatch(index, "reference") if scored else "",
                swatch(index, "prediction"),
                measure.get(index, "-"),
                agreement.get(index, ""),
            )
            for index in case.present
        ),
        measure="Dice" if scored else "ml",
        missed=difference_swatch(True) if scored else "",
        extra=difference_swatch(False) if scored else "",
        notes=(*row.reasons, *case.remarks, *(() if case.channels else ("It has no image here.",))),
    )


def _channel_names(drawn: int, named: tuple[str, ...]) -> tuple[str, ...]:
    if not drawn:
        return ("no image",)
    return named[:drawn] if len(named) >= drawn else tuple(f"channel {number}" for number in range(drawn))


def _dice_by_class(case: PredictedCase, seen: Seen) -> dict[int, str]:
    scores = case.scores.scores if case.scores else ()
    targets = zip(scored_targets(seen.found.labels), scores, strict=True)
    return {target.classes[0]: number(score.dice) for target, score in targets if len(target.classes) == 1}


def _volume_by_class(case: PredictedCase, seen: Seen) -> dict[int, str]:
    targets = zip(scored_targets(seen.found.labels), case.structures.structures, strict=True)
    return {target.classes[0]: _ml(structure) for target, structure in targets if len(target.classes) == 1}


def _agreement_by_class(case: PredictedCase, seen: Seen) -> dict[int, str]:
    dice = seen.fold_dice.get(case.name, {})
    targets = (target for target in scored_targets(seen.found.labels) if len(target.classes) == 1)
    return {target.classes[0]: number(dice[target.name]) for target in targets if target.name in dice}


def _ml(structure: StructureStatistics) -> str:
    volume = structure.volume / 1000
    return "–" if not structure.voxels else f"{volume:.3g}" if volume < 1 else f"{volume:.1f}"


def _scores(summary: Summary) -> Iterator[Block]:
    note = "Means over the cases; the interval is that of the mean, by bootstrap. `evaluate` measures distances too."
    yield scores_table(f"{counted(len(summary.cases), 'case')} with a reference", summary, note)
    means = sorted(summary.case_means().items(), key=lambda row: (2.0 if isnan(row[1]) else row[1], row[0]))
    rows = tuple((name, number(mean)) for name, mean in means)
    yield Folded("Case by case", (Table("mean Dice of each case, the lowest first", ("case", "Dice"), rows),))


def _volumes(seen: Seen) -> Iterator[Block]:
    columns = list(zip(*(case.structures.structures for case in seen.cases.values()), strict=True))
    if len(seen.cases) > 1:
        rows = [
            Row(name, np.array([s.volume / 1000 for s in column if s.voxels]), colour=place + 1)
            for place, (name, column) in enumerate(zip(seen.names, columns, strict=True))
            if place < DRAWN and any(s.voxels for s in column)
        ]
        if rows:
            chart = strips("Volume of each structure", rows, Scale("ml", log=True), width=620)
            yield Charts((chart,), "Each dot is a case that holds the structure; the box is the middle half.")
    names, cases = seen.names[:LISTED_STRUCTURES], list(seen.cases.values())[:LISTED]
    body = tuple((c.name, *(_cell(s) for s in c.structures.structures[:LISTED_STRUCTURES])) for c in cases)
    left = "" if len(names) == len(seen.names) else f" The first {len(names)} of {len(seen.names)} structures."
    left += "" if len(cases) == len(seen.cases) else f" The first {len(cases)} of {len(seen.cases)} cases."
    note = f"In ml; where a structure has several components, their number in brackets.{left} All: nnunet-rs statistics"
    yield Table("Volumes, case by case", ("case", *names), body, note)


def _cell(structure: StructureStatistics) -> str:
    several = f" ({structure.components})" if structure.components > 1 else ""
    return _ml(structure) + several


def _provenance(seen: Seen) -> Iterator[Block]:
    found = seen.found
    rows = [("segmentations", str(found.folder.resolve()))]
    folders = sorted({str(image.parent) for case in found.cases for image in case.images})
    rows += [("images", folder) for folder in folders[:3]]
    rows += [("references", folder) for folder in sorted({str(p.parent) for p in found.references.values()})[:3]]
    plain = (str, int, float, bool)
    rows += [(key, str(value)) for key, value in found.made_with.items() if isinstance(value, plain)]
    models = found.made_with.get("models")
    if isinstance(models, dict):
        rows += [(f"model {name}", str(value)) for name, value in models.items()]
    yield Table("What was looked at", ("", ""), tuple(rows), words=True)
    versions = (*((name, package_version(name)) for name in PACKAGES), ("Python", platform.python_version()))
    yield Table("Versions that made this report", ("package", "version"), (*versions, ("system", platform.platform())))
