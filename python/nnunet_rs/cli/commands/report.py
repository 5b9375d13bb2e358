"""`report`: a work folder as one page."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_rs.cli import shared, values
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome, counted
from nnunet_rs.core.workspace import REPORT_HTML, WorkFolder


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `report` takes."""
    shared.add_work(parser, "work folder, at any stage from its plan on")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help=f"the page to write (default: {REPORT_HTML} in WORK)"
    )
    cases = "cases to scroll through, best to worst (default: 3)"
    parser.add_argument("--cases", metavar="N", type=values.count, default=3, help=cases)
    parser.add_argument(
        "--slices", metavar="N", type=values.count, default=40, help="slices of a case at most (default: 40)"
    )
    shared.add_overwrite(parser)


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Write a work folder as a page."""
    from nnunet_rs.core.outputs import Outputs
    from nnunet_rs.report.page import write_report
    from nnunet_rs.report.sections.cases import Shown

    path = arguments.output or WorkFolder(arguments.work).report_file
    aside = arguments.overwrite or arguments.output is None  # a page in its own place is never refused
    with Outputs(path.parent, kind="report", overwrite=aside, say=console.say) as outputs:
        files = arguments.work.iterdir() if arguments.work.is_dir() else ()
        outputs.require([path], [file for file in files if file.suffix != ".html"])
        with outputs.new_files(path.name) as folder:
            shown = Shown(arguments.cases, arguments.slices)
            written = write_report(arguments.work, folder / path.name, shown, console)
    missing = [{"what": step.what, "command": step.command} for step in written.steps]
    result = {"report": path, "bytes": written.bytes, **written.figures, "missing": missing, "remarks": written.remarks}
    todo = f"; {counted(len(missing), 'thing')} could still be made: the page says how" if missing else ""
    remarks = (f"remark: {remark}" for remark in written.remarks)
    return Outcome(result, (*remarks, f"{written.title}: {path}, {written.bytes / 1e6:.1f} MB{todo}"))


COMMAND = Command(
    name="report",
    group="use",
    summary="a work folder as one page to look at, at any stage",
    usage="WORK [-o FILE] [options]",
    description="Write one self-contained HTML page: the dataset, the plan and why, curves, scores, the best, "
    "the median and the worst case to scroll through, times, versions, hashes; what is missing, and the command "
    "that makes it.",
    examples=(f"nnunet-rs report work -o {REPORT_HTML}", "nnunet-rs report work --cases 10"),
    add_arguments=_add_arguments,
    run=_run,
)
