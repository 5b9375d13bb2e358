"""Settings of the whole process that a block changes, and that are as before when the last such block has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Restored(Generic[T]):
    """A setting that blocks in several threads may change at the same time.

    The first block that begins remembers it, the last one that ends puts it back: a block that put back what it found
    itself would leave the host program with what another block had set.
    """

    def __init__(self, read: Callable[[], T], write: Callable[[T], object]) -> None:
        """Take what reads the setting and what sets it."""
        self._read, self._write = read, write
        self._lock, self._blocks = threading.Lock(), 0
        self._before: list[T] = []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Let the block change the setting."""
        with self._lock:
            if not self._blocks:
                self._before = [self._read()]
            self._blocks += 1
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    self._write(self._before.pop())
