"""A training's last checkpoint as a model to predict with, before the training is done."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from nnunet_rs.core.errors import CheckpointError, NnunetError
from nnunet_rs.core.workspace import PLAN_JSON, ModelFolder
from nnunet_rs.data.folds import read_plan_and_fold
from nnunet_rs.data.store import open_store, stored_orientations
from nnunet_rs.model.checkpoint import load_weights
from nnunet_rs.model.config import TrainingConfig
from nnunet_rs.model.header import Identity, config_of, identity_of
from nnunet_rs.model.metadata import ModelMetadata, known_mirror_axes
from nnunet_rs.model.network_options import network_channels
from nnunet_rs.model.plugins import NetworkFunction, plain_name
from nnunet_rs.model.setup import plan_digest
from nnunet_rs.model.state import read_state, weights_of
from nnunet_rs.model.unet import build_unet
from nnunet_rs.model.weights import digest_of
from nnunet_rs.plan.files import read_plan
from nnunet_rs.plan.schema import Plan
from nnunet_rs.plan.training_plan import training_plan


def load_unfinished(
    folder: Path, device: torch.device | str = "cpu", *, network: NetworkFunction | None = None
) -> tuple[nn.Module, ModelMetadata]:
    """Load the last checkpoint of a training that is not finished.

    Parameters
    ----------
    folder
        WORK/models/CONFIGURATION/fold_K with resume.safetensors, in its work folder: the plan is read from there.
    device
        Where the weights go.
    network
        As in `load_model`.

    Returns
    -------
    network
        In evaluation mode; the averaged weights where the recipe averages.
    metadata
        Says how many iterations there were.

    Raises
    ------
    CheckpointError
        There is no checkpoint, it is damaged or of an earlier version, or plan.json has been edited since.
    PlanError
        The work folder has no plan.
    """
    model = ModelFolder(folder)
    path = model.checkpoint_file
    document, tensors = read_state(path)
    identity, config = identity_of(document, path), config_of(document, path)
    if "features" in config.unknown:
        raise CheckpointError(f"{path}: was begun by an earlier version, which did not say all that prediction needs")
    if config.network is not None and network is None:
        raise CheckpointError(f"{path}: the network is {plain_name(config.network)}; give that function (--network)")
    plan = _plan(model, identity, config)
    configuration, axes = plan.configurations[identity.configuration], identity.mirror_axes
    epochs, position = document.get("history", {}).get("epochs", []), document.get("position", {})
    metadata = ModelMetadata(
        plan=plan,
        configuration=identity.configuration,
        fold=identity.fold,
        config=config,
        iterations=int(position.get("iterations", 0)),
        end=None,
        best=None,
        mirror_axes=known_mirror_axes(config.augmentation, configuration.dims) if axes is None else axes,
        orientations=_orientations(model, plan, identity),
        unfinished=f"{len(epochs)} epochs of {config.epochs or 'a time budget'}",
        digest=digest_of(path),
    )
    build = build_unet if network is None else network
    built = build(configuration, *network_channels(plan, configuration), config.network_options)
    load_weights(built, weights_of(tensors), str(path))
    return built.to(device).eval().requires_grad_(False), metadata


def _orientations(model: ModelFolder, plan: Plan, identity: Identity) -> dict[str, int] | None:
    """Return how many training cases are stored in which orientation; None where prepared cases are not there."""
    assert model.work is not None  # the plan was read from it
    try:
        _, cases = read_plan_and_fold(model.work.path, identity.configuration, identity.fold)
        return stored_orientations(open_store(model.work.path, plan, identity.configuration), cases.train)
    except NnunetError:
        return None


def _plan(model: ModelFolder, identity: Identity, config: TrainingConfig) -> Plan:
    """Read the work folder's plan with what the training was given otherwise."""
    work = model.work
    if work is None:
        raise CheckpointError(
            f"{model.path}: its training is not finished, and it lies in no work folder, whose plan it needs: predict "
            "with it where it is trained"
        )
    plan, name = read_plan(work.plan_file), identity.configuration
    if name in plan.configurations:
        plan = training_plan(plan, name, batch_size=config.batch_size, features=config.features)
        if plan_digest(plan, plan.configurations[name]) == identity.plan:
            return plan
    raise CheckpointError(
        f"{model.checkpoint_file}: {PLAN_JSON} has been edited since this training began; it cannot be predicted with"
    )
