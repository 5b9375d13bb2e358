"""Look at the work, before it begins and at any stage: the demo, a report, the machine, the shell."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace

from nnunet_rs.cli.console import Console, Outcome, clock, counted


def demo(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Show everything, on made-up scans."""
    from nnunet_rs.report.tables import scores_table
    from nnunet_rs.run.demo import DemoOptions, run_demo

    options = DemoOptions(seed=arguments.seed, device=arguments.device)
    if arguments.time_budget:
        options = replace(options, epochs=None, time_budget=arguments.time_budget)
    result = run_demo(arguments.output, options, console)
    places = {
        "report": result.report,
        "picture": result.picture,
        "curves": result.curves,
        "scores": result.scores,
        "predictions": result.predictions,
        "plan": result.work / "plan.json",
        "model": result.training.folder,
    }
    dice = result.summary.foreground_mean("dice")
    table = scores_table(f"{counted(len(result.summary.cases), 'scan')} that the network never saw", result.summary)
    lines = (f"{name:<12} {path}" for name, path in places.items())
    closing = f"mean foreground Dice {dice:.3f} in {clock(result.seconds)}"
    return Outcome({"dice": dice, **places, "summary": result.summary.to_json()}, (table, *lines, closing))


def report(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Write a work folder as a page."""
    from nnunet_rs.core.outputs import Outputs
    from nnunet_rs.report.page import write_report
    from nnunet_rs.report.sections.cases import Shown

    path = arguments.output or arguments.work / "report.html"
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


def doctor(arguments: argparse.Namespace, _: Console) -> Outcome:
    """Look at the machine and the installation."""
    from nnunet_rs.cli.doctor import examine

    found = examine(arguments.folder, os.environ)
    missing = [f"missing: {text}" for text in found.missing]
    advice = [f"advice: {text}" for text in found.advice]
    verdict = "something is missing" if missing else "everything is there"
    return Outcome(found.to_json(), (found.table(), *missing, *advice, verdict), 1 if missing else 0)


def completion(arguments: argparse.Namespace, _: Console) -> Outcome:
    """Print a shell's completion script."""
    from nnunet_rs.cli.completion import script

    text = script(arguments.shell)
    return Outcome({"shell": arguments.shell, "script": text}, (text,))
