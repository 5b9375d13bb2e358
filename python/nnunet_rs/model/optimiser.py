"""The recipes' optimisers, and their state as named tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from nnunet_rs.model.config import TrainingConfig
from nnunet_rs.model.muon import Muon, is_kernel


def build_optimiser(config: TrainingConfig, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Return a training's optimiser at its initial (or peak) learning rate.

    Adam and SGD are fused: one pass over all parameters an iteration, on processors and CUDA alike.
    """
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimiser == "sgd_nesterov":
        return SGD(parameters, rate, momentum=config.momentum, nesterov=True, weight_decay=decay, fused=True)
    if config.optimiser == "muon":
        return Muon(parameters, rate, decay)
    return Adam(parameters, rate, weight_decay=decay, amsgrad=True, fused=True)


def set_rate(optimiser: Optimizer, rate: float) -> None:
    """Give the first group of parameters this learning rate, others in proportion to the rates they were built with."""
    first = optimiser.param_groups[0].setdefault("initial_lr", optimiser.param_groups[0]["lr"])
    for group in optimiser.param_groups:
        group["lr"] = rate * (group.setdefault("initial_lr", group["lr"]) / first)


def optimiser_tensors(optimiser: Optimizer) -> dict[str, Tensor]:
    """Return what the optimiser remembers: INDEX/NAME → tensor, INDEX counting the parameters."""
    state = optimiser.state_dict()["state"]
    return {
        f"{index}/{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, entries in state.items()
        for name, value in entries.items()
        if value is not None
    }


def restore_optimiser(optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser of the same parameters back what `optimiser_tensors` returned.

    Raises
    ------
    ValueError
        The tensors are not of this optimiser's parameters.
    """
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition("/")
        if not (index.isdecimal() and int(index) < len(parameters) and name):
            raise ValueError(f"the optimiser has no {key}")
        state.setdefault(int(index), {})[name] = value
    for number, remembered in state.items():
        _require_valid(optimiser, parameters[number], number, remembered)
    if type(optimiser) is SGD and state:  # whose fused step wants all or none; a step from 0 is the first step
        for number, parameter in enumerate(parameters):
            state.setdefault(number, {"momentum_buffer": torch.zeros_like(parameter)})
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    _lay_out(optimiser)


_MEANS = {"step", "exp_avg", "exp_avg_sq"}  # of Adam's kind


def _names(optimiser: Optimizer, parameter: Tensor) -> set[str] | None:
    """Return what the optimiser remembers of a parameter; None: it is none that a recipe has."""
    if type(optimiser) is Adam:
        return _MEANS | ({"max_exp_avg_sq"} if optimiser.defaults["amsgrad"] else set())
    if type(optimiser) is Muon:
        return {"step", "momentum_buffer"} if is_kernel(parameter) else _MEANS
    return {"momentum_buffer"} if type(optimiser) is SGD else None


def _require_valid(optimiser: Optimizer, parameter: Tensor, number: int, remembered: Mapping[str, Tensor]) -> None:
    """Check what is remembered of a parameter: fused steps read memory by the parameter's shape, unchecked."""
    if (names := _names(optimiser, parameter)) is None:
        return
    if set(remembered) != names:
        raise ValueError(f"of parameter {number} the optimiser remembers {', '.join(sorted(remembered))}")
    for name, value in remembered.items():
        if not value.is_floating_point() or tuple(value.shape) != (() if name == "step" else tuple(parameter.shape)):
            raise ValueError(f"the optimiser's {number}/{name} is {value.dtype} of shape {list(value.shape)}")


def _lay_out(optimiser: Optimizer) -> None:
    """Put what is remembered of a parameter's elements into the parameter's memory layout.

    Files hold tensors row by row; the fused steps pair numbers by their place in memory.
    """
    for parameter, remembered in optimiser.state.items():
        for name, value in remembered.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                remembered[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
