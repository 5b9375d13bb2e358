"""`report`: a work folder, or a folder of predictions, as one page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rs.cli import shared, values
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome, UsageError
from nnunet_rs.cli.predicted import page_beside, write_page
from nnunet_rs.core.text import counted
from nnunet_rs.core.workspace import REPORT_HTML, WorkFolder

if TYPE_CHECKING:
    from nnunet_rs.report.page import Live, Report

_OF_PREDICTIONS = {
    "images": "-i",
    "references": "--references",
    "dataset_json": "--dataset-json",
    "threads": "-j",
    "memory": "--memory",
}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `report` takes."""
    shared.add_work(parser, "work folder, at any stage from its plan on; or predictions: a folder, or one file")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help=f"the page to write (default: {REPORT_HTML} in the folder)"
    )
    cases = "cases to scroll through, best to worst (default: 3); of predictions, the first of the order (50)"
    parser.add_argument("--cases", metavar="N", type=values.count, help=cases)
    slices = "slices of a case at most (default: 40; of predictions, as many as 15 MB hold)"
    parser.add_argument("--slices", metavar="N", type=values.count, help=slices)
    group = parser.add_argument_group("trainings that run")
    text = "write the page again whenever an epoch or a model is done, until Ctrl-C; the page loads itself anew"
    group.add_argument("--watch", action="store_true", help=text)
    text = "how often is looked, as 2m (default: 30s)"
    group.add_argument("--every", metavar="TIME", type=values.duration, default=30.0, help=text)
    group = parser.add_argument_group("predictions")
    shared.add_predicted(group)
    text = "folder of references, or the one reference: cases with the lowest Dice come first"
    group.add_argument("--references", metavar="FOLDER", type=Path, help=text)
    shared.add_overwrite(parser)
    shared.add_resources(parser)


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Write a page."""
    return _of_predictions(arguments, console) if _holds_predictions(arguments.work) else _of_work(arguments, console)


def _holds_predictions(path: Path) -> bool:
    """Distinguish segmentations from a work folder: that has a plan."""
    from nnunet_rs.core.io import can_read

    if WorkFolder(path).plan_file.is_file() or not path.exists():
        return False
    return path.is_file() or any(can_read(file) and file.is_file() for file in path.iterdir())


def _of_predictions(arguments: argparse.Namespace, console: Console) -> Outcome:
    from nnunet_rs.report.predictions import Given, read_predictions
    from nnunet_rs.report.predictions_page import CASES, PredictionsShown

    if arguments.watch:
        raise UsageError(f"--watch is for work folders, {arguments.work} holds predictions")
    found = read_predictions(arguments.work, Given(arguments.images, arguments.references, arguments.dataset_json))
    shown = PredictionsShown(arguments.cases or CASES, arguments.slices, arguments.threads, arguments.memory)
    aside = arguments.overwrite or arguments.output is None  # a page in its own place is never refused
    result, lines = write_page(found, arguments.output or page_beside(arguments.work), shown, console, aside=aside)
    return Outcome(result, lines)


def _of_work(arguments: argparse.Namespace, console: Console) -> Outcome:
    from nnunet_rs.report.page import Live
    from nnunet_rs.run.cohort.status import cohort_statuses
    from nnunet_rs.run.watch import cohort_section

    for key, option in _OF_PREDICTIONS.items():
        if getattr(arguments, key) is not None:
            raise UsageError(f"{option} is for predictions, {arguments.work} holds none")
    if arguments.watch:
        return _watched(arguments, console)
    cohorts = cohort_statuses(arguments.work)
    live = Live(cohort_section(cohorts), 0, watched=False) if cohorts else None
    return _outcome(_write(arguments, console, live), arguments)


def _watched(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Write the page whenever something has changed; the last one, after Ctrl-C, does not load itself anew."""
    from nnunet_rs.core.termination import until_interrupted
    from nnunet_rs.report.page import Live
    from nnunet_rs.run.cohort.status import cohort_statuses
    from nnunet_rs.run.status import work_status
    from nnunet_rs.run.watch import changes, live_section

    with until_interrupted():
        for models in changes(arguments.work, arguments.every):
            live = Live(live_section(models, cohort_statuses(arguments.work)), max(1, round(arguments.every)))
            written = _write(arguments, console, live)
            running = sum(model.state == "running" for model in models)
            console.say(f"{_path(arguments)}: {counted(running, 'training')} running, {written.bytes / 1e6:.1f} MB")
    live = Live(live_section(work_status(arguments.work), cohort_statuses(arguments.work)), 0)
    return _outcome(_write(arguments, console, live), arguments)


def _path(arguments: argparse.Namespace) -> Path:
    path: Path = arguments.output or WorkFolder(arguments.work).report_file
    return path


def _write(arguments: argparse.Namespace, console: Console, live: Live | None = None) -> Report:
    """Write the page of a work folder."""
    from nnunet_rs.core.outputs import Outputs
    from nnunet_rs.report.page import write_report
    from nnunet_rs.report.sections.cases import CasesShown

    path = _path(arguments)
    aside = arguments.overwrite or arguments.output is None  # a page in its own place is never refused
    with Outputs(path.parent, kind="report", overwrite=aside, say=console.say) as outputs:
        files = arguments.work.iterdir() if arguments.work.is_dir() else ()
        outputs.require([path], [file for file in files if file.suffix != ".html"])
        with outputs.new_files(path.name) as folder:
            shown = CasesShown(arguments.cases or CasesShown().cases, arguments.slices or CasesShown().slices)
            return write_report(arguments.work, folder / path.name, shown, None if arguments.watch else console, live)


def _outcome(written: Report, arguments: argparse.Namespace) -> Outcome:
    path = _path(arguments)
    missing = [{"what": step.what, "command": step.command} for step in written.steps]
    result = {"report": path, "bytes": written.bytes, **written.figures, "missing": missing, "remarks": written.remarks}
    todo = f"; {counted(len(missing), 'thing')} could still be made: the page says how" if missing else ""
    remarks = (f"remark: {remark}" for remark in written.remarks)
    return Outcome(result, (*remarks, f"{written.title}: {path}, {written.bytes / 1e6:.1f} MB{todo}"))


COMMAND = Command(
    name="report",
    group="predict and evaluate",
    summary="a work folder, or predictions, as one page to look at",
    usage="WORK|PREDICTIONS [-o FILE] [options]",
    description="Write one self-contained HTML page. Of a work folder: the dataset, the plan and why, curves, scores, "
    "the best, the median and the worst case to scroll through, times, versions, hashes; what is missing, and the "
    "command that makes it. Of predictions: every case to scroll through in three planes, the worst first where there "
    "are references, else the most unusual; volumes and components.",
    examples=(
        f"nnunet-rs report work -o {REPORT_HTML}",
        "nnunet-rs report work --cases 10",
        "nnunet-rs report work --watch",
        "nnunet-rs report segmentations",
        "nnunet-rs report segmentations --references labelsTs",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
