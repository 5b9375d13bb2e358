"""A moving average of the weights, which predicts better than the last weights of a short training."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightEMA:
    """An exponential moving average of a network's parameters; buffers are copied.

    In the beginning the average reaches over a tenth of the iterations so far, so that the drawn weights fade.

    Attributes
    ----------
    network
        A copy of the network in evaluation mode that holds the averaged weights.
    updates
        Iterations averaged so far.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Begin with the network's weights as they are."""
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the network's weights after one more iteration."""
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 9))
        averaged = [parameter.data for parameter in self.network.parameters()]
        torch._foreach_lerp_(averaged, [parameter.data for parameter in network.parameters()], 1 - decay)
        for ours, theirs in zip(self.network.buffers(), network.buffers(), strict=True):
            ours.copy_(theirs)
