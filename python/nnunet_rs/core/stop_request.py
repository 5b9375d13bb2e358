"""Ctrl-C, SIGTERM and the like as a request to stop, met between two iterations; `termination` unwinds at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from nnunet_rs.core.termination import SAME, handled, is_default, is_unwinding, only_once

_ALWAYS = (signal.SIGINT, signal.SIGTERM)


@dataclass(slots=True)
class StopRequest:
    """Whether the work is asked to stop."""

    signal: int | None = None  # the one that came
    since: float = 0.0  # when, by the monotonic clock

    @property
    def made(self) -> bool:
        """Whether a signal came."""
        return self.signal is not None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catch the first signal that asks to end (`core.termination.STOPPING`) and remember it; a second acts as before.

    Ignored signals stay ignored; a program's own handlers stay, but for those of SIGINT and SIGTERM. Only the main
    thread receives signals: in others no request is ever made, and Ctrl-C acts on the main thread.
    """
    stop_request = StopRequest()
    before: dict[int, object] = {}

    def takes(number: int) -> bool:
        old = before[number] = signal.getsignal(number)
        return old != signal.SIG_IGN and (number in _ALWAYS or is_default(number) or is_unwinding(number))

    def remember(number: int, _frame: FrameType | None) -> None:
        if stop_request.signal is None:
            stop_request.signal, stop_request.since = number, time.monotonic()
            only_once(number)
        elif time.monotonic() - stop_request.since > SAME:
            old = before[number]
            signal.signal(number, old if callable(old) else signal.SIG_DFL)
            signal.raise_signal(number)

    with handled(takes, remember):
        yield stop_request
