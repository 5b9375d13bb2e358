"""Executor: the protocol by which a series hands its work out, to this process, to others or to a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Resources:
    """What an executor gives a job."""

    device: str = "auto"  # as PyTorch names it; auto: the fastest that is there
    threads: int | None = None  # of the processor; None: as many as the job would take by itself
    memory: int | None = None  # bytes; None: what is free
    again: bool = False  # the executor has begun this very job before: what it left is resumed


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work.

    An executor calls `function(*arguments, resources, progress)`: `Resources` are its own to choose, and what the job
    says to the `Progress` comes back as events or is shown. What is called in another process is pickled, so the
    function stands at the top level of a module.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Handle:
    """A job that was submitted. Two are never equal, though their jobs may be."""

    job: Job
    where: str = ""  # "cuda:1", "SLURM job 1234"; nothing: in this process


@dataclass(frozen=True, slots=True)
class Said:
    """A job says a line."""

    handle: Handle
    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """A job has returned; nothing follows."""

    handle: Handle
    value: Any  # what the job's function returned


@dataclass(frozen=True, slots=True)
class Lost:
    """A job has ended without a result, as a process that was killed does; nothing follows."""

    handle: Handle
    reason: str
    wanted: bool = False  # by the user, so that it is not worth another try


Event = Said | Done | Lost


class Executor(Protocol):
    """Something that runs jobs. One thread uses it, and closes it in the end."""

    @property
    def in_process(self) -> bool:
        """Whether jobs run in this process, within `wait`: signals to stop reach the job, then."""

    @property
    def outlives(self) -> bool:
        """Whether jobs go on when this process ends: then they are left to run when it is asked to stop."""

    @property
    def retries(self) -> int:
        """How often a job that is lost is worth another try."""

    @property
    def free(self) -> int:
        """How many further jobs would begin at once."""

    @property
    def handles(self) -> Sequence[Handle]:
        """The jobs that were submitted and have neither returned nor been lost."""

    def submit(self, job: Job) -> Handle:
        """Begin a job, or queue it.

        Raises
        ------
        NnunetError
            It cannot be run: what is wrong and what to do.
        """

    def wait(self, seconds: float) -> Sequence[Event]:
        """Return what has happened to jobs since the last call, as soon as there is something or the time is over.

        What a job in this process raises is raised here.
        """

    def cancel(self, handle: Handle) -> None:
        """Ask a job to stop as soon as it can do so properly, by a signal as SIGTERM; `wait` tells when it has.

        Asking again changes nothing.
        """

    def close(self) -> None:
        """End at once what still runs, and let go of everything."""
