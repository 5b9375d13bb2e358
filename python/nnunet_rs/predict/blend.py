"""Weighted means of overlapping windows, read part by part as they are finished."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal, Protocol

import torch
from torch import Tensor

from nnunet_rs.core.kernels import WindowSums, gaussian_importance
from nnunet_rs.core.types import FloatArray, Shape, Shape3
from nnunet_rs.predict.window_grid import WindowGrid

Activation = Literal["softmax", "sigmoid", "none"]
TEMPORARIES = 4  # arrays of a window's scores that adding it, or reading means, takes on the device


class WindowAccumulator(Protocol):
    """Sums over a padded volume, in sweep axes, of which finished parts can be read and forgotten."""

    def add(self, outputs: Tensor, starts: Sequence[Shape3], mirrored: Shape) -> None:
        """Add networks' outputs for windows, (b, classes, *tile) in sweep axes, seen mirrored along these axes."""

    def mean(self, start: Shape3, stop: Shape3) -> FloatArray:
        """Return the weighted means of a part, (c, planes, rows, columns)."""

    def forget(self, plane: int, row: int) -> None:
        """Give back the memory of rows before `row` in planes before `plane`."""


def open_sums(
    classes: int, window_grid: WindowGrid, span: int, activation: Activation, device: torch.device
) -> WindowAccumulator:
    """Return empty sums, in the processor's memory for networks on it, else on their device.

    Parameters
    ----------
    classes
        Of the outputs.
    sweep
        The windows.
    span
        By how many planes the starts of windows that are added together differ at most.
    activation
        What is summed.
    device
        Where the outputs are.
    """
    if device.type != "cpu" and _fits(
        DeviceAccumulator.bytes_of(classes, window_grid, span), classes, window_grid, device
    ):
        try:
            return DeviceAccumulator(classes, window_grid, span, activation, device)
        except torch.OutOfMemoryError:
            pass  # memory in pieces, or taken by others since
    return HostAccumulator(classes, window_grid, activation)


def _fits(size: int, classes: int, window_grid: WindowGrid, device: torch.device) -> bool:
    """Whether sums fit beside what adding a window to them takes; a network has run already and holds its part."""
    if device.type != "cuda":
        return True  # found out by trying
    free, _ = torch.cuda.mem_get_info(device)
    return size + TEMPORARIES * 4 * classes * prod(window_grid.tile) <= free


class HostAccumulator:
    """WindowAccumulator by the Rust kernel: memory only where windows are still to come."""

    def __init__(self, classes: int, window_grid: WindowGrid, activation: Activation) -> None:
        self._sums = WindowSums(classes, window_grid.padded, window_grid.tile)
        self._activation = activation

    def add(self, outputs: Tensor, starts: Sequence[Shape3], mirrored: Shape) -> None:
        """See WindowAccumulator."""
        # Rows must lie together: the kernel reads a stride as long as a plane one cache line per voxel.
        ready = outputs.to("cpu")
        ready = ready if ready.stride(-1) == 1 else ready.contiguous()
        for output, start in zip(ready.numpy(), starts, strict=True):
            self._sums.add(output, start, activation=self._activation, mirrored=mirrored)

    def mean(self, start: Shape3, stop: Shape3) -> FloatArray:
        """See WindowAccumulator."""
        return self._sums.mean(start, stop)

    def forget(self, plane: int, row: int) -> None:
        """See WindowAccumulator."""
        self._sums.forget(plane, row)


class DeviceAccumulator:
    """WindowAccumulator in torch, on any device: a ring of planes, as many as windows added together can touch."""

    def __init__(
        self, classes: int, window_grid: WindowGrid, span: int, activation: Activation, device: torch.device
    ) -> None:
        depth = self._depth(window_grid, span)
        self._activation = activation
        self._importance = torch.from_numpy(gaussian_importance(window_grid.tile)).to(device)
        self._sums = torch.zeros((depth, classes, *window_grid.padded[1:]), device=device)
        self._weights = torch.zeros((depth, 1, *window_grid.padded[1:]), device=device)
        self._forgotten = 0  # planes before this one

    @staticmethod
    def bytes_of(classes: int, window_grid: WindowGrid, span: int) -> int:
        """Memory that the sums and their weights take on the device."""
        return (
            4
            * (classes + 1)
            * DeviceAccumulator._depth(window_grid, span)
            * window_grid.padded[1]
            * window_grid.padded[2]
        )

    @staticmethod
    def _depth(window_grid: WindowGrid, span: int) -> int:
        return min(
            window_grid.padded[0], window_grid.tile[0] + span + 1
        )  # the last plane of the layer before is read once more

    @torch.inference_mode()
    def add(self, outputs: Tensor, starts: Sequence[Shape3], mirrored: Shape) -> None:
        """See WindowAccumulator."""
        turned = [axis + 1 for axis in mirrored]
        for output, start in zip(outputs, starts, strict=True):  # one by one: all at once would take more memory
            scores = _activated(output, self._activation).flip(turned) * self._importance
            values = scores.transpose(0, 1)  # (plane, classes, row, column)
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


def _activated(output: Tensor, activation: Activation) -> Tensor:
    """Turn one window's logits, (classes, *tile), into what is summed."""
    if activation == "softmax":
        return output.softmax(0)
    return output.sigmoid() if activation == "sigmoid" else output
