"""Sums of windows on a device of PyTorch's, beside the networks."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from nnunet_rs.core.errors import is_out_of_memory
from nnunet_rs.core.kernels import gaussian_importance
from nnunet_rs.core.types import FloatArray, Shape, Shape3
from nnunet_rs.model.device import release_memory
from nnunet_rs.predict.blend import Activation, HostAccumulator, WindowAccumulator
from nnunet_rs.predict.window_grid import WindowGrid

TEMPORARIES = 4  # arrays of a window's scores that adding it, or reading means, takes on the device


def torch_accumulator(
    classes: int, grid: WindowGrid, span: int, activation: Activation, device: torch.device
) -> WindowAccumulator:
    """Return empty sums, in the processor's memory for networks on it, else on their device where there is room.

    Parameters
    ----------
    classes
        Of the scores.
    grid
        The windows.
    span
        By how many planes the starts of windows that are added together differ at most.
    activation
        What is summed.
    device
        Where the scores are.
    """
    if device.type != "cpu" and _fits(DeviceAccumulator.bytes_of(classes, grid, span), classes, grid, device):
        try:
            return DeviceAccumulator(classes, grid, span, activation, device)
        except RuntimeError as error:  # memory in pieces, or taken by others since
            if not is_out_of_memory(error):
                raise
            release_memory(device, error)
    return FetchingAccumulator(classes, grid, activation)


def _fits(size: int, classes: int, grid: WindowGrid, device: torch.device) -> bool:
    """Whether sums fit beside what adding a window to them takes; a network has run already and holds its part."""
    if device.type != "cuda":
        return True  # found out by trying
    free, _ = torch.cuda.mem_get_info(device)
    return size + TEMPORARIES * 4 * classes * prod(grid.tile) <= free


class FetchingAccumulator(HostAccumulator):
    """Sums in the processor's memory, of tensors on whatever device."""

    def add(self, scores: Tensor, starts: Sequence[Shape3], mirrored: Shape) -> None:
        """See WindowAccumulator."""
        super().add(scores.to("cpu").numpy(), starts, mirrored)


class DeviceAccumulator:
    """WindowAccumulator in torch, on any device: a ring of planes, as many as windows added together can touch."""

    def __init__(self, classes: int, grid: WindowGrid, span: int, activation: Activation, device: torch.device) -> None:
        """Take the memory for the ring."""
        depth = self._depth(grid, span)
        self._grid = grid
        self._activation = activation
        self._importance = torch.from_numpy(gaussian_importance(grid.tile)).to(device)
        self._sums = torch.zeros((depth, classes, *grid.padded[1:]), device=device)
        self._weights = torch.zeros((depth, 1, *grid.padded[1:]), device=device)
        self._forgotten = 0  # planes before this one

    @staticmethod
    def bytes_of(classes: int, grid: WindowGrid, span: int) -> int:
        """Memory that the sums and their weights take on the device."""
        return 4 * (classes + 1) * DeviceAccumulator._depth(grid, span) * grid.padded[1] * grid.padded[2]

    @staticmethod
    def _depth(grid: WindowGrid, span: int) -> int:
        # the last plane of the layer before is read once more
        return min(grid.padded[0], grid.tile[0] + span + 1)

    @torch.inference_mode()
    def add(self, scores: Tensor, starts: Sequence[Shape3], mirrored: Shape) -> None:
        """See WindowAccumulator."""
        turned = [axis + 1 for axis in self._grid.of_tile(mirrored)]
        scores = (scores.unsqueeze(2) if self._grid.flat else scores).permute(self._grid.scores_order)
        for window, start in zip(scores, starts, strict=True):  # one by one: all at once would take more memory
            weighted = _activated(window, self._activation).flip(turned) * self._importance
            values = weighted.transpose(0, 1)  # (plane, classes, row, column)
            slots = torch.tensor(self._slots(start[0], start[0] + len(values)), device=values.device)
            ends = [at + size for at, size in zip(start[1:], self._importance.shape[1:], strict=True)]
            place = (slice(None), slice(None), *map(slice, start[1:], ends))
            self._sums[place].index_add_(0, slots, values)
            self._weights[place].index_add_(0, slots, self._importance.unsqueeze(1))

    @torch.inference_mode()
    def mean(self, start: Shape3, stop: Shape3) -> FloatArray:
        """See WindowAccumulator."""
        slots = self._slots(start[0], stop[0])
        part = (slots, slice(None), slice(start[1], stop[1]), slice(start[2], stop[2]))
        means = self._sums[part].div_(self._weights[part]).transpose(0, 1)
        return means.contiguous().cpu().numpy()  # the device turns it faster

    @torch.inference_mode()
    def forget(self, plane: int, row: int) -> None:
        """See WindowAccumulator; only whole planes make room."""
        if row < self._sums.shape[2] or plane <= self._forgotten:
            return
        slots = self._slots(self._forgotten, plane)
        self._sums[slots] = 0
        self._weights[slots] = 0
        self._forgotten = plane

    def _slots(self, start: int, stop: int) -> list[int]:
        return [plane % len(self._sums) for plane in range(start, stop)]


def _activated(scores: Tensor, activation: Activation) -> Tensor:
    """Turn one window's logits, (classes, *tile), into what is summed."""
    if activation == "softmax":
        return scores.softmax(0)
    return scores.sigmoid() if activation == "sigmoid" else scores
