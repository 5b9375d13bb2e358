"""Signals that ask a program to end: the first unwinds what runs, a second one ends it at once, whatever runs.

Python's handlers run between two of the interpreter's steps, not while compiled code computes. So a command has a
watchdog: a process of its own that the interpreter's C handler tells of every signal, and that ends the command when a
second one came and nothing happened. It needs neither the interpreter nor its lock.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess

SAME = 0.2  # seconds in which signals are one request: `timeout` signals the process and its group, others too
PATIENCE = 1.0  # seconds that the interpreter has to heed a second signal
_ANEW = b"\0"  # tells the watchdog that a request to come is the first

# Ctrl-C; end; the terminal is gone; what SLURM, LSF and Grid Engine send before they end a job; no processor time left,
# which the system says again every second; Ctrl-Break (Windows). SIGQUIT, Ctrl-\, ends at once by itself.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGBREAK")
STOPPING = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_REPEATED = getattr(signal, "SIGXCPU", None)


class Terminated(KeyboardInterrupt):
    """A signal asked the program to end."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        """Remember which."""
        super().__init__(signal.Signals(number).name)
        self.signal = signal.Signals(number)


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Run what has no end of its own until Ctrl-C, which is how it is meant to end; other signals go on."""
    try:
        yield
    except Terminated as stop:
        if stop.signal != signal.SIGINT:
            raise
    except KeyboardInterrupt:
        return


class _Unwind:
    """The handler of a command: the first request raises, one that comes later acts as the system has it."""

    def __init__(self) -> None:
        self.since: float | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.since is None:
            self.since = now
            only_once(number)
            raise Terminated(number)
        if now - self.since > SAME:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


@contextmanager
def termination_unwinds(*, watched: bool = False) -> Iterator[None]:
    """Raise `Terminated` in the main thread at the first signal that asks to end; a second ends the process at once.

    Handlers that a program has set, or that ignore a signal (`nohup`), stay. In other threads than the main one nothing
    is changed: signals do not reach them.

    Parameters
    ----------
    watched
        Whether a second signal ends the process though compiled code does not return: then by SIGKILL, by a process
        that is started for that. Not on Windows.
    """
    handler = _Unwind()
    with handled(lambda number: is_default(number), handler), _watched() if watched else _unwatched():
        yield


@contextmanager
def handled(takes: Callable[[int], bool], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let `handler` hear the signals that ask to end, as far as `takes` agrees; afterwards all is as it was.

    Only in the main thread: in others nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPPING if takes(number)}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            # None: a handler that was not set from Python, which Python cannot set again
            signal.signal(number, signal.SIG_DFL if old is None else old)


def is_default(number: int) -> bool:
    """Whether a signal acts as it does in a program that has set nothing."""
    return signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)


def is_unwinding(number: int) -> bool:
    """Whether a signal unwinds, by `termination_unwinds`."""
    return isinstance(signal.getsignal(number), _Unwind)


def only_once(number: int) -> None:
    """Ignore a signal from now on if it is one that the system repeats: it would count as a second request."""
    if number == _REPEATED:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _unwatched() -> Iterator[None]:
    yield


@contextmanager
def _watched() -> Iterator[None]:
    """Have the watchdog told of signals, by a descriptor that Python's handler in C writes to."""
    if threading.current_thread() is not threading.main_thread() or os.name != "posix":
        yield
        return
    ear = _watchdog()
    os.write(ear, _ANEW)
    before = signal.set_wakeup_fd(ear, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)


@cache
def _watchdog() -> int:
    """Start the watchdog of this process, once; returns what to tell it by. It ends with the process."""
    import subprocess

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = subprocess.Popen(
        (sys.executable, "-I", "-S", "-c", _WATCH, str(os.getpid())),
        stdin=reading,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C does not reach it
    )
    os.close(reading)
    atexit.register(_dismiss, process, writing, os.getpid())
    return writing


def _dismiss(process: subprocess.Popen[Any], writing: int, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child
        os.close(writing)
        process.wait()


_WATCH = f"""
import os, select, sys, time
parent, counted, since = int(sys.argv[1]), {[int(number) for number in STOPPING if number != _REPEATED]}, None
while told := os.read(0, 1):
    if told == {_ANEW!r}:
        since = None
    elif since is None:
        since = time.monotonic()
    elif told[0] in counted and time.monotonic() - since > {SAME}:
        break
until = time.monotonic() + {PATIENCE}
while told and (left := until - time.monotonic()) > 0:
    if select.select([0], [], [], left)[0]:
        told = os.read(0, 64)
if told and os.getppid() == parent:
    os.kill(parent, 9)
os._exit(0)  # nothing to tidy up: the command waits for it
"""
