"""The executor of Ray: each job is a task on some node of a cluster."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.progress import Silent
from nnunet_rs.run.cluster import RETRIES, ClusterOptions, Ended, run_on_node
from nnunet_rs.run.executor import Done, Event, Handle, Job, Lost, Said
from nnunet_rs.run.jobs import JobRecord, add_job

ENGINE = "ray"
_ONE_BY_ONE = 64  # lines that are passed on at a time


class Voice(Silent):
    """The progress of a task: lines that travel to whoever waits for it."""

    def __init__(self, queue: Any, name: str) -> None:
        self._queue, self._name = queue, name

    def say(self, text: str) -> None:
        """Send a line; one that nobody hears any more is lost."""
        self._queue.put((self._name, text))


@dataclass(slots=True)
class Ray:
    """Runs jobs as tasks of a Ray cluster. See Executor.

    Parameters
    ----------
    folder
        Gets the list of jobs.
    options
        What each job gets.
    """

    in_process: ClassVar[bool] = False
    outlives: ClassVar[bool] = False  # tasks end with the process that owns them
    retries: ClassVar[int] = RETRIES

    folder: Path
    options: ClusterOptions
    _ray: Any = None
    _queue: Any = None
    _running: dict[Handle, Any] = field(default_factory=dict)  # references of Ray
    _cancelled: set[Handle] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._ray = _connected(self.options)
        from ray.util.queue import Queue

        self._queue = Queue(actor_options={"num_cpus": 0})

    @property
    def free(self) -> int:
        """How many more may be handed to Ray, which queues them."""
        return self.options.array_limit - len(self._running)

    @property
    def handles(self) -> Sequence[Handle]:
        """The tasks that are queued or run."""
        return tuple(self._running)

    def submit(self, job: Job) -> Handle:
        """Hand a task to Ray."""
        cpus = self.options.cpus or 1  # what Ray sets aside is what the job takes
        wanted = {"num_gpus": self.options.gpus, "num_cpus": cpus, "max_retries": 0}
        task = self._ray.remote(**wanted)(_on_node)
        reference = task.options(name=job.name).remote(job, cpus, Voice(self._queue, job.name))
        identifier = reference.task_id().hex()
        handle = Handle(job, "Ray")
        self._running[handle] = reference
        add_job(self.folder, JobRecord(job.name, ENGINE, identifier, ""))
        return handle

    def wait(self, seconds: float) -> Sequence[Event]:
        """Wait for tasks; pass on what they said before."""
        done, _ = self._ray.wait(list(self._running.values()), num_returns=1, timeout=seconds)
        events: list[Event] = list(self._said())
        for handle, reference in tuple(self._running.items()):
            if reference in done:
                del self._running[handle]
                events.append(self._result(handle, reference))
        return events

    def _said(self) -> list[Event]:
        names = {handle.job.name: handle for handle in self._running}
        waiting = min(self._queue.qsize(), _ONE_BY_ONE)
        lines = self._queue.get_nowait_batch(waiting) if waiting else ()
        return [Said(names[name], text) for name, text in lines if name in names]

    def _result(self, handle: Handle, reference: Any) -> Event:
        try:
            ended: Ended = self._ray.get(reference)
        except Exception as error:  # what the task raised, or how its worker died
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            return Lost(handle, f"Ray task: {lines[-1] if lines else type(error).__name__}")
        if ended.signal is not None:
            return Lost(handle, f"stopped by {signal.Signals(ended.signal).name}")
        return Done(handle, ended.value)

    def cancel(self, handle: Handle) -> None:
        """Interrupt a task, once, as Ctrl-C would."""
        if handle not in self._cancelled:
            self._cancelled.add(handle)
            self._ray.cancel(self._running[handle], force=False)

    def close(self) -> None:
        """Kill what still runs."""
        for reference in self._running.values():
            self._ray.cancel(reference, force=True)
        self._running.clear()
        self._queue.shutdown(force=True)


def _on_node(job: Job, cpus: int | None, voice: Voice) -> Ended:
    return run_on_node(job, cpus, voice)


def _connected(options: ClusterOptions) -> Any:
    """Join a cluster, or begin one on this machine.

    Raises
    ------
    NnunetError
        Ray is not installed, or the address does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise NnunetError("--on ray needs Ray, which is not installed; pip install 'nnunet-rs[ray]'") from error
    if not ray.is_initialized():
        try:
            ray.init(address=options.ray_address, log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            raise NnunetError(f"no Ray cluster answers at {options.ray_address}: {error}") from error
    return ray
