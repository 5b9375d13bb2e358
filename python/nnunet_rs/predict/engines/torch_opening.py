"""Trained models as networks of PyTorch's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.workspace import ModelFolder
from nnunet_rs.model.blocks import CONVOLUTION, TRANSPOSED
from nnunet_rs.model.checkpoint import load_model, network_of
from nnunet_rs.model.device import Compute, choose_compute, find_device, out_of_memory_explained
from nnunet_rs.model.gpu_errors import gpu_errors_explained
from nnunet_rs.model.metadata import ModelMetadata
from nnunet_rs.model.nnunet_models import holds_nnunet_models, read_nnunet_model
from nnunet_rs.model.plugin_checks import PluginNetwork
from nnunet_rs.model.plugins import as_own
from nnunet_rs.model.unfinished import load_unfinished
from nnunet_rs.predict.engines.torch_engine import AGAIN, DeviceEngine, TorchEngine, torch_engine
from nnunet_rs.predict.options import PredictOptions

FEWER = "predict with fewer folds at a time (-f), on a device with more memory, or with --device cpu"
CONVOLUTIONS = (*CONVOLUTION.values(), *TRANSPOSED.values())


def open_torch(
    folders: Sequence[Path], device: str, options: PredictOptions
) -> tuple[TorchEngine | DeviceEngine, tuple[ModelMetadata, ...]]:
    """Load the networks of fold folders; parameters and errors as `open_models`."""
    place = find_device(device)
    choose_compute(place, options.precision)  # before a network computes anything
    with gpu_errors_explained(place, AGAIN, NnunetError), out_of_memory_explained(FEWER, place, NnunetError):
        loaded = [_load(folder, place, options) for folder in folders]
    all_metadata = tuple(metadata for _, metadata in loaded)
    precision = options.precision
    if place.type == "cpu" and precision == "auto" and any(metadata.source for metadata in all_metadata):
        precision = "float32"  # as the other program computes on processors: the labels are to be the same
    compute = choose_compute(place, precision)
    networks = [_ready(network, metadata, options, compute) for network, metadata in loaded]
    known = all(metadata.own_network is None for metadata in all_metadata)
    return torch_engine(networks, compute, tuple(filter(None, (compute.remark,))), fill=known), all_metadata


def _load(folder: Path, device: torch.device, options: PredictOptions) -> tuple[nn.Module, ModelMetadata]:
    if options.unfinished and not ModelFolder(folder).is_finished() and ModelFolder(folder).has_checkpoint():
        return load_unfinished(folder, device, network=options.network)
    if holds_nnunet_models(folder):
        weights, metadata = read_nnunet_model(folder, checkpoint=options.nnunet.checkpoint)
        return network_of(weights, metadata, str(folder)).to(device), metadata
    return load_model(folder, device, network=options.network)


def _ready(network: nn.Module, metadata: ModelMetadata, options: PredictOptions, compute: Compute) -> nn.Module:
    """Let errors of a network of the user's own be reported as the user's; bring one of ours to the number type."""
    if metadata.own_network is not None:
        own = as_own("network", options.network)
        return network if own is None else PluginNetwork(network, own)
    if compute.device.type != "cpu":
        _cast_convolutions(network, compute.dtype)
    return network


def _cast_convolutions(network: nn.Module, dtype: torch.dtype) -> None:
    """Keep convolutions' weights in the type in which they are multiplied; autocast casts them for every batch."""
    for module in network.modules():
        if isinstance(module, CONVOLUTIONS):
            module.to(dtype)
