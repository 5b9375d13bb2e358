"""What a cluster is asked for, from options or a TOML file, and what a job does on the node that it is given."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from nnunet_rs.core.document import decode
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.progress import Silent
from nnunet_rs.core.resources import available_memory, processors
from nnunet_rs.core.termination import Terminated, termination_unwinds
from nnunet_rs.run.executor import Job, Resources

CASES = 16  # of a worker at least, where it is not said how many workers there are
RETRIES = 2  # times that a job whose process died is begun again, on another node if there is one


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """What each job gets, in the engine's own words, and how many there are at a time."""

    partition: str | None = None  # SLURM's
    account: str | None = None  # SLURM's
    gpus: int = 0  # a job
    cpus: int | None = None  # a job; None: the engine's default
    mem: str | None = None  # a job, as SLURM writes it: 16G
    time: str | None = None  # SLURM's limit: minutes, hours:minutes:seconds or days-hours:minutes
    warning: int = 120  # seconds before the limit at which a training stops, saves, and is queued again
    array_limit: int = 100  # jobs that are queued or run at a time
    workers: int | None = None  # that share many cases; None: one for each 16 cases, as far as the limit allows
    slurm_extra: dict[str, str] = field(default_factory=dict)  # further options of sbatch
    ray_address: str | None = None  # of a Ray cluster; None: RAY_ADDRESS, or a cluster on this machine
    python: str = sys.executable  # of the nodes

    def workers_for(self, cases: int) -> int:
        """Return how many workers share so many cases."""
        wanted = self.workers or -(-cases // CASES)
        return max(1, min(wanted, self.array_limit, cases))

    @classmethod
    def read(cls, path: Path) -> ClusterOptions:
        """Read a TOML file whose keys are the fields above.

        Raises
        ------
        NnunetError
            It cannot be read, or a key or value is not one of these.
        """
        content = _read_toml(path)
        known = {each.name for each in fields(cls)}
        unknown = sorted(set(content) - known)
        if unknown:
            raise NnunetError(f"{path}: {unknown[0]} is not known; there are {', '.join(sorted(known))}")
        options = decode(cls, content, f"{path}:", NnunetError)
        least = {"gpus": 0, "cpus": 1, "warning": 1, "array_limit": 1, "workers": 1}
        for name, bound in least.items():
            value = getattr(options, name)
            if value is not None and value < bound:
                raise NnunetError(f"{path}: {name} is {value}: must be at least {bound}")
        return options


def _read_toml(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NnunetError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise NnunetError(f"{path}: is not TOML: {error}") from error


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended on its node."""

    value: Any = None  # what its function returned
    signal: int | None = None  # that stopped it; None: nothing did


class Lines(Silent):
    """The progress of a job on a node: lines on its standard output, which is its log."""

    def say(self, text: str) -> None:
        """Write a line at once."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def run_on_node(job: Job, cpus: int | None, progress: Any = None, *, again: bool = False) -> Ended:
    """Run a job in this process; a signal that asks to end stops it as Ctrl-C would at a terminal.

    A training answers between two iterations, saves, and returns; anything else is unwound.
    """
    _require_visible(job)
    threads = cpus or _own_processors()
    try:
        with _default_signals(), termination_unwinds():
            resources = Resources("auto", threads, memory_share(threads), again)
            value = job.function(*job.arguments, resources, progress or Lines())
    except Terminated as stop:
        return Ended(signal=int(stop.signal))
    return Ended(value, getattr(value, "signal", None))


@contextmanager
def _default_signals() -> Iterator[None]:
    """Take signals that ask to end from the engine, which has handlers of its own for them, while the block runs."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)}
    try:
        for number in before:
            signal.signal(number, signal.SIG_DFL)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _require_visible(job: Job) -> None:
    """Check that a node sees the folders it is to work in: a cluster's drives are not those of every machine."""
    for argument in job.arguments:
        if isinstance(argument, Path) and not argument.exists():
            raise NnunetError(
                f"{argument}: is not there on {os.uname().nodename}; name a folder that all nodes see (a shared drive)"
            )


def memory_share(threads: int) -> int:
    """Return the bytes that a job may use: what SLURM gives it, or its part of what is free, by its processors.

    Several jobs on one machine have their processors and their memory, then, and none of them all of it.
    """
    free = available_memory()
    given = os.environ.get("SLURM_MEM_PER_NODE", "")
    if given.isdecimal() and int(given):  # megabytes
        return min(free, int(given) << 20)
    return max(1, free * min(threads, processors()) // processors())


def _own_processors() -> int:
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return int(given) if given.isdecimal() else processors()
