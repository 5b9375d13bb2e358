"""How far a task is: counted, as a bar on a terminal and as lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nnunet_rs.core.text import clock

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress as Bars
    from rich.progress import Task as RichTask
    from rich.text import Text

SECONDS_BETWEEN_LINES = 10.0
_EPSILON = 1e-6  # parts of a unit do not add up to one exactly


@dataclass(slots=True)
class Count:
    """A task as lines: says where it stands at most every few seconds, and when it is done."""

    name: str
    total: float
    say: Callable[[str], None]
    timed: bool = False  # units are seconds
    done: float = 0.0
    note: str = ""
    begun: float = field(default_factory=lambda: time.monotonic())
    said: float = field(default_factory=lambda: time.monotonic())
    lock: threading.Lock = field(default_factory=threading.Lock)

    def advance(self, count: float = 1, note: str = "") -> None:
        """Count; say so when the last line is some time ago."""
        with self.lock:
            self.done += count
            self.note = note or self.note
            if time.monotonic() - self.said < SECONDS_BETWEEN_LINES:
                return
            self.said = time.monotonic()
        self.say(f"{self.name}: {self.stands()}{self._speed()}{after(self.note)}")

    def stands(self, joined: str = " of ") -> str:
        """Say how much is done: whole units, though parts of one count; or time."""
        if self.timed:
            return f"{clock(self.done)} of {clock(self.total)}"
        return f"{int(self.done + _EPSILON)}{joined}{self.total:.0f}"

    def finish(self) -> str:
        """Sum the task up."""
        spent = clock(time.monotonic() - self.begun)
        return f"{self.name}: {spent}" if self.timed else f"{self.name}: {self.done:.0f} in {spent}"

    def _speed(self) -> str:
        """Say how fast it goes, and how long it will; of time both are known."""
        if self.timed:
            return ""
        spent = self.said - self.begun
        left = f", {clock((self.total - self.done) * spent / self.done)} left" if 0 < self.done <= self.total else ""
        return f", {rate(self.done, spent)}{left}"


@dataclass(slots=True)
class Bar:
    """A task as a bar."""

    bars: Bars
    key: Any
    count: Count

    def advance(self, count: float = 1, note: str = "") -> None:
        """Move the bar."""
        with self.count.lock:
            self.count.done += count
            self.count.note = note or self.count.note
        self.bars.update(self.key, advance=count, note=self.count.note)


def rate(done: float, seconds: float) -> str:
    """Show a speed as 12/s, or 3.4 s each where that says more."""
    if done <= 0 or seconds <= 0:
        return "-"
    each = seconds / done
    return f"{each:.1f} s each" if each > 1 else f"{1 / each:.3g}/s"


def make_bars(console: RichConsole) -> Bars:
    """Return the live display of all bars."""
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    from rich.table import Column
    from rich.text import Text

    class Speed(ProgressColumn):
        """Units a second, or seconds a unit, and the time left."""

        def render(self, task: RichTask) -> Text:
            if task.fields["count"].timed or not task.speed:
                return Text("")
            left = "" if task.time_remaining is None else f", {clock(task.time_remaining)} left"
            return Text(f"{rate(1, 1 / task.speed)}{left}", style="cyan")

    class Count(ProgressColumn):
        """How much is done."""

        def render(self, task: RichTask) -> Text:
            return Text(task.fields["count"].stands("/"))

    class Note(ProgressColumn):
        """What is being done: cut off where the line ends."""

        def render(self, task: RichTask) -> Text:
            return Text(task.fields["note"], style="dim", no_wrap=True, overflow="ellipsis")

    def whole() -> Column:
        return Column(no_wrap=True)

    columns = (
        TextColumn("{task.description}", markup=False, table_column=whole()),
        BarColumn(bar_width=20, table_column=whole()),
        Count(table_column=whole()),
        Speed(table_column=whole()),
        Note(),
    )
    return Progress(*columns, console=console, speed_estimate_period=60, transient=True)


def after(text: str) -> str:
    """Add something to a line, if there is anything."""
    return f"; {text}" if text else ""
