"""`dicom`: the series in a folder, and what each would become; a dataset made of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_rs.cli import dicom, shared
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome, UsageError
from nnunet_rs.core.text import counted, examples
from nnunet_rs.core.workspace import DATASET_JSON

if TYPE_CHECKING:
    from nnunet_rs.core.dicom.series import Found
    from nnunet_rs.core.issues import Issue
    from nnunet_rs.exchange.dicom.choice import SeriesChoice
    from nnunet_rs.exchange.dicom.dataset import Converted, LabelledSeries


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `dicom` takes."""
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="folder, zip or file of DICOM, however nested")
    text = "make a dataset in nnU-Net's raw layout of the series and the SEG and RTSTRUCT files of them"
    parser.add_argument("-o", "--output", metavar="DATASET", type=Path, help=text)
    text = "take series of this modality only, as CT or MR"
    parser.add_argument("--modality", metavar="NAME", help=text)
    text = "take these structures only, by name (default: all that SEG and RTSTRUCT files hold)"
    parser.add_argument("--labels", metavar="NAME", nargs="+", action="extend", help=text)
    dicom.add_channels(parser)
    text = "write the series as CSV, to say in it which is which channel of which case (--series-table)"
    parser.add_argument("--write-table", metavar="FILE", type=Path, help=text)
    text = "show paths as they are; else folders and files that are named after the patient are shown as ***"
    parser.add_argument("--show-paths", action="store_true", help=text)
    shared.add_overwrite(parser)


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """List series, or convert them."""
    from nnunet_rs.core.dicom.reader import opened
    from nnunet_rs.core.dicom.series import find_series
    from nnunet_rs.exchange.dicom.dataset import link

    choice = dicom.choice_of(arguments)
    if choice.is_made and arguments.output is None:
        raise UsageError("--channels and --series-table make cases of a dataset: name its folder (-o)")
    with opened(arguments.folder) as folder:
        found = find_series(folder, named=arguments.folder, private=not arguments.show_paths)
        series, issues = link(found)
        if arguments.modality:
            series = tuple(one for one in series if one.series.origin.modality == arguments.modality)
        outcome = _listed(arguments.folder, series, found, issues)
        if arguments.write_table is not None:
            outcome = _with_table(arguments, series, outcome, console)
        return outcome if arguments.output is None else _converted(arguments, series, choice, outcome, console)


def _with_table(
    arguments: argparse.Namespace, series: tuple[LabelledSeries, ...], outcome: Outcome, console: Console
) -> Outcome:
    """Write the series as a table to fill in; a table that somebody filled in is not replaced."""
    from nnunet_rs.core.files import write_bytes
    from nnunet_rs.core.outputs import Outputs
    from nnunet_rs.exchange.dicom.series_table import write_table

    file: Path = arguments.write_table
    with Outputs(file.parent, kind="series-table", overwrite=arguments.overwrite, say=console.say) as outputs:
        outputs.require([file])
        with outputs.new_files(file.name) as folder:
            write_bytes(folder / file.name, write_table([one.series for one in series]).encode())
    line = (
        f"{counted(len(series), 'row')} written to {file}: fill in case and channel, then -o ... --series-table {file}"
    )
    return Outcome({**outcome.result, "table": file}, (*outcome.shown, line), outcome.code)


def _converted(
    arguments: argparse.Namespace,
    series: tuple[LabelledSeries, ...],
    choice: SeriesChoice,
    listed: Outcome,
    console: Console,
) -> Outcome:
    from nnunet_rs.core.errors import DatasetError
    from nnunet_rs.exchange.dicom.dataset import convert, single_cases, study_cases

    if not series:
        raise DatasetError(f"{arguments.folder}: holds no such series; `nnunet-rs dicom` without -o lists them")
    cases, channels = single_cases(series), tuple[str, ...]()
    lines = tuple[str, ...]()
    if choice.is_made:
        studies = choice.studies([one.series for one in series], arguments.folder)
        cases, channels = study_cases(studies, series), studies.channels
        if studies.rest:
            names = examples([one.name for one in studies.rest])
            lines = (f"left out: {len(studies.rest)} series of no channel: {names}",)
    keep = tuple(arguments.labels or ())
    done = convert(cases, arguments.output, console, channels=channels, keep=keep, overwrite=arguments.overwrite)
    return _told(done, arguments.output, listed, lines)


def _told(done: Converted, output: Path, listed: Outcome, lines: tuple[str, ...]) -> Outcome:
    names = [] if done.labels is None else list(done.labels.names[1:])
    result = {
        **listed.result,
        "output": output,
        "training": done.training,
        "test": done.test,
        "labels": names,
        "refused": [_issue(issue) for issue in done.refused],
    }
    count = f"{counted(len(done.training), 'case')} with labels and {len(done.test)} without written to {output}"
    lines = (
        *lines,
        *(f"refused: {f'{issue.case}: ' if issue.case else ''}{issue}" for issue in done.refused),
        count + (f", labels: {', '.join(names)}" if names else ""),
    )
    if not done.training:
        lines = (*lines, f"no {DATASET_JSON}: no SEG or RTSTRUCT file belongs to these series")
    return Outcome(result, lines, 1 if done.refused else 0)


def _listed(root: Path, cases: tuple[LabelledSeries, ...], found: Found, issues: tuple[Issue, ...]) -> Outcome:
    """Show the series, the files of labels without one, and what is left out."""
    from nnunet_rs.report.tables import Table

    columns = ("case", "modality", "description", "voxels", "mm", "labels", "becomes")
    title = f"{root}: {counted(len(cases), 'image')}"
    rows = tuple(_row(case) for case in cases)
    table = (Table(title, columns, rows, words=True),) if rows else (title,)
    remarks = list(dict.fromkeys(issue for case in cases for issue in case.series.issues if not issue.fatal))
    left = [issue for issue in found.left_out if not _is_labels(issue)]
    lines = [f"warning: {issue}" for issue in (*remarks, *issues)]
    lines += [f"left out: {issue.file}: {issue.rule}: {issue.value}" for issue in left]
    others = [found.shown.path(path) for path in found.others]
    if others:
        shown = examples([path.name for path in others])
        lines.append(f"left out: {counted(len(others), 'file')} of other kinds: {shown}")
    result = {
        "series": [_series(case) for case in cases],
        "warnings": [_issue(issue) for issue in (*remarks, *issues)],
        "left_out": [_issue(issue) for issue in left],
        "others": others,
    }
    return Outcome(result, (*table, *lines), 0 if cases else 1)


def _is_labels(issue: Issue) -> bool:
    from nnunet_rs.core.dicom.headers import LABELS

    return LABELS in issue.value


def _row(case: LabelledSeries) -> tuple[str, ...]:
    from nnunet_rs.core.issues import fatal

    series, wrong = case.series, fatal(case.series.issues)
    z, y, x = series.stack.shape
    return (
        series.name,
        series.origin.modality,
        " ".join(filter(None, (series.origin.description, series.part and f"({series.part})"))),
        f"{x} x {y} x {z}",
        " x ".join(f"{size:.4g}" for size in reversed(series.stack.spacing)),
        ", ".join(series.shown.path(path).name for path in case.labels) or "-",
        f"refused: {wrong[0].rule}: {wrong[0].value}" if wrong else "an image",
    )


def _series(case: LabelledSeries) -> dict[str, Any]:
    from nnunet_rs.core.issues import fatal

    series, stack = case.series, case.series.stack
    return {
        "case": series.name,
        "modality": series.origin.modality,
        "description": series.origin.description,
        "protocol": series.origin.protocol,
        "sequence": series.origin.sequence,
        "part": series.part,
        "folder": series.shown.path(series.place),
        "files": len(series.files),
        "shape": list(stack.shape),
        "spacing": list(stack.spacing),
        "labels": [series.shown.path(path) for path in case.labels],
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
    "nnU-Net's raw layout; of several channels where --channels or --series-table says which series they are.",
    examples=(
        "nnunet-rs dicom exports",
        "nnunet-rs dicom exports -o Dataset042_Liver --modality CT --labels liver tumour",
        "nnunet-rs dicom exports -o Dataset043_Brain --channels T1='*t1*,!*gd*' FLAIR='*flair*'",
        "nnunet-rs dicom exports --write-table series.csv",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
