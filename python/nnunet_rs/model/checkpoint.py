"""A trained model in a folder: weights.safetensors, and model.json with all that prediction needs; no pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_rs.core.errors import CheckpointError, PlanError
from nnunet_rs.core.files import read_json, write_bytes
from nnunet_rs.model.history import Epoch
from nnunet_rs.model.tensors import read_tensors, write_tensors
from nnunet_rs.model.unet import NetworkFunction, NetworkOptions, build_unet, network_channels
from nnunet_rs.plan.document import decode, encode, render
from nnunet_rs.plan.schema import Configuration, Plan, plan_from_json, plan_to_json

VERSION = 1
FORMAT = "nnunet_rs model"
WEIGHTS, CARD = "weights.safetensors", "model.json"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """All that is known of a trained model besides its weights."""

    plan: Plan  # labels, channels, normalisation, spacing, patch size: with the overrides it was trained with
    configuration: str
    network: NetworkOptions
    fold: int
    recipe: str
    seed: int
    iterations: int
    end: Epoch | None  # the last epoch
    best: Epoch | None  # by Dice on validation patches; the weights are the last epoch's all the same
    custom_network: str | None = None  # module:function of a network of the user's own
    loss: str = ""  # names, or module:function of the user's own
    optimiser: str = ""
    augmentation: str = ""
    library: str = ""  # version of nnunet_rs that trained it
    digest: str = ""  # SHA-256 of weights.safetensors

    @property
    def settings(self) -> Configuration:
        """The configuration that was trained."""
        return self.plan.configurations[self.configuration]

    @property
    def channels(self) -> tuple[int, int]:
        """Input channels (with those of the previous stage's segmentation) and outputs of the network."""
        return network_channels(self.plan, self.settings)


def library_version() -> str:
    """Return the installed version of nnunet_rs, empty in a tree that is not installed."""
    try:
        return version("nnunet-rs")
    except PackageNotFoundError:
        return ""


def save_model(folder: Path, weights: Mapping[str, Tensor], card: ModelCard) -> None:
    """Write weights and card; the card last, so that where it is, the model is whole.

    Raises
    ------
    NnunetError
        The folder cannot be written or the disk is full; an earlier model there may then lack its card.
    """
    (folder / CARD).unlink(missing_ok=True)
    write_tensors(folder / WEIGHTS, weights)
    body = {**encode(card), "plan": plan_to_json(card.plan), "digest": _digest(folder / WEIGHTS)}
    body["library"] = library_version()
    document = {"format": FORMAT, "version": VERSION, **body}
    write_bytes(folder / CARD, (render(document) + "\n").encode())


def read_card(folder: Path) -> ModelCard:
    """Read model.json of a model folder (WORK/models/CONFIGURATION/fold_K).

    Raises
    ------
    CheckpointError
        There is no finished model, or the card is damaged or of another version.
    """
    path = folder / CARD
    if not path.is_file():
        raise CheckpointError(_missing(folder))
    document = read_json(path, CheckpointError)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CheckpointError(f'{path}: is no model of nnunet_rs: the key format must be "{FORMAT}"')
    if document.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: version is {document.get('version')!r}, this release reads {VERSION}; "
            "use the nnunet_rs that trained it, or train again"
        )
    body = {key: value for key, value in document.items() if key not in ("format", "version")}
    card = _decode_card(body, path)
    if card.configuration not in card.plan.configurations:
        raise CheckpointError(
            f'{path}: configuration is "{card.configuration}": must be one of {", ".join(card.plan.configurations)}'
        )
    return card


def load_model(
    folder: Path, device: torch.device | str = "cpu", *, network: NetworkFunction | None = None
) -> tuple[nn.Module, ModelCard]:
    """Load a finished model for prediction.

    Parameters
    ----------
    folder
        WORK/models/CONFIGURATION/fold_K, or a copy of it.
    device
        Where the weights go.
    network
        For a model with a network of the user's own: the function that builds it; other models do without. It is
        never imported by the name in the card, which may come from anybody.

    Returns
    -------
    network
        In evaluation mode; float32. Maps (b, inputs, *patch_size) to logits (b, outputs, *patch_size).
    card
        With the plan, labels and normalisation it was trained for.

    Raises
    ------
    CheckpointError
        The model is missing, unfinished, damaged, of another version, or of another network than `network` builds.
    """
    card = read_card(folder)
    if card.custom_network is not None and network is None:
        raise CheckpointError(
            f"{folder / CARD}: the network is {card.custom_network}, not nnunet_rs's own; give that function as "
            "network (predict --network)"
        )
    build = build_unet if network is None or card.custom_network is None else network
    try:
        built = build(card.settings, *card.channels, card.network)
    except PlanError as error:
        raise CheckpointError(f"{folder / CARD}: {error}") from error
    weights = _read_weights(folder / WEIGHTS, card.digest)
    load_weights(built, weights, str(folder / WEIGHTS))
    return built.to(device).eval().requires_grad_(False), card


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into a network.

    Raises
    ------
    CheckpointError
        Names or shapes differ: the weights are of another network.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise CheckpointError(
                f"{source}: holds the weights of another network: {name} is {_shape(found.get(name))}, "
                f"the configuration has {_shape(expected.get(name))}"
            )
    network.load_state_dict(dict(weights))


def _decode_card(body: dict[str, Any], path: Path) -> ModelCard:
    try:
        plan = plan_from_json(body.get("plan"), f"{path}: plan")  # checked, and brought to this release's version
    except PlanError as error:
        raise CheckpointError(str(error)) from error
    return decode(ModelCard, {**body, "plan": encode(plan)}, f"{path}:", CheckpointError)


def _read_weights(path: Path, digest: str) -> dict[str, Tensor]:
    weights, _ = read_tensors(path, "copy the model folder again, or train again")
    if _digest(path) != digest:
        raise CheckpointError(f"{path}: is damaged, or not the file that {CARD} was written for (SHA-256 differs)")
    return weights


def _missing(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder}: no such folder; train this configuration and fold first"
    if (folder / "resume.safetensors").is_file():
        return f"{folder}: its training is not finished; go on with train --resume"
    return f"{folder}: holds no model ({CARD} is missing); give the folder of a fold that has been trained"


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else f"of shape {list(shape)}"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
