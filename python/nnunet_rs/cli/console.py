"""What a person or a machine sees: progress on standard error, the result on standard output.

On a terminal progress is a bar with rate and time left; elsewhere it is a plain line now and then. `rich` is loaded
when the first bar or table is drawn, so that `--help` and `--version` start at once.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.table import Table as RichTable

    from nnunet_rs.cli.progress import Bar, Count
    from nnunet_rs.core.progress import Task
    from nnunet_rs.report.tables import Table


class UsageError(Exception):
    """The arguments do not go together."""


@dataclass(frozen=True, slots=True)
class Display:
    """How much is shown, and to whom."""

    json: bool = False  # one object on standard output, nothing else there
    quiet: bool = False  # no progress and no remarks
    verbose: bool = False  # tracebacks and the libraries' warnings


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command returns: the same facts for a machine and for a person."""

    result: Mapping[str, Any]
    shown: tuple[Table | str, ...] = ()
    code: int = 0


class Console:
    """The Progress of a command, and the way out for its result."""

    def __init__(self, display: Display | None = None, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.display = display or Display()
        self._out, self._err = out or sys.stdout, err or sys.stderr
        self._terminal = self._err.isatty() and os.environ.get("TERM") != "dumb"
        self._bars: Bars | None = None
        self._open = 0
        self.as_typed: Callable[[str], str] = str  # turns commands in what is said into those that the user would type

    def say(self, text: str) -> None:
        """Report one line, unless asked to be quiet."""
        if self.display.quiet:
            return
        text = self.as_typed(text)
        with self._heard():
            if self._bars is not None:
                self._bars.console.print(_wrapped(text), markup=False, highlight=False, soft_wrap=True)
            else:
                print(_wrapped(text) if self._terminal else text, file=self._err, flush=True)

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Be silent once standard error is gone, as with its terminal: the work goes on, or ends in order."""
        try:
            yield
        except OSError:
            self.display = replace(self.display, quiet=True)

    @contextmanager
    def task(self, name: str, total: float, *, timed: bool = False) -> Iterator[Task]:
        """Show a task of `total` units (or seconds) until the block ends.

        A task within a task is gone when it ends; the outermost leaves a line, unless it failed.
        """
        from nnunet_rs.cli.progress import Count

        count = Count(name, total, self.say, timed)
        self._open += 1
        try:
            if self.display.quiet or not self._terminal:
                yield count
            else:
                with self._bar(count) as bar:
                    yield bar
        finally:
            self._open -= 1
            if self._open == 0 and self._bars is not None:
                with self._heard():
                    self._bars.stop()
                self._bars = None
        if self._open == 0:
            self._done(count)

    @contextmanager
    def _bar(self, count: Count) -> Iterator[Bar]:
        """Show a bar in the live display, which the first one opens."""
        from nnunet_rs.cli.progress import Bar, make_bars

        if self._bars is None:
            self._bars = make_bars(_rich(self._err))
            self._bars.start()
        key = self._bars.add_task(count.name, total=count.total, count=count, note="")
        try:
            yield Bar(self._bars, key, count)
        finally:
            self._bars.remove_task(key)

    def _done(self, count: Count) -> None:
        if self._terminal and not self.display.quiet:
            with self._heard():
                _rich(self._err).print(f"[green]✓[/green] {_escape(count.finish())}", highlight=False)
        else:
            self.say(count.finish())

    def finish(self, command: str, outcome: Outcome, seconds: float) -> int:
        """Print a command's result and give its exit code."""
        with self._terminal_may_be_gone():
            if self.display.json:
                result = {"ok": outcome.code == 0, "seconds": round(seconds, 3), **outcome.result}
                self._object({"command": command, **result})
            else:
                for item in outcome.shown:
                    self._show(item)
        return outcome.code

    @contextmanager
    def _terminal_may_be_gone(self) -> Iterator[None]:
        """Take it that a terminal is gone; that a disk is full or a pipe closed is an error."""
        try:
            yield
        except OSError as error:
            if error.errno != errno.EIO:
                raise

    def fail(self, command: str, error: str, hint: str = "") -> None:
        """Print one line that says what went wrong; to machines also an object."""
        error = self.as_typed(error)
        line = " ".join(f"error: {error}{_after(hint)}".split())
        with self._heard():
            if self.display.json:
                self._object({"command": command, "ok": False, "error": error})
            if self._terminal:
                marked = _escape(_wrapped(line)).replace("error:", "[bold red]error:[/bold red]", 1)
                _rich(self._err).print(marked, highlight=False, soft_wrap=True)
            else:
                print(line, file=self._err, flush=True)

    def _object(self, value: Mapping[str, Any]) -> None:
        print(json.dumps(plain(value), ensure_ascii=False, allow_nan=False), file=self._out, flush=True)

    def _show(self, item: Table | str) -> None:
        if isinstance(item, str):
            item = self.as_typed(item)
            print(_wrapped(item) if self._out.isatty() else item, file=self._out, flush=True)
        elif self._out.isatty():
            _rich(self._out).print("", _rich_table(item), sep="\n")
        else:
            print("\n".join(item.lines()), file=self._out, flush=True)


def plain(value: Any) -> Any:
    """Reduce to what JSON knows: paths become text, numbers that are none become null, arrays lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def _after(text: str) -> str:
    return f"; {text}" if text else ""


def _wrapped(line: str) -> str:
    """Break a line longer than the terminal is wide between words; what has lines of its own stays as it is."""
    if "\n" in line:
        return line
    return textwrap.fill(
        line,
        shutil.get_terminal_size().columns,
        subsequent_indent=" " * (2 + len(line) - len(line.lstrip())),
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _rich(stream: TextIO) -> Any:
    from rich.console import Console as RichConsole

    return RichConsole(file=stream)


def _rich_table(table: Table) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable

    shown = RichTable(
        title=table.title or None,
        title_justify="left",
        title_style="bold",
        header_style="dim",
        show_header=any(table.columns),
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for index, name in enumerate(table.columns):
        shown.add_column(name, justify="left" if index == 0 or table.words else "right", overflow="fold")
    for index, row in enumerate(table.rows):
        last = table.summary and index == len(table.rows) - 1
        shown.add_row(*map(_escape, row), style="bold" if last else None)
    shown.caption = table.note or None
    shown.caption_justify = "left"
    return shown
