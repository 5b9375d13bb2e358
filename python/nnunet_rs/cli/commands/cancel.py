"""`cancel`: end the jobs that a cluster has for a folder."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from nnunet_rs.cli import shared
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome
from nnunet_rs.core.text import counted


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `cancel` takes."""
    shared.add_work(parser, "work folder, or folder of results, whose jobs were handed to a cluster")


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Ask workers to stop, and SLURM to end what it still has of this folder."""
    from nnunet_rs.core.workspace import WorkFolder, jobs_beside

    cohorts = _cancel_cohorts(arguments.work, console)
    ended: list[str] = []
    refused: list[str] = []
    for home in (WorkFolder(arguments.work).jobs_folder, jobs_beside(arguments.work)):
        _cancel_jobs(home, console, ended, refused)
    done = f"{counted(len(ended), 'job')} asked to end; a training saves first, and resumes when it is submitted again"
    shown = (done,) if ended or refused or not cohorts else ()
    return Outcome({"cancelled": ended, "refused": refused, "cohorts": cohorts}, shown, int(bool(refused)))


def _cancel_cohorts(folder: Path, console: Console) -> list[str]:
    """Ask the workers of unfinished cohorts to stop."""
    from nnunet_rs.core.errors import NnunetError
    from nnunet_rs.run.cohort.claims import cancel
    from nnunet_rs.run.cohort.files import cohorts_of

    cancelled = []
    for each in cohorts_of(folder):
        try:
            board = each.board(each.read())
        except NnunetError:
            continue
        if not (board.finished or board.cancelled):
            cancel(each.path)
            cancelled.append(str(each.path))
            left = counted(board.count - board.settled, "case")
            console.say(f"{each.path}: {left} left; workers stop after the cases that they have in hand")
    return cancelled


def _cancel_jobs(home: Path, console: Console, ended: list[str], refused: list[str]) -> None:
    from nnunet_rs.run.jobs import add_job, jobs_of
    from nnunet_rs.run.slurm import ENGINE, cancel_job, queued_states

    jobs = {job.id: job for job in jobs_of(home) if job.engine == ENGINE}
    for identifier in queued_states(list(jobs)):
        add_job(home, replace(jobs[identifier], cancelled=True))  # before: who follows the job looks there
        answer = cancel_job(identifier)
        (refused if answer else ended).append(identifier)
        console.say(f"{jobs[identifier].name}: SLURM job {identifier}: {answer or 'is asked to end'}")


COMMAND = Command(
    name="cancel",
    group="follow",
    summary="end the jobs that a cluster has queued or runs for a folder",
    usage="WORK|OUT",
    description="End the jobs that were handed to a cluster with --on for a folder. What was trained stays and "
    "resumes; cases that are done stay, and the same command does the rest.",
    examples=("nnunet-rs cancel work", "nnunet-rs cancel segmentations"),
    add_arguments=_add_arguments,
    run=_run,
)
