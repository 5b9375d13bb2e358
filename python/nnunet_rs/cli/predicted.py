"""What `predict`, `statistics` and `report` make of segmentations: numbers and a page, where they are wanted."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_rs.cli.console import Console, Outcome, UsageError
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.text import counted

if TYPE_CHECKING:
    from nnunet_rs.report.predictions import Predictions
    from nnunet_rs.report.predictions_page import PredictionsShown
    from nnunet_rs.report.statistics import StatisticsPlace


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `predict` makes after the segmentations."""

    statistics: StatisticsPlace | None
    page: Path | None
    overwrite: bool
    threads: int | None

    @classmethod
    def of(cls, arguments: argparse.Namespace, parts: int) -> Wanted:
        """Read the options; see that what they ask for may be written, before anything is predicted."""
        for option in ("statistics", "report"):
            if getattr(arguments, option) and parts > 1:
                text = f"--{option} tells of all cases: run `nnunet-rs {option} OUT` when all parts are predicted"
                raise UsageError(text)
        place = _place(arguments) if arguments.statistics else None
        page = page_beside(arguments.output) if arguments.report else None
        return cls(place, page, arguments.overwrite, arguments.threads)

    @contextmanager
    def missed(self, output: Path, console: Console) -> Iterator[None]:
        """Say, where predicting fails, what is therefore not made, and how it is made of the cases that are there."""
        try:
            yield
        except NnunetError:
            for name, wanted in (("statistics", self.statistics), ("report", self.page)):
                if wanted is not None:
                    console.say(f"no {name}: for the cases that are predicted, `nnunet-rs {name} {output}` makes it")
            raise

    def make(self, outcome: Outcome, found: Predictions, console: Console) -> Outcome:
        """Add statistics and page to what came of predicting."""
        from nnunet_rs.report.predictions_page import PredictionsShown

        if self.statistics is not None:
            outcome = _with_statistics(outcome, found, self.statistics, console, self.threads)
        if self.page is not None:
            shown = PredictionsShown(threads=self.threads)
            result, lines = write_page(found, self.page, shown, console, aside=True)
            outcome = Outcome({**outcome.result, "report": result["report"]}, (*outcome.shown, *lines))
        return outcome


def _place(arguments: argparse.Namespace) -> StatisticsPlace:
    from nnunet_rs.report.statistics import StatisticsPlace  # whose libraries take as long to import as all else

    place = replace(StatisticsPlace.beside(arguments.output), overwrite=arguments.overwrite)
    place.require()
    return place


def page_beside(predictions: Path) -> Path:
    """Return where the page of a folder of segmentations goes, or of a single one."""
    from nnunet_rs.core.io import can_read
    from nnunet_rs.core.names import strip_ending
    from nnunet_rs.core.workspace import REPORT_HTML

    if can_read(predictions) and not predictions.is_dir():
        return predictions.parent / f"{strip_ending(predictions.name)}.{REPORT_HTML}"
    return predictions / REPORT_HTML


def write_page(
    found: Predictions, path: Path, shown: PredictionsShown, console: Console, *, aside: bool
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Write the page of predictions; returns what machines and people are to read.

    `aside` keeps a file that is there and not this tool's, instead of refusing.
    """
    from nnunet_rs.core.outputs import Outputs
    from nnunet_rs.report.predictions_page import write_predictions_report
    from nnunet_rs.run.cohort.status import cohort_statuses
    from nnunet_rs.run.watch import cohort_section

    cohorts = cohort_statuses(found.folder) if found.folder.is_dir() else ()
    first = (cohort_section(cohorts),) if cohorts else ()
    inputs = [file for case in found.cases for file in (*case.images, case.label) if file is not None]
    with Outputs(path.parent, kind="report", overwrite=aside, say=console.say) as outputs:
        outputs.require([path], (*inputs, *found.references.values()))
        with outputs.new_files(path.name) as folder:
            written = write_predictions_report(found, folder / path.name, shown, console, first=first)
    remarks = tuple(f"remark: {remark}" for remark in written.remarks)
    unusual = len(written.figures["unusual"])
    told = f", {counted(unusual, 'case')} unlike the others" if unusual else ""
    line = f"{written.title}: {path}, {written.bytes / 1e6:.1f} MB{told}"
    return {"report": path, "bytes": written.bytes, **written.figures, "remarks": written.remarks}, (*remarks, line)


def _with_statistics(
    outcome: Outcome, found: Predictions, place: StatisticsPlace, console: Console, threads: int | None
) -> Outcome:
    """Measure what was predicted."""
    from nnunet_rs.report.statistics import measure_predictions
    from nnunet_rs.report.tables import structures_table

    measured = measure_predictions(found, place, threads=threads, progress=console)
    measured.require_all()
    result = {**outcome.result, "statistics": measured.paths[0], "csv": measured.paths[1]}
    return Outcome(result, (structures_table(measured.cases), *outcome.shown, f"statistics: {measured.paths[0]}"))
