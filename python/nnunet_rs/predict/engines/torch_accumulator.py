"""Sums of windows that networks of PyTorch's score, beside the networks or in the computer's own memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from nnunet_rs.core.errors import is_out_of_memory
from nnunet_rs.core.kernels import gaussian_importance
from nnunet_rs.core.types import FloatArray, Shape, Shape3
from nnunet_rs.model.device import release_memory
from nnunet_rs.predict.blend import HostAccumulator, WindowAccumulator
from nnunet_rs.predict.engines.device_memory import fetch, free_memory, pinned
from nnunet_rs.predict.window_grid import WindowGrid


def device_accumulator(
    classes: int, grid: WindowGrid, span: int, device: torch.device, networks: int
) -> WindowAccumulator:
    """Return empty sums of scores that lie on a device, there if there is room, else in the computer's memory.

    Parameters
    ----------
    classes
        Of the scores.
    grid
        The windows.
    span
        By how many planes the starts of windows that are added together differ at most.
    device
        Where the scores are.
    networks
        Bytes of the device's memory that are idle now and that the networks take for a batch.
    """
    wanted = DeviceAccumulator.bytes_of(classes, grid, span) + 4 * classes * prod(grid.tile)  # and a part to read
    if wanted <= free_memory(device) - networks:
        try:
            return DeviceAccumulator(classes, grid, span, device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            release_memory(device, error)  # in pieces, or taken by others since
    return FetchingAccumulator(classes, grid, "none")


class TensorAccumulator(HostAccumulator):
    """Sums of tensors in the computer's memory."""

    def add(self, scores: Tensor, starts: Sequence[Shape3], mirrored: Shape) -> None:
        """See WindowAccumulator."""
        super().add(scores.numpy(), starts, mirrored)


class FetchingAccumulator(HostAccumulator):
    """Sums in the computer's memory, of scores on a device: one is added while others are computed and fetched."""

    _AHEAD = 2  # windows that are on their way

    def __init__(self, *arguments: object) -> None:
        """Begin with nothing; as `HostAccumulator`."""
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._coming: deque[tuple[Callable[[], FloatArray], Shape3, Shape]] = deque()

    def add(self, scores: Tensor, starts: Sequence[Shape3], mirrored: Shape) -> None:
        """See WindowAccumulator."""
        for window, start in zip(scores, starts, strict=True):
            self._take(self._AHEAD - 1)
            self._coming.append((fetch(window), start, mirrored))

    def mean(self, start: Shape3, stop: Shape3) -> Callable[[], FloatArray]:
        """See WindowAccumulator."""
        self._take(0)
        return super().mean(start, stop)

    def forget(self, plane: int, row: int) -> None:
        """See WindowAccumulator."""
        self._take(0)
        super().forget(plane, row)

    def _take(self, left: int) -> None:
        """Add what has come, and wait until no more than so many windows are on their way."""
        while len(self._coming) > left:
            values, start, mirrored = self._coming.popleft()
            super().add(values()[None], [start], mirrored)


class DeviceAccumulator:
    """WindowAccumulator in torch, on any device: a ring of planes, as many as windows added together can touch.

    Adding takes no memory, so that it never stops half-way.
    """

    def __init__(self, classes: int, grid: WindowGrid, span: int, device: torch.device) -> None:
        """Take the memory for the ring."""
        depth = self._depth(grid, span)
        self._grid, self._device = grid, device
        importance = pinned(grid.tile, torch.float32, device)
        importance.numpy()[:] = gaussian_importance(grid.tile)
        self._importance = importance.to(device, non_blocking=True)
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
        """See WindowAccumulator; scores are what is summed."""
        scores = scores.flip([axis + 2 for axis in mirrored]) if mirrored else scores
        scores = (scores.unsqueeze(2) if self._grid.flat else scores).permute(self._grid.scores_order)
        for window, start in zip(scores.to(self._sums.device), starts, strict=True):
            columns = self._grid.box(start)[1:]
            for ring, part in self._pieces(start[0], start[0] + self._grid.tile[0]):
                place, importance = (ring, slice(None), *columns), self._importance[part].unsqueeze(1)
                self._sums[place].addcmul_(window[:, part].transpose(0, 1), importance)
                self._weights[place].add_(importance)

    def mean(self, start: Shape3, stop: Shape3) -> Callable[[], FloatArray]:
        """See WindowAccumulator."""
        try:
            return fetch(self._means(start, stop))
        except RuntimeError as error:
            if not is_out_of_memory(error) or not self.give_back():
                raise
        return fetch(self._means(start, stop))

    @torch.inference_mode()
    def _means(self, start: Shape3, stop: Shape3) -> Tensor:
        """Return (c, planes, rows, columns) where the sums are, which turns them faster than the computer does."""
        size = tuple(last - first for first, last in zip(start, stop, strict=True))
        means = torch.empty((self._sums.shape[1], *size), device=self._sums.device)
        for ring, part in self._pieces(start[0], stop[0]):
            place = (ring, slice(None), slice(start[1], stop[1]), slice(start[2], stop[2]))
            sums, weights = (each[place].transpose(0, 1) for each in (self._sums, self._weights))
            torch.div(sums, weights, out=means[:, part])
        return means

    @torch.inference_mode()
    def forget(self, plane: int, row: int) -> None:
        """See WindowAccumulator; only whole planes make room."""
        if row < self._sums.shape[2] or plane <= self._forgotten:
            return
        for ring, _ in self._pieces(self._forgotten, plane):
            self._sums[ring].zero_()
            self._weights[ring].zero_()
        self._forgotten = plane

    @torch.inference_mode()
    def give_back(self) -> bool:
        """See WindowAccumulator; windows are added by the processor from now on."""
        if self._sums.device.type == "cpu":
            return False
        self._sums, self._weights, self._importance = (
            each.cpu() for each in (self._sums, self._weights, self._importance)
        )
        release_memory(self._device)
        return True

    def _pieces(self, start: int, stop: int) -> list[tuple[slice, slice]]:
        """Where planes lie in the ring, and which of them these are: one piece, or two where it wraps."""
        depth = len(self._sums)
        first, length = start % depth, stop - start
        here = min(length, depth - first)
        pieces = [(slice(first, first + here), slice(0, here))]
        return pieces if here == length else [*pieces, (slice(0, length - here), slice(here, length))]
