"""What the commands take that bring models in from nnU-Net v2 and back."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nnunet_rs.cli import values
from nnunet_rs.cli.shared_options import add_overwrite

FORMATS = ("nnunet", "file")
FINAL = "checkpoint_final.pth"


def add_nnunet_choice(parser: argparse.ArgumentParser) -> None:
    """Add which of the models that nnU-Net left in a folder."""
    group = parser.add_argument_group("models of nnU-Net v2", "Which of several that lie in one folder.")
    group.add_argument("--trainer", "-tr", metavar="NAME", help="as nnUNetTrainer (default: the only one there is)")
    group.add_argument("--plans-name", "-p", metavar="NAME", help="as nnUNetPlans (default: the only one there is)")
    group.add_argument("--checkpoint", "-chk", metavar="FILE", default=FINAL, help=f"(default: {FINAL})")


def import_(parser: argparse.ArgumentParser) -> None:
    """Add what `import` takes."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        type=Path,
        help="nnU-Net's results of a dataset, one model's folder, a zip of nnUNetv2_export_model_to_zip, or a one-file "
        "model of ours",
    )
    parser.add_argument("-o", "--output", metavar="MODELS", type=Path, required=True, help="folder for the models")
    _add_which(parser)
    add_overwrite(parser)
    add_nnunet_choice(parser)


def export(parser: argparse.ArgumentParser) -> None:
    """Add what `export` takes."""
    parser.add_argument("models", metavar="MODELS", type=Path, help="a work folder, or a model folder")
    parser.add_argument(
        "-o",
        "--output",
        metavar="TARGET",
        type=Path,
        required=True,
        help="folder of results, or a .zip",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        required=True,
        help="nnunet: for nnU-Net v2's own commands; file: one checked archive, with a card to read",
    )
    parser.add_argument("--licence", metavar="FILE", type=Path, help="text that goes into the one-file model")
    _add_which(parser)
    add_overwrite(parser)


def _add_which(parser: Any) -> None:
    parser.add_argument(
        "-c",
        "--configuration",
        metavar="CONFIG",
        nargs="+",
        action="extend",
        help="these configurations (default: all that are there)",
    )
    parser.add_argument(
        "-f", "--fold", metavar="FOLD", type=values.fold, nargs="+", help="these folds (default: all that are there)"
    )
