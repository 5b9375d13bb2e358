"""A model's weights as NumPy arrays, checked against the network that its metadata describe; needs no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.document import render
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.files import write_atomically, write_bytes
from nnunet_rs.core.version import installed_version
from nnunet_rs.core.workspace import MODEL_JSON, WEIGHTS, ModelFolder
from nnunet_rs.model.metadata import ModelMetadata, metadata_to_json
from nnunet_rs.model.network_options import NetworkOptions
from nnunet_rs.plan.schema import Configuration

Arrays = Mapping[str, NDArray[Any]]  # by the names that `model.unet.UNet` gives its weights
Shapes = Iterator[tuple[str, tuple[int, ...]]]

_COPY = "copy the model folder again, or train again"


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_weights(path: Path, digest: str) -> dict[str, NDArray[Any]]:
    """Read a weights file.

    Parameters
    ----------
    path
        weights.safetensors.
    digest
        Its SHA-256, from the metadata.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, or not the one that model.json was written for.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        if digest_of(path) != digest:
            raise CheckpointError(
                f"{path}: is damaged, or not the file that {MODEL_JSON} was written for (SHA-256 differs)"
            )
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; {_COPY}") from None
    except (OSError, SafetensorError, ValueError, KeyError) as error:  # KeyError: a type that NumPy does not have
        raise CheckpointError(f"{path}: is damaged: {error}; {_COPY}") from error


@contextmanager
def metadata_written_last(folder: Path, metadata: ModelMetadata) -> Iterator[None]:
    """Write a model's metadata, with the hash of the weights that the block writes; where it is, the model is whole.

    Raises
    ------
    NnunetError
        The folder cannot be written or the disk is full; an earlier model there may then lack its metadata.
    """
    model = ModelFolder(folder)
    model.metadata_file.unlink(missing_ok=True)
    yield
    whole = replace(metadata, digest=digest_of(model.weights_file), library=installed_version())
    write_bytes(model.metadata_file, (render(metadata_to_json(whole)) + "\n").encode())


def save_weights(folder: Path, weights: Arrays, metadata: ModelMetadata) -> None:
    """Write a model: its weights, and then its metadata; errors as `metadata_written_last`."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with metadata_written_last(folder, metadata):
        try:
            with write_atomically(folder / WEIGHTS) as temporary:
                save_file({name: np.asarray(array, order="C") for name, array in weights.items()}, temporary)
        except SafetensorError as error:  # what safetensors makes of a full disk
            raise CheckpointError(
                f"{folder / WEIGHTS}: cannot be written: {error}; free space on this disk and run again"
            ) from error


def require_weights(
    weights: Arrays, configuration: Configuration, channels: tuple[int, int], options: NetworkOptions, source: str
) -> None:
    """Check that weights are those of a configuration's network.

    Parameters
    ----------
    weights
        By name.
    configuration, options
        Of the network.
    channels
        Its inputs and outputs.
    source
        The file, for the error.

    Raises
    ------
    CheckpointError
        Names or shapes differ.
    """
    require_shapes(weights, dict(weight_shapes(configuration, channels, options)), source)


def require_shapes(weights: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Check that arrays or tensors have these names and shapes; errors as `require_weights`."""
    found = {name: tuple(array.shape) for name, array in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise CheckpointError(
                f"{source}: holds the weights of another network: {name} is {_said(found.get(name))}, the "
                f"configuration has {_said(expected.get(name))}"
            )


def _said(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else f"of shape {list(shape)}"


def weight_shapes(c: Configuration, channels: tuple[int, int], options: NetworkOptions) -> Shapes:
    """Name the weights of the U-Net that `model.unet.build_unet` builds, with their shapes."""
    if min(c.blocks_encoder) < 1 or sum(c.blocks_encoder) + sum(c.blocks_decoder) >= 1 << 16:
        raise CheckpointError(f"configuration {c.name}: describes a network of no or too many blocks")
    stages, ones = len(c.features), (1,) * c.dims
    if c.residual:
        yield from _block("stem.", (channels[0], c.features[0]), c.kernels[0], options)
    inputs = (c.features[0] if c.residual else channels[0], *c.features)
    for s in range(stages):
        yield from _encoder(f"encoder.{s}.", c, options, s, (inputs[s], c.features[s]))
    shift = 1 if options.decoder_kernels == "below" else 0
    for i, s in enumerate(range(stages - 2, -1, -1)):
        yield f"up.{i}.weight", (c.features[s + 1], c.features[s], *c.strides[s + 1])
        yield f"up.{i}.bias", (c.features[s],)
        of_stack = (2 * c.features[s], c.features[s])
        yield from _stack(f"decoder.{i}.", of_stack, c.kernels[s + shift], c.blocks_decoder[i], options)
    for s in range(max(1, stages - 2) if options.deep_supervision else 1):
        yield f"heads.{s}.weight", (channels[1], c.features[s], *ones)
        yield f"heads.{s}.bias", (channels[1],)


def _encoder(at: str, c: Configuration, options: NetworkOptions, s: int, channels: tuple[int, int]) -> Shapes:
    pooled = options.downsampling == "max_pool" and prod(c.strides[s]) > 1
    first, count, kernel = int(pooled), c.blocks_encoder[s], c.kernels[s]
    if not c.residual:
        yield from _stack(f"{at}{first}.", channels, kernel, count, options)
        return
    for block in range(count):
        name, wide = f"{at}{first + block}.", (channels[1], channels[1])
        yield from _block(f"{name}first.", channels if block == 0 else wide, kernel, options)
        yield from _block(f"{name}second.", wide, kernel, options)
        if block == 0 and channels[0] != channels[1]:
            yield f"{name}shortcut.conv.weight", (channels[1], channels[0], *(1,) * c.dims)
            yield from _norm(f"{name}shortcut.norm.", channels[1], options)


def _stack(at: str, channels: tuple[int, int], kernel: tuple[int, ...], count: int, options: NetworkOptions) -> Shapes:
    for block in range(count):
        yield from _block(f"{at}{block}.", (channels[0] if block == 0 else channels[1], channels[1]), kernel, options)


def _block(at: str, channels: tuple[int, int], kernel: tuple[int, ...], options: NetworkOptions) -> Shapes:
    yield f"{at}conv.weight", (channels[1], channels[0], *kernel)
    yield f"{at}conv.bias", (channels[1],)
    yield from _norm(f"{at}norm.", channels[1], options)


def _norm(at: str, features: int, options: NetworkOptions) -> Shapes:
    names = ("weight", "bias") + (("running_mean", "running_var") if options.norm == "batch" else ())
    yield from ((f"{at}{name}", (features,)) for name in names)
    if options.norm == "batch":
        yield f"{at}num_batches_tracked", ()
