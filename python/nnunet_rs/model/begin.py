"""How a training begins: what is there is kept, resumed or put aside, and what a user would not expect is said."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.workspace import CHECKPOINT, METRICS, ModelFolder, WorkFolder
from nnunet_rs.data.mirroring import axes_named, image_axes, patch_axes
from nnunet_rs.model.config import TrainingConfig, unlike
from nnunet_rs.model.header import ADVICE, read_config
from nnunet_rs.model.history import History
from nnunet_rs.model.loop import TrainingJob
from nnunet_rs.model.metadata import ModelMetadata, read_metadata
from nnunet_rs.model.options import TrainOptions, TrainResult
from nnunet_rs.model.previous_models import keep_aside
from nnunet_rs.model.schedule import learning_rate
from nnunet_rs.model.setup import Setup
from nnunet_rs.model.state import TrainingState, load_state
from nnunet_rs.model.tensors import read_tensors


def finished_before(model: ModelFolder, options: TrainOptions, progress: Progress) -> TrainResult | None:
    """Return a finished training that is to stay; None: there is something to train.

    Raises
    ------
    CheckpointError
        A finished model is there and neither `resume` nor `fresh` is set, or it was trained with other options than
        those given.
    """
    folder = model.path
    if options.resume and options.fresh:
        raise CheckpointError(f"{folder}: resume goes on with what is there, fresh begins anew: ask for one of them")
    if options.fresh or not model.is_finished():
        return None
    if not options.resume:
        raise CheckpointError(
            f"{folder}: is trained already; --resume keeps it and scores it, --new-cycle trains it further, --fresh "
            "trains anew and keeps the old model aside"
        )
    if model.has_checkpoint():  # killed between the model and the end
        return None
    metadata = require_same_training(folder, options, progress)
    progress.say(f"{folder}: is trained already ({metadata.iterations} iterations); nothing to resume")
    return TrainResult(folder, History.read(model.metrics_file, metadata.plan.labels.score_names), 0.0, finished=True)


def read_saved(model: ModelFolder) -> TrainingConfig | None:
    """Return what the training in a folder is, of a checkpoint that is whole: by its values networks are built."""
    if model.has_checkpoint():
        read_tensors(model.checkpoint_file, ADVICE)
    return read_config(model.path)


def require_same_training(folder: Path, options: TrainOptions, progress: Progress) -> ModelMetadata:
    """Warn if a finished model was trained with another schedule length than the one given; returns its metadata.

    Raises
    ------
    CheckpointError
        It was trained otherwise, so that it is another model; or model.json is damaged.
    """
    metadata = read_metadata(folder)
    found = unlike(options, metadata.config, folder)
    if options.mirror_axes is not None and metadata.mirror_axes is not None:
        dims, transpose = metadata.plan_configuration.dims, metadata.plan.transpose
        if patch_axes(options.mirror_axes, dims, transpose) != metadata.mirror_axes:
            axes = axes_named(image_axes(metadata.mirror_axes, dims, transpose))
            raise CheckpointError(
                f"{folder}: was trained mirrored along {axes}: leave --mirror-axes out to keep it, or train anew with "
                "--fresh"
            )
    if found:
        progress.say(f"warning: {folder}: was trained with {found}; it stays as it is, --fresh trains anew")
    return metadata


def resume_or_begin(job: TrainingJob, state: TrainingState, resume: bool, progress: Progress) -> None:
    """Resume from the checkpoint if that is asked for, else keep all that is there aside."""
    path = job.model.checkpoint_file
    if resume and path.is_file():
        load_state(path, state, job.identity)
        progress.say(f"resuming at epoch {state.position.epoch + 1}, batch {state.position.batch + 1}")
        _keep_another(job, state, progress)
        return
    if resume:
        progress.say(f"nothing to resume in {job.model.path}: training from the beginning")
    job.group.wait()  # for all to have seen what is there
    if job.group.is_rank_0 and (aside := keep_aside(job.model.path)):
        finished = ModelFolder(aside).is_finished()
        what = "the old model" if finished else "an unfinished training"
        advice = "" if finished else " (--resume would have gone on with it)"
        progress.say(f"{what} was there: kept in {aside}{advice}")


def _keep_another(job: TrainingJob, state: TrainingState, progress: Progress) -> None:
    """Put a finished model aside that is not of this training, as versions before left it beside the checkpoint."""
    if not job.group.is_rank_0 or not job.model.is_finished():
        return
    with suppress(CheckpointError):
        if read_metadata(job.model.path).iterations == state.position.iterations:
            return  # killed between the model and the end
    aside = keep_aside(job.model.path, stay=(CHECKPOINT, METRICS))
    progress.say(f"an earlier model was there: kept in {aside}")


def report_recipe(setup: Setup, asked: TrainOptions, saved: TrainingConfig | None, progress: Progress) -> None:
    """Say by which recipe is trained, and warn where other folds were trained by another."""
    name, plan = setup.config.recipe, setup.plan.recipe
    begun = saved is not None or setup.config.cycle > 1
    why = "" if asked.recipe else ", as it was begun" if begun else f", the recipe of plans by {plan}"
    progress.say(f"training recipe: {name}{why}")
    for other in WorkFolder(setup.work).models(setup.configuration.name):
        if other.fold == setup.fold or not other.is_finished():
            continue
        with suppress(CheckpointError):  # whoever uses that model says what is wrong with it
            metadata = read_metadata(other.path)
            if metadata.config.recipe != name:
                progress.say(
                    f"warning: {metadata.configuration}, fold {metadata.fold} was trained by the recipe "
                    f"{metadata.config.recipe}, fold {setup.fold} is by {name}: scores of folds "
                    "that are trained alike compare better"
                )
                return


def report_changed_rate(
    job: TrainingJob, state: TrainingState, saved: TrainingConfig | None, progress: Progress
) -> None:
    """Say where the learning rate goes on, if it is not where it was."""
    if saved is None or saved.unknown or not state.position.iterations:
        return
    old, new = (learning_rate(config, state.position) for config in (saved, job.config))
    if not math.isclose(old, new, rel_tol=1e-6):
        progress.say(
            f"the learning rate goes on at {new:.3g}, not at {old:.3g}: --epochs, --time-budget or --learning-rate is "
            "another than before"
        )
