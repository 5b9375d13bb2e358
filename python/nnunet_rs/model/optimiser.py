"""The recipes' optimisers, and their state as named tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from nnunet_rs.model.muon import Muon
from nnunet_rs.model.recipe import TrainRecipe

OptimiserFunction: TypeAlias = Callable[[Iterable[nn.Parameter]], Optimizer]


def build_optimiser(recipe: TrainRecipe, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Return the recipe's optimiser at its initial (or peak) learning rate.

    Adam and SGD are fused: one pass over all parameters an iteration, on processors and CUDA alike.
    """
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimiser == "sgd_nesterov":
        return SGD(parameters, rate, momentum=recipe.momentum, nesterov=True, weight_decay=decay, fused=True)
    if recipe.optimiser == "muon":
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
        if optimiser.defaults.get("fused") and value.ndim > 0 and value.shape != parameters[int(index)].shape:
            raise ValueError(f"the optimiser's {key} has the shape {list(value.shape)}")  # fused steps do not check
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    _lay_out(optimiser)


def _lay_out(optimiser: Optimizer) -> None:
    """Put what is remembered of a parameter's elements into the parameter's memory layout.

    Files hold tensors row by row; the fused steps pair numbers by their place in memory.
    """
    for parameter, remembered in optimiser.state.items():
        for name, value in remembered.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                remembered[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
