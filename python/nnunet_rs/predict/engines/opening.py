"""Which engine computes trained models, and the engine with their networks in it."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from nnunet_rs.core.choices import Precision
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.workspace import WEIGHTS, ModelFolder
from nnunet_rs.model.metadata import ModelMetadata, common_mirror_axes, read_metadata
from nnunet_rs.model.network_options import require_more_than_a_voxel
from nnunet_rs.model.nnunet_models import holds_nnunet_models, read_nnunet_model
from nnunet_rs.model.weights import read_weights, require_weights
from nnunet_rs.predict.engines.engine import Engine
from nnunet_rs.predict.options import PredictOptions

_GPUS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")  # NVIDIA's, that of Windows' Linux, AMD's


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """Networks that are ready, and what is known of each."""

    engine: Engine
    all_metadata: tuple[ModelMetadata, ...]


def open_models(folders: Sequence[Path], device: str, options: PredictOptions) -> Opened:
    """Load the networks of fold folders into an engine.

    Parameters
    ----------
    folders
        Of `find_models`.
    device
        As of `Predictor.load`.
    options
        Engine, precision, threads, the user's own network, which checkpoint of nnU-Net's.

    Raises
    ------
    CheckpointError
        A model is damaged, or has weights of another network than its model.json describes.
    NnunetError
        No such device; a precision that it does not have; or an engine that is not installed and has no substitute.
    """
    device, unused = _chosen_device(device)
    obstacle = _obstacle(folders, device, options)
    if not obstacle and (options.engine == "openvino" or (options.engine == "auto" and _openvino_is_faster())):
        return _with_remarks(_open_openvino(folders, options), unused)
    remark = f"computed by PyTorch: {obstacle}" if obstacle and _worth_saying(device, options) else ""
    if importlib.util.find_spec("torch") is None:
        reason = obstacle or "--engine torch was asked for"
        raise NnunetError(f"PyTorch is not installed, and this prediction takes it: {reason}; pip install torch")
    from nnunet_rs.predict.engines.torch_opening import open_torch

    return _with_remarks(Opened(*open_torch(folders, device, options)), remark, unused)


def _with_remarks(opened: Opened, *remarks: str) -> Opened:
    """Add remarks that say something to the engine's."""
    engine: Any = opened.engine
    return replace(opened, engine=replace(engine, remarks=(*engine.remarks, *filter(None, remarks))))


def _chosen_device(device: str) -> tuple[str, str]:
    """Return the device, the processor for an `auto` that can be nothing else, and why a GPU here is not used."""
    if device != "auto" or not _may_have_gpu():
        return "cpu" if device == "auto" else device, ""
    if importlib.util.find_spec("torch") is None:
        return "cpu", "computed by the processor: PyTorch, which takes the GPU, is not installed"
    from nnunet_rs.model.device import find_device
    from nnunet_rs.model.gpu_versions import why_no_gpu

    if find_device(device).type != "cpu":
        return device, ""
    why = why_no_gpu()
    return "cpu", f"warning: predicting on the processor, for PyTorch cannot use the GPU: {why}" if why else ""


def _obstacle(folders: Sequence[Path], device: str, options: PredictOptions) -> str:
    """Say why OpenVINO cannot compute these models; empty where it can."""
    from nnunet_rs.predict.engines.openvino_engine import why_not_openvino

    if device != "cpu":
        if options.engine == "openvino" and device != "auto":
            raise NnunetError(f"--engine openvino computes on processors, not on {device}; use --device cpu")
        return f"the device is {device}"
    if options.engine == "torch":
        return ""
    for folder in folders:
        if not ModelFolder(folder).is_finished() and ModelFolder(folder).has_checkpoint():
            return f"{folder} is an unfinished training"
        if ModelFolder(folder).is_finished() and (custom := read_metadata(folder).own_network) is not None:
            return f"the network is {custom}, which is PyTorch's"
    return why_not_openvino()


def _worth_saying(device: str, options: PredictOptions) -> bool:
    """Whether PyTorch is not what was asked for, or what a plain installation would use."""
    return options.engine == "openvino" or (options.engine == "auto" and device == "cpu")


def _openvino_is_faster() -> bool:
    """Whether OpenVINO was measured to be faster on this kind of processor: on x86-64, with AVX2, AVX-512 or AMX.

    On others it has not been measured; there it is taken where PyTorch is not installed.
    """
    return platform.machine().lower() in ("x86_64", "amd64") or importlib.util.find_spec("torch") is None


def _may_have_gpu() -> bool:
    """Whether PyTorch may find a GPU here, told without importing it if the system's devices can tell."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return torch.version.cuda is not None or bool(torch.cuda.is_available())
    if sys.platform.startswith("linux"):
        return any(Path(device).exists() for device in _GPUS)
    return sys.platform == "win32" and importlib.util.find_spec("torch") is not None


def _open_openvino(folders: Sequence[Path], options: PredictOptions) -> Opened:
    from nnunet_rs.predict.engines.openvino_engine import MOST_CHANNELS, SMALL, choose_precision, compile_graphs
    from nnunet_rs.predict.engines.openvino_graph import build_graph

    loaded = [_read(folder, options) for folder in folders]
    all_metadata = tuple(metadata for _, metadata in loaded)
    precision = choose_precision(_precision(all_metadata, options))
    graphs = [
        build_graph(m.plan_configuration, m.channels[0], m.network, weights, most=MOST_CHANNELS)
        for weights, m in loaded
    ]
    # mirror images of a window are many: two at a time, each by half of the threads, wait less for each other
    mirrored = options.mirror and common_mirror_axes(all_metadata)
    streams = 2 if mirrored and prod(all_metadata[0].plan_configuration.patch_size) <= SMALL else 1
    engine = compile_graphs(graphs, precision, options.threads, options.cache, streams=streams)
    return Opened(engine, all_metadata)


def _precision(all_metadata: Sequence[ModelMetadata], options: PredictOptions) -> Precision:
    """Compute models of other programs on processors as those do, in float32: the labels are to be the same."""
    if options.precision == "auto" and any(metadata.source for metadata in all_metadata):
        return "float32"
    return options.precision


def _read(folder: Path, options: PredictOptions) -> tuple[dict[str, NDArray[Any]], ModelMetadata]:
    if not ModelFolder(folder).is_finished() and holds_nnunet_models(folder):
        weights, metadata = read_nnunet_model(folder, checkpoint=options.nnunet.checkpoint)
    else:
        metadata = read_metadata(folder)
        weights = read_weights(folder / WEIGHTS, metadata.digest)
    source = str(folder / WEIGHTS)
    require_weights(weights, metadata.plan_configuration, metadata.channels, metadata.network, source)
    require_more_than_a_voxel(metadata.plan_configuration, metadata.network)
    return weights, metadata
