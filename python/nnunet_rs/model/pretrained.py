"""Weights of another model to begin with: what fits is taken, the rest is drawn, and both are said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.types import FoldName
from nnunet_rs.core.workspace import ModelFolder, WorkFolder, fold_name, model_folders
from nnunet_rs.model.checkpoint import load_model
from nnunet_rs.model.nnunet_models import find_nnunet_models, holds_nnunet_models, read_nnunet_model, results_folder
from nnunet_rs.plan.schema import Configuration


def take_pretrained(
    network: nn.Module, source: str, configuration: Configuration, fold: FoldName, progress: Progress
) -> None:
    """Copy the weights of another model into a network, where name and shape are the same.

    Heads of other classes, first convolutions of other channels and whatever else differs keep their drawn weights.

    Parameters
    ----------
    network
        In place, as it was drawn.
    source
        A model folder of ours (a fold's, a configuration's, or a work folder), or one or a zip of nnU-Net v2.
    configuration
        That is trained: of several in `source` the one of its name is taken.
    fold
        That is trained: of several folds in `source` the same one is taken, else the first.
    progress
        Told what was taken and what begins anew.

    Raises
    ------
    CheckpointError
        There is no such model, or nothing but the heads could be taken.
    """
    weights = _weights(Path(source), configuration.name, fold)
    own = network.state_dict()
    fitting = {name: weights[name] for name, tensor in own.items() if name in weights and _same(tensor, weights[name])}
    new = [name for name in own if name not in fitting]
    if not any(name.startswith("encoder.") for name in fitting):
        name = next(name for name in own if name.startswith("encoder."))
        there = list(weights[name].shape) if name in weights else "absent"
        raise CheckpointError(
            f"{source}: its weights fit nowhere in the encoder ({name} is {there} there, {list(own[name].shape)} "
            "here); both networks need the same features and kernels: plan by the pretrained model's plan"
        )
    network.load_state_dict(fitting, strict=False)
    anew = f"; beginning anew: {_listed(new)}" if new else ""
    progress.say(f"pretrained by {source}: {len(fitting)} of {len(own)} weights taken{anew}")


def _same(tensor: Tensor, other: Tensor) -> bool:
    return tensor.shape == other.shape


def _listed(names: list[str]) -> str:
    """List modules, not each of their weights."""
    modules = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    return ", ".join(modules[:6]) + (f" and {len(modules) - 6} more" if len(modules) > 6 else "")


def _weights(source: Path, configuration: str, fold: FoldName) -> Mapping[str, Tensor]:
    if source.is_dir() and not holds_nnunet_models(source):
        folder = _our_fold(source, configuration, fold)
        if folder is not None:
            return load_model(folder)[0].state_dict()
    with results_folder(source) as folder:
        found = find_nnunet_models(folder, None if (folder / "plans.json").is_file() else configuration)
        named = {path.name: path for path in found}
        weights, _ = read_nnunet_model(named.get(fold_name(fold), found[0]))
        return {name: torch.from_numpy(array.copy()) for name, array in weights.items()}


def _our_fold(source: Path, configuration: str, fold: FoldName) -> Path | None:
    """Find a fold's folder of ours: the folder itself, or below it."""
    if ModelFolder(source).is_finished():
        return source
    for home in (WorkFolder(source).configuration_folder(configuration), source):
        models = [model for model in model_folders(home) if model.is_finished()]
        if models:
            return next((model for model in models if model.fold == fold), models[0]).path
    return None
