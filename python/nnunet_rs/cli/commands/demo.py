"""`demo`: made-up scans through everything."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from nnunet_rs.cli import shared, values
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome
from nnunet_rs.core.text import clock, counted
from nnunet_rs.core.workspace import WorkFolder


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `demo` takes."""
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, default=Path("demo"), help="where everything goes (default: demo)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=values.seed, default=0, help="another seed, other scans (default: 0)"
    )
    parser.add_argument(
        "--time-budget",
        metavar="TIME",
        type=values.duration,
        help="train for this long (default: 1350 batches, 4m at most)",
    )
    shared.add_device(parser)


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Show everything, on made-up scans."""
    from nnunet_rs.report.tables import scores_table
    from nnunet_rs.run.demo import DemoOptions, run_demo

    options = DemoOptions(seed=arguments.seed, device=arguments.device)
    if arguments.time_budget:
        options = replace(options, epochs=None, time_budget=arguments.time_budget)
    result = run_demo(arguments.output, options, console)
    paths = {
        "report": result.report,
        "picture": result.picture,
        "curves": result.curves,
        "scores": result.scores,
        "predictions": result.predictions,
        "plan": WorkFolder(result.work).plan_file,
        "model": result.training.folder,
    }
    dice = result.summary.foreground_mean("dice")
    table = scores_table(f"{counted(len(result.summary.cases), 'scan')} that the network never saw", result.summary)
    lines = (f"{name:<12} {path}" for name, path in paths.items())
    closing = f"mean foreground Dice {dice:.3f} in {clock(result.seconds)}"
    return Outcome({"dice": dice, **paths, "summary": result.summary.to_json()}, (table, *lines, closing))


COMMAND = Command(
    name="demo",
    group="try",
    summary="every step on made-up scans, in minutes on two cores",
    usage="[-o DIR] [options]",
    description="Make anisotropic abdominal scans, then check, plan, preprocess, train, predict and evaluate. "
    "Ends with a table of Dice scores, a picture and a page to look at.",
    examples=("nnunet-rs demo", "nnunet-rs demo -o elsewhere --device cuda"),
    add_arguments=_add_arguments,
    run=_run,
)
