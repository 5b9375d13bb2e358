"""`statistics`: volume, components, place and intensities of every structure of segmentations."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from nnunet_rs.cli import shared
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `statistics` takes."""
    parser.add_argument("predictions", metavar="FOLDER", type=Path, help="segmentations: a folder, or one file")
    shared.add_predicted(parser)
    text = "folder for statistics.json and statistics.csv, or the name of one of the two (default: FOLDER)"
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, help=text)
    shared.add_overwrite(parser)
    shared.add_resources(parser)


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Measure segmentations."""
    from nnunet_rs.evaluate.structures_folder import statistics_document
    from nnunet_rs.report.predictions import Given, read_predictions
    from nnunet_rs.report.statistics import StatisticsPlace, measure_predictions
    from nnunet_rs.report.tables import structures_table

    found = read_predictions(arguments.predictions, Given(arguments.images, None, arguments.dataset_json))
    for remark in found.remarks:
        console.say(f"remark: {remark}")
    where = StatisticsPlace.of(arguments.output) if arguments.output else StatisticsPlace.beside(arguments.predictions)
    place = replace(where, overwrite=arguments.overwrite)
    measured = measure_predictions(found, place, threads=arguments.threads, memory=arguments.memory, progress=console)
    measured.require_all()
    document = statistics_document(measured.cases, found.channels)
    result = {"statistics": measured.paths[0], "csv": measured.paths[1], "cases": document["cases"]}
    return Outcome(result, (structures_table(measured.cases), f"written: {measured.paths[0]}, {measured.paths[1]}"))


COMMAND = Command(
    name="statistics",
    group="predict and evaluate",
    summary="volumes, components, positions and intensities of the structures of segmentations",
    usage="FOLDER [-i IMAGES] [-o OUT] [options]",
    description="Measure every structure of every segmentation: volume in mm³ and ml, voxels, components, centroid, "
    "bounding box, and mean, deviation and percentiles of each channel of the image, which is the one that predict "
    "recorded unless -i names it.",
    examples=(
        "nnunet-rs statistics segmentations",
        "nnunet-rs statistics labelsTr -i imagesTr -o numbers",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
