"""All that changes while a network is trained, and the one file an interrupted training goes on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nnunet_rs.core.document import Kind, decode, encode
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.types import FoldName, Shape
from nnunet_rs.model.checkpoint import load_weights
from nnunet_rs.model.config import TrainingConfig, parsed
from nnunet_rs.model.ema import WeightEMA
from nnunet_rs.model.history import History
from nnunet_rs.model.network_options import NetworkOptions
from nnunet_rs.model.optimiser import optimiser_tensors, restore_optimiser
from nnunet_rs.model.schedule import Plateau
from nnunet_rs.model.tensors import read_tensors, write_tensors

_FURTHEST = 1e12  # iterations, seconds
_ADVICE = "train anew with --fresh, which keeps it aside"


@dataclass(frozen=True, slots=True)
class Identity:
    """What must be the same for a training to go on: another value would make it another training."""

    configuration: str
    plan: str  # digest of the configuration, labels and normalisation
    fold: FoldName
    cases: str  # digest of the fold's cases
    recipe: str
    seed: int
    batch_size: int
    batches: int  # an epoch's
    network: NetworkOptions
    loss: str
    optimiser: str
    augmentation: str
    mirror_axes: Shape | None = None  # of the patch, where others are asked for than the augmentation's
    custom_network: str | None = None
    first_stage: str | None = None  # of a cascade: digest of what made the first segmentations


@dataclass(slots=True)
class Position:
    """Where a training stands: a value that JSON holds."""

    epoch: int = 0
    batch: int = 0  # of the epoch, the next one
    iterations: int = 0
    seconds: float = 0.0  # since the beginning, interruptions not counted
    loss: float = 0.0  # sum over the epoch's batches so far
    waiting: float = 0.0  # seconds in this epoch
    training: float = 0.0
    plateau: Plateau = field(default_factory=Plateau)


@dataclass(slots=True)
class TrainingState:
    """The network, what the optimiser and the averages remember, and where the training stands."""

    network: nn.Module
    optimiser: Optimizer
    scaler: torch.amp.GradScaler
    average: WeightEMA | None
    history: History
    position: Position = field(default_factory=Position)

    @property
    def model(self) -> nn.Module:
        """The network that predicts: the averaged one where there is an average."""
        return self.network if self.average is None else self.average.network


# Its header; the tensors lie beside it.
TRAINING = Kind("training", dict, CheckpointError, f"use the nnunet_rs that began it, or {_ADVICE}")


def save_state(path: Path, state: TrainingState, identity: Identity, config: TrainingConfig | None = None) -> None:
    """Write everything into one file, atomically: a kill at any moment leaves this state or the one before.

    Raises
    ------
    NnunetError
        The folder cannot be written or the disk is full; the file that was there stays.
    """
    body = {
        "identity": encode(identity),
        "config": encode(config),
        "position": encode(state.position),
        "history": encode(state.history),
        "updates": 0 if state.average is None else state.average.updates,
        "scaler": state.scaler.state_dict(),
    }
    write_tensors(path, _tensors(state), json.dumps(TRAINING.wrap(body)))


def read_state(path: Path) -> tuple[Identity, dict[str, Any], dict[str, Tensor]]:
    """Read a checkpoint: which training it is of, its header, its tensors; errors as `load_state`."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; there is no unfinished training")
    document, tensors = _read(path)
    return decode(Identity, document.get("identity"), f"{path}: identity", CheckpointError), document, tensors


def weights_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that predict: the averaged ones where there are such."""
    return _part(tensors, "average") or _part(tensors, "network")


def load_state(path: Path, state: TrainingState, identity: Identity) -> None:
    """Bring a freshly built state to where `save_state` left it; random numbers go on too.

    Raises
    ------
    CheckpointError
        The file is damaged, of another version, or of another training (the text names what differs).
    """
    document, tensors = _read(path)
    saved = decode(Identity, document.get("identity"), f"{path}: identity", CheckpointError)
    _check_identity(path, saved, identity)
    position = decode(Position, document.get("position"), f"{path}: position", CheckpointError)
    history = decode(History, document.get("history"), f"{path}: history", CheckpointError)
    where = [position.epoch, position.batch, position.iterations, position.seconds, position.waiting, position.training]
    if min(where) < 0 or max(where) > _FURTHEST:
        raise CheckpointError(f"{path}: position is {encode(position)}: no training stands there; {_ADVICE}")
    try:
        _restore(state, document, tensors, path)
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:  # whatever PyTorch makes of it
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: is damaged ({said}); {_ADVICE}") from error
    state.position, state.history = position, history


def _restore(state: TrainingState, document: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> None:
    load_weights(state.network, _part(tensors, "network"), str(path))
    restore_optimiser(state.optimiser, _part(tensors, "optimiser"))
    if state.average is not None:
        load_weights(state.average.network, _part(tensors, "average"), str(path))
        state.average.updates = int(document["updates"])
    if document["scaler"]:
        state.scaler.load_state_dict(document["scaler"])
    random = _part(tensors, "random")
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and _on_cuda(state.network):
        torch.cuda.set_rng_state(random["cuda"])


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    parts: dict[str, Mapping[str, Tensor]] = {
        "network": state.network.state_dict(),
        "optimiser": optimiser_tensors(state.optimiser),
        "average": {} if state.average is None else state.average.network.state_dict(),
        "random": {"cpu": torch.get_rng_state()},
    }
    if _on_cuda(state.network):
        parts["random"] = {**parts["random"], "cuda": torch.cuda.get_rng_state()}
    return {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}


def _part(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}/"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _on_cuda(network: nn.Module) -> bool:
    return any(parameter.is_cuda for parameter in network.parameters())


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    tensors, text = read_tensors(path, _ADVICE)
    return TRAINING.unwrap(parsed(text, path), str(path)), tensors


def _check_identity(path: Path, saved: Identity, wanted: Identity) -> None:
    for name in (item.name for item in fields(Identity)):
        before, now = getattr(saved, name), getattr(wanted, name)
        if before != now:
            raise CheckpointError(
                f"{path}: was begun with another {_SAID.get(name, name.replace('_', ' '))} ({_shown(before)}, now "
                f"{_shown(now)}); resume with the same, or train anew with --fresh"
            )


_SAID = {
    "plan": "plan",
    "cases": "set of cases in this fold",
    "batches": "number of batches",
}


def _shown(value: object) -> str:
    return ", ".join(f"{k}={v}" for k, v in encode(value).items()) if isinstance(value, NetworkOptions) else str(value)
