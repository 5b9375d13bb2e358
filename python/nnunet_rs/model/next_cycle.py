"""More epochs on top of a finished model: a new cycle in a folder of its own, until it takes the model's place."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.workspace import PLAN_JSON, SPLITS_JSON, ModelFolder
from nnunet_rs.model.checkpoint import load_weights
from nnunet_rs.model.config import TrainingConfig
from nnunet_rs.model.metadata import ModelMetadata, read_metadata
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.setup import Setup, plan_digest
from nnunet_rs.model.tensors import read_tensors
from nnunet_rs.model.weights import digest_of


def trained_in(model: ModelFolder, options: TrainOptions) -> ModelFolder:
    """Return where a fold is trained: in its folder, or beside the finished model where that is trained further.

    Raises
    ------
    CheckpointError
        A new cycle is asked for and there is no finished model, or one is under way and it is not to be resumed.
    """
    following = model.next_cycle
    finished = model.is_finished() and not model.has_checkpoint()
    if options.new_cycle:
        if options.fresh:
            raise CheckpointError(f"{model.path}: new_cycle trains what is there further, fresh anew: ask for one")
        if not finished:
            how = "--resume goes on with its training" if model.has_checkpoint() else "train it first"
            raise CheckpointError(f"{model.path}: holds no finished model to train further; {how}")
        if following.has_checkpoint() and not options.resume:
            raise CheckpointError(
                f"{following.path}: a new cycle is under way; --resume goes on with it, --fresh trains all anew"
            )
        return model if is_done(model, options) else following
    return following if finished and options.resume and following.has_checkpoint() else model


def is_done(model: ModelFolder, options: TrainOptions) -> bool:
    """Whether the new cycle that is asked for was there before: a series that is run again adds no other one."""
    if not options.resume or model.next_cycle.has_checkpoint():
        return False
    config = read_metadata(model.path).config
    length = [("epochs", options.epochs), ("time_budget", options.time_budget)]
    same = all(asked is None or asked == getattr(config, name) for name, asked in length)
    return config.cycle > 1 and same


def finished_config(model: ModelFolder, training: ModelFolder) -> TrainingConfig | None:
    """Return what the finished model's training was, where a new cycle begins on top of it; None: none begins."""
    if training == model or training.has_checkpoint():
        return None
    metadata = read_metadata(model.path)
    config = metadata.config
    return replace(config, iterations_before=config.iterations_before + metadata.iterations)


def take_finished(network: nn.Module, model: ModelFolder, setup: Setup, progress: Progress) -> None:
    """Give a network the weights of the finished model.

    Raises
    ------
    CheckpointError
        They are damaged, or plan or folds are others than those it was trained by.
    """
    metadata = read_metadata(model.path)
    _require_same(metadata, setup, model)
    weights, _ = read_tensors(model.weights_file, "copy the model folder again, or train again")
    if digest_of(model.weights_file) != metadata.digest:
        raise CheckpointError(f"{model.weights_file}: is damaged (SHA-256 differs); train anew with --fresh")
    load_weights(network, weights, str(model.weights_file))
    before = f"on top of {metadata.iterations} iterations"
    progress.say(f"cycle {setup.config.cycle}, {before}; the finished model stays until it is done")


def _require_same(metadata: ModelMetadata, setup: Setup, model: ModelFolder) -> None:
    if plan_digest(metadata.plan, metadata.plan_configuration) != setup.identity.plan:
        raise CheckpointError(
            f"{model.path}: was trained by another plan than {PLAN_JSON} is now; restore it, or train anew with --fresh"
        )
    if metadata.cases is not None and metadata.cases != setup.cases:
        raise CheckpointError(
            f"{model.path}: was trained on other cases than {SPLITS_JSON} says now; restore it, or train anew with "
            "--fresh"
        )
