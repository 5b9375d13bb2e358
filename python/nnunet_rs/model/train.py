"""Train one fold of one configuration, from a prepared work folder to a finished model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnunet_rs.core.errors import DatasetError, PlanError
from nnunet_rs.core.files import remove_leftovers
from nnunet_rs.core.geometry import new_shape
from nnunet_rs.core.types import LabelSet, Progress, Silent
from nnunet_rs.data.augment import build_augmentation
from nnunet_rs.data.folds import Fold, read_splits
from nnunet_rs.data.loader import Loader, LoaderOptions
from nnunet_rs.data.preprocess import target_spacing
from nnunet_rs.data.store import Store, open_store
from nnunet_rs.model.average import WeightAverage
from nnunet_rs.model.checkpoint import CARD, ModelCard, read_card, save_model
from nnunet_rs.model.course import Course
from nnunet_rs.model.device import Compute, choose_compute, find_device, kernels_measured, out_of_memory_explained
from nnunet_rs.model.functions import name_of
from nnunet_rs.model.history import History
from nnunet_rs.model.interrupt import StopWish, stop_wishes
from nnunet_rs.model.loop import METRICS, Job, Loop
from nnunet_rs.model.losses import DeepSupervision, LossFunction, build_loss
from nnunet_rs.model.optimiser import build_optimiser
from nnunet_rs.model.options import TrainOptions, TrainResult
from nnunet_rs.model.recipe import TrainRecipe
from nnunet_rs.model.state import RESUME, Identity, TrainingState, load_state
from nnunet_rs.model.unet import NetworkOptions, build_unet, network_channels
from nnunet_rs.plan.document import encode
from nnunet_rs.plan.recipe import recipe_named
from nnunet_rs.plan.schema import Configuration, Plan, read_fingerprint, read_plan

KEPT = "resume.previous.safetensors"  # where a training that was not resumed is kept
SMALLER = "train with a smaller --batch-size or --features, or plan for less memory (plan --vram) and preprocess again"


@dataclass(frozen=True, slots=True)
class _Setup:
    """What one training is about."""

    work: Path
    plan: Plan  # with the user's overrides
    settings: Configuration
    fold: int
    cases: Fold
    options: TrainOptions

    @property
    def folder(self) -> Path:
        """Where the model goes."""
        return model_folder(self.work, self.settings.name, self.fold)

    @property
    def augmentation(self) -> str:
        return self.options.augmentation or self.options.recipe.augmentation

    @property
    def network(self) -> NetworkOptions:
        return self.options.network or default_network(self.plan, self.options.recipe)


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
        Work folder with plan.json, fingerprint.json, splits.json and prepared/CONFIGURATION. The model goes to
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
    setup = _set_up(work, configuration, fold, options)
    if options.resume and (setup.folder / CARD).is_file() and not (setup.folder / RESUME).is_file():
        return _finished_before(setup.folder, progress)
    with ExitStack() as stack:
        stack.enter_context(_threads(options.threads))
        stack.enter_context(out_of_memory_explained(SMALLER))
        stack.enter_context(kernels_measured())
        wish = stack.enter_context(stop_wishes())
        torch.manual_seed(options.seed)
        compute = choose_compute(find_device(options.device), options.precision, options.channels_last)
        state = _first_state(setup, compute)
        training, validation = (stack.enter_context(loader) for loader in _loaders(setup))
        job = _job(setup, compute, training, validation, on_epoch)
        _resume_or_begin(job, state, options.resume, progress)
        return _train(setup, job, state, wish, progress)


def model_folder(work: Path, configuration: str, fold: int) -> Path:
    """Return where a fold's model is: WORK/models/CONFIGURATION/fold_K."""
    return work / "models" / configuration / f"fold_{fold}"


def default_network(plan: Plan, recipe: TrainRecipe) -> NetworkOptions:
    """Return the network of a plan's and a training recipe's authors.

    Plans of the paper's rules have decoder kernels as the code of 2019; deep supervision is the training recipe's.
    """
    if plan.recipe == "paper":
        return NetworkOptions(deep_supervision=recipe.deep_supervision, decoder_kernels="below")
    return NetworkOptions(deep_supervision=recipe.deep_supervision)


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
    return _with(plan, replace(old, features=tuple(min(features * 2**s, limit) for s in range(len(old.features)))))


def _set_up(work: Path, configuration: str, fold: int, options: TrainOptions) -> _Setup:
    """Read the work folder, and put the user's overrides into the plan so that the model card tells the truth."""
    plan = read_plan(work / "plan.json")
    if configuration not in plan.configurations:
        there = ", ".join(plan.configurations)
        raise PlanError(f"{work / 'plan.json'}: there is no configuration {configuration}; there are {there}")
    if plan.configurations[configuration].previous is not None:
        raise PlanError(
            f"configuration {configuration}: this release cannot train the second stage of a cascade; "
            "train 3d_lowres, 3d_fullres or 2d"
        )
    if options.batch_size is not None:
        if options.batch_size < 1:
            raise PlanError(f"batch size is {options.batch_size}: must be at least 1")
        plan = _with(plan, replace(plan.configurations[configuration], batch_size=options.batch_size))
    if options.features is not None:
        plan = with_features(plan, configuration, options.features)
    splits = work / "splits.json"
    folds = read_splits(splits, [case.name for case in read_fingerprint(work / "fingerprint.json").cases])
    if not 0 <= fold < len(folds):
        raise PlanError(f"{splits}: there is no fold {fold}; there are 0 to {len(folds) - 1}")
    return _Setup(work, plan, plan.configurations[configuration], fold, folds[fold], options)


def _with(plan: Plan, configuration: Configuration) -> Plan:
    return replace(plan, configurations={**plan.configurations, configuration.name: configuration})


def _loaders(setup: _Setup) -> Iterator[Loader]:
    """Yield where training and validation batches come from; patches of validation are not augmented."""
    plan, settings, options = setup.plan, setup.settings, setup.options
    store = open_store(setup.work, plan, settings.name, cache=options.cache)
    for name in sorted({*setup.cases.train, *setup.cases.validation}):
        _check_prepared(store, name, setup)
    moved = build_augmentation(setup.augmentation, settings, plan.normalization)
    loading = LoaderOptions(options.seed, "training", threads=options.threads)
    yield Loader(store, setup.cases.train, settings, plan.labels, moved, loading)
    still = build_augmentation("none", settings, plan.normalization)
    loading = LoaderOptions(options.seed, "validation", threads=options.threads)
    yield Loader(store, setup.cases.validation, settings, plan.labels, still, loading)


def _check_prepared(store: Store, case: str, setup: _Setup) -> None:
    """Check that a prepared case is on the plan's grid: plan.json may have been edited, or made anew, since."""
    geometry, transpose = store.record(case).geometry, setup.plan.transpose
    spacing = geometry.working_spacing
    planned = new_shape(geometry.cropped_shape, spacing, target_spacing(setup.settings, spacing))
    if geometry.transpose != transpose or geometry.resampled != planned:
        raise DatasetError(
            f"{store.folder}: case {case} was prepared for another plan (shape {list(geometry.resampled)}, axes "
            f"{list(geometry.transpose)}; the plan makes it {list(planned)}, {list(transpose)}); run preprocess again"
        )


def _first_state(setup: _Setup, compute: Compute) -> TrainingState:
    """Build network, optimiser and averages as they are before the first iteration."""
    options, settings = setup.options, setup.settings
    network = (options.custom_network or build_unet)(settings, *network_channels(setup.plan, settings), setup.network)
    network = compute.place(network, settings.dims)
    if options.custom_optimiser is not None:
        optimiser = options.custom_optimiser(network.parameters())
    else:
        optimiser = build_optimiser(options.recipe, network.parameters())
    decay = options.recipe.average
    average = None if decay is None else WeightAverage(network, decay)
    return TrainingState(network, optimiser, compute.scaler(), average, History(_classes(setup.plan.labels)))


def _job(
    setup: _Setup,
    compute: Compute,
    training: Loader,
    validation: Loader,
    on_epoch: Callable[[History], None] | None,
) -> Job:
    options = setup.options
    course = Course.of(
        options.recipe,
        epochs=options.epochs,
        batches=options.batches,
        validation_batches=options.validation_batches,
        budget=options.time_budget,
    )
    return Job(
        folder=setup.folder,
        identity=_identity(setup, course),
        labels=setup.plan.labels,
        compute=compute,
        course=course,
        loss=_loss(setup).to(compute.device),
        training=training,
        validation=validation,
        dims=setup.settings.dims,
        on_epoch=on_epoch,
    )


def _identity(setup: _Setup, course: Course) -> Identity:
    plan, settings, options = setup.plan, setup.settings, setup.options
    return Identity(
        configuration=settings.name,
        plan=_digest(encode(settings), encode(plan.labels), encode(plan.normalization), plan.transpose),
        fold=setup.fold,
        cases=_digest(encode(setup.cases)),
        recipe=options.recipe.name,
        seed=options.seed,
        batch_size=settings.batch_size,
        batches=course.batches,
        network=setup.network,
        loss=name_of(options.custom_loss) or options.loss or options.recipe.loss,
        augmentation=setup.augmentation,
        custom_network=name_of(options.custom_network),
    )


def _loss(setup: _Setup) -> nn.Module:
    options = setup.options
    terms, batch_dice = options.loss or options.recipe.loss, setup.settings.batch_dice
    loss: LossFunction = options.custom_loss or build_loss(setup.plan.labels, terms, batch_dice=batch_dice)
    return DeepSupervision(loss)


def _resume_or_begin(job: Job, state: TrainingState, resume: bool, progress: Progress) -> None:
    """Go on from the checkpoint if that is wanted, else keep it aside: forgetting to resume loses nothing."""
    path = job.folder / RESUME
    if job.folder.is_dir():
        remove_leftovers(job.folder)  # of a kill in the middle of a write
    if not path.is_file():
        if resume:
            progress.say(f"nothing to resume in {job.folder}: training from the beginning")
    elif resume:
        load_state(path, state, job.identity)
        progress.say(f"resuming at epoch {state.position.epoch + 1}, batch {state.position.batch + 1}")
    else:
        path.replace(job.folder / KEPT)
        progress.say(f"an unfinished training was there: kept as {KEPT} (--resume would have gone on with it)")


def _train(setup: _Setup, job: Job, state: TrainingState, wish: StopWish, progress: Progress) -> TrainResult:
    network = state.network
    forward: Callable[[torch.Tensor], Any] = torch.compile(network) if setup.options.compile else network
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    progress.say(f"training on {job.compute.describe()}: {millions:.1f} million weights")
    finished = Loop(job, state, forward, wish).run(progress)
    if finished:
        _write_model(setup, job, state)
    return TrainResult(job.folder, state.history, state.position.seconds, finished, wish.signal)


def _write_model(setup: _Setup, job: Job, state: TrainingState) -> None:
    """Write weights and card, then drop the checkpoint: a kill in between leaves something to resume."""
    identity, epochs = job.identity, state.history.epochs
    card = ModelCard(
        plan=setup.plan,
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


def _digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
