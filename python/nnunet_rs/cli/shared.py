"""What several commands share: groups of options, and what becomes of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_rs.cli import nnunet, values
from nnunet_rs.cli.console import Outcome
from nnunet_rs.core.choices import EngineName, Precision, names
from nnunet_rs.core.text import counted
from nnunet_rs.core.workspace import DATASET_JSON, PREDICTION_JSON

if TYPE_CHECKING:
    from nnunet_rs.model.nnunet_models import NnunetChoice
    from nnunet_rs.predict.results import FolderResult

OWN = "your own as MODULE:FUNCTION or FILE.py:FUNCTION"
FINAL, BEST = "checkpoint_final.pth", "checkpoint_best.pth"


def listed(kind: Any) -> str:
    """Write the names of a kind after another, for help."""
    return ", ".join(names(kind))


def add_display(parser: argparse.ArgumentParser) -> None:
    """Add what every command takes."""
    group = parser.add_argument_group("display")
    group.add_argument("--json", action="store_true", help="print the result as one JSON object on standard output")
    group.add_argument(
        "-q",
        "--quiet",
        "--disable_progress_bar",
        action="store_true",
        help="only the result: no progress, no remarks",
    )
    group.add_argument("-v", "--verbose", action="store_true", help="show tracebacks and the libraries' warnings")


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """Add nnU-Net's way to name a dataset."""
    parser.add_argument(
        "-d",
        "--dataset",
        metavar="ID",
        help="instead of folders: a dataset's number or name, found by nnU-Net's environment variables",
    )


def add_work(parser: argparse.ArgumentParser, text: str) -> None:
    """Add the work folder."""
    parser.add_argument("work", metavar="WORK", type=Path, nargs="?", help=text)
    add_dataset(parser)


def add_data(parser: argparse.ArgumentParser, text: str) -> None:
    """Add the dataset's folder."""
    parser.add_argument("data", metavar="DATA", type=Path, nargs="?", help=text)
    add_dataset(parser)


def add_predicted(parser: Any) -> None:
    """Add what belongs to a folder of segmentations."""
    text = "folder of the images, or the one image (default: those that predict recorded)"
    parser.add_argument("-i", "--images", metavar="IMAGES", type=Path, help=text)
    text = f"names labels and channels (default: {PREDICTION_JSON}, else a {DATASET_JSON} beside, else the values)"
    parser.add_argument("--dataset-json", metavar="FILE", type=Path, help=text)


def add_device(group: Any, more: str = "") -> None:
    """Add where networks compute."""
    group.add_argument(
        "--device",
        "-device",
        metavar="D",
        default="auto",
        help="cpu, cuda, cuda:1, mps or auto (the default: the best there is)" + more,
    )


def add_overwrite(parser: Any, more: str = "") -> None:
    """Add what becomes of files that are there."""
    text = "files that are not this tool's, or were edited, are kept in the folder `previous` instead of refused"
    parser.add_argument("--overwrite", action="store_true", help=more + text)


def add_resources(parser: argparse.ArgumentParser) -> None:
    """Add memory and threads."""
    group = parser.add_argument_group("resources")
    group.add_argument(
        "--memory",
        metavar="SIZE",
        type=values.size,
        help="keep below this much memory, as in 8G (default: most of what is free)",
    )
    add_threads(group)


def add_threads(group: Any) -> None:
    """Add threads."""
    group.add_argument(
        "-j",
        "--threads",
        metavar="N",
        type=values.count,
        help="threads to use (default: all processors of this process)",
    )
    group.add_argument("-np", action=nnunet.Processes, type=values.count, nargs="+", help=argparse.SUPPRESS)


def add_engine(group: Any) -> None:
    """Add what computes networks."""
    group.add_argument(
        "--engine",
        choices=names(EngineName),
        default="auto",
        help="what computes the networks: PyTorch, or OpenVINO on processors (default: auto, the faster one)",
    )


def add_precision(group: Any) -> None:
    """Add the number type of convolutions."""
    group.add_argument(
        "--precision",
        choices=names(Precision),
        default="auto",
        help="of convolutions (default: auto, bfloat16 or float16 where the device is made for it)",
    )


def add_own_network(parser: argparse.ArgumentParser) -> None:
    """Add the function that built a model's network."""
    parser.add_argument(
        "--network", metavar="MODULE:FUNCTION", help="of models trained with --network: the same function"
    )


def add_nnunet_choice(parser: argparse.ArgumentParser) -> None:
    """Add which of the models that nnU-Net left in a folder."""
    group = parser.add_argument_group("models of nnU-Net v2", "Which of several that lie in one folder.")
    group.add_argument("--trainer", "-tr", metavar="NAME", help="as nnUNetTrainer (default: the only one there is)")
    group.add_argument("--plans-name", "-p", metavar="NAME", help="as nnUNetPlans (default: the only one there is)")
    group.add_argument(
        "--checkpoint",
        "-chk",
        metavar="FILE",
        default=FINAL,
        help=f"final (default), best, or a file's name, as {FINAL}; best also of models of this program that were "
        "trained with --keep-best",
    )


def nnunet_choice(arguments: argparse.Namespace) -> NnunetChoice:
    """Return which of nnU-Net's models were asked for."""
    from nnunet_rs.model.nnunet_models import NnunetChoice

    named = {"final": FINAL, "best": BEST}
    checkpoint = named.get(arguments.checkpoint, arguments.checkpoint) or FINAL
    return NnunetChoice(arguments.trainer, arguments.plans_name, checkpoint)


def add_configurations(parser: Any, text: str) -> None:
    """Add which configurations."""
    parser.add_argument("-c", "--configuration", metavar="CONFIG", nargs="+", action="extend", help=text)


def add_folds(parser: Any, text: str) -> None:
    """Add which folds."""
    parser.add_argument("-f", "--fold", metavar="FOLD", type=values.fold, nargs="+", help=text)


def require_folder(output: Path, what: str) -> None:
    """Check that a place for several files is not named as one file is; `what` they are."""
    from nnunet_rs.core.errors import DatasetError
    from nnunet_rs.core.io import can_read

    if can_read(output) and not output.is_dir():
        raise DatasetError(f"{output}: names one file; name a folder for the {what}")


def written(output: Path, result: FolderResult) -> Outcome:
    """Report what lies in a folder of segmentations now."""
    skipped = f", {len(result.skipped)} were done before" if result.skipped else ""
    line = f"{counted(len(result.written), 'segmentation')} written to {output}{skipped}"
    return Outcome({"output": output, "written": result.written, "skipped": result.skipped}, (line,))
