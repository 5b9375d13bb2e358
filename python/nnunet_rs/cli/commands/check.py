"""`check`: every problem of a dataset."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rs.cli import planning, shared
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome
from nnunet_rs.core.text import counted
from nnunet_rs.core.workspace import DATASET_JSON

if TYPE_CHECKING:
    from nnunet_rs.core.issues import Issue


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `check` takes."""
    shared.add_data(parser, "dataset folder, Decathlon or nnU-Net raw layout")
    shared.add_resources(parser)


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """List every problem of a dataset."""
    from nnunet_rs.core.check import check_dataset
    from nnunet_rs.core.dataset import read_dataset
    from nnunet_rs.core.issues import fatal
    from nnunet_rs.core.resources import processors
    from nnunet_rs.data.patients import grouping_hint
    from nnunet_rs.report.tables import issues_table

    _require_dataset(arguments.data)
    dataset = read_dataset(arguments.data, os.environ)
    issues = check_dataset(dataset, console, arguments.threads or processors(), arguments.memory)
    hint = grouping_hint([case.name for case in dataset.training])
    errors = fatal(issues)
    faulty = {issue.case for issue in errors if issue.case}
    cases = len(faulty | {case.name for case in dataset.training})
    found = [planning.issue_json(issue) for issue in issues]
    result = {
        "dataset": dataset.name,
        "layout": dataset.layout,
        "cases": cases,
        "faulty": sorted(faulty),
        "issues": found,
        "faults": found,  # what the key was called before
        "notes": [hint] if hint else [],
    }
    table = (issues_table(dataset.root, issues),) if issues else ()
    notes = (f"note: {hint}",) if hint else ()
    verdict = _verdict(dataset.name, cases, len(faulty), issues)
    return Outcome(result, (*table, *notes, verdict), 1 if errors else 0)


def _require_dataset(folder: Path) -> None:
    """Tell a folder of DICOM that is no dataset which command lists its series."""
    from nnunet_rs.core.dicom.folders import is_dicom_input
    from nnunet_rs.core.errors import DatasetError

    if not (folder / DATASET_JSON).is_file() and is_dicom_input([folder]):
        raise DatasetError(
            f"{folder}: holds DICOM and no {DATASET_JSON}; `nnunet-rs dicom {folder}` lists its series and what is "
            "wrong with them, -o makes a dataset of them"
        )


def _verdict(name: str, cases: int, faulty: int, issues: tuple[Issue, ...]) -> str:
    errors = sum(issue.fatal for issue in issues)
    there, notes = counted(cases, "training case"), counted(len(issues) - errors, "warning")
    if not errors:
        return f"{name} is valid: {there}, {notes}"
    skip = "; preprocess --skip-faulty leaves them out" if 0 < faulty < cases else ""
    unusable = f"{faulty or 'none'} of them unusable"
    return f"{name} has problems: {there}, {unusable}, {counted(errors, 'error')}, {notes}{skip}"


COMMAND = Command(
    name="check",
    group="prepare",
    summary="every problem of a dataset, with file, rule and value",
    usage="DATA [options]",
    description="Read every file of a dataset once and report all that would go wrong later, and what to do. "
    "The exit code is 1 if there is an error.",
    examples=("nnunet-rs check Task04_Hippocampus", "nnunet-rs check Dataset027_ACDC --json | jq .issues"),
    add_arguments=_add_arguments,
    run=_run,
)
