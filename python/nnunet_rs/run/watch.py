"""The page of a work folder while its trainings run: what changed in their files, and how far each of them is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from nnunet_rs.core.locks import holder_of
from nnunet_rs.core.text import clock
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.report.blocks import Block, Section, Text
from nnunet_rs.report.tables import Table, number
from nnunet_rs.run.cohort.board import WORKERS
from nnunet_rs.run.cohort.files import cohorts_of
from nnunet_rs.run.cohort.status import CohortStatus
from nnunet_rs.run.status import ModelStatus, work_status

_FAILURES = 20  # cases that are listed
_NOTHING = "–"  # in the table; columns that hold nothing else are left out
Signature = tuple[tuple[str, int], ...]


def changes(work: Path, every: float, sleep: Callable[[float], None] = time.sleep) -> Iterator[tuple[ModelStatus, ...]]:
    """Yield how far the models are: at once, and again whenever a file of theirs has changed; without an end.

    Parameters
    ----------
    work
        The work folder. Its files are read; nothing is written.
    every
        Seconds between two looks.

    Raises
    ------
    PlanError, DatasetError
        As `work_status`.
    """
    before: Signature | None = None
    while True:
        now = _signature(work)
        if now != before:
            yield work_status(work)
        before = now
        sleep(every)


def _signature(work: Path) -> Signature:
    """Return the state of the files that a page uses, without reading them; a lock that comes or goes counts too."""
    folder = WorkFolder(work)
    files = [folder.plan_file, folder.best_file]
    found = []
    for model in (model for name in folder.configurations() for model in folder.models(name)):
        files += [model.metrics_file, model.metadata_file, model.summary_file, model.next_cycle.metrics_file]
        found.append((str(model.path), int(holder_of(model.path) is not None)))
    files += [file for each in cohorts_of(work) for file in (each.path / WORKERS).glob("*")]
    for file in files:
        with suppress(OSError):
            found.append((str(file), file.stat().st_mtime_ns))
    return tuple(found)


def live_section(models: tuple[ModelStatus, ...], cohorts: Sequence[CohortStatus] = ()) -> Section:
    """Show how far the models are, those at work first, and cases that a cluster does."""
    return Section("now", "Now", (*_blocks(models), *_cohort_blocks(cohorts)))


def cohort_section(cohorts: Sequence[CohortStatus]) -> Section:
    """Show how far the cases are that a cluster does."""
    return Section("cluster", "On the cluster", tuple(_cohort_blocks(cohorts)))


def _cohort_blocks(cohorts: Sequence[CohortStatus]) -> Iterator[Block]:
    if cohorts:
        head = ("work", "state", "done", "failed", "in hand", "waiting", "an hour", "left")
        yield Table("Cases", head, tuple(map(_cohort_row, cohorts)), "An hour: by the last cases of each worker.")
    failures = [(each.kind, case.name, case.reason) for each in cohorts for case in each.failures]
    if failures:
        more = f"The first {_FAILURES} of {len(failures)}." if len(failures) > _FAILURES else ""
        yield Table("Cases that failed", ("work", "case", "reason"), tuple(failures[:_FAILURES]), more)


def _cohort_row(each: CohortStatus) -> tuple[str, ...]:
    counts = (each.failed, each.running, each.waiting)
    hourly = "–" if each.rate is None else f"{each.rate * 3600:.3g}"
    left = "–" if each.seconds_left is None else clock(each.seconds_left)
    return (each.kind, each.state, f"{each.done} of {each.count}", *map(str, counts), hourly, left)


def _blocks(models: tuple[ModelStatus, ...]) -> Iterator[Block]:
    running = [model for model in models if model.state == "running"]
    lefts = [model.seconds_left for model in running if model.seconds_left is not None]
    if running:
        left = f"; {clock(max(lefts))} are left to the one that takes longest" if lefts else ""
        yield Text(
            f"{len(running)} of {len(models)} models {'is' if len(running) == 1 else 'are'} being trained{left}."
        )
    else:
        yield Text("No training is running.")
    order = sorted(models, key=lambda model: (model.state != "running", model.state in ("waiting", "done")))
    rows = tuple(_row(model) for model in order)
    head = ("model", "state", "epochs", "left", "Dice", "where", "note")
    told = [place for place in range(len(head)) if any(row[place] != _NOTHING for row in rows)]
    note = "Dice: of held-out cases where they are scored, else of validation patches."
    yield Table("Every model", _of(head, told), tuple(_of(row, told) for row in rows), note)


def _of(row: tuple[str, ...], places: list[int]) -> tuple[str, ...]:
    return tuple(row[place] for place in places)


def _row(model: ModelStatus) -> tuple[str, ...]:
    epochs = f"{model.epochs} of {model.of}" if model.of else str(model.epochs) if model.epochs else _NOTHING
    left = _NOTHING if model.seconds_left is None else clock(model.seconds_left)
    return (
        model.name,
        model.state,
        epochs,
        left,
        _NOTHING if model.dice is None else number(model.dice),
        model.where or _NOTHING,
        model.note or _NOTHING,
    )
