"""`postprocess`: largest components, or a function of one's own, in a folder of segmentations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rs.cli import shared
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome, UsageError
from nnunet_rs.core.text import counted
from nnunet_rs.core.workspace import DATASET_JSON

if TYPE_CHECKING:
    from nnunet_rs.core.types import LabelSet
    from nnunet_rs.select.postprocessing_folder import Decision, Process


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `postprocess` takes."""
    parser.add_argument("folder", metavar="FOLDER", type=Path, nargs="?", help="folder of segmentations")
    parser.add_argument("-i", dest="folder_option", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="folder for the results")
    group = parser.add_argument_group("by", "What is done: one of these.")
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
    by.add_argument("--function", metavar="MODULE:FUNCTION", help="of class indices and spacing, z y x: " + shared.OWN)
    parser.add_argument(
        "--dataset-json",
        "-dataset_json",
        metavar="FILE",
        type=Path,
        help=f"names the labels (default: {DATASET_JSON} beside them, else what predict wrote, else the values)",
    )
    shared.add_overwrite(parser)
    shared.add_threads(parser)


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Post-process a folder by one of the four ways to say how."""
    from nnunet_rs.model.plugins import own_function
    from nnunet_rs.select.postprocessing_folder import postprocess_folder, write_decision

    if arguments.folder is None:
        raise UsageError("postprocess needs the FOLDER of segmentations")
    shared.require_folder(arguments.output, "segmentations")
    lines: tuple[str, ...] = ()
    result: dict[str, object] = {"output": arguments.output}
    decision = None if arguments.function else _decision(arguments, console)
    if decision is not None:
        steps, labels = decision.postprocessing, decision.labels
        names = ["+".join(labels.names[index] for index in step) for step in steps.keep_largest]
        result |= {"keep_largest": names, "reasons": steps.reasons}
        lines = (*steps.reasons, f"largest component kept of: {', '.join(names) or 'nothing, for no step helps'}")
        process: Process = steps
    else:
        process, labels = own_function("function", arguments.function), _labels(arguments)
    cases = postprocess_folder(
        arguments.folder,
        arguments.output,
        process,
        labels,
        overwrite=arguments.overwrite,
        threads=arguments.threads,
        progress=console,
    )
    if decision is not None:
        write_decision(arguments.output, decision, overwrite=arguments.overwrite)
    written = f"{counted(len(cases), 'segmentation')} written to {arguments.output}"
    return Outcome(result | {"written": cases}, (*lines, written))


def _decision(arguments: argparse.Namespace, console: Console) -> Decision:
    from nnunet_rs.evaluate.folders import pair_files
    from nnunet_rs.select.postprocessing_folder import Decision, keep_largest, read_decision
    from nnunet_rs.select.postprocessing_trial import choose_postprocessing

    if arguments.source is not None:
        return read_decision(arguments.source)
    labels = _labels(arguments)
    if arguments.keep_largest:
        return Decision(labels, keep_largest(arguments.keep_largest, labels))
    pairs = pair_files(arguments.folder, arguments.decide)
    return Decision(labels, choose_postprocessing(pairs, labels, console))


def _labels(arguments: argparse.Namespace) -> LabelSet:
    """Take the labels from the dataset.json that was named or lies beside, as they were predicted, or as values."""
    from nnunet_rs.core.dataset_json import read_declared_labels
    from nnunet_rs.evaluate.folders import CasePair, found_labels, label_files
    from nnunet_rs.predict.prediction_json import labels_of

    beside: Path = arguments.folder / DATASET_JSON
    file = arguments.dataset_json or (beside if beside.is_file() else None)
    if file is not None:
        return read_declared_labels(file)
    references = label_files(arguments.decide) if arguments.decide else {}
    files = label_files(arguments.folder)
    return labels_of(arguments.folder) or found_labels(
        [CasePair(name, path, references.get(name, path)) for name, path in files.items()]
    )


COMMAND = Command(
    name="postprocess",
    group="predict and evaluate",
    summary="keep largest components, or apply a function, in a folder of segmentations",
    usage="FOLDER -o OUT (--from|--decide|--keep-largest|--function) ... [options]",
    description="Post-process a folder of segmentations, whoever made them. predict WORK applies by itself "
    "what best decided; this is for all others.",
    examples=(
        "nnunet-rs postprocess both -o cleaned --from work",
        "nnunet-rs postprocess segmentations -o cleaned --keep-largest liver spleen",
        "nnunet-rs postprocess validation -o cleaned --decide labelsTr",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
