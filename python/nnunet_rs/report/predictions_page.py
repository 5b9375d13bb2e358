"""A folder of predictions as one page to look at: with references the worst case first, else the most unusual."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_rs.core.budget import Budget, in_parallel, memory_for_cases
from nnunet_rs.core.errors import DatasetError, NnunetError, named
from nnunet_rs.core.files import write_bytes
from nnunet_rs.core.memory_estimate import estimate_case_memory
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.resources import processors
from nnunet_rs.core.types import Case
from nnunet_rs.evaluate.scores import scored_targets
from nnunet_rs.evaluate.summary import Summary
from nnunet_rs.report.blocks import Section
from nnunet_rs.report.detail import share
from nnunet_rs.report.page import Report, render_page
from nnunet_rs.report.predicted_case import Look, PredictedCase, look_at
from nnunet_rs.report.predictions import Predictions, fold_dice
from nnunet_rs.report.sections.fold_agreement import FoldDice
from nnunet_rs.report.sections.predictions import Seen, prediction_cover, prediction_sections
from nnunet_rs.report.unusual import Unusual, by_unusualness

CASES = 50  # shown as slices at most, unless the user says how many
_LABEL, _IMAGE = 7, 3  # times their bytes as stored that measuring and drawing hold at most


@dataclass(frozen=True, slots=True)
class PredictionsShown:
    """How much the page holds, and what looking may take."""

    cases: int = CASES  # as slices, at most
    slices: int | None = None  # of a case across the scanned axis, at most; None: as many as the page has room for
    threads: int | None = None  # cases at a time; None: as many as there are processors
    memory: int | None = None  # bytes; None: most of what is free


def write_predictions_report(
    found: Predictions,
    path: Path,
    shown: PredictionsShown = PredictionsShown(),
    progress: Progress | None = None,
    *,
    command: str = "",
    first: Sequence[Section] = (),
) -> Report:
    """Write the page of a folder of predictions.

    Parameters
    ----------
    found
        The cases, with the images and references that are known.
    path
        The HTML file to write, atomically.
    shown
        How much the page holds. Slices, their size and planes are chosen so that it stays below `detail.PAGE` bytes.
    progress
        Shows each case as it is done.
    command
        What the page says that it was made by.
    first
        Sections that come before its own.

    Raises
    ------
    DatasetError
        No case can be read.
    NnunetError
        The file cannot be written.
    """
    progress = progress or Silent()
    seen = _see(found, shown, progress)
    cover, sections = prediction_cover(seen), (*first, *prediction_sections(seen))
    command = command or f"nnunet-rs report {shlex.quote(str(found.folder))}"
    page = render_page(cover, sections, command).encode()
    write_bytes(path, page)
    return Report(path, len(page), cover.title, _main_figures(seen), (), cover.remarks)


def _see(found: Predictions, shown: PredictionsShown, progress: Progress) -> Seen:
    """Look at every case; draw all at once where all are shown, else those that come first in a second reading."""
    once = len(found.cases) <= shown.cases
    seeing = _Seeing(found, shown, progress, {})
    looked = seeing.all(found.cases, "look", share(len(found.cases)) if once else 0)
    if not looked:
        raise DatasetError(f"{found.folder}: no case can be read: {'; '.join(seeing.failed.values())}")
    summary = _summary(found, looked)
    agreement = fold_dice(found)
    order = _ordered(looked, summary, agreement)
    names = [row.case for row in order][: shown.cases]
    drawn = {case.name: case for case in looked}
    if not once:
        wanted = [case for case in found.cases if case.name in set(names)]
        drawn |= {case.name: case for case in seeing.all(wanted, "draw", share(len(wanted)))}
    cases = {row.case: drawn[row.case] for row in order}
    agreed = {name: agreement[name] for name in cases if name in agreement}
    return Seen(found, cases, tuple(order), len(names), summary, seeing.failed, agreed)


@dataclass(frozen=True, slots=True)
class _Seeing:
    found: Predictions
    shown: PredictionsShown
    progress: Progress
    failed: dict[str, str]  # reasons by case

    def all(self, cases: Sequence[Case], name: str, most: int) -> list[PredictedCase]:
        """Look at cases side by side within the memory allowed; those that cannot be read are in `failed`."""
        threads = self.shown.threads or processors()
        budget = Budget(memory_for_cases(self.shown.memory, threads))
        look = partial(self._look, Look(most, self.shown.slices), budget)
        looked: dict[str, PredictedCase] = {}
        with self.progress.task(name, len(cases)) as task:
            for case, result in in_parallel(look, cases, threads, budget):
                if isinstance(result, PredictedCase):
                    looked[case.name] = result
                else:
                    self.failed[case.name] = result
                task.advance(1, case.name)
        return [looked[case.name] for case in cases if case.name in looked]

    def _look(self, look: Look, budget: Budget, case: Case) -> PredictedCase | str:
        estimate = estimate_case_memory(case, len(self.found.channels) or 1)
        needed = max(_LABEL * estimate.label, estimate.label + (_IMAGE * estimate.image if look.most else 0))
        try:
            with budget.hold(min(needed, budget.total)):
                return look_at(
                    case,
                    self.found.labels,
                    look,
                    self.found.references.get(case.name),
                    self.found.probabilities.get(case.name),
                )
        except (NnunetError, OSError) as error:
            return named(error)


def _summary(found: Predictions, looked: Sequence[PredictedCase]) -> Summary | None:
    scores = tuple(case.scores for case in looked if case.scores is not None)
    return Summary(scored_targets(found.labels), scores, None) if scores else None


def _ordered(looked: Sequence[PredictedCase], summary: Summary | None, agreement: FoldDice) -> list[Unusual]:
    """Order the cases: by Dice, the worst first, where there are references; those without follow, as unusual."""
    entropy = {case.name: case.entropy for case in looked if case.entropy is not None}
    order = by_unusualness([case.structures for case in looked], entropy, agreement)
    dice = {} if summary is None else {name: mean for name, mean in summary.case_means().items() if mean == mean}
    return sorted(order, key=lambda row: dice.get(row.case, 2.0))


def _main_figures(seen: Seen) -> Mapping[str, Any]:
    """Gather what a machine asks a report for first."""
    return {
        "predictions": seen.found.folder,
        "cases": len(seen.cases),
        "shown": seen.shown,
        "fold_dice": {name: dict(dice) for name, dice in seen.fold_dice.items()},
        "dice": None if seen.summary is None else seen.summary.foreground_mean(),
        "unusual": {row.case: row.reasons for row in seen.order if row.reasons},
        "failed": dict(seen.failed),
    }
