"""A moving average of the weights, which predicts better than the last weights of a short training."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


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
        self._current = network
        # Kept: to list a network's parameters takes longer than to average them.
        self._averaged: list[Tensor] = list(self.network.parameters())
        self._weights: list[Tensor] = list(network.parameters())

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights of the network after one more iteration."""
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 9))
        torch._foreach_lerp_(self._averaged, self._weights, 1 - decay)
        for ours, theirs in zip(self.network.buffers(), self._current.buffers(), strict=True):
            ours.copy_(theirs)
