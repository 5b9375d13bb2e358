"""How the library tells what it is doing; the command line shows it as bars or lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol


class Task(Protocol):
    """One counted piece of work on display."""

    def advance(self, count: float = 1, note: str = "") -> None:
        """Count `count` more units as done; `note` replaces the text beside the bar."""


@dataclass(frozen=True, slots=True)
class Share:
    """A task whose units are a part of another's."""

    task: Task
    part: float

    def advance(self, count: float = 1, note: str = "") -> None:
        """See Task."""
        self.task.advance(count * self.part, note)


class Progress(Protocol):
    """How the library tells what it is doing; `cli` shows it as bars or lines."""

    def task(self, name: str, total: float, *, timed: bool = False) -> AbstractContextManager[Task]:
        """Open a task of `total` units; of seconds, if it is `timed`."""

    def say(self, text: str) -> None:
        """Report one line."""


class Silent:
    """The Progress of a library call: shows nothing."""

    @contextmanager
    def task(self, name: str, total: float, *, timed: bool = False) -> Iterator[Task]:  # noqa: ARG002
        """Open a task that nobody sees."""
        yield self

    def advance(self, count: float = 1, note: str = "") -> None:
        """Count nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""
