"""The executor of SLURM, through submitit: each job is one of sbatch's, resumed after its time limit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.run.cluster import RETRIES, ClusterOptions, Ended, Lines, run_on_node
from nnunet_rs.run.executor import Done, Event, Handle, Job, Lost, Said
from nnunet_rs.run.jobs import JobRecord, add_job, jobs_of

if TYPE_CHECKING:
    from submitit import SlurmExecutor as Submitit
    from submitit import SlurmJob

ENGINE = "slurm"
_AGAIN = (signal.SIGUSR2, signal.SIGUSR1)  # what SLURM sends before the time limit, or a user to have it queued again
_REQUEUED = 300.0  # seconds in which SLURM ends a job that it was asked to queue again
_LATE = 60.0  # seconds in which a network drive shows what another machine wrote
_LOOK = 5.0  # seconds between two questions to SLURM's accounting
_WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "SUSPENDED", "RUNNING", "COMPLETING", "PREEMPTED", "UNKNOWN", "READY"}


@dataclass(slots=True)
class Slurm:
    """Runs jobs through sbatch. See Executor.

    Jobs go on when this process ends: whoever submits the same jobs again follows those that are still there.

    Parameters
    ----------
    folder
        Gets the jobs' scripts and logs, and the list of jobs; all nodes must see it.
    options
        What each job gets.
    """

    in_process: ClassVar[bool] = False
    outlives: ClassVar[bool] = True  # jobs go on when this process ends
    retries: ClassVar[int] = RETRIES

    folder: Path
    options: ClusterOptions
    _running: dict[Handle, SlurmJob[Ended]] = field(default_factory=dict)
    _passed_on: dict[Handle, int] = field(default_factory=dict)  # bytes of the log that were passed on
    _cancelled: set[Handle] = field(default_factory=set)
    _completed: dict[Handle, float] = field(default_factory=dict)  # since when, in SLURM's words
    _looked: float = 0.0

    def __post_init__(self) -> None:
        if shutil.which("sbatch") is None:
            raise NnunetError("SLURM is not here: there is no command sbatch; run this on a login node of the cluster")
        _require_submitit()

    @property
    def free(self) -> int:
        """How many more may be queued."""
        return self.options.array_limit - len(self._running)

    @property
    def handles(self) -> Sequence[Handle]:
        """The jobs that are queued or run."""
        return tuple(self._running)

    def submit(self, job: Job) -> Handle:
        """Queue a job; one of this name that an earlier run queued, and that is not done, is followed instead.

        Raises
        ------
        NnunetError
            SLURM refuses it; the text is its own.
        """
        found = self._queued_before(job)
        submitted = found or self._submit(job)
        handle = Handle(job, f"SLURM job {submitted.job_id}")
        self._running[handle] = submitted
        self._passed_on[handle] = _size(submitted.paths.stdout) if found else 0
        return handle

    def _submit(self, job: Job) -> SlurmJob[Ended]:
        engine = self._engine(job.name)
        try:
            submitted: SlurmJob[Ended] = engine.submit(_on_node, job, self.options.cpus)
        except Exception as error:  # submitit's own errors, and those of the subprocess
            raise NnunetError(f"SLURM refuses the job of {job.name}: {_reason(error)}") from error
        add_job(self.folder, JobRecord(job.name, ENGINE, str(submitted.job_id), str(submitted.paths.stdout)))
        return submitted

    def _engine(self, name: str) -> Submitit:
        from submitit import SlurmExecutor

        engine = SlurmExecutor(self.folder, max_num_timeout=0, python=self.options.python)
        engine.update_parameters(**parameters(self.options, name))
        return engine

    def _queued_before(self, job: Job) -> SlurmJob[Ended] | None:
        from submitit import SlurmJob

        for record in reversed(jobs_of(self.folder)):
            if record.name == job.name and record.engine == ENGINE:
                found: SlurmJob[Ended] = SlurmJob(folder=self.folder, job_id=record.id)
                state = found.watcher.get_state(record.id, mode="force").split(" ")[0]
                return found if state in _WAITING - {"UNKNOWN"} and not found.paths.result_pickle.exists() else None
        return None

    def wait(self, seconds: float) -> Sequence[Event]:
        """Look at logs and results, and now and then at what SLURM says."""
        until = time.monotonic() + seconds
        while True:
            events = [event for handle in tuple(self._running) for event in self._events(handle)]
            if events or time.monotonic() >= until:
                return events
            time.sleep(min(0.2, max(0.0, until - time.monotonic())))

    def _events(self, handle: Handle) -> list[Event]:
        job = self._running[handle]
        whole = job.paths.result_pickle.exists()
        events: list[Event] = [Said(handle, line) for line in self._new_lines(handle)]
        if not whole and not self._ended(handle, job):
            return events
        if not whole and not job.paths.result_pickle.exists():
            events.append(self._lost(handle, job))
        else:
            events.append(self._result(handle, job))
        del self._running[handle]
        return events

    def _lost(self, handle: Handle, job: SlurmJob[Ended], ended: str = "") -> Lost:
        cancelled = {record.id for record in jobs_of(self.folder) if record.cancelled}
        if job.job_id in cancelled:
            return Lost(handle, f"SLURM job {job.job_id} was cancelled", wanted=True)
        state = ended or job.watcher.get_state(job.job_id, mode="cache")
        return Lost(handle, f"SLURM job {job.job_id}: {state}; its log is {job.paths.stderr}")

    def _result(self, handle: Handle, job: SlurmJob[Ended]) -> Event:
        try:
            ended = job.result()
        except Exception as error:  # what the job raised, as submitit tells it
            return Lost(handle, f"SLURM job {job.job_id}: {_reason(error)}; its log is {job.paths.stderr}")
        if ended.signal is not None:
            return self._lost(handle, job, f"stopped by {signal.Signals(ended.signal).name}")
        return Done(handle, ended.value)

    def _ended(self, handle: Handle, job: SlurmJob[Ended]) -> bool:
        """Whether SLURM says that a job has ended; asked for all jobs at once, and seldom.

        A result that was written on another machine may be seen late here: network drives keep what they knew.
        """
        now = time.monotonic()
        if now - self._looked >= _LOOK:
            self._looked = now
            job.watcher.update()
        state = job.watcher.get_state(job.job_id, mode="cache").split(" ")[0]
        if state != "COMPLETED":
            return state not in _WAITING
        return now - self._completed.setdefault(handle, now) > _LATE

    def _new_lines(self, handle: Handle) -> list[str]:
        path, told = self._running[handle].paths.stdout, self._passed_on[handle]
        if _size(path) <= told:
            return []
        with path.open("rb") as stream:
            stream.seek(told)
            content = stream.read()
        content = content[: content.rfind(b"\n") + 1]
        self._passed_on[handle] = told + len(content)
        lines = content.decode(errors="replace").splitlines()
        return [line for line in lines if line and not line.startswith("submitit ")]

    def cancel(self, handle: Handle) -> None:
        """Ask SLURM to end a job, once: it sends SIGTERM, and SIGKILL half a minute later."""
        if handle not in self._cancelled:
            self._cancelled.add(handle)
            self._running[handle].cancel(check=False)

    def close(self) -> None:
        """Let go; jobs go on."""
        self._running.clear()


def _require_submitit() -> None:
    if find_spec("submitit") is None:
        raise NnunetError("--on slurm needs submitit, which is not installed; pip install 'nnunet-rs[slurm]'")


def parameters(options: ClusterOptions, name: str) -> dict[str, Any]:
    """Return submitit's parameters of a job."""
    extra: dict[str, Any] = {"requeue": True, **options.slurm_extra}
    found: dict[str, Any] = {"job_name": "nnunet-rs " + name, "signal_delay_s": options.warning}
    found |= {key: getattr(options, key) for key in ("partition", "account", "mem") if getattr(options, key)}
    if options.cpus:
        found["cpus_per_task"] = options.cpus
    if options.gpus:
        found["gpus_per_node"] = options.gpus
    found["time"] = None  # the partition's own, not submitit's five minutes
    found["additional_parameters"] = extra | ({"time": options.time} if options.time else {})
    return found


def script(options: ClusterOptions, folder: Path, name: str) -> str:
    """Return what would be given to sbatch for a job."""
    _require_submitit()
    from submitit.slurm.slurm import _make_sbatch_string

    command = f"{options.python} -m submitit.core._submit {folder}"
    text: str = _make_sbatch_string(command=command, folder=folder, **parameters(options, name))
    return text


def _on_node(job: Job, cpus: int | None) -> Ended:
    """Run a job on its node; one that was stopped before its time limit is queued again, and resumes."""
    ended = run_on_node(job, cpus, again=os.environ.get("SLURM_RESTART_COUNT", "0") != "0")
    if ended.signal in _AGAIN and _requeued():
        time.sleep(_REQUEUED)  # SLURM ends this process meanwhile
    return ended


def _requeued() -> bool:
    """Ask SLURM to queue this job again; False: it does not do that here."""
    from submitit import JobEnvironment

    Lines().say("the time limit is near: saved; queued again to resume")
    asked = subprocess.run(
        ["scontrol", "requeue", JobEnvironment().job_id], capture_output=True, text=True, check=False, timeout=60
    )
    if asked.returncode:
        Lines().say(f"SLURM does not queue this job again: {asked.stderr.strip()}")
    return asked.returncode == 0


def _reason(error: Exception) -> str:
    """Return the last line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("---")]
    return lines[-1] if lines else type(error).__name__


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def cancel_job(identifier: str) -> str:
    """Ask SLURM to end a job; returns what it says against that, or nothing."""
    asked = subprocess.run(["scancel", identifier], capture_output=True, text=True, check=False, timeout=60)
    return asked.stderr.strip()


def queued_states(identifiers: Sequence[str]) -> dict[str, str]:
    """Return the states of jobs that SLURM still has in its queue, in its words; empty where SLURM is not here."""
    if not identifiers or shutil.which("squeue") is None:
        return {}
    asked = subprocess.run(
        ["squeue", "-h", "-o", "%i %T %r", "-j", ",".join(identifiers)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    rows = (line.split(" ", 1) for line in asked.stdout.splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 2}
