"""`status`: how far the models of a work folder are, and cases that a cluster does."""

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
from nnunet_rs.core.workspace import WorkFolder

if TYPE_CHECKING:
    from nnunet_rs.report.tables import Table
    from nnunet_rs.run.cohort.status import CohortStatus
    from nnunet_rs.run.status import ModelStatus

EVERY = 10.0  # seconds between two looks
_SHOWN = 20  # cases that failed


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `status` takes."""
    shared.add_work(parser, "work folder, at any stage from its plan on; or the folder that predict --on writes into")
    parser.add_argument(
        "--watch", action="store_true", help="look again and again until nothing runs or waits in a queue"
    )
    parser.add_argument(
        "--every", metavar="TIME", type=values.duration, default=EVERY, help="between two looks (default: 10s)"
    )


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Look once, or until nothing runs any more."""
    from nnunet_rs.run.cohort.status import cohort_statuses
    from nnunet_rs.run.status import work_status

    while True:
        cohorts = cohort_statuses(arguments.work)
        only_cohorts = bool(cohorts) and not WorkFolder(arguments.work).plan_file.is_file()
        models = () if only_cohorts else work_status(arguments.work)
        states = {*(each.state for each in models), *(each.state for each in cohorts)}
        busy = not states.isdisjoint(("running", "queued"))
        if not (arguments.watch and busy):
            break
        for line in (*map(_cohort_line, cohorts), *_lines(models)):
            console.say(line)
        time.sleep(arguments.every)
    result = {"models": [asdict(each) for each in models], "cohorts": [asdict(each) for each in cohorts]}
    shown = [part for each in cohorts for part in _cohort(each)]
    return Outcome(result, (*shown, *((_table(models), _summary(models)) if models or not cohorts else ())))


def _lines(models: tuple[ModelStatus, ...]) -> list[str]:
    running = [f"  {each.name}: {_progress(each)}" for each in models if _runs(each)]
    return [_summary(models), *running] if models else []


def _runs(each: ModelStatus) -> bool:
    return each.state == "running"


def _cohort_line(each: CohortStatus) -> str:
    parts = [f"{each.done} of {each.count} cases done"]
    parts += [f"{count} {name}" for count, name in ((each.failed, "failed"), (each.running, "running")) if count]
    parts += [f"{each.waiting} waiting"] if each.waiting else []
    parts += [f"{_per_hour(each.rate)} an hour"] if each.rate is not None else []
    parts += [f"{clock(each.seconds_left)} left"] if each.seconds_left is not None else []
    state = f"{each.state} ({each.note})" if each.note else each.state
    return f"{each.kind} {each.where}: {state}; {', '.join(parts)}"


def _per_hour(rate: float) -> str:
    return f"{rate * 3600:.3g}" if rate * 3600 < 100 else f"{rate * 3600:.0f}"


def _cohort(each: CohortStatus) -> list[Table | str]:
    from nnunet_rs.report.tables import Table

    shown: list[Table | str] = []
    if each.state == "running" and each.workers:
        rows = tuple(
            (w.where, w.since, ", ".join(w.cases), "; ".join(filter(None, (w.note, w.log)))) for w in each.workers
        )
        shown.append(Table("", ("worker", "since", "cases", ""), rows))
    shown += [f"failed: {case.name}: {case.reason}" for case in each.failures[:_SHOWN]]
    if len(each.failures) > _SHOWN:
        shown.append(f"failed: {len(each.failures) - _SHOWN} more, --json lists them")
    return [*shown, _cohort_line(each)]


def _table(found: tuple[ModelStatus, ...]) -> Table:
    from nnunet_rs.report.tables import Table, number

    rows = tuple((each.name, each.state, _progress(each), number(each.dice), _remark(each)) for each in found)
    note = "Dice: of held-out cases; while a model trains, of validation patches."
    return Table("", ("model", "state", "epochs", "Dice", ""), rows, note)


def _progress(each: ModelStatus) -> str:
    if not each.epochs and not each.of and each.state not in ("running", "done"):
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
    group="follow",
    summary="how far models and cases are: done, running (where, how long yet), queued, failed (why)",
    usage="WORK|OUT [--watch]",
    description="Tell how far the models of a work folder are, and the cases that a cluster does for a folder, from "
    "files alone, whoever works on them: this machine, another one, or a cluster.",
    examples=("nnunet-rs status work", "nnunet-rs status work --watch", "nnunet-rs status segmentations --json"),
    add_arguments=_add_arguments,
    run=_run,
)
