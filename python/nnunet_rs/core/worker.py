"""A function in a process of its own: what it says on the way, what comes of it, or how the process was lost."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.progress import Task
from nnunet_rs.core.termination import Terminated, termination_unwinds


class LostError(NnunetError):
    """A process ended without a result."""


@dataclass(frozen=True, slots=True)
class Message:
    """A line for whoever follows the work."""

    text: str


@dataclass(frozen=True, slots=True)
class Result:
    """What the function returned; nothing follows it."""

    value: Any


@dataclass(frozen=True, slots=True, eq=False)
class Worker:
    """A process that runs one function, and its voice."""

    _process: BaseProcess
    _voice: Connection

    @classmethod
    def start(cls, function: Callable[..., Any], *arguments: Any) -> Worker:
        """Call `function(*arguments, progress)` in a new interpreter; function, arguments and result are pickled.

        The process leaves the terminal's group: Ctrl-C reaches it only through `ask_to_stop`.

        Raises
        ------
        NnunetError
            One of the arguments cannot be pickled.
        """
        context = multiprocessing.get_context("spawn")  # kernels' and torch's threads do not survive a fork
        voice, mouth = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(mouth, function, arguments))
        try:
            process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:  # what pickle raises of a lambda
            raise NnunetError(
                f"cannot be handed to another process: {error}; a function of your own must stand at the top level of "
                "a module or file"
            ) from error
        finally:
            mouth.close()
        return cls(process, voice)

    def receive(self) -> Message | Result:
        """Wait for the next message.

        Raises
        ------
        LostError
            The process ended without a result; the text says how.
        """
        try:
            message: Message | Result = self._voice.recv()
        except (EOFError, OSError):
            self._process.join()
            raise LostError(_ending(self._process.exitcode)) from None
        if isinstance(message, Result):
            self._process.join()
        return message

    def ask_to_stop(self) -> None:
        """Send SIGTERM, which a training takes as a wish."""
        self._process.terminate()

    def kill(self) -> None:
        """End the process now, if it has not ended."""
        self._process.kill()
        self._process.join()

    @staticmethod
    def audible(workers: Iterable[Worker], seconds: float) -> tuple[Worker, ...]:
        """Return those of whom there is something to hear, as soon as there is one or the time is over."""
        by_voice = {worker._voice: worker for worker in workers}
        return tuple(by_voice[voice] for voice in wait(list(by_voice), seconds) if isinstance(voice, Connection))


@dataclass(frozen=True, slots=True)
class _Mouth:
    """The Progress of a worker: lines are passed on, counts are not."""

    connection: Connection
    deserted: list[bool] = field(default_factory=list)

    @contextmanager
    def task(self, name: str, total: float, *, timed: bool = False) -> Iterator[Task]:  # noqa: ARG002
        yield self

    def advance(self, count: float = 1, note: str = "") -> None:
        pass

    def say(self, text: str) -> None:
        try:
            self.connection.send(Message(text))
        except OSError:  # the program that began this is gone: nobody wants the result
            if not self.deserted:
                self.deserted.append(True)
                os.kill(os.getpid(), signal.SIGTERM)


def _run(mouth: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    if hasattr(os, "setsid"):
        os.setsid()
    try:
        with termination_unwinds():
            result = Result(function(*arguments, _Mouth(mouth)))
            with suppress(BrokenPipeError):  # nobody listens any more
                mouth.send(result)
    except Terminated as wanted:
        signal.raise_signal(wanted.signal)  # now that nothing is half-written


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        memory = "; the system kills by SIGKILL when memory runs out" if -code == signal.SIGKILL else ""
        return f"its process was ended by {name}{memory}"
    return f"its process ended with exit code {code}, and said why on standard error"
