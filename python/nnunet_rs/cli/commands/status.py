"""`status`: how far the models of a work folder are."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from nnunet_rs.cli import shared, values
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome
from nnunet_rs.core.text import clock

if TYPE_CHECKING:
    from nnunet_rs.report.tables import Table
    from nnunet_rs.run.status import ModelStatus

EVERY = 10.0  # seconds between two looks


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `status` takes."""
    shared.add_work(parser, "work folder, at any stage from its plan on")
    parser.add_argument(
        "--watch", action="store_true", help="look again and again until nothing runs or waits in a queue"
    )
    parser.add_argument(
        "--every", metavar="TIME", type=values.duration, default=EVERY, help="between two looks (default: 10s)"
    )


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Look once, or until nothing runs any more."""
    from nnunet_rs.run.status import work_status

    while True:
        found = work_status(arguments.work)
        busy = any(each.state in ("running", "queued") for each in found)
        if not (arguments.watch and busy):
            break
        console.say(_summary(found))
        for each in found:
            if each.state == "running":
                console.say(f"  {each.configuration}, fold {each.fold}: {_progress(each)}")
        time.sleep(arguments.every)
    return Outcome({"models": [asdict(each) for each in found]}, (_table(found), _summary(found)))


def _table(found: tuple[ModelStatus, ...]) -> Table:
    from nnunet_rs.report.tables import Table, number

    rows = tuple(
        (f"{each.configuration}, fold {each.fold}", each.state, _progress(each), number(each.dice), _remark(each))
        for each in found
    )
    note = "Dice: of held-out cases; while a model trains, of validation patches."
    return Table("", ("model", "state", "epochs", "Dice", ""), rows, note)


def _progress(each: ModelStatus) -> str:
    if not each.epochs and each.state not in ("running", "done"):
        return ""
    total = f" of {each.of}" if each.of else ""
    left = f", {clock(each.seconds_left)} left" if each.seconds_left is not None else ""
    return f"{each.epochs}{total}{left}"


def _remark(each: ModelStatus) -> str:
    since = f"since {each.since}" if each.since else ""
    log = f"log: {each.log}" if each.log and each.state == "failed" else ""
    return "; ".join(filter(None, (each.where, since, each.note, log)))


def _summary(found: tuple[ModelStatus, ...]) -> str:
    counts = Counter(each.state for each in found)
    return f"{len(found)} models: " + ", ".join(f"{count} {state}" for state, count in counts.items())


COMMAND = Command(
    name="status",
    group="learn",
    summary="how far every model of a work folder is: done, running (where, how long yet), queued, failed (why)",
    usage="WORK [--watch]",
    description="Tell how far the models of a work folder are, from its files alone, whoever trains them: this "
    "machine, another one, or a cluster.",
    examples=("nnunet-rs status work", "nnunet-rs status work --watch", "nnunet-rs status work --json"),
    add_arguments=_add_arguments,
    run=_run,
)
