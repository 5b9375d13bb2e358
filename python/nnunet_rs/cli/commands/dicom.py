"""`dicom`: the series in a folder, and what each would become; a dataset made of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_rs.cli import shared
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome
from nnunet_rs.core.text import counted
from nnunet_rs.core.workspace import DATASET_JSON

if TYPE_CHECKING:
    from nnunet_rs.core.dicom.series import Found
    from nnunet_rs.core.issues import Issue
    from nnunet_rs.exchange.dicom.dataset import LabelledSeries


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `dicom` takes."""
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="folder, zip or file of DICOM, however nested")
    text = "make a dataset in nnU-Net's raw layout of the series and the SEG and RTSTRUCT files of them"
    parser.add_argument("-o", "--output", metavar="DATASET", type=Path, help=text)
    text = "take series of this modality only, as CT or MR"
    parser.add_argument("--modality", metavar="NAME", help=text)
    text = "take these structures only, by name (default: all that SEG and RTSTRUCT files hold)"
    parser.add_argument("--labels", metavar="NAME", nargs="+", action="extend", help=text)
    shared.add_overwrite(parser)


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """List series, or convert them."""
    from nnunet_rs.core.dicom.reader import opened
    from nnunet_rs.core.dicom.series import find_series
    from nnunet_rs.core.errors import DatasetError
    from nnunet_rs.exchange.dicom.dataset import link

    with opened(arguments.folder) as folder:
        found = find_series(folder)
        cases, issues = link(found)
        if arguments.modality:
            cases = tuple(one for one in cases if one.series.origin.modality == arguments.modality)
        outcome = _listed(arguments.folder, cases, found, issues)
        if arguments.output is None:
            return outcome
        if not cases:
            raise DatasetError(f"{arguments.folder}: holds no such series; `nnunet-rs dicom` without -o lists them")
        return _converted(arguments, cases, outcome, console)


def _converted(
    arguments: argparse.Namespace, cases: tuple[LabelledSeries, ...], listed: Outcome, console: Console
) -> Outcome:
    from nnunet_rs.exchange.dicom.dataset import convert

    keep, output = tuple(arguments.labels or ()), arguments.output
    done = convert(cases, output, console, keep=keep, overwrite=arguments.overwrite)
    names = [] if done.labels is None else list(done.labels.names[1:])
    result = {
        **listed.result,
        "output": output,
        "training": done.training,
        "test": done.test,
        "labels": names,
        "refused": [_issue(issue) for issue in done.refused],
    }
    lines = [*(f"refused: {issue}" for issue in done.refused)]
    lines.append(
        f"{counted(len(done.training), 'case')} with labels and {len(done.test)} without written to {output}"
        + (f", labels: {', '.join(names)}" if names else "")
    )
    if not done.training:
        lines.append(f"no {DATASET_JSON}: no SEG or RTSTRUCT file belongs to these series")
    return Outcome(result, tuple(lines), 1 if done.refused else 0)


def _listed(root: Path, cases: tuple[LabelledSeries, ...], found: Found, issues: tuple[Issue, ...]) -> Outcome:
    """Show the series, the files of labels without one, and what is left out."""
    from nnunet_rs.core.issues import fatal
    from nnunet_rs.report.tables import Table

    rows = []
    for case in cases:
        series = case.series
        z, y, x = series.stack.shape
        wrong = fatal(series.issues)
        rows.append(
            (
                series.name,
                series.origin.modality,
                " ".join(filter(None, (series.origin.description, series.part and f"({series.part})"))),
                f"{x} x {y} x {z}",
                " x ".join(f"{size:.4g}" for size in reversed(series.stack.spacing)),
                ", ".join(path.name for path in case.labels) or "-",
                f"refused: {wrong[0].rule}: {wrong[0].value}" if wrong else "an image",
            )
        )
    columns = ("case", "modality", "description", "voxels", "mm", "labels", "becomes")
    title = f"{root}: {counted(len(cases), 'image')}"
    table = (Table(title, columns, tuple(rows), words=True),) if rows else (f"{title}",)
    remarks = list(dict.fromkeys(issue for case in cases for issue in case.series.issues if not issue.fatal))
    lines = [f"warning: {issue}" for issue in (*remarks, *issues)]
    lines += [f"left out: {issue.file}: {issue.rule}: {issue.value}" for issue in _no_labels(found)]
    if found.others:
        from nnunet_rs.core.text import examples

        shown = examples([path.name for path in found.others])
        lines.append(f"left out: {counted(len(found.others), 'file')} of other kinds: {shown}")
    result = {
        "series": [_series(case) for case in cases],
        "warnings": [_issue(issue) for issue in (*remarks, *issues)],
        "left_out": [_issue(issue) for issue in _no_labels(found)],
        "others": list(found.others),
    }
    return Outcome(result, (*table, *lines), 0 if cases else 1)


def _no_labels(found: Found) -> list[Issue]:
    return [issue for issue in found.left_out if issue.file not in found.labels]


def _series(case: LabelledSeries) -> dict[str, Any]:
    from nnunet_rs.core.issues import fatal

    series, stack = case.series, case.series.stack
    return {
        "case": series.name,
        "modality": series.origin.modality,
        "description": series.origin.description,
        "part": series.part,
        "folder": series.place,
        "files": len(series.files),
        "shape": list(stack.shape),
        "spacing": list(stack.spacing),
        "labels": list(case.labels),
        "refused": [_issue(issue) for issue in fatal(series.issues)],
    }


def _issue(issue: Issue) -> dict[str, Any]:
    return {"file": issue.file, "rule": issue.rule, "value": issue.value, "advice": issue.advice}


COMMAND = Command(
    name="dicom",
    group="prepare",
    summary="the series in a folder of DICOM, and a dataset made of them",
    usage="FOLDER [-o DATASET] [options]",
    description="List the series that a folder or zip holds, what each would become and why one is refused, and which "
    "files are left out. -o converts them, with the SEG and RTSTRUCT files that belong to them, to a dataset in "
    "nnU-Net's raw layout.",
    examples=(
        "nnunet-rs dicom exports",
        "nnunet-rs dicom exports -o Dataset042_Liver --modality CT --labels liver tumour",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
