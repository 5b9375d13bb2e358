"""Train one fold of one configuration, from a prepared work folder to a finished model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.optim import Optimizer

from nnunet_rs.core.choices import LossTerms
from nnunet_rs.core.errors import NnunetError, TrainingError
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.resources import busy_remark
from nnunet_rs.core.restored import Restored
from nnunet_rs.core.stop_request import StopRequest, stop_requests
from nnunet_rs.core.types import FoldName
from nnunet_rs.core.workspace import ModelFolder, WorkFolder
from nnunet_rs.data.folds import read_plan_and_fold
from nnunet_rs.data.loader import Loader
from nnunet_rs.data.mirroring import mirrored_axes
from nnunet_rs.data.store import Store, stored_orientations
from nnunet_rs.model.batches import open_loaders, small_part
from nnunet_rs.model.begin import finished_before, read_saved, report_changed_rate, report_recipe, resume_or_begin
from nnunet_rs.model.checkpoint import save_model
from nnunet_rs.model.compiled import gradient_step
from nnunet_rs.model.device import (
    Compute,
    choose_compute,
    find_device,
    kernels_measured,
    out_of_memory_explained,
)
from nnunet_rs.model.distributed import SharedLoss, current_group, is_rank_0
from nnunet_rs.model.ema import WeightEMA
from nnunet_rs.model.gpu_errors import gpu_errors_explained
from nnunet_rs.model.gpu_versions import why_no_gpu
from nnunet_rs.model.history import History
from nnunet_rs.model.loop import Loop, TrainingJob
from nnunet_rs.model.losses import DeepSupervision, build_loss
from nnunet_rs.model.measured_compute import with_measured_compute
from nnunet_rs.model.metadata import ModelMetadata
from nnunet_rs.model.network_options import network_channels
from nnunet_rs.model.next_cycle import finished_config, take_finished, trained_in
from nnunet_rs.model.optimiser import build_optimiser
from nnunet_rs.model.options import Model, TrainOptions, TrainResult
from nnunet_rs.model.plugin_checks import check_network, check_optimiser
from nnunet_rs.model.plugin_trial import try_plugins
from nnunet_rs.model.plugins import plugin_errors_named
from nnunet_rs.model.pretrained import take_pretrained
from nnunet_rs.model.previous_models import fold_lock, take_next_cycle
from nnunet_rs.model.schedule import Overhead
from nnunet_rs.model.setup import Setup, set_up
from nnunet_rs.model.state import TrainingState
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
    home = WorkFolder(work).model(model.configuration, model.fold)
    group = current_group()
    group.wait()  # for rank 0 to have put the folder in order
    progress = progress if group.is_rank_0 else Silent()

    # What is there: a finished model stays, and what was begun is resumed, if that is asked for.
    folder = trained_in(home, options)
    if kept := finished_before(folder, options, progress):
        return kept
    finished = finished_config(home, folder)
    saved = read_saved(folder) if options.resume and finished is None else None

    # What is to be trained: plan and cases, and one configuration from recipe, options and checkpoint.
    setup = set_up(work, model.configuration, model.fold, options, group, saved, folder=folder, finished=finished)
    device = _find_device(options.device, progress)

    with ExitStack() as stack:
        # Within this block the host program's settings are this training's, and signals ask to stop.
        stack.enter_context(_computing_on(device, options.threads))
        stop_request = stack.enter_context(stop_requests())
        stack.enter_context(plugin_errors_named(setup.plugins))

        # The device, and in which precision it computes.
        stack.enter_context(_RANDOM())
        torch.manual_seed(setup.config.seed)
        compute = choose_compute(device, setup.config.precision, setup.config.channels_last)
        stack.enter_context(compute.memory())
        stack.enter_context(compute.products())
        _say_remarks(compute, progress)

        # Network and optimiser as they are before the first iteration; where batches come from; the loss.
        state = _first_state(setup, compute, progress, resumed=saved is not None, finished=home if finished else None)
        loaders = [stack.enter_context(loader) for loader in open_loaders(setup, compute, progress)]
        setup = _as_begun(setup, state.optimiser, loaders[0].store)
        loss = _loss(setup).to(compute.device)
        job = replace(_job(setup, compute, loss, loaders, on_epoch), overhead=overhead)

        # A user's own functions are tried before anything that is there is moved.
        try_plugins(job, state, setup.context, setup.plugins)
        job = with_measured_compute(job, state, setup, progress, resumed=saved is not None)
        report_recipe(setup, options, saved, progress)
        folder.path.mkdir(exist_ok=True)
        resume_or_begin(job, state, options.resume and finished is None, progress)
        report_changed_rate(job, state, saved, progress)

        # Epoch after epoch, then the model.
        over = _run(job, state, stop_request, progress, compiled=options.compile)
        if over and group.is_rank_0:
            _write_model(setup, job, state, home, progress)
        return TrainResult(home.path, state.history, state.position.seconds, over, stop_request.signal)


def _say_remarks(compute: Compute, progress: Progress) -> None:
    """Say what the user should know of the device."""
    if compute.remark:
        progress.say(compute.remark)
    if compute.device.type == "cpu" and (busy := busy_remark(torch.get_num_threads())):
        progress.say(f"warning: {busy}")


def _first_state(
    setup: Setup, compute: Compute, progress: Progress, *, resumed: bool, finished: ModelFolder | None
) -> TrainingState:
    """Build network, optimiser and EMA as they are before the first iteration."""
    config = setup.config
    drawn = _network(setup)
    if finished is not None:
        take_finished(drawn, finished, setup, progress)
    elif config.pretrained is not None and not resumed:
        take_pretrained(drawn, config.pretrained, setup.configuration, setup.fold, progress)
    network = compute.to_device(setup.group.prepare(drawn, compute.device), setup.configuration.dims)
    own = setup.plugin("optimiser")
    if own is not None:
        optimiser = check_optimiser(own, own(network.parameters()))
    else:
        optimiser = build_optimiser(config, network.parameters())
    ema = None if config.ema_decay is None else WeightEMA(network, config.ema_decay)
    return TrainingState(network, optimiser, compute.scaler(), ema, History(setup.plan.labels.score_names))


def _as_begun(setup: Setup, optimiser: Optimizer, store: Store) -> Setup:
    """Return the setup with the optimiser's learning rate (a user's own brings one) and the cases' orientations."""
    config = replace(setup.config, learning_rate=float(optimiser.param_groups[0]["lr"]))
    return replace(setup, config=config, orientations=stored_orientations(store, setup.cases.train))


def _network(setup: Setup) -> nn.Module:
    own, options = setup.plugin("network"), setup.config.network_options
    given = (*network_channels(setup.plan, setup.configuration), options)
    if own is None:
        return build_unet(setup.configuration, *given)
    return check_network(own, own(setup.configuration, *given))


def _loss(setup: Setup) -> nn.Module:
    own, labels, batch_dice = setup.plugin("loss"), setup.plan.labels, setup.configuration.batch_dice
    if own is None:
        terms = cast("LossTerms", setup.config.loss)  # which build_loss checks
        return DeepSupervision(
            build_loss(
                labels,
                terms,
                batch_dice=batch_dice,
                total=setup.group.total,
                weights=setup.config.class_weights,
                partial=setup.partial,
            )
        )
    if setup.partial and not own.asks():
        raise own.wrong(
            "some cases are annotated for some classes only, and this loss would take the rest for background; let it "
            "have a parameter named context, and use context.build_loss or context.split_target"
        )
    made = own.made()
    loss = DeepSupervision(SharedLoss(made, setup.group))
    if isinstance(made.function, nn.Module):
        loss.add_module("own", made.function)  # goes to the device with it
    return loss


def _listeners(setup: Setup, first: Callable[[History], None] | None) -> Callable[[History], None]:
    """Return what calls those who want to know of each epoch: the program, and the function that the user named."""
    own = setup.plugin("on-epoch")
    # Of several processes the first alone calls it, so a class of the user's is made there alone.
    listening: list[Callable[[History], object] | None] = [
        first,
        own.made() if own is not None and setup.group.is_rank_0 else None,
    ]

    def tell(history: History) -> None:
        for listener in listening:
            if listener is not None:
                listener(history)

    return tell


def _job(
    setup: Setup,
    compute: Compute,
    loss: nn.Module,
    loaders: Sequence[Loader],
    on_epoch: Callable[[History], None] | None,
) -> TrainingJob:
    """Gather what stays the same while the network is trained."""
    training, validation, *small = loaders
    return TrainingJob(
        model=setup.model,
        identity=setup.identity,
        config=setup.config,
        labels=setup.plan.labels,
        partial=setup.partial,
        compute=compute,
        loss=loss,
        training=training,
        validation=validation,
        small=next(iter(small), None),
        small_part=small_part(setup.configuration),
        mirror_axes=mirrored_axes(training.augmentation),
        dims=setup.configuration.dims,
        group=setup.group,
        on_epoch=_listeners(setup, on_epoch),
        keep=partial(_keep_best, setup),
    )


def _run(
    job: TrainingJob, state: TrainingState, stop_request: StopRequest, progress: Progress, *, compiled: bool | None
) -> bool:
    """Train until the end or a request to stop; returns whether it is the end."""
    network = job.group.wrap(state.network)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    together = f" and {job.group.size - 1} more" if job.group.size > 1 else ""
    progress.say(f"training on {job.compute.describe()}{together}: {millions:.3g} million weights")
    gradients = gradient_step(
        network, job.loss, job.compute, asked=compiled, config=job.config, shared=job.group.size > 1, say=progress.say
    )
    with _resuming_explained(job.model):
        return Loop(job, state, gradients, stop_request).run(progress)


@contextmanager
def _resuming_explained(model: ModelFolder) -> Iterator[None]:
    """Add to what a user can fix (a full disk, a damaged case) how the training is resumed then."""
    try:
        yield
    except TrainingError:
        raise  # resumed, it would end in the same place
    except NnunetError as error:
        if not model.has_checkpoint():
            raise
        raise NnunetError(
            f"{error}; then --resume goes on from the last checkpoint, {model.checkpoint_file}"
        ) from error


def _write_model(setup: Setup, job: TrainingJob, state: TrainingState, home: ModelFolder, progress: Progress) -> None:
    """Write weights and metadata, then drop the checkpoint: a kill in between leaves something to resume.

    A new cycle's then takes the place of the model in `home` that it was trained on top of.
    """
    state.history.write(job.model.metrics_file)
    save_model(job.model.path, state.model.state_dict(), _metadata(setup, job, state))
    job.model.checkpoint_file.unlink(missing_ok=True)
    _report_best(job, state, home, progress)
    if job.model != home:
        progress.say(f"the model before this cycle is kept in {take_next_cycle(home)}")


def _keep_best(setup: Setup, job: TrainingJob, state: TrainingState) -> None:
    """Write the network of this epoch as a model of its own."""
    setup.model.best.path.mkdir(exist_ok=True)
    save_model(setup.model.best.path, state.model.state_dict(), _metadata(setup, job, state))


def _report_best(job: TrainingJob, state: TrainingState, home: ModelFolder, progress: Progress) -> None:
    best = state.history.best
    if job.config.keep_best and best is not None:
        progress.say(
            f"best of {len(state.history.epochs)} epochs: {best.epoch + 1} (Dice {best.mean_dice:.3f} on validation "
            f"patches), kept in {home.best.path}; predict --checkpoint best uses it"
        )


def _metadata(setup: Setup, job: TrainingJob, state: TrainingState) -> ModelMetadata:
    epochs = state.history.epochs
    return ModelMetadata(
        plan=setup.plan,
        configuration=setup.configuration.name,
        fold=setup.fold,
        config=job.config,
        iterations=state.position.iterations,
        end=epochs[-1] if epochs else None,
        best=state.history.best,
        mirror_axes=job.mirror_axes,
        cases=setup.cases,
        orientations=setup.orientations,
        first_stage=None if setup.first is None else setup.first.models,
    )


def _find_device(name: str, progress: Progress) -> torch.device:
    """Return the device, and say why a GPU that is there is not taken by itself."""
    device = find_device(name)
    if name == "auto" and (why := why_no_gpu()):
        progress.say(f"warning: training on the processor, for PyTorch cannot use the GPU: {why}")
    return device


@contextmanager
def _computing_on(device: torch.device, threads: int | None) -> Iterator[None]:
    """Let PyTorch use this many threads and measure its kernels within the block; errors of the device are one line."""
    with _THREADS(), gpu_errors_explained(device), out_of_memory_explained(SMALLER, device), kernels_measured():
        if threads is not None:
            torch.set_num_threads(threads)
        yield


def _generators() -> list[torch.Tensor]:
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return [torch.get_rng_state(), *on_gpus]


def _set_generators(states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    if states[1:]:
        torch.cuda.set_rng_state_all(states[1:])


_THREADS = Restored(torch.get_num_threads, torch.set_num_threads)
# The generators that weights and dropout are drawn from: the host program's go on where they were.
_RANDOM = Restored(_generators, _set_generators)
