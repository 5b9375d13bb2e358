"""Segment, average, score."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rs.cli.console import Console, Outcome, UsageError, counted, plain
from nnunet_rs.cli.exchange import nnunet_choice
from nnunet_rs.core.resources import processors

if TYPE_CHECKING:
    from nnunet_rs.core.outputs import Outputs
    from nnunet_rs.core.types import LabelSet
    from nnunet_rs.evaluate.summary import Summary
    from nnunet_rs.predict.results import FolderResult


def predict(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Segment a folder of images, or one image."""
    from nnunet_rs.model.plugins import own_function
    from nnunet_rs.predict.folder import FolderOptions, predict_files, predict_folder
    from nnunet_rs.predict.predictor import PredictOptions
    from nnunet_rs.select.selection import load_predictor

    network = own_function("network", arguments.network) if arguments.network else None
    options = PredictOptions(
        step=arguments.step,
        mirror=not arguments.no_mirror,
        precision=arguments.precision,
        threads=arguments.threads,
        network=network,
        nnunet=nnunet_choice(arguments),
        unfinished=arguments.unfinished,
    )
    part, folder = _part(arguments), _one_folder(arguments)
    predictor = load_predictor(
        arguments.model,
        arguments.device,
        arguments.fold,
        configuration=arguments.configuration,
        options=options,
        progress=console,
    )
    wanted = FolderOptions(
        save_probabilities=arguments.save_probabilities,
        probability_forms=tuple(dict.fromkeys(arguments.probabilities_format or ())),
        overwrite=arguments.overwrite,
        part=part,
    )
    if folder is None:
        result = predict_files(predictor, arguments.input, arguments.output, wanted, console)
    else:
        result = predict_folder(predictor, folder, arguments.output, wanted, console)
    return _written(arguments.output, result)


def _one_folder(arguments: argparse.Namespace) -> Path | None:
    """Tell a folder of images from the files of one case, before a model is loaded."""
    from nnunet_rs.core.errors import DatasetError
    from nnunet_rs.core.io import can_read

    first: Path = arguments.input[0]
    if len(arguments.input) > 1 or first.is_file():
        return None
    if not first.is_dir():
        raise DatasetError(f"{first}: no such file or folder; give an image, or the folder that holds the images")
    output: Path = arguments.output
    if can_read(output) and not output.is_dir():
        raise DatasetError(
            f"{output}: names one file, {first} is a folder of images; name a folder for the segmentations"
        )
    return first


def _written(output: Path, result: FolderResult) -> Outcome:
    skipped = f", {len(result.skipped)} were there" if result.skipped else ""
    line = f"{counted(len(result.written), 'segmentation')} written to {output}{skipped}"
    return Outcome({"output": output, "written": result.written, "skipped": result.skipped}, (line,))


def _part(arguments: argparse.Namespace) -> tuple[int, int]:
    """Which of how many parts of the images, asked for by --part or by nnU-Net's pair of options."""
    if arguments.num_parts is None and arguments.part_id is None:
        part: tuple[int, int] = arguments.part
        return part
    part = (arguments.part_id or 0, arguments.num_parts or 1)
    if not part[0] < part[1]:
        raise UsageError(f"-part_id {part[0]} of -num_parts {part[1]}: parts are counted from 0 to {part[1] - 1}")
    return part


def ensemble(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Average saved probabilities."""
    from nnunet_rs.select.ensemble_folders import ensemble_folders

    folders = [*arguments.folders, *(arguments.input or ())]
    if not folders:
        raise UsageError("ensemble needs the folders that predict --save-probabilities wrote")
    result = ensemble_folders(folders, arguments.output, console, arguments.threads, overwrite=arguments.overwrite)
    return _written(arguments.output, result)


def evaluate(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Score a folder of segmentations, and say whether it is better than another."""
    from nnunet_rs.report.tables import scores_table

    _tell_exchanged(arguments.predictions, arguments.reference, console)
    if arguments.against and arguments.no_distances and arguments.metric in ("hd95", "asd", "nsd"):
        raise UsageError(f"--metric {arguments.metric} needs the surface distances that --no-distances leaves out")
    outputs = _scores_files(arguments, console) if arguments.output else None
    scored = _score(arguments, console)
    summary, result = scored[0], scored[0].to_json()
    shown = [
        scores_table(f"{folder}, {counted(len(summary.cases), 'case')}", summary)
        for folder, summary in zip((arguments.predictions, arguments.against), scored, strict=False)
    ]
    if arguments.against:
        from nnunet_rs.evaluate.comparison import compare
        from nnunet_rs.report.tables import comparison_table

        first, second = scored
        rows = compare(first, second, arguments.metric)
        shown.append(comparison_table((str(arguments.predictions), str(arguments.against)), arguments.metric, rows))
        compared = {"against": arguments.against, "metric": arguments.metric, "classes": [asdict(row) for row in rows]}
        result["comparison"] = plain(compared)
    if outputs is not None:
        with outputs, outputs.new_files(arguments.output.name) as folder:
            summary.write(folder / arguments.output.name, result)
    return Outcome(result, tuple(shown))


def _scores_files(arguments: argparse.Namespace, console: Console) -> Outputs:
    """See that the scores may be written where they are wanted, before anything is scored."""
    from nnunet_rs.core.io import can_read
    from nnunet_rs.core.outputs import Outputs
    from nnunet_rs.evaluate.summary import Summary

    named = [path for path in (arguments.predictions, arguments.reference, arguments.against) if path]
    found = [file for path in named for file in (path.iterdir() if path.is_dir() else (path,))]
    inputs = [file for file in found if can_read(file)] + [file for file in (arguments.dataset_json,) if file]
    outputs = Outputs(arguments.output.parent, kind="scores", overwrite=arguments.overwrite, say=console.say)
    outputs.require(Summary.files(arguments.output), inputs)
    return outputs


def _tell_exchanged(predictions: Path, reference: Path, console: Console) -> None:
    """Warn where the references are what predict wrote: nnU-Net's command names the two folders in another order."""
    from nnunet_rs.predict.prediction_json import read_settings

    if read_settings(reference) is not None and read_settings(predictions) is None:
        console.say(
            f"warning: {reference} holds predictions and is taken as the reference: evaluate PREDICTIONS REFERENCE"
        )


def _score(arguments: argparse.Namespace, console: Console) -> list[Summary]:
    """Score the predictions, and those that they are compared with, on the same classes and cases."""
    from nnunet_rs.evaluate.folders import TOLERANCE, evaluate_pairs, found_labels, pair_files

    folders = [folder for folder in (arguments.predictions, arguments.against) if folder]
    found = [pair_files(folder, arguments.reference, partial=arguments.partial) for folder in folders]
    common = set.intersection(*({pair.name for pair in pairs} for pairs in found))
    if arguments.partial:
        _tell_left_out(arguments.reference, folders, common, console)
    pairs = [[pair for pair in pairs if pair.name in common] for pairs in found]
    labels = _declared_labels(arguments) or found_labels([pair for some in pairs for pair in some])
    tolerance = None if arguments.no_distances else arguments.tolerance or TOLERANCE
    threads = arguments.threads or processors()
    return [evaluate_pairs(some, labels, tolerance=tolerance, threads=threads, progress=console) for some in pairs]


def _tell_left_out(reference: Path, folders: list[Path], scored: set[str], console: Console) -> None:
    """Say of --partial which references count nowhere."""
    from nnunet_rs.core.names import examples
    from nnunet_rs.evaluate.folders import label_files

    names = label_files(reference).keys()
    missing = sorted(names - scored)
    if missing:
        where = " or ".join(map(str, folders))
        console.say(f"left out, without prediction in {where}: {len(missing)} of {len(names)}: {examples(missing)}")


def _declared_labels(arguments: argparse.Namespace) -> LabelSet | None:
    """Take the labels from the dataset.json that was named or lies beside either folder, or as they were predicted."""
    from nnunet_rs.core.dataset_json import read_declared_labels
    from nnunet_rs.predict.prediction_json import labels_of

    named = (arguments.predictions, arguments.reference)
    predictions, reference = (path.parent if path.is_file() else path for path in named)
    folders = (predictions, reference, reference.parent)
    places = [arguments.dataset_json] if arguments.dataset_json else [folder / "dataset.json" for folder in folders]
    for file in places:
        if arguments.dataset_json or file.is_file():
            return read_declared_labels(file)
    return labels_of(predictions)
