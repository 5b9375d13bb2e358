"""`cancel`: end the jobs of a work folder that a cluster has."""

from __future__ import annotations

import argparse
from dataclasses import replace

from nnunet_rs.cli import shared
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome
from nnunet_rs.core.text import counted


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `cancel` takes."""
    shared.add_work(parser, "work folder whose trainings were handed to SLURM")


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Ask SLURM to end what it still has of this folder."""
    from nnunet_rs.core.workspace import WorkFolder
    from nnunet_rs.run.jobs import add_job, jobs_of
    from nnunet_rs.run.slurm import ENGINE, cancel_job, queued_states

    folder = WorkFolder(arguments.work).jobs_folder
    jobs = {job.id: job for job in jobs_of(folder) if job.engine == ENGINE}
    ended: list[str] = []
    refused: list[str] = []
    for identifier in queued_states(list(jobs)):
        add_job(folder, replace(jobs[identifier], cancelled=True))  # before: who follows the job looks there
        answer = cancel_job(identifier)
        (refused if answer else ended).append(identifier)
        console.say(f"{jobs[identifier].name}: SLURM job {identifier}: {answer or 'is asked to end'}")
    done = f"{counted(len(ended), 'job')} asked to end; a training saves first, and resumes when it is submitted again"
    return Outcome({"cancelled": ended, "refused": refused}, (done,), int(bool(refused)))


COMMAND = Command(
    name="cancel",
    group="learn",
    summary="end the jobs of a work folder that SLURM has queued or runs",
    usage="WORK",
    description="End the jobs that `train --on slurm` submitted for a work folder. What was trained stays and resumes.",
    examples=("nnunet-rs cancel work",),
    add_arguments=_add_arguments,
    run=_run,
)
