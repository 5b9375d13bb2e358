"""SIGTERM as Ctrl-C: what runs is unwound, so that no half-written file stays."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextmanager
def termination_unwinds() -> Iterator[None]:
    """Raise `Terminated` in the main thread at the first SIGTERM; a second one ends the process at once.

    A handler that a program has set, or that ignores the signal, stays. In other threads than the main one nothing is
    changed: signals do not reach them.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def unwind(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
