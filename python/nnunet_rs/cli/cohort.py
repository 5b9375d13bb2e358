"""Cases that a cluster does: what the commands share that hand them out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rs.cli import cluster
from nnunet_rs.cli.console import Console, Outcome
from nnunet_rs.core.text import counted

if TYPE_CHECKING:
    from nnunet_rs.run.cohort.files import Cohort, CohortFolder
    from nnunet_rs.run.cohort.follow import Followed


def workers_for(arguments: argparse.Namespace, cases: int) -> int:
    """Return how many workers share the cases."""
    return cluster.cluster_options(arguments).workers_for(cases)


def would_share(arguments: argparse.Namespace, what: str, cases: int, home: Path) -> Outcome:
    """Tell what would be submitted."""
    workers = workers_for(arguments, cases)
    jobs = [f"{what}, worker {number + 1}" for number in range(workers)]
    told = cluster.would_submit(arguments, jobs, home)
    line = f"{counted(cases, 'case')}, shared by {counted(workers, 'worker')}"
    return Outcome({**told.result, "cases": cases}, (line, *told.shown))


def followed(arguments: argparse.Namespace, folder: CohortFolder, cohort: Cohort, console: Console) -> Followed:
    """Hand cases out, and follow them to their end; cases that failed are in the result."""
    from nnunet_rs.run.cohort.follow import follow

    executor = cluster.executor_in(folder.path.parent, arguments)
    console.say(f"{counted(cohort.count, 'case')} in {counted(len(cohort.sizes), 'block')}: {folder.path}")
    return follow(folder, cohort, executor, workers_for(arguments, cohort.count), console)


def unfinished(found: Followed, cohort: Cohort) -> Outcome | None:
    """Return what is told where not every case is settled; None: all are."""
    left = cohort.count - len(found.done) - len(found.failed)
    if not left:
        return None
    why = "cancelled" if found.cancelled else "left"
    line = f"{why}: {counted(left, 'case')} of {cohort.count} are not done; the same command does the rest"
    code = 1 if found.signal is None else 128 + found.signal
    return Outcome({"done": len(found.done), "failed": len(found.failed), "left": left}, (line,), code)


def absolute(paths: Sequence[Path]) -> list[Path]:
    """Name files so that nodes, which have other current folders, find them."""
    return [path.absolute() for path in paths]
