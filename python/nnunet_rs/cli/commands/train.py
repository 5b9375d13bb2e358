"""`train`: one fold of a configuration, or everything."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_rs.cli import cluster, shared, values
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome, UsageError
from nnunet_rs.core.choices import Activation, AugmentationName, Downsampling, LossTerms, Norm, TrainRecipeName, names
from nnunet_rs.core.text import counted
from nnunet_rs.core.workspace import PLAN_JSON, WorkFolder

if TYPE_CHECKING:
    from nnunet_rs.core.types import FoldName
    from nnunet_rs.evaluate.summary import Summary
    from nnunet_rs.model.options import TrainOptions, TrainResult
    from nnunet_rs.run.one_model import ModelOptions
    from nnunet_rs.run.queue import ModelOutcome

INTERRUPT = 2  # the signal of Ctrl-C
AGAIN = "to resume, run the same command with --resume"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `train` takes."""
    shared.add_work(parser, "work folder of `nnunet-rs preprocess`")
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)  # nnU-Net's `train 27 3d_fullres 0`
    parser.add_argument("-c", "--configuration", metavar="CONFIG", help=f"2d, 3d_fullres, ... as in {PLAN_JSON}")
    of_one = "fold to leave out, from 0; all: none, one network of every case"
    parser.add_argument("-f", "--fold", metavar="FOLD", type=values.fold, help=of_one)
    parser.add_argument("--folds", metavar="FOLD", type=values.fold, nargs="+", help="these folds in turn, or all")
    parser.add_argument(
        "--all",
        action="store_true",
        help="every fold of every configuration, a cascade's first stage before its second; finished models are kept, "
        "interrupted ones resume; the options below hold for each model",
    )
    parser.add_argument(
        "--resume",
        "--c",
        action="store_true",
        help="resume an interrupted training, with its options; a finished one is kept, and scored",
    )
    parser.add_argument(
        "--new-cycle",
        action="store_true",
        help="more epochs for a finished model: a new cycle of the schedule from its weights, over --epochs or "
        "--time-budget; the finished model stays until that is done, and is then kept aside",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="train again what is finished or begun; the old model is kept aside"
    )
    _add_schedule(parser)
    _add_sampling(parser)
    _add_network(parser)
    _add_resources(parser)
    cluster.add_cluster(parser, workers=False)
    parser.add_argument(
        "--no-validation",
        action="store_true",
        help="do not predict and score the held-out cases at the end; --resume does so later",
    )
    parser.add_argument("--tensorboard", action="store_true", help="also record the epochs for TensorBoard")
    parser.add_argument(
        "--on-epoch",
        metavar="MODULE:FUNCTION",
        help=f"called after every epoch with all epochs so far, for a logger: {shared.OWN}",
    )


def _add_resources(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("resources")
    shared.add_device(group, "; several models: cuda:0,cuda:1 trains one on each (auto: on every GPU)")
    shared.add_threads(group)
    shared.add_precision(group)
    group.add_argument(
        "--channels-last",
        action=argparse.BooleanOptionalAction,
        help="memory layout of weights and feature maps (default: on processors the faster one, by a measurement)",
    )
    group.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="compile network and loss first, by torch.compile (default: on a GPU, where a C compiler is there, unless "
        "the training is short)",
    )


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Train one fold or many, and score each on the cases that it did not see."""
    from nnunet_rs.cli.launch import processes_joined

    begun = time.monotonic()  # before PyTorch is imported
    several = arguments.all or arguments.folds is not None
    if sum((arguments.all, arguments.folds is not None, arguments.fold is not None)) != 1 or not (
        arguments.all or arguments.configuration
    ):
        raise UsageError(
            "train needs -c and -f, or -c and --folds, or --all (with -c: all folds of that configuration)"
        )
    if arguments.resume and arguments.fresh:
        raise UsageError("--resume continues what is there, --fresh starts again: give one of them")
    if arguments.new_cycle and arguments.fresh:
        raise UsageError("--new-cycle trains a finished model further, --fresh trains anew: give one of them")
    if "," in arguments.device and not several:
        raise UsageError("one model trains on one device; for several GPUs start the command by torchrun")
    if arguments.fold == "all":
        console.say(
            "-f all: one network of all cases, as in nnU-Net; every fold in turn is --folds all since this version"
        )
    cluster.require_cluster(arguments)
    if arguments.on and not several:
        raise UsageError("--on hands over several models: give --all or --folds")
    with processes_joined(arguments, console) as is_rank_0, _staleness_reported(arguments, console):
        return (
            _train_many(arguments, console, is_rank_0) if several else _train_one(arguments, console, is_rank_0, begun)
        )


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("schedule")
    recipes = f"{shared.listed(TrainRecipeName)} (default: paper or v2, as the plan)"
    group.add_argument("--recipe", metavar="NAME", help=f"loss, optimiser, schedule and augmentation: {recipes}")
    group.add_argument(
        "--learning-rate", metavar="R", type=values.positive, help="at the beginning, or at the peak of fast's cycle"
    )
    group.add_argument("--epochs", metavar="N", type=values.count, help="epochs at most")
    group.add_argument("--batches", metavar="N", type=values.count, help="batches an epoch")
    group.add_argument(
        "--time-budget",
        metavar="TIME",
        type=values.duration,
        help="be done within this time, validation included, as in 20m or 1h30; a line says how it is shared",
    )
    group.add_argument(
        "--keep-best",
        action=argparse.BooleanOptionalAction,
        help="keep the epoch of the best Dice on validation patches beside the last one: predict --checkpoint best",
    )
    group.add_argument(
        "--pretrained",
        "-pretrained_weights",
        metavar="MODEL",
        help="start from the weights of a model, this program's or nnU-Net's: those that fit",
    )
    group.add_argument(
        "--seed",
        metavar="N",
        type=values.seed,
        help="seed of weights, patches and augmentation (default: 0)",
    )
    group.add_argument("--loss", metavar="NAME", help=f"{shared.listed(LossTerms)}, or {shared.OWN}")
    group.add_argument(
        "--class-weights",
        metavar="NAME=W",
        type=values.weight,
        nargs="+",
        help="weights of classes in the loss, as in background=0.5 tumour=3; classes that are not named have 1",
    )
    group.add_argument("--optimiser", metavar="MODULE:FUNCTION", help="instead of the recipe's: " + shared.OWN)
    group.add_argument("--augmentation", metavar="NAME", help=f"{shared.listed(AugmentationName)}, or {shared.OWN}")
    group.add_argument(
        "--mirror-axes",
        metavar="AXES",
        type=values.axes,
        help="mirror samples, and images in prediction, along these axes of the image only: none, all, or some of "
        "z,y,x or 0,1,2 (default: the augmentation's, all or none)",
    )


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("samples")
    group.add_argument(
        "--small-patches",
        metavar="FRACTION",
        type=values.fraction,
        help="first part of the training, 0 to below 1, with patches of half the length (default: the recipe's, "
        "which may also limit their iterations)",
    )
    group.add_argument(
        "--oversample-foreground",
        metavar="FRACTION",
        type=values.fraction,
        help="share of the samples that are centred on foreground, 0 to 1 (default: as nnU-Net, a third of each batch, "
        "rounded up to whole samples)",
    )
    group.add_argument(
        "--class-sampling",
        metavar="WAY",
        nargs="+",
        help="on which class: uniform (default, as nnU-Net: one of those in the case), balanced (every class equally "
        "often, however few cases have it), inverse_frequency (by its voxels), or weights as NAME=3 NAME=0.5",
    )
    group.add_argument(
        "--case-sampling",
        metavar="FILE|CASE=W",
        nargs="+",
        help="how often samples are of each case, relative to others: weights as CASE=3 CASE=0.5, or a .csv or .json "
        "file of them; cases that are not named have 1",
    )


def _add_network(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("network", "What plan and recipe decide, unless given here.")
    group.add_argument("--batch-size", metavar="N", type=values.count, help="samples in a batch")
    group.add_argument("--features", metavar="N", type=values.count, help="feature maps of the first stage")
    group.add_argument("--activation", choices=names(Activation), help="after each norm")
    group.add_argument("--norm", choices=names(Norm), help="after each convolution")
    group.add_argument("--pooling", dest="downsampling", choices=names(Downsampling), help="how resolution is halved")
    group.add_argument(
        "--deep-supervision",
        action=argparse.BooleanOptionalAction,
        help="a loss at every resolution of the decoder, or at the finest only",
    )
    group.add_argument("--network", metavar="MODULE:FUNCTION", help="another network: " + shared.OWN)


@contextmanager
def _staleness_reported(arguments: argparse.Namespace, console: Console) -> Iterator[None]:
    """Warn of models that no longer fit the work folder: those there are, and a cascade's second stage in the end.

    Before a first stage is trained, warn of folds that its second stage will refuse.
    """
    from nnunet_rs.model.cascade import next_stages, report_never_held_out
    from nnunet_rs.model.staleness import report_staleness_in
    from nnunet_rs.plan.files import read_plan

    plan = read_plan(WorkFolder(arguments.work).plan_file)
    names = (arguments.configuration,) if arguments.configuration else tuple(plan.configurations)
    report_never_held_out(arguments.work, plan, names, console)
    report_staleness_in(arguments.work, names, console)
    yield
    following = {stage for name in names for stage in next_stages(plan, name)}
    report_staleness_in(arguments.work, following.difference(names), console)


def _train_one(arguments: argparse.Namespace, console: Console, is_rank_0: bool, begun: float) -> Outcome:
    from nnunet_rs.model.options import Model
    from nnunet_rs.report.tables import scores_table
    from nnunet_rs.run.one_model import train_model

    model = Model(arguments.configuration, arguments.fold)
    options = replace(_model_options(arguments), begun=begun)
    done = train_model(arguments.work, model, options, console)
    if not done.training.finished:
        console.say(f"stopped in epoch {len(done.training.history.epochs) + 1}; {AGAIN}")
        return Outcome({"folds": [], "finished": False}, (), 128 + (done.training.signal or INTERRUPT))
    if done.summary is None and is_rank_0:
        entry = _model_json(model.fold, done.training, None)
        why = "not scored yet (--resume)" if arguments.no_validation else "nothing was held out to score it by"
        line = f"{model}: model and curves: {done.training.folder}; {why}"
        return Outcome({"configuration": model.configuration, "folds": [entry], "finished": True}, (line,))
    if done.summary is None or not is_rank_0:
        return Outcome({})
    entry = _model_json(model.fold, done.training, done.summary)
    note = f"model, curves, validation and pictures: {done.training.folder}"
    table = scores_table(f"{model}, {counted(len(done.summary.cases), 'validation case')}", done.summary, note)
    return Outcome({"configuration": model.configuration, "folds": [entry], "finished": True}, (table,))


def _train_many(arguments: argparse.Namespace, console: Console, is_rank_0: bool) -> Outcome:
    from nnunet_rs.model.device import find_devices
    from nnunet_rs.model.distributed import is_shared
    from nnunet_rs.run.series import every_model, train_series

    models = every_model(arguments.work, arguments.configuration)
    if arguments.folds not in (None, ["all"]):
        models = tuple(model for model in models if model.fold in arguments.folds)
        missing = sorted(set(arguments.folds) - {model.fold for model in models}, key=str)
        if missing:
            raise UsageError(f"--folds {missing[0]}: there is no such fold in {WorkFolder(arguments.work).splits_file}")
    if arguments.dry_run:
        folder = WorkFolder(arguments.work).jobs_folder
        return cluster.would_submit(arguments, [str(model) for model in models], folder)
    executor = cluster.executor_for(arguments)
    local = (arguments.device,) if is_shared() or executor else find_devices(arguments.device)
    outcomes = train_series(arguments.work, models, _model_options(arguments), local, console, executor=executor)
    outcome = _series_outcome(arguments, outcomes)
    return outcome if is_rank_0 else Outcome({}, (), outcome.code)


def _series_outcome(arguments: argparse.Namespace, outcomes: Sequence[ModelOutcome]) -> Outcome:
    from nnunet_rs.run.series import outcomes_table

    lost = [outcome for outcome in outcomes if not outcome.usable]
    signals = [outcome.training.signal or INTERRUPT for outcome in lost if outcome.training is not None]
    lines = [f"{outcome.model}: {outcome.state}{_after(outcome.reason)}" for outcome in lost]
    if lost:
        lines.append(AGAIN if not arguments.all else "run the same command again to train what is missing")
    entries = [
        {
            "configuration": outcome.model.configuration,
            "state": outcome.state,
            "reason": outcome.reason or None,
            **_model_json(outcome.model.fold, outcome.training, outcome.summary),
        }
        for outcome in outcomes
    ]
    stopped = any(outcome.state == "stopped" for outcome in lost)
    code = 128 + (signals or [INTERRUPT])[0] if stopped else int(bool(lost))
    result = {"configuration": arguments.configuration, "folds": entries, "finished": not lost}
    return Outcome(result, (outcomes_table(outcomes), *lines), code)


def _after(reason: str) -> str:
    return f": {reason}" if reason else ""


def train_options(arguments: argparse.Namespace) -> TrainOptions:
    """Gather what the user wants otherwise than plan and recipe say; options are named as the fields that they set."""
    from nnunet_rs.model.config import OWN
    from nnunet_rs.model.options import TrainOptions
    from nnunet_rs.model.plugins import as_plugin
    from nnunet_rs.model.recipe import find_recipe

    wanted = vars(arguments)
    given = {field.name: wanted[field.name] for field in fields(TrainOptions) if field.name in wanted}
    given |= {name: as_plugin(name, given[name]) or given[name] for name in OWN}  # what is not found is told now
    given["on_epoch"] = as_plugin("on-epoch", arguments.on_epoch)
    given["class_sampling"] = _class_sampling(arguments.class_sampling)
    given["case_sampling"] = _case_sampling(arguments.case_sampling)
    given["class_weights"] = dict(arguments.class_weights) if arguments.class_weights else None
    given["recipe"] = None if arguments.recipe is None else find_recipe(arguments.recipe)
    given["resume"] = arguments.resume or (arguments.all and not arguments.fresh)
    return TrainOptions(**given)


def _class_sampling(words: list[str] | None) -> str | dict[str, float] | None:
    """Read a name, or weights of classes."""
    if not words or (len(words) == 1 and "=" not in words[0]):
        return words[0] if words else None
    return _weights("--class-sampling", words)


def _case_sampling(words: list[str] | None) -> dict[str, float] | None:
    """Read weights of cases, or the file that has them."""
    from nnunet_rs.data.sampling import read_case_weights

    if not words:
        return None
    alone = len(words) == 1 and ("=" not in words[0] or words[0].lower().endswith((".csv", ".json")))
    return read_case_weights(Path(words[0])) if alone else _weights("--case-sampling", words)


def _weights(option: str, words: list[str]) -> dict[str, float]:
    try:
        return dict(map(values.weight, words))
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"{option}: {error}") from error


def _model_options(arguments: argparse.Namespace) -> ModelOptions:
    from nnunet_rs.model.plugins import as_plugin
    from nnunet_rs.predict.predictor import PredictOptions
    from nnunet_rs.run.one_model import ModelOptions

    training = train_options(arguments)
    predicting = PredictOptions(precision=training.precision, network=as_plugin("network", training.network))
    return ModelOptions(training, predicting, arguments.tensorboard, score=not arguments.no_validation)


def _model_json(fold: FoldName, trained: TrainResult | None, summary: Summary | None) -> dict[str, Any]:
    means = () if summary is None else zip(summary.targets, summary.mean("dice"), strict=True)
    return {
        "fold": fold,
        "model": None if trained is None else trained.folder,
        "training_seconds": None if trained is None else trained.seconds,
        "epochs": None if trained is None else len(trained.history.epochs),
        "dice": None if summary is None else summary.foreground_mean("dice"),
        "dice_per_class": {target.name: value for target, value in means},
    }


COMMAND = Command(
    name="train",
    group="train",
    summary="train one fold of a configuration, or everything, and score the validation cases",
    usage="WORK (-c CONFIG -f FOLD | --all) [options]",
    description="Train a network on all cases but one fold's, then predict that fold's cases and score them.",
    examples=(
        "nnunet-rs train work -c 3d_fullres -f 0",
        "nnunet-rs train work -c 3d_fullres -f 0 --recipe fast --time-budget 20m",
        "nnunet-rs train work -c 2d --folds all --resume",
        "nnunet-rs train work --all --device cuda:0,cuda:1",
        "nnunet-rs train -d 27 -c 3d_fullres -f 0",
        "nnunet-rs train work --all --on slurm --partition gpu --gpus 1 --time 24:00:00",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
