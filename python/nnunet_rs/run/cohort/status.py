"""How far the cohorts of a folder are, from their files alone: whoever works on them, on whatever machine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.run.cohort.board import LEASE, WORKERS, Board, WorkerState
from nnunet_rs.run.cohort.files import Blocks, Cohort, CohortFolder, cohorts_of
from nnunet_rs.run.cohort.journal import ENDING
from nnunet_rs.run.jobs import JobRecord, jobs_of
from nnunet_rs.run.slurm import ENGINE as SLURM
from nnunet_rs.run.slurm import queued_states

_RECENT = 20  # cases of a worker that tell how fast it is

CohortState = Literal["done", "running", "queued", "stopped", "cancelled"]


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker that has not ended."""

    where: str  # machine and process, and the engine's job
    since: str
    cases: tuple[str, ...]  # that it has in hand
    log: str = ""
    note: str = ""  # a sign of life that is missing


@dataclass(frozen=True, slots=True)
class FailedCase:
    """A case that nobody will try again."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class CohortStatus:
    """How far one cohort is."""

    kind: str  # predict, preprocess, evaluate, best
    where: str  # the folder that it is for
    state: CohortState
    count: int  # cases
    done: int
    failed: int
    running: int  # in the hand of a worker
    waiting: int
    rate: float | None  # cases a second, of the workers that are there
    seconds_left: float | None
    workers: tuple[WorkerStatus, ...]
    failures: tuple[FailedCase, ...]
    folder: str  # of its files
    note: str = ""  # why its jobs wait, in SLURM's words


def cohort_statuses(folder: Path) -> tuple[CohortStatus, ...]:
    """Tell of the newest cohort of each kind in a work folder, or a folder of results; none where there is none."""
    found: dict[str, tuple[CohortFolder, Cohort]] = {}
    for each in cohorts_of(folder):
        with suppress(NnunetError):
            cohort = each.read()
            found[cohort.kind] = (each, cohort)
    return tuple(_status(each, cohort) for each, cohort in found.values())


def _status(folder: CohortFolder, cohort: Cohort) -> CohortStatus:
    board, blocks = folder.board(cohort), folder.blocks(cohort)
    ours = folder.job_name(cohort, "")
    jobs = {job.name: job for job in jobs_of(folder.path.parent) if job.name.startswith(ours)}
    silent = {token: _silence(folder, token) for token, worker in board.workers.items() if not worker.finished}
    workers = [board.workers[token] for token in silent if board.workers[token].host]
    alive = [worker for worker in workers if silent[worker.token] < LEASE]
    in_hand = {case for worker in alive for case in worker.in_hand if not board.is_settled(case)}
    rates = [rate for worker in alive if (rate := _rate(worker)) is not None]
    left = board.count - board.settled
    queued = queued_states([job.id for job in jobs.values() if job.engine == SLURM]) if left and not alive else {}
    return CohortStatus(
        cohort.kind,
        cohort.where,
        _state(board, alive, queued),
        board.count,
        len(board.done),
        len(board.failed),
        len(in_hand),
        left - len(in_hand),
        sum(rates) if rates else None,
        left / sum(rates) if rates and left else None,
        tuple(_worker(worker, board, blocks, jobs.get(worker.job), silent[worker.token]) for worker in workers),
        tuple(FailedCase(_name(board, blocks, case), why) for case, why in sorted(board.failed.items())),
        str(folder.path),
        "; ".join(sorted(set(queued.values()))),
    )


def _state(board: Board, alive: Sequence[WorkerState], queued: Mapping[str, str]) -> CohortState:
    if board.finished:
        return "done"
    if board.cancelled:
        return "cancelled"
    if alive:
        return "running"
    return "queued" if queued else "stopped"


def _worker(worker: WorkerState, board: Board, blocks: Blocks, job: JobRecord | None, quiet: float) -> WorkerStatus:
    task = f", SLURM job {job.id}" if job is not None and job.engine == SLURM else ""
    cases = sorted(case for case in worker.in_hand if not board.is_settled(case))
    return WorkerStatus(
        f"{worker.host}, process {worker.process}{task}",
        worker.since,
        tuple(_name(board, blocks, case) for case in cases),
        "" if job is None else job.log,
        f"no sign of life for {quiet:.0f} s" if quiet > LEASE else "",
    )


def _name(board: Board, blocks: Blocks, case: int) -> str:
    block = board.block_of(case)
    return blocks[block][case - board.first[block]].name


def _silence(folder: CohortFolder, token: str) -> float:
    """Return for how long a worker has given no sign of life, as far as this machine's clock and the drive's agree."""
    with suppress(OSError):
        return max(0.0, time.time() - (folder.path / WORKERS / (token + ENDING)).stat().st_mtime)
    return LEASE


def _rate(worker: WorkerState) -> float | None:
    """Tell cases a second of a worker's last ones, by its own clock."""
    recent = worker.done[-_RECENT - 1 :]
    if len(recent) < 2 or recent[-1][1] <= recent[0][1]:
        return None
    return (len(recent) - 1) / (recent[-1][1] - recent[0][1])
