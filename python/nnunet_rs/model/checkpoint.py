"""A trained model in a folder: weights.safetensors, and model.json with all that prediction needs; no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nnunet_rs.core.errors import CheckpointError, PlanError
from nnunet_rs.core.workspace import MODEL_JSON, WEIGHTS, ModelFolder
from nnunet_rs.model.context import Context
from nnunet_rs.model.metadata import ModelMetadata, read_metadata
from nnunet_rs.model.network_options import NetworkOptions, require_more_than_a_voxel
from nnunet_rs.model.plugin_checks import check_network
from nnunet_rs.model.plugins import NetworkFunction, as_own
from nnunet_rs.model.tensors import read_tensors, write_tensors
from nnunet_rs.model.unet import UNet
from nnunet_rs.model.weights import Arrays, digest_of, metadata_written_last, require_shapes
from nnunet_rs.plan.schema import Configuration


def save_model(folder: Path, weights: Mapping[str, Tensor], metadata: ModelMetadata) -> None:
    """Write weights and metadata; these last, so that where they are, the model is whole.

    Raises
    ------
    NnunetError
        The folder cannot be written or the disk is full; an earlier model there may then lack its metadata.
    """
    with metadata_written_last(folder, metadata):
        write_tensors(ModelFolder(folder).weights_file, weights)


def load_model(
    folder: Path, device: torch.device | str = "cpu", *, network: NetworkFunction | None = None
) -> tuple[nn.Module, ModelMetadata]:
    """Load a finished model for prediction.

    Parameters
    ----------
    folder
        WORK/models/CONFIGURATION/fold_K, or a copy of it.
    device
        Where the weights go.
    network
        For a model with a network of the user's own: the function that builds it; other models do without. It is
        never imported by the name in the metadata, which may come from anybody.

    Returns
    -------
    network
        In evaluation mode; float32. Maps (b, inputs, *patch_size) to logits (b, outputs, *patch_size).
    metadata
        With the plan, labels and normalisation it was trained for.

    Raises
    ------
    CheckpointError
        The model is missing, unfinished, damaged, of another version, or of another network than `network` builds.
    """
    metadata, model = read_metadata(folder), ModelFolder(folder)
    name = metadata.own_network
    if name is not None and network is None:
        raise CheckpointError(
            f"{model.metadata_file}: the network is {name}, not nnunet_rs's own; give that function again: "
            f"--network {name}, or --network FILE.py:{name.rpartition(':')[2]} where it stands in a file"
        )
    weights = _read_weights(model.weights_file, metadata.digest)
    if name is None:
        _require_likely(metadata, weights, model)
    try:
        built = _build(metadata, network)
    except PlanError as error:
        raise CheckpointError(f"{model.metadata_file}: {error}") from error
    load_weights(built, weights, str(model.weights_file))
    return built.to(device).eval().requires_grad_(False), metadata


def _build(metadata: ModelMetadata, network: NetworkFunction | None) -> nn.Module:
    own = None if metadata.own_network is None else as_own("network", network)
    if own is None:
        return unfilled_unet(metadata.plan_configuration, *metadata.channels, metadata.network)
    bound = own.with_context(Context(metadata.plan, metadata.plan_configuration, metadata.network))
    return check_network(bound, bound(metadata.plan_configuration, *metadata.channels, metadata.network))


def network_of(weights: Arrays, metadata: ModelMetadata, source: str) -> nn.Module:
    """Return a network of ours with these weights, in evaluation mode; errors as `load_weights`."""
    built = unfilled_unet(metadata.plan_configuration, *metadata.channels, metadata.network)
    load_weights(built, {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}, source)
    return built.eval().requires_grad_(False)


def unfilled_unet(
    configuration: Configuration, in_channels: int, out_channels: int, options: NetworkOptions
) -> nn.Module:
    """Build a network whose weights are still to be loaded: drawing them would take longer than reading them."""
    require_more_than_a_voxel(configuration, options)
    with torch.device("meta"):
        return UNet(configuration, in_channels, out_channels, options)


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into a network, which may be unfilled.

    Raises
    ------
    CheckpointError
        Names or shapes differ: the weights are of another network.
    """
    require_shapes(weights, _shapes(network), source)
    held = network.state_dict()
    if not any(tensor.is_meta for tensor in held.values()):
        network.load_state_dict(dict(weights))
        return
    kept = torch.contiguous_format
    copies = {name: tensor.to(held[name].dtype, copy=True, memory_format=kept) for name, tensor in weights.items()}
    network.load_state_dict(copies, assign=True)


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _require_likely(metadata: ModelMetadata, weights: Mapping[str, Tensor], model: ModelFolder) -> None:
    """Check that the metadata describe a network of about so many weights, before memory is asked for it."""
    configuration, tensors = metadata.plan_configuration, len(weights)
    blocks = sum(configuration.blocks_encoder) + sum(configuration.blocks_decoder)
    if not 0 < blocks <= tensors or max((*configuration.features, *metadata.channels)) > max(
        max(tensor.shape, default=0) for tensor in weights.values()
    ):
        raise CheckpointError(
            f"{model.metadata_file}: describes a network of {blocks} blocks, up to "
            f"{max(configuration.features)} features; {WEIGHTS} holds the weights of another network"
        )
    try:
        built = unfilled_unet(configuration, *metadata.channels, metadata.network)
    except (PlanError, RuntimeError) as error:
        raise CheckpointError(f"{model.metadata_file}: {error}") from error
    require_shapes(weights, _shapes(built), str(model.weights_file))


def _read_weights(path: Path, digest: str) -> dict[str, Tensor]:
    weights, _ = read_tensors(path, "copy the model folder again, or train again")
    if digest_of(path) != digest:
        raise CheckpointError(
            f"{path}: is damaged, or not the file that {MODEL_JSON} was written for (SHA-256 differs)"
        )
    return weights
