"""`evaluate`: compare segmentations with references."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rs.cli import cluster, cohort, shared, values
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome, UsageError, plain
from nnunet_rs.core.choices import ComparedMetric, names
from nnunet_rs.core.text import counted
from nnunet_rs.core.workspace import DATASET_JSON, SUMMARY_JSON

if TYPE_CHECKING:
    from nnunet_rs.core.outputs import Outputs
    from nnunet_rs.core.types import LabelSet, Shape
    from nnunet_rs.evaluate.folders import CasePair
    from nnunet_rs.evaluate.summary import Summary


def _add_arguments(parser: argparse.ArgumentParser) -> None:
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
        help=f"names the labels (default: {DATASET_JSON} beside either folder, else what predict wrote, or the values)",
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
        choices=names(ComparedMetric),
        default="dice",
        help=f"what is compared: {shared.listed(ComparedMetric)} (default: dice)",
    )
    shared.add_overwrite(parser)
    shared.add_threads(parser)
    cluster.add_cluster(parser)


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Score a folder of segmentations, and say whether it is better than another."""
    from nnunet_rs.report.tables import scores_table

    _report_exchanged(arguments.predictions, arguments.reference, console)
    if arguments.against and arguments.no_distances and arguments.metric in ("hd95", "asd", "nsd"):
        raise UsageError(f"--metric {arguments.metric} needs the surface distances that --no-distances leaves out")
    cluster.require_cluster(arguments)
    outputs = _scores_files(arguments, console) if arguments.output else None
    scored = _score(arguments, console)
    if isinstance(scored, Outcome):
        return scored
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
    """Check that the scores may be written where they are wanted, before anything is scored."""
    from nnunet_rs.core.io import can_read
    from nnunet_rs.core.outputs import Outputs
    from nnunet_rs.evaluate.summary import Summary

    named = [path for path in (arguments.predictions, arguments.reference, arguments.against) if path]
    found = [file for path in named for file in (path.iterdir() if path.is_dir() else (path,))]
    inputs = [file for file in found if can_read(file)] + [file for file in (arguments.dataset_json,) if file]
    outputs = Outputs(arguments.output.parent, kind="scores", overwrite=arguments.overwrite, say=console.say)
    outputs.require(Summary.files(arguments.output), inputs)
    return outputs


def _report_exchanged(predictions: Path, reference: Path, console: Console) -> None:
    """Warn where the references are what predict wrote: nnU-Net's command names the two folders in another order."""
    from nnunet_rs.predict.prediction_json import read_prediction_json

    if read_prediction_json(reference) is not None and read_prediction_json(predictions) is None:
        console.say(
            f"warning: {reference} holds predictions and is taken as the reference: evaluate PREDICTIONS REFERENCE"
        )


def _score(arguments: argparse.Namespace, console: Console) -> list[Summary] | Outcome:
    """Score the predictions, and those that they are compared with, on the same classes and cases."""
    from nnunet_rs.core.resources import processors
    from nnunet_rs.evaluate.folders import TOLERANCE, evaluate_pairs, found_labels, pair_files, report_left_out

    folders = [folder for folder in (arguments.predictions, arguments.against) if folder]
    found = [pair_files(folder, arguments.reference, partial=arguments.partial) for folder in folders]
    report_left_out((*folders, arguments.reference), console.say)
    common = set.intersection(*({pair.name for pair in pairs} for pairs in found))
    if arguments.partial:
        _report_left_out(arguments.reference, folders, common, console)
    pairs = [[pair for pair in pairs if pair.name in common] for pairs in found]
    declared, unannotated = _declared_labels(arguments)
    labels = declared or found_labels([pair for some in pairs for pair in some])
    pairs = [[replace(pair, unannotated=unannotated.get(pair.name, ())) for pair in some] for some in pairs]
    _tell_unannotated([pair for pair in pairs[0] if pair.unannotated], labels, console)
    tolerance = None if arguments.no_distances else arguments.tolerance or TOLERANCE
    if arguments.on:
        return _on_cluster(arguments, folders, pairs, labels, tolerance, console)
    threads = arguments.threads or processors()
    return [evaluate_pairs(some, labels, tolerance=tolerance, threads=threads, progress=console) for some in pairs]


def _on_cluster(
    arguments: argparse.Namespace,
    folders: Sequence[Path],
    pairs: Sequence[Sequence[CasePair]],
    labels: LabelSet,
    tolerance: float | None,
    console: Console,
) -> list[Summary] | Outcome:
    """Let workers score."""
    from nnunet_rs.core.workspace import jobs_beside
    from nnunet_rs.run.cohort.follow import require_all
    from nnunet_rs.run.cohort.scoring import begin_scoring, summary_of

    if arguments.dry_run:
        return cohort.would_share(arguments, f"evaluate {folders[0]}", len(pairs[0]), jobs_beside(folders[0]))
    summaries = []
    for folder, some in zip(folders, pairs, strict=True):
        begun = begin_scoring(folder, some, labels, tolerance, cohort.workers_for(arguments, len(some)))
        followed = cohort.followed(arguments, *begun, console)
        left = cohort.unfinished(followed, begun[1])
        if left is not None:
            return left
        names = begun[0].names()
        require_all(followed, names, str(folder))
        summaries.append(summary_of(begun[1], names, followed.done))
    return summaries


def _report_left_out(reference: Path, folders: list[Path], scored: set[str], console: Console) -> None:
    """Say of --partial which references count nowhere."""
    from nnunet_rs.core.text import examples
    from nnunet_rs.evaluate.folders import label_files

    names = label_files(reference).keys()
    missing = sorted(names - scored)
    if missing:
        where = " or ".join(map(str, folders))
        console.say(f"left out, without prediction in {where}: {len(missing)} of {len(names)}: {examples(missing)}")


def _tell_unannotated(pairs: Sequence[CasePair], labels: LabelSet, console: Console) -> None:
    """Say which classes count nowhere in which cases, because their references are not annotated for them."""
    from nnunet_rs.core.text import examples

    for index, name in enumerate(labels.score_names):
        cases = [pair.name for pair in pairs if index in pair.unannotated]
        if cases:
            these = "case that is" if len(cases) == 1 else "cases that are"
            console.say(f"{name} is not scored in {len(cases)} {these} not annotated for it: {examples(cases)}")


def _declared_labels(arguments: argparse.Namespace) -> tuple[LabelSet | None, dict[str, Shape]]:
    """Take the labels from the dataset.json that was named or lies beside either folder, or as they were predicted.

    With the labels, what of them cases are not annotated for.
    """
    from nnunet_rs.core.dataset_json import read_document, read_labels
    from nnunet_rs.core.partial_labels import unannotated_targets
    from nnunet_rs.predict.prediction_json import labels_of

    named = (arguments.predictions, arguments.reference)
    predictions, reference = (path.parent if path.is_file() else path for path in named)
    folders = (predictions, reference, reference.parent)
    files = [arguments.dataset_json] if arguments.dataset_json else [folder / DATASET_JSON for folder in folders]
    for file in files:
        if arguments.dataset_json or file.is_file():
            content = read_document(file)
            labels = read_labels(file, content)
            return labels, unannotated_targets(file, content, labels)
    return labels_of(predictions), {}


COMMAND = Command(
    name="evaluate",
    group="predict and evaluate",
    summary="compare segmentations with references",
    usage="PREDICTIONS REFERENCE [-o FILE] [options]",
    description="Score predicted segmentations against references: Dice, IoU, sensitivity, precision, volumes and "
    "surface distances per case and class, with bootstrap intervals; -o FILE.json writes FILE.csv as well.",
    examples=(
        f"nnunet-rs evaluate segmentations labelsTs -o {SUMMARY_JSON}",
        "nnunet-rs evaluate mine labelsTs --against theirs --metric hd95",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
