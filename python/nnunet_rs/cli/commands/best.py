"""`best`: choose a configuration or a pair, and post-processing, by cross-validation."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from nnunet_rs.cli import cluster, cohort, shared
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome
from nnunet_rs.core.workspace import WorkFolder

if TYPE_CHECKING:
    from nnunet_rs.select.choice import Choice


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `best` takes."""
    shared.add_work(parser, "work folder with trained models")
    shared.add_configurations(parser, "choose among these (default: all that are trained)")
    shared.add_folds(parser, "score these folds (default: all that every configuration has)")
    parser.add_argument("--no-pairs", "--disable_ensembling", action="store_true", help="single configurations only")
    parser.add_argument("--no-mirror", action="store_true", help="no mirrored passes: faster, a little less accurate")
    shared.add_own_network(parser)
    group = parser.add_argument_group("resources")
    shared.add_device(group)
    shared.add_threads(group)
    shared.add_engine(group)
    shared.add_precision(group)
    cluster.add_cluster(parser)


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Choose a configuration or a pair, and post-processing, by cross-validation."""
    from nnunet_rs.model.plugins import own_function
    from nnunet_rs.predict.predictor import PredictOptions
    from nnunet_rs.select.selection import choose_best

    cluster.require_cluster(arguments)
    network = own_function("network", arguments.network) if arguments.network else None
    options = PredictOptions(
        mirror=not arguments.no_mirror,
        precision=arguments.precision,
        engine=arguments.engine,
        threads=arguments.threads,
        network=network,
    )
    given = {
        "configurations": arguments.configuration,
        "folds": None if arguments.fold in (None, ["all"]) else arguments.fold,
        "pairs": not arguments.no_pairs,
        "device": arguments.device,
        "options": options,
    }
    chosen: Choice | Outcome
    if arguments.on:
        chosen = _on_cluster(arguments, given, console)
    else:
        chosen = choose_best(arguments.work, **given, progress=console)
    return chosen if isinstance(chosen, Outcome) else _told(chosen, arguments)


def _told(choice: Choice, arguments: argparse.Namespace) -> Outcome:
    from nnunet_rs.core.document import encode
    from nnunet_rs.report.tables import choice_table

    note = "\n".join((*choice.postprocessing.reasons, f"predict follows {WorkFolder(arguments.work).best_file}"))
    return Outcome(encode(choice), (choice_table(choice, note),))


def _on_cluster(arguments: argparse.Namespace, given: Mapping[str, Any], console: Console) -> Choice | Outcome:
    """Let workers predict what is missing; one node scores and chooses."""
    from nnunet_rs.core.dataset import read_dataset
    from nnunet_rs.run.cohort.choosing import ChoosingOptions, begin_choosing, choosing_job
    from nnunet_rs.run.cohort.follow import require_all, run_job

    home, asked = WorkFolder(arguments.work).jobs_folder, ChoosingOptions(**given)
    if arguments.dry_run:
        return cluster.would_submit(arguments, [f"best {arguments.work}, worker 1", f"choose {arguments.work}"], home)
    workers = cohort.workers_for(arguments, len(read_dataset(arguments.work).training))
    begun = begin_choosing(arguments.work, asked, workers, console)
    if begun is not None:
        followed = cohort.followed(arguments, *begun, console)
        left = cohort.unfinished(followed, begun[1])
        if left is not None:
            return left
        require_all(followed, begun[0].names(), str(arguments.work))
    with closing(cluster.executor_in(home, arguments)) as executor:
        chosen: Choice = run_job(executor, choosing_job(arguments.work, asked), console)
    return chosen


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
