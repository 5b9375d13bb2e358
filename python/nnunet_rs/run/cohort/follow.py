"""Hand a cohort to an executor: begin workers, replace those that are lost, and tell how far the cases are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.progress import Progress, Task
from nnunet_rs.core.stop_request import StopRequest, stop_requests
from nnunet_rs.core.text import counted
from nnunet_rs.run.cohort.board import TRIES, Board
from nnunet_rs.run.cohort.claims import report_lost
from nnunet_rs.run.cohort.files import Cohort, CohortFolder
from nnunet_rs.run.cohort.worker import work
from nnunet_rs.run.executor import Done, Executor, Handle, Job, Lost, Said

_PATIENCE = 0.5  # seconds between two looks
_ENDING = 10.0  # seconds in which workers end by themselves when nothing is left


@dataclass(frozen=True, slots=True)
class Followed:
    """How far a cohort was when it was followed no longer."""

    done: dict[int, Any]  # cases, with what came of them
    failed: dict[int, str]  # reasons
    signal: int | None = None  # that ended this process's part
    cancelled: bool = False  # by `nnunet-rs cancel`


def run_job(executor: Executor, job: Job, progress: Progress) -> Any:
    """Let an executor run one job, and wait for it; returns what its function returned.

    Raises
    ------
    NnunetError
        It ended without a result, as often as is tried; or this process was asked to stop.
    """
    with stop_requests() as stop:
        handle, tries = executor.submit(job), 0
        while True:
            if stop.made and executor.outlives:
                raise NnunetError(f"{job.name} goes on, on {handle.where}; the same command follows it again")
            if stop.made:
                executor.cancel(handle)
            for event in executor.wait(_PATIENCE):
                if isinstance(event, Done):
                    return event.value
                if isinstance(event, Said):
                    progress.say(event.text)
                elif event.wanted or stop.made or tries == executor.retries:
                    raise NnunetError(f"{job.name}: {event.reason}")
                else:
                    progress.say(f"{job.name}: {event.reason}; begun again")
                    handle, tries = executor.submit(job), tries + 1


def follow(folder: CohortFolder, cohort: Cohort, executor: Executor, workers: int, progress: Progress) -> Followed:
    """Let workers do a cohort, until every case is done or has failed; errors as `Executor.submit`.

    Parameters
    ----------
    folder, cohort
        The cohort.
    executor
        Runs the workers; closed in the end. Where its jobs outlive this process they go on when it is asked to stop,
        and the same call follows them again.
    workers
        How many.
    progress
        Told of everything.

    Raises
    ------
    NnunetError
        Workers end one after another, and no case gets done.
    """
    with stop_requests() as stop, closing(executor), progress.task(cohort.kind, cohort.count) as task:
        following = _Following(folder, cohort, executor, progress, stop, task, folder.board(cohort))
        following.begin(workers)
        while following.goes_on():
            following.wait()
    board = following.board
    return Followed(board.done, board.failed, stop.signal, board.cancelled)


@dataclass(slots=True)
class _Following:
    folder: CohortFolder
    cohort: Cohort
    executor: Executor
    progress: Progress
    stop: StopRequest
    task: Task
    board: Board
    handles: dict[Handle, str] = field(default_factory=dict)  # with the names of the jobs
    waiting: list[str] = field(default_factory=list)  # jobs that are to be submitted
    told: int = 0  # settled cases that the task was told of
    lost_since: int = 0  # workers that were lost since a case was settled
    at: int = -1  # settled cases when the last worker was lost
    reason: str = ""
    finished: float | None = None  # since when every case is settled

    def begin(self, workers: int) -> None:
        """List the jobs of the workers."""
        self.waiting = [self.folder.job_name(self.cohort, f"worker {n + 1}") for n in range(workers)]

    def goes_on(self) -> bool:
        """Submit what there is room for; False: it is over."""
        if self.stop.made and self.executor.outlives:
            if self.handles:
                self.progress.say(f"{counted(len(self.handles), 'job')} go on; the same command follows them again")
            return False
        if self.stop.made or self.board.cancelled:  # then workers stop by themselves, after what they have in hand
            self.waiting.clear()
        if self.board.finished and self.finished is None:
            self.finished = time.monotonic()
        idle = self.finished is not None and time.monotonic() - self.finished > _ENDING
        if self.stop.made or idle:  # a worker that still waits in a queue has nothing to do any more
            for handle in self.handles:
                self.executor.cancel(handle)
        while self.waiting and self.executor.free and not self.board.finished:
            name = self.waiting.pop(0)
            handle = self.executor.submit(Job(name, work, (self.folder.path, name)))
            self.handles[handle] = name
        if self.handles:
            return True
        if not (self.board.finished or self.stop.made or self.board.cancelled):
            self._count_loss()
            self.begin(1)
            return True
        return False

    def wait(self) -> None:
        """Pass on what workers say, and what came of cases."""
        begun = time.monotonic()
        for event in self.executor.wait(_PATIENCE):
            name = self.handles.get(event.handle, "")
            if isinstance(event, Said):
                self.progress.say(f"{_short(name)}: {event.text}")
            elif self.handles.pop(event.handle, None) is not None:
                self._ended(name, event)
        time.sleep(max(0.0, min(_PATIENCE, _PATIENCE - (time.monotonic() - begun))))
        self.board.refresh()
        self.task.advance(self.board.settled - self.told)
        self.told = self.board.settled

    def _ended(self, name: str, event: Done | Lost) -> None:
        self.board.refresh()
        reason = event.value.problem if isinstance(event, Done) else event.reason
        if not reason or self.board.finished:
            return
        self.reason = reason
        tokens = [worker.token for worker in self.board.workers.values() if worker.job == name and not worker.finished]
        report_lost(self.folder.path, tokens)
        self.progress.say(f"{_short(name)}: {reason}")
        wanted = isinstance(event, Lost) and event.wanted
        if not (wanted or self.stop.made or self.board.finished or self.board.cancelled):
            self._count_loss()
            self.waiting.append(name)

    def _count_loss(self) -> None:
        """Give up where workers only die: the case that ends them is recorded after some tries, which is progress."""
        if self.board.settled > self.at:
            self.at, self.lost_since = self.board.settled, 0
        self.lost_since += 1
        if self.lost_since > self.executor.retries + TRIES:
            raise NnunetError(
                f"{self.folder.path}: {self.lost_since} workers ended one after another without a case done, the last: "
                f"{self.reason}; {self.board.settled} of {self.board.count} cases are settled: put it right, and run "
                "the same command again"
            )


def _short(name: str) -> str:
    return name.rpartition(", ")[2]


def require_all(followed: Followed, names: Sequence[str], where: str) -> None:
    """Raise where cases failed.

    Raises
    ------
    NnunetError
        Each with its reason.
    """
    if followed.failed:
        count, failed = len(names), sorted((names[case], reason) for case, reason in followed.failed.items())
        shown = "; ".join(f"{name}: {reason}" for name, reason in failed[:20])
        more = f"; and {len(failed) - 20} more, see `nnunet-rs status {where}`" if failed[20:] else ""
        raise NnunetError(
            f"{len(failed)} of {counted(count, 'case')} failed, {len(followed.done)} are done: {shown}{more}"
        )
