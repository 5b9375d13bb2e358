"""`predict`: segment a folder of images, or one image."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rs.cli import cluster, cohort, dicom, shared, values
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome, UsageError
from nnunet_rs.cli.imports import import_lean, without_collection
from nnunet_rs.cli.paths import cache_folder
from nnunet_rs.cli.predicted import Wanted
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.workspace import REPORT_HTML

if TYPE_CHECKING:
    from nnunet_rs.core.types import Case, LabelSet
    from nnunet_rs.predict.pipeline import CasePredictor, FolderOptions
    from nnunet_rs.select.prediction import Prediction


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `predict` takes."""
    parser.add_argument(
        "model",
        metavar="MODEL_OR_WORK",
        type=Path,
        nargs="?",
        help="a work folder, a model folder (models/CONFIG or one fold), or a folder or zip of nnU-Net v2",
    )
    shared.add_dataset(parser)
    parser.add_argument("-m", dest="model_option", type=Path, help=argparse.SUPPRESS)
    text = (
        "folder of images, or of DICOM (or a zip of it); or one image: its file, or a file or series for each channel"
    )
    parser.add_argument("-i", "--input", metavar="IN", type=Path, nargs="+", help=text)
    text = "instead of -i: a CSV file with the columns id, image (image_0, image_1 … of several channels) and output"
    parser.add_argument("--list", metavar="FILE", type=Path, help=text)
    text = "folder for segmentations; of one image also a file"
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help=text)
    parser.add_argument(
        "-c",
        "--configuration",
        metavar="CONFIG",
        help="which configuration of a work folder (default: what best chose, else the one trained)",
    )
    shared.add_folds(parser, "folds to average (default: all that are trained)")
    shared.add_overwrite(parser, "predict again what is there already; ")
    parser.add_argument(
        "--part", metavar="I/N", type=values.part, default=(0, 1), help="only the I-th of N parts of the images, as 1/4"
    )
    for name in ("-num_parts", "-part_id"):  # of nnU-Net's scripts
        parser.add_argument(name, type=values.seed, help=argparse.SUPPRESS)
    _add_window(parser)
    _add_structures(parser)
    dicom.add_outputs(parser)
    shared.add_own_network(parser)
    group = parser.add_argument_group("resources")
    shared.add_device(group)
    shared.add_engine(group)
    shared.add_threads(group)
    shared.add_precision(group)
    parser.add_argument(
        "--unfinished", action="store_true", help="also models that are still trained, by their last checkpoint"
    )
    shared.add_nnunet_choice(parser)
    cluster.add_cluster(parser)


def _add_window(parser: argparse.ArgumentParser) -> None:
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


def _add_structures(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("structures")
    group.add_argument(
        "--labels", metavar="NAME", nargs="+", action="extend", help="keep these labels or regions only, by name"
    )
    text = "also write a binary mask of each label: OUT/CASE/LABEL, in the images' format"
    group.add_argument("--one-file-per-label", action="store_true", help=text)
    text = "also write statistics.json and statistics.csv: volumes, components, positions, intensities"
    group.add_argument("--statistics", action="store_true", help=text)
    text = f"also write {REPORT_HTML}: the cases to scroll through, the most unusual first"
    group.add_argument("--report", action="store_true", help=text)


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Segment a folder of images, one image, or series of DICOM."""
    with without_collection():
        import_lean("openvino")
        import nnunet_rs.predict.engines.opening
        import nnunet_rs.select.prediction  # noqa: F401
    cluster.require_cluster(arguments)
    _require_images(arguments)
    if arguments.on:
        return _on_cluster(arguments, console)
    if arguments.dicom_seg == "fractional":  # which is made of them
        arguments.save_probabilities = True
    asked = _prediction(arguments)
    load = cache(lambda: asked.load(console))
    if arguments.list:
        return _predict(arguments, console, asked, load)
    with dicom.predicted(arguments, console, lambda: load().plan.channels) as files:
        if files is None:
            return _predict(arguments, console, asked, load)
        return _predict_dicom(arguments, console, asked, load, files)


def _predict_dicom(
    arguments: argparse.Namespace,
    console: Console,
    asked: Prediction,
    load: Callable[[], CasePredictor],
    files: dicom.DicomFiles,
) -> Outcome:
    """Segment series, and write what of them is wanted as DICOM; of the others too, where some fail."""
    from nnunet_rs.core.record import digest
    from nnunet_rs.predict.folder import kept_labels

    try:
        outcome = _predict(arguments, console, asked, load)
    except NnunetError:
        predictor = load()
        files.finish_others(digest(asked.content(predictor)), kept_labels(predictor.plan, asked.written))
        raise
    return files.finish(outcome, kept_labels(load().plan, asked.written))


def _require_images(arguments: argparse.Namespace) -> None:
    """See that images are named in one way, and one that goes with what is asked for."""
    from nnunet_rs.core.dicom.folders import is_dicom_input

    if (arguments.input is None) == (arguments.list is None):
        raise UsageError("predict needs -i IN, or --list FILE; one of them")
    is_dicom = arguments.input is not None and bool(arguments.on) and is_dicom_input(arguments.input)
    if (arguments.list or arguments.on) and (dicom.is_asked_for(arguments) or is_dicom):
        other = "--on" if arguments.on else "--list"
        raise UsageError(f"{other} takes image files; series of DICOM are predicted by -i alone, in parts by --part")


def _predict(
    arguments: argparse.Namespace, console: Console, asked: Prediction, load: Callable[[], CasePredictor]
) -> Outcome:
    """Segment images that are files."""
    folder = None if arguments.list else _one_folder(arguments)
    more, wanted = Wanted.of(arguments, asked.written.part[1]), asked.written
    predictor = load()
    with without_collection():  # meanwhile the networks are compiled
        import_lean("nibabel")
        from nnunet_rs.core.case_list import read_case_list
        from nnunet_rs.predict.folder import kept_labels, predict_cases, predict_files, predict_folder
    with more.missed(arguments.output, console):
        if arguments.list:
            cases = read_case_list(arguments.list, len(predictor.plan.channels), arguments.output)
            result = predict_cases(predictor, _of_part(cases, wanted), arguments.output, wanted, console)
        elif folder is None:
            result = predict_files(predictor, arguments.input, arguments.output, wanted, console)
        else:
            result = predict_folder(predictor, folder, arguments.output, wanted, console)
    labels = kept_labels(predictor.plan, wanted)
    outcome = shared.written(arguments.output, result)
    return _with_more(arguments, console, more, outcome, predictor, labels)


def _with_more(
    arguments: argparse.Namespace,
    console: Console,
    more: Wanted,
    outcome: Outcome,
    predictor: CasePredictor,
    labels: LabelSet,
) -> Outcome:
    """Add statistics and page, where they are wanted."""
    if more.statistics is None and more.page is None:
        return outcome
    from nnunet_rs.report.predictions import Given, read_predictions

    found = read_predictions(arguments.output, Given(labels=labels, channels=predictor.plan.channels))
    return more.make(outcome, found, console)


def _prediction(arguments: argparse.Namespace) -> Prediction:
    """Gather what is asked for."""
    from nnunet_rs.model.plugins import own_function
    from nnunet_rs.predict.options import PredictOptions
    from nnunet_rs.predict.pipeline import FolderOptions
    from nnunet_rs.select.prediction import Prediction

    network = own_function("network", arguments.network) if arguments.network else None
    options = PredictOptions(
        step=arguments.step,
        mirror=not arguments.no_mirror,
        precision=arguments.precision,
        engine=arguments.engine,
        threads=arguments.threads,
        network=network,
        nnunet=shared.nnunet_choice(arguments),
        unfinished=arguments.unfinished,
        cache=cache_folder(os.environ),
    )
    written = FolderOptions(
        save_probabilities=arguments.save_probabilities,
        probability_forms=tuple(dict.fromkeys(arguments.probabilities_format or ())),
        overwrite=arguments.overwrite,
        part=_part(arguments),
        labels=tuple(arguments.labels or ()),
        masks=arguments.one_file_per_label,
    )
    folds = None if arguments.fold is None else tuple(arguments.fold)
    configuration = arguments.configuration
    return Prediction(arguments.model, arguments.output, arguments.device, folds, configuration, options, written)


def _on_cluster(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Let workers on a cluster share the images."""
    from nnunet_rs.core.workspace import jobs_beside
    from nnunet_rs.predict.folder import kept_labels
    from nnunet_rs.predict.results import FolderResult
    from nnunet_rs.run.cohort.follow import require_all
    from nnunet_rs.run.cohort.predicting import begin_prediction, end_prediction

    asked = _prediction(arguments)
    more = Wanted.of(arguments, asked.written.part[1])
    predictor = asked.load(console, networks=False)
    cases, broken, asked = _images(arguments, asked, predictor, console)
    if arguments.dry_run:
        return cohort.would_share(arguments, f"predict {asked.output}", len(cases), jobs_beside(asked.output))
    workers = cohort.workers_for(arguments, len(cases))
    begun = begin_prediction(asked, predictor, cases, workers, console)
    todo = () if begun is None else begun.todo
    if begun is not None:
        followed = cohort.followed(arguments, begun.folder, begun.cohort, console)
        left = cohort.unfinished(followed, begun.cohort)
        if left is not None:
            return left
        end_prediction(asked, predictor, begun)
    with more.missed(asked.output, console):
        if begun is not None:
            require_all(followed, begun.folder.names(), str(asked.output))
        if broken:
            raise NnunetError("; ".join(f"{name}: {reason}" for name, reason in broken.items()))
    outcome = shared.written(arguments.output, FolderResult.of(cases, todo))
    return _with_more(arguments, console, more, outcome, predictor, kept_labels(predictor.plan, asked.written))


def _images(
    arguments: argparse.Namespace, asked: Prediction, predictor: CasePredictor, console: Console
) -> tuple[Sequence[Case], dict[str, str], Prediction]:
    """Return the cases, those that cannot be used, and where results go."""
    from nnunet_rs.core.case_list import read_case_list
    from nnunet_rs.predict.folder import case_of_files, cases_of_folder

    plan, written = predictor.plan, asked.written
    if arguments.list:
        cases = read_case_list(arguments.list, len(plan.channels), asked.output)
        return _of_part(cases, written), {}, asked
    folder = _one_folder(arguments)
    if folder is not None:
        return (*cases_of_folder(folder, asked.output, plan, written, console), asked)
    case, place, written = case_of_files(arguments.input, asked.output, plan, written, console)
    return (case,), {}, replace(asked, output=place, written=written)


def _of_part(cases: Sequence[Case], written: FolderOptions) -> Sequence[Case]:
    index, count = written.part
    return cases[index::count]


def _one_folder(arguments: argparse.Namespace) -> Path | None:
    """Distinguish a folder of images from the files of one case, before a model is loaded."""
    from nnunet_rs.core.errors import DatasetError

    first: Path = arguments.input[0]
    if len(arguments.input) > 1 or first.is_file():
        return None
    if not first.is_dir():
        raise DatasetError(f"{first}: no such file or folder; give an image, or the folder that holds the images")
    shared.require_folder(arguments.output, f"segmentations of {first}")
    return first


def _part(arguments: argparse.Namespace) -> tuple[int, int]:
    """Which of how many parts of the images, asked for by --part or by nnU-Net's pair of options."""
    if arguments.num_parts is None and arguments.part_id is None:
        part: tuple[int, int] = arguments.part
        return part
    part = (arguments.part_id or 0, arguments.num_parts or 1)
    if not part[0] < part[1]:
        raise UsageError(f"-part_id {part[0]} of -num_parts {part[1]}: parts are counted from 0 to {part[1] - 1}")
    return part


COMMAND = Command(
    name="predict",
    group="predict and evaluate",
    summary="segment a folder of images, or one image",
    usage="MODEL_OR_WORK -i IN -o OUT [options]",
    description="Segment images with a trained model. Each result has its image's header and opens beside it. "
    "A rerun skips finished cases.",
    examples=(
        "nnunet-rs predict work -i scans -o segmentations",
        "nnunet-rs predict work -i scan.nii.gz -o segmentation.nii.gz",
        "nnunet-rs predict work -i dicom -o segmentations --dicom-seg --rtstruct",
        "nnunet-rs predict work -i scans -o segmentations -c 3d_fullres -f 0 1 2 --no-mirror",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
