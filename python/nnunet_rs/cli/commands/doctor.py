"""`doctor`: what this machine offers, what is installed."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `doctor` takes."""
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        type=Path,
        nargs="?",
        default=Path(),
        help="where work folders will lie (default: .)",
    )


def _run(arguments: argparse.Namespace, _: Console) -> Outcome:
    """Look at the machine and the installation."""
    from nnunet_rs.cli.installation import examine

    found = examine(arguments.folder, os.environ)
    missing = [f"missing: {text}" for text in found.missing]
    advice = [f"advice: {text}" for text in found.advice]
    verdict = "something is missing" if missing else "everything is there"
    return Outcome(found.to_json(), (found.table(), *missing, *advice, verdict), 1 if missing else 0)


COMMAND = Command(
    name="doctor",
    group="other",
    summary="what this system offers, what is installed, what is missing",
    usage="[FOLDER] [options]",
    description="Show versions, devices, threads, memory, instruction sets and the speed of a folder's disk, and "
    "what to fix. The exit code is 1 if something is missing.",
    examples=("nnunet-rs doctor", "nnunet-rs doctor /scratch --json"),
    add_arguments=_add_arguments,
    run=_run,
)
