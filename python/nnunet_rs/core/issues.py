"""What is wrong with a file of a dataset, as a value: listed by `check`, raised by the readers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nnunet_rs.core.errors import DatasetError


@dataclass(frozen=True, slots=True)
class Issue:
    """A broken rule: in which file, by which value, and what to do about it."""

    file: Path
    rule: str  # short and stable, for machines: "shape-mismatch"
    value: str  # what was found, against what was expected
    advice: str  # what to do
    case: str = ""  # empty when the issue is the dataset's, not one case's
    fatal: bool = True  # False: a warning; the case can be used

    def __str__(self) -> str:
        return f"{self.file}: {self.rule}: {self.value}; {self.advice}"


class IssueError(DatasetError):
    """An issue that stops the reading of a file; `issue` says the same as the text."""

    def __init__(self, issue: Issue) -> None:
        super().__init__(str(issue))
        self.issue = issue


class Warnings:
    """Tells the first warning of each kind in full, and in the end how many files more had it; from any thread."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._more: dict[str, int] = {}

    def __call__(self, issue: Issue) -> None:
        """Report a warning, or count it."""
        with self._lock:
            first = issue.rule not in self._more
            self._more[issue.rule] = 0 if first else self._more[issue.rule] + 1
        if first:
            self._say(f"warning: {issue}")

    def finish(self) -> None:
        """Report what was counted only."""
        for rule, count in self._more.items():
            if count:
                self._say(f"warning: {rule}: {count} more file{'s' if count > 1 else ''}")


def fatal(issues: tuple[Issue, ...]) -> tuple[Issue, ...]:
    """Return the issues that make a case or dataset unusable."""
    return tuple(issue for issue in issues if issue.fatal)


def require_none(issues: tuple[Issue, ...]) -> None:
    """Raise the first fatal issue, if there is one; warnings pass.

    Raises
    ------
    IssueError
        At the first fatal issue.
    """
    for issue in fatal(issues)[:1]:
        raise IssueError(issue)
