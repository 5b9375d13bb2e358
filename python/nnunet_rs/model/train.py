"""Train one fold of one configuration, from a prepared work folder to a finished model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnunet_rs.core.errors import DatasetError, NnunetError, TrainingError
from nnunet_rs.core.geometry import new_shape
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.resources import processors
from nnunet_rs.core.types import FoldName
from nnunet_rs.core.workspace import PLAN_JSON, ModelFolder, WorkFolder
from nnunet_rs.data.augment import Augmentation, build_augmentation, with_first_stage_channels, with_mirror_axes
from nnunet_rs.data.folds import read_plan_and_fold
from nnunet_rs.data.loader import Loader, LoaderOptions
from nnunet_rs.data.mirroring import axes_named, declares_mirror_axes, image_axes, mirrored_axes
from nnunet_rs.data.resampling import target_spacing
from nnunet_rs.data.store import Store, normalization_key, open_store
from nnunet_rs.model.begin import finished_before, read_saved, resume_or_begin, tell_changed_course, tell_recipe
from nnunet_rs.model.checkpoint import save_model
from nnunet_rs.model.config import followed
from nnunet_rs.model.device import (
    Compute,
    batch_memory,
    choose_compute,
    compiler_explained,
    find_device,
    kernels_measured,
    out_of_memory_explained,
)
from nnunet_rs.model.distributed import SharedLoss, current_team, is_rank_0
from nnunet_rs.model.ema import WeightEMA
from nnunet_rs.model.history import History
from nnunet_rs.model.loop import Job, Loop
from nnunet_rs.model.losses import DeepSupervision, build_loss
from nnunet_rs.model.metadata import ModelMetadata
from nnunet_rs.model.network_options import network_channels
from nnunet_rs.model.optimiser import build_optimiser
from nnunet_rs.model.options import Model, TrainOptions, TrainResult
from nnunet_rs.model.plugin_checks import check_augmentation, check_network, check_optimiser
from nnunet_rs.model.plugin_trial import try_plugins
from nnunet_rs.model.plugins import own_code_told
from nnunet_rs.model.pretrained import take_pretrained
from nnunet_rs.model.previous_models import fold_lock
from nnunet_rs.model.setup import (
    Setup,
    config_for,
    identity_of,
    plugins,
    set_up,
)
from nnunet_rs.model.state import TrainingState
from nnunet_rs.model.stop_request import StopRequest, stop_requests
from nnunet_rs.model.training_schedule import Overhead, TrainingSchedule
from nnunet_rs.model.unet import build_unet

SMALLER = "train with a smaller --batch-size or --features, or plan for less memory (plan --vram) and preprocess again"


def train_fold(
    work: str | Path,
    configuration: str,
    fold: FoldName,
    options: TrainOptions | None = None,
    progress: Progress | None = None,
    on_epoch: Callable[[History], None] | None = None,
) -> TrainResult:
    """Train one fold and write its model. One process at a time does so; what is finished is not replaced unasked.

    Parameters
    ----------
    work
        Work folder with plan.json, fingerprint.json, splits.json and prepared/CONFIGURATION. The model goes to
        WORK/models/CONFIGURATION/fold_K: metrics.jsonl and resume.safetensors while it trains, then
        weights.safetensors and model.json. What was there before a training begins anew is kept, whole, in previous_N.
    configuration, fold
        Which; folds count from 0, "all" is one network of every case, which nothing is held out from.
    options
        What is to be otherwise than plan and recipe say; with `resume`, than the checkpoint says.
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
        A finished model is there, and neither `options.resume` nor `options.fresh`; `options.resume`, and what is there
        is damaged or of another training; or the first stage of a cascade is not trained in every fold, or has not
        segmented the cases yet (`predict.previous.segment_cases`).
    HeldError
        Another process trains this fold.
    TrainingError
        The loss is no number, or memory is exhausted.
    """
    work, progress = Path(work), progress or Silent()
    read_plan_and_fold(work, configuration, fold)  # no folder is made for what there is not
    with fold_lock(WorkFolder(work).model(configuration, fold).path, progress, is_rank_0=is_rank_0()):
        return train_locked(work, Model(configuration, fold), options or TrainOptions(), progress, on_epoch)


def train_locked(
    work: Path,
    model: Model,
    options: TrainOptions,
    progress: Progress,
    on_epoch: Callable[[History], None] | None = None,
    *,
    overhead: Overhead | None = None,
) -> TrainResult:
    """Do what `train_fold` does, for who holds the fold's lock; `overhead` belongs to the time budget as well."""
    folder = WorkFolder(work).model(model.configuration, model.fold).path
    group = current_team()
    group.wait()  # for the leader to have put the folder in order
    progress = progress if group.is_rank_0 else Silent()
    if kept := finished_before(folder, options, progress):
        return kept
    saved = read_saved(folder) if options.resume else None
    asked = options
    if saved is not None:
        options = followed(options, saved, ModelFolder(folder).checkpoint_file)
    setup = set_up(work, model.configuration, model.fold, options, group)
    with ExitStack() as stack:
        stack.enter_context(_threads(options.threads))
        stack.enter_context(out_of_memory_explained(SMALLER))
        stack.enter_context(kernels_measured())
        stop_request = stack.enter_context(stop_requests())
        torch.manual_seed(setup.seed)
        compute = choose_compute(find_device(options.device), options.precision, options.channels_last)
        stack.enter_context(compute.memory())
        if compute.remark:
            progress.say(compute.remark)
        own = plugins(setup)
        stack.enter_context(own_code_told(own))
        state = _first_state(setup, compute, progress, resumed=saved is not None)
        training, validation = (stack.enter_context(loader) for loader in _loaders(setup, compute, progress))
        job = replace(_job(setup, compute, state, (training, validation), on_epoch), overhead=overhead)
        try_plugins(job, state, setup.context, own)
        tell_recipe(setup, asked, saved, progress)
        resume_or_begin(job, state, options.resume, progress)
        tell_changed_course(job, state, saved, progress)
        return _train(setup, job, state, stop_request, progress)


def _loaders(setup: Setup, compute: Compute, progress: Progress) -> Iterator[Loader]:
    """Yield where training and validation batches come from; patches of validation are not augmented."""
    plan, settings, options = setup.plan, setup.settings, setup.options
    store = open_store(setup.work, plan, settings.name, cache=options.cache)
    for name in sorted({*setup.cases.train, *setup.cases.validation}):
        _check_prepared(store, name, setup)
    _tell_absent(store, setup, progress)
    previous = None if setup.first is None else setup.first.store
    loading = LoaderOptions(
        setup.seed,
        threads=options.threads or max(1, processors() // setup.group.size),
        share=(setup.group.rank, setup.group.size),
        empty=partial(batch_memory, compute.device),
    )
    augmentation = _augmentation(setup)
    _tell_mirroring(augmentation, setup, progress)
    yield Loader(store, setup.cases.train, settings, plan.labels, augmentation, loading, previous=previous)
    still = build_augmentation("none", settings, plan.normalization, plan.labels.count)
    loading = replace(loading, purpose="validation")
    held_out = setup.cases.validation or setup.cases.train  # which no patch is drawn from if none is held out
    yield Loader(store, held_out, settings, plan.labels, still, loading, previous=previous)


def _augmentation(setup: Setup) -> Augmentation:
    plan, settings, own = setup.plan, setup.settings, setup.own("augmentation")
    if own is None:
        return build_augmentation(
            setup.augmentation, settings, plan.normalization, plan.labels.count, setup.mirror_axes
        )
    augmentation = check_augmentation(own, own(settings, plan.normalization))
    if setup.mirror_axes is not None:
        augmentation = with_mirror_axes(augmentation, setup.mirror_axes)
    return augmentation if setup.first is None else with_first_stage_channels(augmentation, plan.labels.count)


def _tell_mirroring(augmentation: Augmentation, setup: Setup, progress: Progress) -> None:
    """Say along which axes of the image samples are mirrored, for prediction will do the same."""
    axes = image_axes(mirrored_axes(augmentation), setup.settings.dims, setup.plan.transpose)
    line = f"mirrored in training, and so in prediction: {axes_named(axes)}"
    if not declares_mirror_axes(augmentation) and setup.options.custom_augmentation is not None:
        line += f"; should {setup.augmentation} mirror, let it say so (Augmentation.mirror_axes)"
    across = sorted(set(setup.options.mirror_axes or ()) - set(axes))
    if across:
        line += f"; {axes_named(across)} lies across the slices of {setup.settings.name}"
    progress.say(line)


def _check_prepared(store: Store, case: str, setup: Setup) -> None:
    """Check that a case was prepared as the plan says: plan.json may have been edited, or made anew, since."""
    record, transpose = store.record(case), setup.plan.transpose
    if not any(key.endswith(normalization_key(setup.plan)) for key in record.keys):
        raise DatasetError(
            f"{store.folder}: case {case} was normalised by other rules than those of {PLAN_JSON}; run preprocess again"
        )
    geometry = record.geometry
    spacing = geometry.working_spacing
    planned = new_shape(geometry.cropped_shape, spacing, target_spacing(setup.settings, spacing))
    if geometry.transpose != transpose or geometry.resampled != planned:
        raise DatasetError(
            f"{store.folder}: case {case} was prepared for another plan (shape {list(geometry.resampled)}, axes "
            f"{list(geometry.transpose)}; the plan makes it {list(planned)}, {list(transpose)}); run preprocess again"
        )


def _tell_absent(store: Store, setup: Setup, progress: Progress) -> None:
    """Warn of classes that no case of the fold trains on."""
    trained = {c for case in setup.cases.train for c in store.record(case).voxels}
    absent = [name for c, name in enumerate(setup.plan.labels.names[1:], start=1) if c not in trained]
    if absent:
        progress.say(
            f"warning: fold {setup.fold} trains on no case with {', '.join(absent)}: nothing can be learnt for that"
        )


def _first_state(setup: Setup, compute: Compute, progress: Progress, *, resumed: bool) -> TrainingState:
    """Build network, optimiser and averages as they are before the first iteration."""
    drawn = _network(setup)
    if setup.options.pretrained is not None and not resumed:
        take_pretrained(drawn, setup.options.pretrained, setup.settings, setup.fold, progress)
    network = compute.place(setup.group.prepare(drawn, compute.device), setup.settings.dims)
    own = setup.own("optimiser")
    if own is not None:
        optimiser = check_optimiser(own, own(network.parameters()))
    else:
        optimiser = build_optimiser(setup.recipe, network.parameters())
    decay = setup.recipe.average
    average = None if decay is None else WeightEMA(network, decay)
    return TrainingState(network, optimiser, compute.scaler(), average, History(setup.plan.labels.score_names))


def _network(setup: Setup) -> nn.Module:
    own, given = setup.own("network"), (*network_channels(setup.plan, setup.settings), setup.network)
    if own is None:
        return build_unet(setup.settings, *given)
    return check_network(own, own(setup.settings, *given))


def _job(
    setup: Setup,
    compute: Compute,
    state: TrainingState,
    loaders: tuple[Loader, Loader],
    on_epoch: Callable[[History], None] | None,
) -> Job:
    options = setup.options
    rate = float(state.optimiser.param_groups[0]["lr"])  # a user's own optimiser brings its own
    schedule = TrainingSchedule.of(replace(setup.recipe, learning_rate=rate), options)
    return Job(
        model=setup.model,
        identity=identity_of(setup, schedule.batches),
        config=config_for(setup, schedule),
        labels=setup.plan.labels,
        compute=compute,
        schedule=schedule,
        loss=_loss(setup).to(compute.device),
        training=loaders[0],
        validation=loaders[1],
        mirror_axes=mirrored_axes(loaders[0].augmentation),
        dims=setup.settings.dims,
        on_epoch=on_epoch,
        group=setup.group,
    )


def _loss(setup: Setup) -> nn.Module:
    options = setup.options
    terms, batch_dice = options.loss or setup.recipe.loss, setup.settings.batch_dice
    own = setup.own("loss")
    if own is not None:
        made = own.made()
        loss = DeepSupervision(SharedLoss(made, setup.group))
        if isinstance(made.function, nn.Module):
            loss.add_module("own", made.function)  # goes to the device with it
        return loss
    return DeepSupervision(build_loss(setup.plan.labels, terms, batch_dice=batch_dice, total=setup.group.total))


def _train(setup: Setup, job: Job, state: TrainingState, stop_request: StopRequest, progress: Progress) -> TrainResult:
    network = job.group.wrap(state.network)
    compiled = setup.options.compile
    forward: Callable[[torch.Tensor], Any] = torch.compile(network) if compiled else network
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    together = f" and {job.group.size - 1} more" if job.group.size > 1 else ""
    progress.say(f"training on {job.compute.describe()}{together}: {millions:.3g} million weights")
    with _way_on_told(job.model.checkpoint_file), compiler_explained() if compiled else nullcontext():
        finished = Loop(job, state, forward, stop_request).run(progress)
    if finished and job.group.is_rank_0:
        _write_model(setup, job, state)
    return TrainResult(job.model.path, state.history, state.position.seconds, finished, stop_request.signal)


@contextmanager
def _way_on_told(checkpoint: Path) -> Iterator[None]:
    """Add to what a user can mend (a full disk, a damaged case) how the training goes on then."""
    try:
        yield
    except TrainingError:
        raise  # going on would end in the same place
    except NnunetError as error:
        if not checkpoint.is_file():
            raise
        raise NnunetError(f"{error}; then --resume goes on from the last checkpoint, {checkpoint}") from error


def _write_model(setup: Setup, job: Job, state: TrainingState) -> None:
    """Write weights and card, then drop the checkpoint: a kill in between leaves something to resume."""
    identity, epochs = job.identity, state.history.epochs
    metadata = ModelMetadata(
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
        loss=identity.loss,
        optimiser=identity.optimiser,
        augmentation=identity.augmentation,
        mirror_axes=job.mirror_axes,
        cases=setup.cases,
        first_stage=None if setup.first is None else setup.first.models,
        config=job.config,
    )
    state.history.write(job.model.metrics_file)
    save_model(job.model.path, state.model.state_dict(), metadata)
    job.model.checkpoint_file.unlink(missing_ok=True)


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
