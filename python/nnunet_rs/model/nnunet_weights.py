"""Checkpoints of nnU-Net v2 as weights of ours, and back; needs no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.types import FoldName
from nnunet_rs.model.torch_file import read_torch_file
from nnunet_rs.plan.schema import Configuration

_WRAPPERS = ("module.", "_orig_mod.")  # what DistributedDataParallel and torch.compile put before a name
_LAYER = re.compile(r"(.+\.conv|decoder\.transpconvs\.\d+)\.bias")  # a convolution before a norm, or one that goes up
_RULES = (  # where a weight of ours stands in PlainConvUNet and ResidualEncoderUNet
    (r"^stem\.", r"encoder.stem.convs.0."),
    (r"^encoder\.(\d+)\.0\.(\d+)\.", r"encoder.stages.\1.0.convs.\2."),
    (r"^encoder\.(\d+)\.(\d+)\.first\.", r"encoder.stages.\1.blocks.\2.conv1."),
    (r"^encoder\.(\d+)\.(\d+)\.second\.", r"encoder.stages.\1.blocks.\2.conv2."),
    (r"^decoder\.(\d+)\.(\d+)\.", r"decoder.stages.\1.convs.\2."),
    (r"^up\.", r"decoder.transpconvs."),
)


@dataclass(frozen=True, slots=True)
class NnunetCheckpoint:
    """What a checkpoint of nnU-Net holds that prediction needs."""

    weights: Mapping[str, NDArray[Any]]  # by nnU-Net's names
    mirror_axes: tuple[int, ...]  # of the patch; empty: trained without mirroring
    trainer: str
    configuration: str
    fold: FoldName
    epochs: int

    @property
    def batch_norm(self) -> bool:
        """Whether the network has batch norm: some trainers build one whatever the plan says."""
        return any(name.endswith("running_mean") for name in self.weights)


def read_nnunet_checkpoint(path: Path) -> NnunetCheckpoint:
    """Read a checkpoint_*.pth of nnU-Net v2.

    Tensors, plain Python values and NumPy numbers are read; a file that asks for anything else is refused, and nothing
    of it runs.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, of another program, or holds something that is not needed.
    """
    content = read_torch_file(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: is no checkpoint of nnU-Net v2: it holds a {type(content).__name__}")
    missing = {"network_weights", "init_args", "trainer_name"} - content.keys()
    if missing:
        raise CheckpointError(f"{path}: is no checkpoint of nnU-Net v2: it holds no {', '.join(sorted(missing))}")
    weights, arguments = content["network_weights"], content["init_args"]
    if not isinstance(weights, Mapping) or not all(isinstance(value, np.ndarray) for value in weights.values()):
        raise CheckpointError(f"{path}: network_weights hold something else than tensors")
    if not isinstance(arguments, Mapping) or not isinstance(arguments.get("configuration"), str):
        raise CheckpointError(f"{path}: init_args name no configuration")
    fold = arguments.get("fold", 0)
    return NnunetCheckpoint(
        weights={_unwrapped(name): tensor for name, tensor in weights.items()},
        mirror_axes=_mirror_axes(path, content.get("inference_allowed_mirroring_axes")),
        trainer=str(content["trainer_name"]),
        configuration=arguments["configuration"],
        fold="all" if fold == "all" else int(fold),
        epochs=int(content.get("current_epoch", 0)),
    )


def nnunet_names(names: Sequence[str], configuration: Configuration) -> dict[str, str]:
    """Return where each of our network's weights stands in nnU-Net's network of the same configuration."""
    return {name: _their_name(name, configuration) for name in names}


def our_weights(
    checkpoint: NnunetCheckpoint, names: Sequence[str], configuration: Configuration, source: Path
) -> dict[str, NDArray[Any]]:
    """Take our network's weights out of a checkpoint, float32.

    Raises
    ------
    CheckpointError
        A weight is missing: the network is another one than the plan describes.
    """
    theirs = nnunet_names(names, configuration)
    weights = {**_zero_biases(checkpoint.weights, theirs.values()), **checkpoint.weights}
    for name in theirs.values():
        if name not in weights:
            raise CheckpointError(
                f"{source}: holds the weights of another network than its plans.json describes: there is no {name} "
                f"(trainer {checkpoint.trainer}); networks that a trainer builds by itself cannot be run"
            )
    known = set(theirs.values())
    beyond = sorted(name for name in checkpoint.weights if name not in known and not _needless(name))
    if beyond:
        raise CheckpointError(
            f"{source}: holds weights that the network of its plans.json does not have: {beyond[0]} "
            f"({len(beyond)} of them, trainer {checkpoint.trainer}); it cannot be run"
        )
    return {ours: _plain(weights[name]) for ours, name in theirs.items()}


def _zero_biases(weights: Mapping[str, NDArray[Any]], names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Return biases of 0 for a network whose convolutions have none, empty for every other one."""
    layers = {name: _LAYER.fullmatch(name) for name in names}
    wanted = {name: layer for name, layer in layers.items() if layer is not None}
    if any(name in weights for name in wanted):
        return {}
    kernels = {name: weights.get(f"{layer[1]}.weight") for name, layer in wanted.items()}
    return {  # a transposed convolution's features are its kernel's second axis
        name: np.zeros(kernel.shape[1 if "transpconvs" in name else 0], np.float32)
        for name, kernel in kernels.items()
        if kernel is not None and kernel.ndim > 1
    }


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Return float32 of any floating type; counts stay as they are."""
    return np.asarray(array, np.float32 if array.dtype.kind == "f" else array.dtype, order="C")


def nnunet_weights(ours: Mapping[str, NDArray[Any]], configuration: Configuration) -> dict[str, NDArray[Any]]:
    """Return all weights of nnU-Net's network of a configuration, by its names, from those of ours.

    Its networks list every layer twice, and the encoder again in the decoder. Heads that ours lacks, which only deep
    supervision reads, are zeros.
    """
    weights = {_their_name(name, configuration): array for name, array in ours.items()}
    outputs = ours["heads.0.weight"].shape[0]
    for level, features in enumerate(configuration.features[:-1]):
        name = f"decoder.seg_layers.{len(configuration.features) - 2 - level}"
        if f"{name}.weight" not in weights:
            weights[f"{name}.weight"] = np.zeros((outputs, features, *(1,) * configuration.dims), np.float32)
            weights[f"{name}.bias"] = np.zeros(outputs, np.float32)
    for name, array in tuple(weights.items()):
        layer = re.fullmatch(r"(.+)\.(conv|norm)\.(\w+)", name)
        if layer is not None:
            weights[f"{layer[1]}.all_modules.{int(layer[2] == 'norm')}.{layer[3]}"] = array
    encoder = {f"decoder.{name}": array for name, array in weights.items() if name.startswith("encoder.")}
    return weights | encoder


def _their_name(name: str, configuration: Configuration) -> str:
    shortcut = re.fullmatch(r"encoder\.(\d+)\.(\d+)\.shortcut\.(.+)", name)
    if shortcut is not None:
        stage, block, rest = int(shortcut[1]), int(shortcut[2]), shortcut[3]
        pooled = block == 0 and any(step != 1 for step in configuration.strides[stage])
        return f"encoder.stages.{stage}.blocks.{block}.skip.{int(pooled)}.{rest}"
    head = re.fullmatch(r"heads\.(\d+)\.(.+)", name)
    if head is not None:  # theirs are counted from the lowest resolution
        return f"decoder.seg_layers.{len(configuration.features) - 2 - int(head[1])}.{head[2]}"
    for pattern, replacement in _RULES:
        renamed, found = re.subn(pattern, replacement, name)
        if found:
            return renamed
    raise ValueError(f"nnU-Net's networks have no {name}")


def _needless(name: str) -> bool:
    """Whether prediction does without a weight of nnU-Net's: names of one weight that stand twice, other heads."""
    return name.startswith(("decoder.encoder.", "decoder.seg_layers.")) or ".all_modules." in name


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _mirror_axes(path: Path, found: object) -> tuple[int, ...]:
    if found is None:
        return ()
    if not isinstance(found, Sequence) or not all(isinstance(axis, int) and 0 <= axis <= 2 for axis in found):
        raise CheckpointError(f"{path}: inference_allowed_mirroring_axes are {found!r}: must be axes 0 to 2")
    return tuple(found)
