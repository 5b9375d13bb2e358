"""Segment, average, score."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from nnunet_rs.cli.console import Console, Outcome, counted
from nnunet_rs.core.machine import processors

if TYPE_CHECKING:
    from nnunet_rs.core.types import LabelSet


def predict(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Segment a folder of images."""
    from nnunet_rs.predict.choose import load_predictor
    from nnunet_rs.predict.folder import FolderOptions, predict_folder
    from nnunet_rs.predict.predictor import PredictOptions

    options = PredictOptions(step=arguments.step, mirror=not arguments.no_mirror, threads=arguments.threads)
    folds = None if arguments.fold in (None, ["all"]) else arguments.fold
    predictor = load_predictor(
        arguments.model, arguments.device, folds, configuration=arguments.configuration, options=options
    )
    wanted = FolderOptions(arguments.save_probabilities, arguments.overwrite, arguments.part)
    result = predict_folder(predictor, arguments.input, arguments.output, wanted, console)
    skipped = f", {len(result.skipped)} were there" if result.skipped else ""
    line = f"{counted(len(result.written), 'segmentation')} written to {arguments.output}{skipped}"
    return Outcome({"output": arguments.output, "written": result.written, "skipped": result.skipped}, (line,))


def ensemble(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Average saved probabilities."""
    from nnunet_rs.predict.ensemble import ensemble_folders

    cases = ensemble_folders(arguments.folders, arguments.output, console, arguments.threads)
    line = f"{counted(len(cases), 'segmentation')} written to {arguments.output}"
    return Outcome({"output": arguments.output, "written": cases}, (line,))


def evaluate(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Score a folder of segmentations."""
    from nnunet_rs.predict.evaluate import TOLERANCE, evaluate_folders
    from nnunet_rs.report.tables import scores_table

    summary = evaluate_folders(
        arguments.predictions,
        arguments.reference,
        _declared_labels(arguments),
        tolerance=None if arguments.no_distances else TOLERANCE,
        partial=arguments.partial,
        threads=arguments.threads or processors(),
        progress=console,
    )
    if arguments.output:
        summary.write(arguments.output)
    cases = counted(len(summary.cases), "case")
    return Outcome(summary.to_json(), (scores_table(f"{arguments.predictions}, {cases}", summary),))


def _declared_labels(arguments: argparse.Namespace) -> LabelSet | None:
    """Take the labels from the dataset.json that was named, or that lies beside either folder."""
    from nnunet_rs.core.declaration import read_labels
    from nnunet_rs.core.files import read_json

    folders = (arguments.predictions, arguments.reference, arguments.reference.parent)
    places = [arguments.dataset_json] if arguments.dataset_json else [folder / "dataset.json" for folder in folders]
    for file in places:
        if arguments.dataset_json or file.is_file():
            return read_labels(file, read_json(file))
    return None
