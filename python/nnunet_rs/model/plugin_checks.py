"""What a user's own functions return, checked; a network whose errors are reported as the user's."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from nnunet_rs.data.augment import Augmentation
from nnunet_rs.model.plugins import Plugin


def check_network(own: Plugin, network: Any) -> nn.Module:
    """Return what an own function gave for the network, if it can be one."""
    if not isinstance(network, nn.Module):
        raise own.wrong(f"must return a torch.nn.Module, not {kind_of(network)}")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise own.wrong("the network it returns has no weights to learn")
    return network


def check_optimiser(own: Plugin, optimiser: Any) -> Optimizer:
    """Return what an own function gave for the optimiser, if it can be one."""
    if not isinstance(optimiser, Optimizer):
        raise own.wrong(f"must return a torch.optim.Optimizer, not {kind_of(optimiser)}")
    if "lr" not in optimiser.param_groups[0]:
        raise own.wrong("the optimiser it returns has no learning rate (lr), which the schedule scales")
    return optimiser


def check_augmentation(own: Plugin, augmentation: Any) -> Augmentation:
    """Return what an own function gave for the augmentation, if it can be one."""
    if not isinstance(augmentation, Augmentation):
        raise own.wrong(f"must return a nnunet_rs.data.augment.Augmentation, not {kind_of(augmentation)}")
    return augmentation


class PluginNetwork(nn.Module):
    """A network of the user's own whose errors are reported as the user's."""

    def __init__(self, network: nn.Module, own: Plugin) -> None:
        """Wrap the network that `own` made."""
        super().__init__()
        self.network, self.own = network, own

    def forward(self, data: Tensor) -> Any:
        """Return what the network gives."""
        with self.own.errors_named():
            return self.network(data)


def kind_of(value: object) -> str:
    """Say what a value is, for an error."""
    if isinstance(value, Tensor):
        return f"a tensor {str(value.dtype).removeprefix('torch.')} of shape {list(value.shape)}"
    return f"a {type(value).__name__}"
