"""Show what this can do: made-up scans through everything."""

from __future__ import annotations

import argparse
from dataclasses import replace

from nnunet_rs.cli.console import Console, Outcome, clock, counted


def demo(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Show everything, on made-up scans."""
    from nnunet_rs.demo import DemoOptions, run_demo
    from nnunet_rs.report.tables import scores_table

    options = DemoOptions(seed=arguments.seed, device=arguments.device)
    if arguments.time_budget:
        options = replace(options, epochs=None, time_budget=arguments.time_budget)
    result = run_demo(arguments.output, options, console)
    places = {
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
