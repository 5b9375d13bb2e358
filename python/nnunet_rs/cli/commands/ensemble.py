"""`ensemble`: average saved probabilities."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_rs.cli import shared
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome, UsageError


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `ensemble` takes."""
    parser.add_argument("folders", metavar="FOLDER", type=Path, nargs="*", help="written with --save-probabilities")
    parser.add_argument(
        "-i", "--input", metavar="FOLDER", type=Path, nargs="+", help="the same folders, as nnU-Net's scripts name them"
    )
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="folder for segmentations")
    shared.add_overwrite(parser, "average again what is there already; ")
    shared.add_threads(parser)


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Average saved probabilities."""
    from nnunet_rs.select.ensemble_folders import ensemble_folders

    folders = [*arguments.folders, *(arguments.input or ())]
    if not folders:
        raise UsageError("ensemble needs the folders that predict --save-probabilities wrote")
    shared.require_folder(arguments.output, "segmentations")
    result = ensemble_folders(folders, arguments.output, console, arguments.threads, overwrite=arguments.overwrite)
    return shared.written(arguments.output, result)


COMMAND = Command(
    name="ensemble",
    group="predict and evaluate",
    summary="average saved probabilities of several predictions",
    usage="FOLDER FOLDER ... -o OUT [options]",
    description="Average the probabilities that predict --save-probabilities wrote and write the segmentations.",
    examples=("nnunet-rs ensemble flat solid -o both",),
    add_arguments=_add_arguments,
    run=_run,
)
