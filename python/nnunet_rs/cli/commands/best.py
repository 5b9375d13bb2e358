"""`best`: choose a configuration or a pair, and post-processing, by cross-validation."""

from __future__ import annotations

import argparse

from nnunet_rs.cli import shared, values
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome
from nnunet_rs.core.workspace import WorkFolder


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `best` takes."""
    shared.add_work(parser, "work folder with trained models")
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
    shared.add_own_network(parser)
    group = parser.add_argument_group("resources")
    shared.add_device(group)
    shared.add_threads(group)
    shared.add_engine(group)
    shared.add_precision(group)


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Choose a configuration or a pair, and post-processing, by cross-validation."""
    from nnunet_rs.core.document import encode
    from nnunet_rs.model.plugins import own_function
    from nnunet_rs.predict.predictor import PredictOptions
    from nnunet_rs.report.tables import choice_table
    from nnunet_rs.select.selection import choose_best

    network = own_function("network", arguments.network) if arguments.network else None
    options = PredictOptions(
        mirror=not arguments.no_mirror,
        precision=arguments.precision,
        engine=arguments.engine,
        threads=arguments.threads,
        network=network,
    )
    choice = choose_best(
        arguments.work,
        configurations=arguments.configuration,
        folds=None if arguments.fold in (None, ["all"]) else arguments.fold,
        pairs=not arguments.no_pairs,
        device=arguments.device,
        options=options,
        progress=console,
    )
    note = "\n".join((*choice.postprocessing.reasons, f"predict follows {WorkFolder(arguments.work).best_file}"))
    return Outcome(encode(choice), (choice_table(choice, note),))


COMMAND = Command(
    name="best",
    group="train",
    summary="choose a configuration or a pair, and post-processing, by cross-validation",
    usage="WORK [options]",
    description="Score every trained configuration and every pair of them on the cases that they did not see, "
    "choose the best, and decide whether keeping the largest component helps. Predicting with WORK follows it.",
    examples=("nnunet-rs best work", "nnunet-rs best work -c 2d 3d_fullres -f 0 1 --no-pairs"),
    add_arguments=_add_arguments,
    run=_run,
)
