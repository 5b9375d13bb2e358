"""Ctrl-C and SIGTERM as a wish to stop, granted between two iterations."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class StopWish:
    """Whether somebody wants the work to stop."""

    signal: int | None = None  # SIGINT or SIGTERM

    @property
    def made(self) -> bool:
        """Whether a signal came."""
        return self.signal is not None


@contextmanager
def stop_wishes() -> Iterator[StopWish]:
    """Catch the first SIGINT or SIGTERM and remember it; a second one does what it did before.

    Only the main thread receives signals: in others the wish is never made, and Ctrl-C acts on the main thread.
    """
    wish = StopWish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def remember(number: int, _frame: FrameType | None) -> None:
        wish.signal = number
        restore()

    def restore() -> None:
        for number, handler in before.items():
            # None: a handler that was not set from Python, which Python cannot set again
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    try:
        for number in before:
            signal.signal(number, remember)
        yield wish
    finally:
        restore()
