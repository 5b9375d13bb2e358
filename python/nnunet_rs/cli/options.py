"""What each command takes: its arguments and options, in groups that all commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_rs.cli import nnunet, values
from nnunet_rs.cli.shared_options import (
    add_data,
    add_device,
    add_overwrite,
    add_own_network,
    add_precision,
    add_resources,
    add_threads,
    add_work,
)

RECIPES = "paper, v2, v2-resenc-m, v2-resenc-l, v2-resenc-xl"
TRAIN_RECIPES = "paper, v2, fast"
AUGMENTATIONS = "paper, paper-batchgenerators, v2, light, none"
LOSSES = "ce_dice, ce, dice"
OWN = "your own as MODULE:FUNCTION or FILE.py:FUNCTION"


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("plan", "What the rules decide, unless said here.")
    group.add_argument("--recipe", metavar="NAME", help=f"whose rules: {RECIPES} (default: paper)")
    group.add_argument(
        "--plans", metavar="FILE", type=Path, help="follow nnU-Net's plans.json, edited or not, instead of a recipe"
    )
    group.add_argument("-pl", action=nnunet.Planner, help=argparse.SUPPRESS)
    group.add_argument(
        "--vram",
        "-gpu_memory_target",
        metavar="GB",
        type=values.positive,
        help="plan for a device with this much memory",
    )
    group.add_argument(
        "--spacing", metavar="Z,Y,X", type=values.spacing, help="target spacing in mm, in the files' axis order"
    )
    group.add_argument(
        "-overwrite_target_spacing", action=nnunet.Spacing, type=values.positive, nargs=3, help=argparse.SUPPRESS
    )
    group.add_argument(
        "--patch-size", metavar="Z,Y,X", type=values.patch, help="patch size in voxels (two numbers: 2d only)"
    )
    group.add_argument("--batch-size", metavar="N", type=values.count, help="samples in a batch")
    group.add_argument("--features", metavar="N", type=values.count, help="feature maps of the first stage")


def _add_splits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("cases and folds")
    group.add_argument("--skip-faulty", action="store_true", help="leave cases with faults out instead of stopping")
    group.add_argument(
        "--groups",
        metavar="FILE|REGEX",
        help="cases of one group stay in one fold: a .csv of case and group, or a regular expression that finds the "
        "group in the case's name, as in 'patient[0-9]+'",
    )
    group.add_argument(
        "--strata", metavar="FILE", type=Path, help="spread strata evenly over folds: .csv of case and stratum"
    )


def demo(parser: argparse.ArgumentParser) -> None:
    """Add what `demo` takes."""
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, default=Path("demo"), help="where everything goes (default: demo)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=values.seed, default=0, help="another seed, other scans (default: 0)"
    )
    parser.add_argument(
        "--time-budget",
        metavar="TIME",
        type=values.duration,
        help="train for this long (default: 1350 batches, 4m at most)",
    )
    add_device(parser)


def check(parser: argparse.ArgumentParser) -> None:
    """Add what `check` takes."""
    add_data(parser, "dataset folder, Decathlon or nnU-Net raw layout")
    add_resources(parser)


def plan(parser: argparse.ArgumentParser) -> None:
    """Add what `plan` takes."""
    add_data(parser, "dataset folder; or use --fingerprint and --dataset-json")
    parser.add_argument(
        "-o", "--output", metavar="WORK", type=Path, help="work folder: fingerprint.json and plan.json go there"
    )
    parser.add_argument("--explain", action="store_true", help="print the rule and the numbers behind every choice")
    _add_splits(parser)
    _add_overrides(parser)
    group = parser.add_argument_group("nnU-Net's own files")
    group.add_argument("--fingerprint", metavar="FILE", type=Path, help="dataset_fingerprint.json")
    group.add_argument("--dataset-json", metavar="FILE", type=Path, help="dataset.json")
    group.add_argument(
        "--as-nnunet", metavar="FILE", type=Path, help="write the plan as nnU-Net v2 writes its plans.json"
    )
    add_overwrite(group)
    add_resources(parser)


def preprocess(parser: argparse.ArgumentParser) -> None:
    """Add what `preprocess` takes."""
    add_data(parser, "dataset folder, Decathlon or nnU-Net raw layout")
    parser.add_argument("-o", "--output", metavar="WORK", type=Path, help="work folder, made if it is not there")
    parser.add_argument(
        "-c",
        "--configuration",
        metavar="CONFIG",
        nargs="+",
        action="extend",
        help="prepare these configurations (default: all of the plan)",
    )
    parser.add_argument("--half", action="store_true", help="store images in half precision")
    parser.add_argument("--fresh", "--clean", action="store_true", help="make everything anew, whatever is there")
    _add_splits(parser)
    _add_overrides(parser)
    add_resources(parser)


def train(parser: argparse.ArgumentParser) -> None:
    """Add what `train` takes."""
    add_work(parser, "work folder of `nnunet-rs preprocess`")
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)  # nnU-Net's `train 27 3d_fullres 0`
    parser.add_argument("-c", "--configuration", metavar="CONFIG", help="2d, 3d_fullres, ... as in plan.json")
    parser.add_argument(
        "-f",
        "--fold",
        metavar="FOLD",
        type=values.fold,
        help="fold to leave out, from 0; all: none, one network of every case",
    )
    parser.add_argument("--folds", metavar="FOLD", type=values.fold, nargs="+", help="these folds in turn, or all")
    parser.add_argument(
        "--all",
        action="store_true",
        help="every configuration, every fold, a cascade's first stage before its second: what is finished stays, what "
        "was interrupted goes on; the options below hold for each model",
    )
    parser.add_argument(
        "--resume",
        "--c",
        action="store_true",
        help="go on where an interrupted training stopped, with its options; what is finished stays, and is scored",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="train anew what is finished or begun; the old model is kept aside"
    )
    _add_schedule(parser)
    _add_network(parser)
    group = parser.add_argument_group("resources")
    add_device(group, "; several models: cuda:0,cuda:1 trains one on each (auto: on every GPU)")
    add_threads(group)
    add_precision(group)
    group.add_argument("--compile", action="store_true", help="compile the network first (torch.compile)")
    parser.add_argument("--tensorboard", action="store_true", help="also record the epochs for TensorBoard")


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("schedule")
    group.add_argument(
        "--recipe",
        metavar="NAME",
        help=f"loss, optimiser, schedule and augmentation: {TRAIN_RECIPES} (default: paper or v2, as the plan)",
    )
    group.add_argument(
        "--learning-rate", metavar="R", type=values.positive, help="at the beginning, or at the peak of fast's cycle"
    )
    group.add_argument("--epochs", metavar="N", type=values.count, help="epochs at most")
    group.add_argument("--batches", metavar="N", type=values.count, help="batches an epoch")
    group.add_argument(
        "--time-budget",
        metavar="TIME",
        type=values.duration,
        help="be done within this time, held-out cases scored, as in 20m or 1h30; a line says how it is shared",
    )
    group.add_argument(
        "--pretrained",
        "-pretrained_weights",
        metavar="MODEL",
        help="begin with the weights of a model, this program's or nnU-Net's: those that fit",
    )
    group.add_argument(
        "--seed",
        metavar="N",
        type=values.seed,
        help="seed of weights, patches and augmentation (default: 0)",
    )
    group.add_argument("--loss", metavar="NAME", help=f"{LOSSES}, or {OWN}")
    group.add_argument("--optimiser", metavar="MODULE:FUNCTION", help="in place of the recipe's: " + OWN)
    group.add_argument("--augmentation", metavar="NAME", help=f"{AUGMENTATIONS}, or {OWN}")
    group.add_argument(
        "--mirror-axes",
        metavar="AXES",
        type=values.axes,
        help="mirror samples, and images in prediction, along these axes of the image only: none, all, or some of "
        "z,y,x or 0,1,2 (default: the augmentation's, all or none)",
    )


def _add_network(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("network", "What plan and recipe decide, unless said here.")
    group.add_argument("--batch-size", metavar="N", type=values.count, help="samples in a batch")
    group.add_argument("--features", metavar="N", type=values.count, help="feature maps of the first stage")
    group.add_argument("--activation", choices=("leaky_relu", "relu"), help="after each norm")
    group.add_argument("--norm", choices=("instance", "batch"), help="after each convolution")
    poolings = ("strided", "max_pool")
    group.add_argument("--pooling", dest="downsampling", choices=poolings, help="how resolution is halved")
    group.add_argument(
        "--deep-supervision",
        action=argparse.BooleanOptionalAction,
        help="a loss at every resolution of the decoder, or at the finest only",
    )
    group.add_argument("--network", metavar="MODULE:FUNCTION", help="another network: " + OWN)


def best(parser: argparse.ArgumentParser) -> None:
    """Add what `best` takes."""
    add_work(parser, "work folder with trained models")
    parser.add_argument(
        "-c",
        "--configuration",
        metavar="CONFIG",
        nargs="+",
        action="extend",
        help="choose among these (default: all that are trained)",
    )
    parser.add_argument(
        "-f",
        "--fold",
        metavar="FOLD",
        type=values.fold,
        nargs="+",
        help="score these folds (default: all that every configuration has)",
    )
    parser.add_argument("--no-pairs", "--disable_ensembling", action="store_true", help="single configurations only")
    parser.add_argument("--no-mirror", action="store_true", help="no mirrored passes: faster, a little less accurate")
    add_own_network(parser)
    group = parser.add_argument_group("resources")
    add_device(group)
    add_threads(group)
    add_precision(group)


def report(parser: argparse.ArgumentParser) -> None:
    """Add what `report` takes."""
    add_work(parser, "work folder, at any stage from its plan on")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="the page to write (default: report.html in WORK)"
    )
    cases = "cases to scroll through, best to worst (default: 3)"
    parser.add_argument("--cases", metavar="N", type=values.count, default=3, help=cases)
    parser.add_argument(
        "--slices", metavar="N", type=values.count, default=40, help="slices of a case at most (default: 40)"
    )
    add_overwrite(parser)


def doctor(parser: argparse.ArgumentParser) -> None:
    """Add what `doctor` takes."""
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        type=Path,
        nargs="?",
        default=Path(),
        help="where work folders will lie (default: .)",
    )


def completion(parser: argparse.ArgumentParser) -> None:
    """Add what `completion` takes."""
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")
