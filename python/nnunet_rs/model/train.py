"""Train one fold of one configuration, from a prepared work folder to a finished model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.types import LabelSet, Progress, Silent
from nnunet_rs.data.folds import Fold, read_splits
from nnunet_rs.data.store import Store
from nnunet_rs.model.average import WeightAverage
from nnunet_rs.model.checkpoint import CARD, ModelCard, read_card, save_model
from nnunet_rs.model.course import Course
from nnunet_rs.model.device import Compute, choose_compute, find_device, out_of_memory_explained
from nnunet_rs.model.history import History
from nnunet_rs.model.interrupt import StopWish, stop_wishes
from nnunet_rs.model.loop import METRICS, Batches, Job, Loop
from nnunet_rs.model.losses import DeepSupervision, LossFunction, build_loss
from nnunet_rs.model.optimiser import build_optimiser
from nnunet_rs.model.options import TrainOptions, TrainResult
from nnunet_rs.model.recipe import TrainRecipe
from nnunet_rs.model.state import RESUME, Identity, TrainingState, load_state
from nnunet_rs.model.unet import NetworkOptions, build_unet, network_channels
from nnunet_rs.plan.document import encode
from nnunet_rs.plan.recipe import recipe_named
from nnunet_rs.plan.schema import Configuration, Plan, read_plan

KEPT = "resume.previous.safetensors"  # where a training that was not resumed is kept
SMALLER = "train with a smaller --batch-size or --features, or plan for less memory (plan --vram) and preprocess again"


def train_fold(
    work: Path,
    configuration: str,
    fold: int,
    options: TrainOptions | None = None,
    progress: Progress | None = None,
    on_epoch: Callable[[History], None] | None = None,
) -> TrainResult:
    """Train one fold and write its model.

    Parameters
    ----------
    work
        Work folder with plan.json, splits.json and prepared/CONFIGURATION. The model goes to
        WORK/models/CONFIGURATION/fold_K: metrics.jsonl and resume.safetensors while it trains, then
        weights.safetensors and model.json.
    configuration, fold
        Which; folds count from 0.
    options
        What is to be otherwise than plan and recipe say.
    progress
        Where to show how it goes.
    on_epoch
        Called after every epoch with all epochs so far, to draw them.

    Returns
    -------
    TrainResult
        `finished` is False when SIGINT or SIGTERM came: resume.safetensors then holds everything to go on.

    Raises
    ------
    PlanError, DatasetError
        The work folder lacks the plan, the fold, or prepared cases.
    CheckpointError
        `options.resume`, and what is there is damaged or of another training.
    TrainingError
        The loss is no number, or memory is exhausted.
    """
    options, progress = options or TrainOptions(), progress or Silent()
    plan = _chosen_plan(work, configuration, options)
    folder = work / "models" / configuration / f"fold_{fold}"
    if options.resume and (folder / CARD).is_file() and not (folder / RESUME).is_file():
        return _finished_before(folder, progress)
    cases = _cases(work, configuration, fold)
    with _threads(options.threads), stop_wishes() as wish, out_of_memory_explained(SMALLER):
        torch.manual_seed(options.seed)
        compute = choose_compute(find_device(options.device), options.precision, options.channels_last)
        job = _job(work, plan, configuration, fold, cases, options, compute, on_epoch)
        state = _state(plan, configuration, options, job)
        _resume_or_begin(job, state, options, progress)
        return _train(job, state, plan, options, wish, progress)


def default_network(plan: Plan, recipe: TrainRecipe) -> NetworkOptions:
    """Return the network of a plan's and a training recipe's authors.

    Plans of the paper's rules have decoder kernels as the code of 2019; deep supervision is the training recipe's.
    """
    kernels: Any = "below" if plan.recipe == "paper" else "same"
    return NetworkOptions(deep_supervision=recipe.deep_supervision, decoder_kernels=kernels)


def with_features(plan: Plan, configuration: str, features: int) -> Plan:
    """Return the plan with another number of features in a configuration's first stage.

    The others double at each stage up to the plan recipe's limit, as the planner has them.

    Raises
    ------
    PlanError
        `features` is less than 1.
    """
    if features < 1:
        raise PlanError(f"features is {features}: must be at least 1")
    old = plan.configurations[configuration]
    limit = max(recipe_named(plan.recipe).rules(old.dims).max_features, features)
    new = replace(old, features=tuple(min(features * 2**stage, limit) for stage in range(len(old.features))))
    return replace(plan, configurations={**plan.configurations, configuration: new})


def _chosen_plan(work: Path, configuration: str, options: TrainOptions) -> Plan:
    """Return the plan with the user's overrides, so that the model card tells the truth."""
    plan = read_plan(work / "plan.json")
    if configuration not in plan.configurations:
        raise PlanError(
            f"{work / 'plan.json'}: there is no configuration {configuration}; there are "
            f"{', '.join(plan.configurations)}"
        )
    if options.batch_size is not None:
        if options.batch_size < 1:
            raise PlanError(f"batch size is {options.batch_size}: must be at least 1")
        new = replace(plan.configurations[configuration], batch_size=options.batch_size)
        plan = replace(plan, configurations={**plan.configurations, configuration: new})
    if options.features is not None:
        plan = with_features(plan, configuration, options.features)
    return plan


def _cases(work: Path, configuration: str, fold: int) -> Fold:
    store = Store(work / "prepared" / configuration)
    names = store.names()
    if not names:
        raise PlanError(f"{store.folder}: holds no prepared case; run preprocess with -c {configuration}")
    folds = read_splits(work / "splits.json", names)
    if not 0 <= fold < len(folds):
        raise PlanError(f"{work / 'splits.json'}: there is no fold {fold}; there are 0 to {len(folds) - 1}")
    return folds[fold]


def _job(
    work: Path,
    plan: Plan,
    configuration: str,
    fold: int,
    cases: Fold,
    options: TrainOptions,
    compute: Compute,
    on_epoch: Callable[[History], None] | None,
) -> Job:
    settings, recipe = plan.configurations[configuration], options.recipe
    augmentation = options.augmentation or recipe.augmentation
    identity = Identity(
        configuration=configuration,
        plan=_digest(encode(settings), encode(plan.labels), encode(plan.normalization), plan.transpose),
        fold=fold,
        cases=_digest(encode(cases)),
        recipe=recipe.name,
        seed=options.seed,
        batch_size=settings.batch_size,
        batches=recipe.batches if options.batches is None else options.batches,
        network=options.network or default_network(plan, recipe),
        loss=_name(options.custom_loss) or options.loss or recipe.loss,
        augmentation=augmentation,
        custom_network=_name(options.custom_network),
    )
    training, validation = _loaders(work, plan, settings, cases, options, augmentation)
    course = Course.of(
        recipe,
        epochs=options.epochs,
        batches=options.batches,
        validation_batches=options.validation_batches,
        budget=options.time_budget,
    )
    return Job(
        folder=work / "models" / configuration / f"fold_{fold}",
        identity=identity,
        labels=plan.labels,
        compute=compute,
        course=course,
        loss=_loss(plan.labels, settings, options).to(compute.device),
        training=training,
        validation=validation,
        dims=settings.dims,
        on_epoch=on_epoch,
    )


def _loaders(
    work: Path, plan: Plan, settings: Configuration, cases: Fold, options: TrainOptions, augmentation: str
) -> tuple[Batches, Batches]:
    """Return where training and validation batches come from; validation patches are not augmented."""
    raise NotImplementedError


def _loss(labels: LabelSet, settings: Configuration, options: TrainOptions) -> nn.Module:
    terms = options.loss or options.recipe.loss
    loss: LossFunction = options.custom_loss or build_loss(labels, terms, batch_dice=settings.batch_dice)
    return DeepSupervision(loss)


def _state(plan: Plan, configuration: str, options: TrainOptions, job: Job) -> TrainingState:
    """Build network, optimiser and averages as they are before the first iteration."""
    settings, recipe, compute = plan.configurations[configuration], options.recipe, job.compute
    build = options.custom_network or build_unet
    network = build(settings, *network_channels(plan, settings), job.identity.network)
    network = compute.place(network, settings.dims)
    if options.custom_optimiser is not None:
        optimiser = options.custom_optimiser(network.parameters())
    else:
        optimiser = build_optimiser(recipe, network.parameters())
    average = None if recipe.average is None else WeightAverage(network, recipe.average)
    return TrainingState(network, optimiser, compute.scaler(), average, History(_classes(plan.labels)))


def _resume_or_begin(job: Job, state: TrainingState, options: TrainOptions, progress: Progress) -> None:
    """Go on from the checkpoint if that is wanted, else keep it aside: forgetting to resume loses nothing."""
    path = job.folder / RESUME
    if not path.is_file():
        if options.resume:
            progress.say(f"nothing to resume in {job.folder}: training from the beginning")
    elif options.resume:
        load_state(path, state, job.identity)
        progress.say(f"resuming at epoch {state.position.epoch + 1}, batch {state.position.batch + 1}")
    else:
        path.replace(job.folder / KEPT)
        progress.say(f"an unfinished training was there: kept as {KEPT} (--resume would have gone on with it)")


def _train(
    job: Job, state: TrainingState, plan: Plan, options: TrainOptions, wish: StopWish, progress: Progress
) -> TrainResult:
    network = state.network
    forward: Callable[[torch.Tensor], Any] = torch.compile(network) if options.compile else network
    loop = Loop(job, state, forward, wish)
    progress.say(f"training on {job.compute.describe()}: {_size(network)}")
    finished = loop.run(progress)
    if finished:
        _write_model(job, state, plan)
    return TrainResult(job.folder, state.history, state.position.seconds, finished, wish.signal)


def _write_model(job: Job, state: TrainingState, plan: Plan) -> None:
    """Write weights and card, then drop the checkpoint: a kill in between leaves something to resume."""
    identity, epochs = job.identity, state.history.epochs
    card = ModelCard(
        plan=plan,
        configuration=identity.configuration,
        network=identity.network,
        fold=identity.fold,
        recipe=identity.recipe,
        seed=identity.seed,
        iterations=state.position.iterations,
        end=epochs[-1] if epochs else None,
        best=state.history.best,
        custom_network=identity.custom_network,
    )
    state.history.write(job.folder / METRICS)
    save_model(job.folder, state.model.state_dict(), card)
    (job.folder / RESUME).unlink(missing_ok=True)


def _finished_before(folder: Path, progress: Progress) -> TrainResult:
    card = read_card(folder)
    progress.say(f"{folder}: is trained already ({card.iterations} iterations); nothing to resume")
    return TrainResult(folder, History.read(folder / METRICS, _classes(card.plan.labels)), 0.0, finished=True)


def _classes(labels: LabelSet) -> tuple[str, ...]:
    """Return what the entries of a Dice are called: regions, or foreground classes."""
    return tuple(region.name for region in labels.regions) or labels.names[1:]


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let PyTorch use this many threads within the block."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _name(function: object) -> str | None:
    """Return module:function of a function of the user's own."""
    if function is None:
        return None
    return f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', type(function).__name__)}"


def _digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _size(network: nn.Module) -> str:
    return f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f} M parameters"
