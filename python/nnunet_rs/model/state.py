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

from nnunet_rs.core.document import decode, encode
from nnunet_rs.core.errors import CheckpointError, first_line
from nnunet_rs.model.checkpoint import load_weights
from nnunet_rs.model.config import TrainingConfig
from nnunet_rs.model.ema import WeightEMA
from nnunet_rs.model.header import ADVICE, TRAINING, Identity, identity_of, parse_header
from nnunet_rs.model.history import History
from nnunet_rs.model.optimiser import optimiser_tensors, restore_optimiser
from nnunet_rs.model.schedule import Position
from nnunet_rs.model.tensors import read_tensors, write_tensors

_FURTHEST = 1e12  # iterations, seconds


@dataclass(slots=True)
class TrainingState:
    """The network, what the optimiser and the EMA remember, and where the training stands."""

    network: nn.Module
    optimiser: Optimizer
    scaler: torch.amp.GradScaler
    ema: WeightEMA | None
    history: History
    position: Position = field(default_factory=Position)

    @property
    def model(self) -> nn.Module:
        """The network that predicts: the averaged one where there is an EMA."""
        return self.network if self.ema is None else self.ema.network


def save_state(path: Path, state: TrainingState, identity: Identity, config: TrainingConfig) -> None:
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
        "updates": 0 if state.ema is None else state.ema.updates,
        "scaler": state.scaler.state_dict(),
    }
    write_tensors(path, _tensors(state), json.dumps(TRAINING.wrap(body)))


def read_state(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a checkpoint: its header in today's form, and its tensors; errors as `load_state`."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; there is no unfinished training")
    tensors, text = read_tensors(path, ADVICE)
    return parse_header(text, path), tensors


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
    document, tensors = read_state(path)
    _check_identity(path, identity_of(document, path), identity)
    position = decode(Position, document.get("position"), f"{path}: position", CheckpointError)
    history = decode(History, document.get("history"), f"{path}: history", CheckpointError)
    where = [position.epoch, position.batch, position.iterations, position.seconds, position.waiting, position.training]
    if min(where) < 0 or max(where) > _FURTHEST:
        raise CheckpointError(f"{path}: position is {encode(position)}: no training stands there; {ADVICE}")
    try:
        _restore(state, document, tensors, path)
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:  # whatever PyTorch makes of it
        raise CheckpointError(f"{path}: is damaged ({first_line(error)}); {ADVICE}") from error
    state.position, state.history = position, history


def _restore(state: TrainingState, document: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> None:
    load_weights(state.network, _part(tensors, "network"), str(path))
    restore_optimiser(state.optimiser, _part(tensors, "optimiser"))
    if state.ema is not None:
        load_weights(state.ema.network, _part(tensors, "average"), str(path))
        state.ema.updates = int(document["updates"])
    if document["scaler"]:
        state.scaler.load_state_dict(document["scaler"])
    random = _part(tensors, "random")
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and (device := _gpu_of(state.network)) is not None:
        torch.cuda.set_rng_state(random["cuda"], device)


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    parts: dict[str, Mapping[str, Tensor]] = {
        "network": state.network.state_dict(),
        "optimiser": optimiser_tensors(state.optimiser),
        "average": {} if state.ema is None else state.ema.network.state_dict(),
        "random": {"cpu": torch.get_rng_state()},
    }
    if (device := _gpu_of(state.network)) is not None:
        parts["random"] = {**parts["random"], "cuda": torch.cuda.get_rng_state(device)}
    return {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}


def _part(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}/"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _gpu_of(network: nn.Module) -> torch.device | None:
    """Return the network's own CUDA device, which need not be the current one."""
    return next((parameter.device for parameter in network.parameters() if parameter.is_cuda), None)


def _check_identity(path: Path, saved: Identity, wanted: Identity) -> None:
    for name in (item.name for item in fields(Identity)):
        before, now = getattr(saved, name), getattr(wanted, name)
        if before != now:
            raise CheckpointError(
                f"{path}: was begun with another {_SAID.get(name, name.replace('_', ' '))} ({before}, now {now}); "
                f"resume with the same, or train anew with --fresh"
            )


_SAID = {"cases": "set of cases in this fold"}
