"""The executors of one machine: jobs in this process, or one on each device in processes of their own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from nnunet_rs.core.progress import Progress
from nnunet_rs.core.resources import processors
from nnunet_rs.core.worker import LostError, Result, Worker
from nnunet_rs.run.executor import Done, Event, Executor, Handle, Job, Lost, Resources, Said


def local_executor(devices: Sequence[str], progress: Progress) -> Executor:
    """Return what runs jobs on one device, in this process, or on several, in a process each.

    Parameters
    ----------
    devices
        As PyTorch names them.
    progress
        Shows what a job in this process does.
    """
    return InProcess(devices[0], progress) if len(devices) == 1 else PerDevice(tuple(devices))


@dataclass(slots=True)
class InProcess:
    """Runs one job at a time in this process, when it is waited for. See Executor."""

    in_process: ClassVar[bool] = True
    outlives: ClassVar[bool] = False
    retries: ClassVar[int] = 0  # what kills a process of this machine would kill the next

    device: str
    progress: Progress
    _submitted: list[Handle] = field(default_factory=list)

    @property
    def free(self) -> int:
        """One, if none is submitted."""
        return 1 - len(self._submitted)

    @property
    def handles(self) -> Sequence[Handle]:
        """The job that the next `wait` runs."""
        return tuple(self._submitted)

    def submit(self, job: Job) -> Handle:
        """Remember a job."""
        handle = Handle(job)
        self._submitted.append(handle)
        return handle

    def wait(self, seconds: float) -> Sequence[Event]:
        """Run the job, however long that takes; without one, sleep."""
        if not self._submitted:
            time.sleep(seconds)
            return ()
        handle = self._submitted.pop(0)
        job = handle.job
        return (Done(handle, job.function(*job.arguments, Resources(self.device), self.progress)),)

    def cancel(self, handle: Handle) -> None:
        """Forget a job that has not begun."""
        if handle in self._submitted:
            self._submitted.remove(handle)

    def close(self) -> None:
        """Forget what has not begun."""
        self._submitted.clear()


@dataclass(slots=True)
class PerDevice:
    """Runs one job at a time on each device, in a new interpreter. Jobs share the processors. See Executor.

    A new interpreter imports the program's main module anew: it must do nothing then.
    """

    in_process: ClassVar[bool] = False
    outlives: ClassVar[bool] = False
    retries: ClassVar[int] = 0

    devices: tuple[str, ...]
    _running: dict[Worker, tuple[int, Handle]] = field(default_factory=dict)  # with the device's index
    _cancelled: set[Handle] = field(default_factory=set)

    @property
    def free(self) -> int:
        """How many devices have no job."""
        return len(self.devices) - len(self._running)

    @property
    def handles(self) -> Sequence[Handle]:
        """The jobs that run."""
        return tuple(handle for _, handle in self._running.values())

    def submit(self, job: Job) -> Handle:
        """Start a process on the first free device.

        Raises
        ------
        NnunetError
            Function or arguments cannot be pickled.
        """
        busy = {index for index, _ in self._running.values()}
        index = next(index for index in range(len(self.devices)) if index not in busy)
        handle = Handle(job, self.devices[index])
        resources = Resources(self.devices[index], max(1, processors() // len(self.devices)))
        self._running[Worker.start(job.function, *job.arguments, resources)] = index, handle
        return handle

    def wait(self, seconds: float) -> Sequence[Event]:
        """Listen to the processes."""
        return tuple(self._receive(worker) for worker in Worker.audible(self._running, seconds))

    def _receive(self, worker: Worker) -> Event:
        _, handle = self._running[worker]
        try:
            message = worker.receive()
        except LostError as error:
            del self._running[worker]
            return Lost(handle, str(error))
        if isinstance(message, Result):
            del self._running[worker]
            return Done(handle, message.value)
        return Said(handle, message.text)

    def cancel(self, handle: Handle) -> None:
        """Send SIGTERM, once: a second signal ends a training at once."""
        if handle not in self._cancelled:
            self._cancelled.add(handle)
            for worker, (_, running) in self._running.items():
                if running is handle:
                    worker.ask_to_stop()

    def close(self) -> None:
        """Kill what still runs."""
        for worker in self._running:
            worker.kill()
        self._running.clear()
