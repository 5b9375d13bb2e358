"""What the commands take that use trained models and what they make."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_rs.cli import values
from nnunet_rs.cli.exchange_options import add_nnunet_choice
from nnunet_rs.cli.options import OWN
from nnunet_rs.cli.shared_options import (
    add_dataset,
    add_device,
    add_overwrite,
    add_own_network,
    add_precision,
    add_threads,
)

METRICS = ("dice", "iou", "sensitivity", "precision", "hd95", "asd", "nsd")  # that have a better and a worse


def predict(parser: argparse.ArgumentParser) -> None:
    """Add what `predict` takes."""
    parser.add_argument(
        "model",
        metavar="MODEL_OR_WORK",
        type=Path,
        nargs="?",
        help="a work folder, a model folder (models/CONFIG or one fold), or a folder or zip of nnU-Net v2",
    )
    add_dataset(parser)
    parser.add_argument("-m", dest="model_option", type=Path, help=argparse.SUPPRESS)
    text = "folder of images; or one image: its file, or a file for each channel"
    parser.add_argument("-i", "--input", metavar="IN", type=Path, nargs="+", required=True, help=text)
    text = "folder for segmentations; of one image also a file"
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help=text)
    parser.add_argument(
        "-c",
        "--configuration",
        metavar="CONFIG",
        help="which configuration of a work folder (default: what best chose, else the one trained)",
    )
    parser.add_argument(
        "-f",
        "--fold",
        metavar="FOLD",
        type=values.fold,
        nargs="+",
        help="folds to average (default: all that are trained)",
    )
    add_overwrite(parser, "predict again what is there already; ")
    parser.add_argument(
        "--part", metavar="I/N", type=values.part, default=(0, 1), help="only the I-th of N parts of the images, as 1/4"
    )
    for name in ("-num_parts", "-part_id"):  # of nnU-Net's scripts
        parser.add_argument(name, type=values.seed, help=argparse.SUPPRESS)
    group = parser.add_argument_group("sliding window")
    group.add_argument(
        "--no-mirror", "--disable_tta", action="store_true", help="no mirrored passes: faster, a little less accurate"
    )
    group.add_argument(
        "--step",
        "-step_size",
        metavar="S",
        type=values.step,
        default=0.5,
        help="step as a part of the window (default: 0.5)",
    )
    group.add_argument(
        "--save-probabilities",
        "--save_probabilities",
        action="store_true",
        help="write the class probabilities too, half precision (.b2nd: nnunet_rs.read_probabilities)",
    )
    group.add_argument(
        "--probabilities-format",
        metavar="FORM",
        choices=("nifti", "npz"),
        nargs="+",
        action="extend",
        help="also as nifti (probabilities/CASE.nii.gz, 4-D) or npz (CASE.npz, as nnU-Net's)",
    )
    add_own_network(parser)
    group = parser.add_argument_group("resources")
    add_device(group)
    add_threads(group)
    add_precision(group)
    parser.add_argument(
        "--unfinished", action="store_true", help="also models that are still trained, by their last checkpoint"
    )
    add_nnunet_choice(parser)


def ensemble(parser: argparse.ArgumentParser) -> None:
    """Add what `ensemble` takes."""
    parser.add_argument("folders", metavar="FOLDER", type=Path, nargs="*", help="written with --save-probabilities")
    parser.add_argument(
        "-i", "--input", metavar="FOLDER", type=Path, nargs="+", help="the same folders, as nnU-Net's scripts name them"
    )
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="folder for segmentations")
    add_overwrite(parser, "average again what is there already; ")
    add_threads(parser)


def postprocess(parser: argparse.ArgumentParser) -> None:
    """Add what `postprocess` takes."""
    parser.add_argument("folder", metavar="FOLDER", type=Path, nargs="?", help="folder of segmentations")
    parser.add_argument("-i", dest="folder_option", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="folder for the results")
    group = parser.add_argument_group("by", "One of these says what is done.")
    by = group.add_mutually_exclusive_group(required=True)
    by.add_argument(
        "--from", dest="source", metavar="WORK|FILE", type=Path, help="what best, or an earlier --decide, decided"
    )
    by.add_argument("--decide", metavar="REFERENCE", type=Path, help="what helps these segmentations, by references")
    by.add_argument(
        "--keep-largest",
        metavar="LABEL",
        nargs="+",
        help="the largest component of each label; foreground: of all; liver+tumour: of both as one",
    )
    by.add_argument("--function", metavar="MODULE:FUNCTION", help="of class indices and spacing, z y x: " + OWN)
    parser.add_argument(
        "--dataset-json",
        "-dataset_json",
        metavar="FILE",
        type=Path,
        help="names the labels (default: dataset.json beside them, else what predict wrote, else the values)",
    )
    add_overwrite(parser)
    add_threads(parser)


def evaluate(parser: argparse.ArgumentParser) -> None:
    """Add what `evaluate` takes."""
    parser.add_argument("predictions", metavar="PREDICTIONS", type=Path, help="segmentations: a folder, or one file")
    parser.add_argument("reference", metavar="REFERENCE", type=Path, help="references: a folder, or one file")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="write the summary as JSON, in nnU-Net's keys and more"
    )
    parser.add_argument(
        "--dataset-json",
        "-djfile",
        metavar="FILE",
        type=Path,
        help="names the labels (default: dataset.json beside either folder, else what predict wrote, else the values)",
    )
    parser.add_argument(
        "--partial",
        "--chill",
        action="store_true",
        help="score what is predicted; references without prediction are left out",
    )
    group = parser.add_argument_group("surface distances")
    group.add_argument(
        "--tolerance",
        metavar="MM",
        type=values.positive,
        help="how far apart surfaces may be for the normalised surface Dice (default: 1 mm)",
    )
    group.add_argument("--no-distances", action="store_true", help="leave them out: several times faster")
    group = parser.add_argument_group("comparison", "Are these predictions better or worse than others? A paired test.")
    group.add_argument(
        "--against", metavar="OTHERS", type=Path, help="folder of other predictions of the same cases, scored as well"
    )
    group.add_argument(
        "--metric",
        metavar="NAME",
        choices=METRICS,
        default="dice",
        help=f"what is compared: {', '.join(METRICS)} (default: dice)",
    )
    add_overwrite(parser)
    add_threads(parser)
