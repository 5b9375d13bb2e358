"""Windows on a device of PyTorch's, cut out of a volume that lies there, or copied there one batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nnunet_rs.core.errors import is_out_of_memory
from nnunet_rs.core.types import FloatArray, Shape, Shape3
from nnunet_rs.predict.engines.device_memory import fitting, free_memory, pinned
from nnunet_rs.predict.window_grid import WindowGrid
from nnunet_rs.predict.window_source import HostSource, Previous

# Of the free memory: a volume is worth less there than the sums of its windows, and networks take most.
VOLUME_SHARE = 1 / 8


class DeviceSource:
    """WindowSource of a device: the whole volume lies there where it takes a small part of what is free.

    Else, or once it was given back, windows are gathered in pages that the device fetches by itself.
    """

    def __init__(self, image: FloatArray, previous: Previous | None, grid: WindowGrid, device: torch.device) -> None:
        """Take an image (c, z, y, x) in working axes."""
        self._host, self._grid, self._device = HostSource(image, previous, grid), grid, device
        self._volume: _Volume | None = None
        if _Volume.bytes_of(self._host) <= VOLUME_SHARE * free_memory(device):
            try:
                self._volume = _Volume(self._host, device)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise  # memory in pieces, or taken by others since: windows one by one

    @torch.inference_mode()
    def windows(self, starts: Sequence[Shape3], count: int) -> Tensor:
        """See WindowSource.

        Raises
        ------
        TooManyWindowsError
            They do not fit into the device's memory.
        """
        tile = tuple(self._grid.tile[axis] for axis in self._grid.back)
        shape = count, self._host.channels, *(tile[1:] if self._grid.flat else tile)
        with fitting(self._device):
            return self._copied(starts, shape) if self._volume is None else self._cut(self._volume, starts, shape)

    def _cut(self, volume: _Volume, starts: Sequence[Shape3], shape: Shape) -> Tensor:
        batch = torch.zeros(shape, device=self._device)
        for window, start in zip(batch, starts, strict=False):  # the last ones may be empty
            three = window.unsqueeze(1) if self._grid.flat else window
            volume.cut(self._grid.box(start), three.permute(0, *(axis + 1 for axis in self._grid.axes)))
        return batch

    def _copied(self, starts: Sequence[Shape3], shape: Shape) -> Tensor:
        gathered = pinned(shape, torch.float32, self._device)
        values = gathered.numpy()
        values[len(starts) :] = 0
        for index, start in enumerate(starts):
            np.copyto(values[index], self._host.window(start))
        return gathered.to(self._device, non_blocking=True)

    def give_back(self) -> bool:
        """See WindowSource."""
        there, self._volume = self._volume is not None, None
        return there


class _Volume:
    """An image and a cascade's first segmentation on a device, in the grid's axes."""

    def __init__(self, host: HostSource, device: torch.device) -> None:
        self._image = _tensor(host.image).to(device)
        self._labels: Tensor | None = None
        if host.labels is not None:
            # few operations know 16 bits without a sign
            labels = host.labels if host.labels.dtype == np.uint8 else host.labels.astype(np.int32)
            self._labels = _tensor(labels).to(device)
            self._classes = torch.arange(1, host.classes, device=device).to(self._labels.dtype).view(-1, 1, 1, 1)

    @staticmethod
    def bytes_of(host: HostSource) -> int:
        """Memory that it takes."""
        return host.image.nbytes + (0 if host.labels is None else 4 * host.labels.size)

    def cut(self, box: tuple[slice, ...], window: Tensor) -> None:
        """Write a window (c, *tile), in the grid's axes, to where it belongs."""
        channels = len(self._image)
        window[:channels] = self._image[(slice(None), *box)]
        if self._labels is not None:
            window[channels:] = self._labels[box] == self._classes


def _tensor(array: NDArray[Any]) -> Tensor:
    """Return the array as a tensor, without a copy unless it is read only, which tensors cannot be."""
    return torch.from_numpy(array if array.flags.writeable else array.copy(order="K"))
