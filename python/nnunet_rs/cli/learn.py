"""Train, and choose among what was trained."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_rs.cli.console import Console, Outcome, counted
from nnunet_rs.cli.launch import processes_joined

if TYPE_CHECKING:
    from nnunet_rs.model.history import History
    from nnunet_rs.model.options import TrainOptions, TrainResult
    from nnunet_rs.predict.summary import Summary
    from nnunet_rs.report.tables import Table

INTERRUPT = 2  # the signal of Ctrl-C
PICTURES = "pictures"  # folder in a fold's model folder


def train(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Train one fold or all of them, and score each on the cases that it did not see."""
    with processes_joined(arguments, console) as leads:
        return _train(arguments, console, leads)


def _train(arguments: argparse.Namespace, console: Console, leads: bool) -> Outcome:
    folds = [arguments.fold] if arguments.fold != "all" else _every_fold(arguments.work)
    results: list[dict[str, Any]] = []
    shown: list[Table | str] = []
    for fold in folds:
        trained = _train_fold(arguments, fold, console, leads)
        if not trained.finished:
            again = "run the same command with --resume to go on"
            console.say(f"stopped in epoch {len(trained.history.epochs) + 1}; {again}")
            return Outcome({"folds": results, "finished": False}, (), 128 + (trained.signal or INTERRUPT))
        if not leads:
            continue
        summary = _validate(arguments, fold, console)
        results.append(_fold_json(fold, trained, summary))
        shown.append(_fold_table(arguments, fold, summary, trained))
    return Outcome({"configuration": arguments.configuration, "folds": results, "finished": True}, tuple(shown))


def _every_fold(work: Path) -> list[int]:
    from nnunet_rs.core.files import read_json

    return list(range(len(read_json(work / "splits.json"))))


def train_options(arguments: argparse.Namespace) -> TrainOptions:
    """Gather what the user wants otherwise than plan and recipe say."""
    from nnunet_rs.model.options import TrainOptions
    from nnunet_rs.model.recipe import find_recipe

    loss, augmentation = (
        own_function(name) if name and ":" in name else None for name in (arguments.loss, arguments.augmentation)
    )
    return TrainOptions(
        recipe=find_recipe(arguments.recipe),
        epochs=arguments.epochs,
        batches=arguments.batches,
        time_budget=arguments.time_budget,
        batch_size=arguments.batch_size,
        features=arguments.features,
        activation=arguments.activation,
        norm=arguments.norm,
        downsampling=arguments.pooling,
        deep_supervision=arguments.deep_supervision,
        loss=None if loss else arguments.loss,
        augmentation=None if augmentation else arguments.augmentation,
        seed=arguments.seed,
        resume=arguments.resume,
        device=arguments.device,
        precision=arguments.precision,
        compile=arguments.compile,
        threads=arguments.threads,
        custom_network=own_function(arguments.network),
        custom_loss=loss,
        custom_optimiser=own_function(arguments.optimiser),
        custom_augmentation=augmentation,
    )


def own_function(name: str | None) -> Callable[..., Any] | None:
    """Import a function of the user's own; None of none."""
    from nnunet_rs.model.functions import function_named

    return None if name is None else function_named(name)


def _train_fold(arguments: argparse.Namespace, fold: int, console: Console, leads: bool) -> TrainResult:
    """Train; after each epoch draw the curves. A process that follows is told of no epoch."""
    from nnunet_rs.model.setup import model_folder
    from nnunet_rs.model.train import train_fold
    from nnunet_rs.report.board import board
    from nnunet_rs.report.figures import curves_on_the_way, training_curves

    options = train_options(arguments)
    folder = model_folder(arguments.work, arguments.configuration, fold)
    path, title = folder / "progress.png", f"{arguments.configuration}, fold {fold}"
    draw = curves_on_the_way(path, title)
    with board(folder) if arguments.tensorboard else nullcontext() as add:

        def tell(history: History) -> None:
            draw(history)
            if add is not None:
                add(history)

        trained = train_fold(arguments.work, arguments.configuration, fold, options, console, tell)
    if leads:
        training_curves(path, trained.history, title)
    return trained


def _validate(arguments: argparse.Namespace, fold: int, console: Console) -> Summary:
    """Score the cases that the fold did not see, and draw the best, the median and the worst of them."""
    from nnunet_rs.core.dataset import read_dataset
    from nnunet_rs.model.setup import model_folder
    from nnunet_rs.predict.predictor import PredictOptions
    from nnunet_rs.predict.validate import validate_fold
    from nnunet_rs.report.cases import picture_ranked

    work, configuration = arguments.work, arguments.configuration
    options = PredictOptions(precision=arguments.precision, network=own_function(arguments.network))
    summary = validate_fold(work, configuration, fold, device=arguments.device, options=options, progress=console)
    dataset = read_dataset(work)
    folder = model_folder(work, configuration, fold) / PICTURES
    picture_ranked(folder, dataset.training, dataset.labels, summary)
    return summary


def _fold_json(fold: int, trained: TrainResult, summary: Summary) -> dict[str, Any]:
    return {
        "fold": fold,
        "model": trained.folder,
        "training_seconds": trained.seconds,
        "epochs": len(trained.history.epochs),
        "dice": summary.foreground_mean("dice"),
        "dice_per_class": {
            target.name: value for target, value in zip(summary.targets, summary.mean("dice"), strict=True)
        },
    }


def _fold_table(arguments: argparse.Namespace, fold: int, summary: Summary, trained: TrainResult) -> Table:
    from nnunet_rs.report.tables import scores_table

    cases = counted(len(summary.cases), "validation case")
    note = f"model, curves, validation and pictures: {trained.folder}"
    return scores_table(f"{arguments.configuration}, fold {fold}, {cases}", summary, note)


def best(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Choose a configuration or a pair, and post-processing, by cross-validation."""
    from nnunet_rs.plan.document import encode
    from nnunet_rs.predict.choice import BEST
    from nnunet_rs.predict.choose import choose_best
    from nnunet_rs.predict.predictor import PredictOptions
    from nnunet_rs.report.tables import choice_table

    options = PredictOptions(mirror=not arguments.no_mirror, threads=arguments.threads)
    choice = choose_best(arguments.work, device=arguments.device, options=options, progress=console)
    note = "\n".join((*choice.postprocessing.reasons, f"predict follows {arguments.work / BEST}"))
    return Outcome(encode(choice), (choice_table(choice, note),))
