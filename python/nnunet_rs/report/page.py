"""A work folder as one page to look at: everything in a single file that asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any

from nnunet_rs.core.files import write_bytes
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.report.blocks import Cover, Section
from nnunet_rs.report.charts import named_apart
from nnunet_rs.report.sections.cases import CasesShown, cases_section
from nnunet_rs.report.sections.choice import choice_section
from nnunet_rs.report.sections.cover import best_scored, cover
from nnunet_rs.report.sections.dataset import dataset_section
from nnunet_rs.report.sections.planning import plan_section
from nnunet_rs.report.sections.provenance import provenance_section
from nnunet_rs.report.sections.scores import scores_section
from nnunet_rs.report.sections.training import training_section
from nnunet_rs.report.steps import Step, missing_steps
from nnunet_rs.report.workfolder import WorkContents, read_work_folder


@dataclass(frozen=True, slots=True)
class Report:
    """A page that was written."""

    path: Path
    bytes: int
    title: str
    figures: Mapping[str, Any]  # the main ones, for machines
    steps: tuple[Step, ...]  # what is missing, and what makes it
    remarks: tuple[str, ...]  # what is damaged or no longer where it was


@dataclass(frozen=True, slots=True)
class Live:
    """What a page tells of work that is going on."""

    section: Section  # the first of the page
    refresh: int  # seconds after which the page loads itself anew; 0: not any more
    watched: bool = True  # the page is written again and again


def write_report(
    work: Path,
    path: Path,
    shown: CasesShown | None = None,
    progress: Progress | None = None,
    live: Live | None = None,
) -> Report:
    """Write the report of a work folder, at whatever stage its work is.

    Parameters
    ----------
    work
        The work folder; it holds a plan at least.
    path
        The HTML file to write, atomically.
    shown
        How many cases and slices the page holds.
    progress
        Shows each case as it is drawn.
    live
        Of a page that is written again and again.

    Raises
    ------
    PlanError
        There is no plan, or it cannot be read.
    NnunetError
        The file cannot be written. What else is missing or damaged is reported on the page.
    """
    progress = progress or Silent()
    found = read_work_folder(work)
    steps = missing_steps(found)
    head = cover(found, steps)
    sections = (
        *(() if live is None else (live.section,)),
        dataset_section(found, steps),
        plan_section(found),
        training_section(found, steps),
        scores_section(found, steps),
        cases_section(found, steps, shown or CasesShown(), progress),
        choice_section(found, steps),
        provenance_section(found),
    )
    command = f"nnunet-rs report {shlex.quote(str(work))}{' --watch' if live is not None and live.watched else ''}"
    page = render_page(head, sections, command, 0 if live is None else live.refresh).encode()
    write_bytes(path, page)
    return Report(path, len(page), head.title, _main_figures(found), steps, head.remarks)


def render_page(head: Cover, sections: tuple[Section, ...], command: str, refresh: int = 0) -> str:
    """Lay out the page; every text is escaped, and nothing but the page's own script may run or be loaded.

    `refresh` is after how many seconds it loads itself anew; 0: never.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("nnunet_rs.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["times"] = lambda text: re.sub(r"(?<=\d) [x×] (?=\d)", "\u00a0×\u00a0", text)
    drawings = count()
    environment.filters["apart"] = lambda svg: named_apart(svg, next(drawings))
    environment.filters["kind"] = lambda block: type(block).__name__.lower()
    folder = files("nnunet_rs.report") / "templates"
    script, style = (folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    return environment.get_template("page.html").render(
        cover=head,
        sections=sections,
        command=command,
        refresh=refresh,
        script=script,
        style=style,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        made=datetime.now(timezone.utc),
    )


def _main_figures(work: WorkContents) -> dict[str, Any]:
    """Gather what a machine asks a report for first."""
    scored, best = work.validated(), best_scored(work)
    return {
        "dataset": work.plan.dataset,
        "recipe": work.plan.recipe,
        "cases": len(work.names),
        "configurations": list(work.plan.configurations),
        "prepared": {name: len(cases) for name, cases in work.prepared.items()},
        "trained": [
            {"configuration": t.configuration, "fold": t.fold, "finished": t.metadata is not None}
            for t in work.trainings
        ],
        "dice": {name: summary.foreground_mean() for name, summary in scored.items()},
        "best_configuration": best[0] if best else None,
        "chosen": list(work.choice.configurations) if work.choice else None,
        "training_seconds": sum(epoch.seconds for t in work.trainings for epoch in t.history.epochs),
    }
