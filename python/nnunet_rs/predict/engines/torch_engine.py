"""Scores of windows by PyTorch, on every device that it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from nnunet_rs.core.errors import is_out_of_memory
from nnunet_rs.core.types import FloatArray, Shape
from nnunet_rs.model.device import Compute, kernels_measured, release_memory, require_unforked
from nnunet_rs.predict.blend import Activation, WindowAccumulator
from nnunet_rs.predict.engines.engine import Scored, TooManyWindowsError, mirror_images
from nnunet_rs.predict.engines.torch_accumulator import torch_accumulator
from nnunet_rs.predict.window_grid import WindowGrid

# Voxels of network input to go through at once: enough to keep the processors busy with small windows, little enough
# that feature maps of large ones do not add up.
BATCH_VOXELS = {"cpu": 1 << 19, "cuda": 1 << 22}


@dataclass(frozen=True, slots=True, eq=False)
class TorchEngine:
    """Engine of networks in evaluation mode, on the device, which map (b, c, *tile) to (b, classes, *tile)."""

    networks: tuple[Callable[[Tensor], Tensor], ...]  # modules, or what computes like one
    compute: Compute
    remarks: tuple[str, ...] = ()

    def describe(self) -> str:
        """See Engine."""
        return f"PyTorch {torch.__version__.partition('+')[0]}, {self.compute.describe()}"

    def batch(self, voxels: int) -> int:
        """See Engine."""
        return max(1, BATCH_VOXELS.get(self.compute.device.type, 1 << 20) // voxels)

    def memory(self) -> AbstractContextManager[None]:
        """See Engine."""
        return self.compute.memory()

    def accumulator(self, classes: int, grid: WindowGrid, span: int, activation: Activation) -> WindowAccumulator:
        """See Engine."""
        return torch_accumulator(classes, grid, span, activation, self.compute.device)

    def scores(self, windows: FloatArray, mirror_axes: Shape) -> Iterator[Scored]:
        """See Engine; scores are float32 tensors on the device."""
        require_unforked()
        batch = torch.from_numpy(windows).to(self.compute.device, non_blocking=True)
        every = slice(0, len(windows))
        for axes in mirror_images(mirror_axes):
            for network in self.networks:
                seen = batch.flip([axis + 2 for axis in axes]) if axes else batch
                first = not axes and network is self.networks[0]
                yield Scored(self._forward(network, seen, first), axes, every)

    @torch.inference_mode()
    def _forward(self, network: Callable[[Tensor], Tensor], batch: Tensor, first: bool) -> Tensor:
        try:
            with kernels_measured(), self.compute.autocast():
                scores = network(batch)
            return scores.float()
        except (MemoryError, RuntimeError) as error:
            if not first or not is_out_of_memory(error):
                raise  # if not the first, parts of this batch are in the sums already
            release_memory(self.compute.device, error)
            raise TooManyWindowsError(str(self.compute.device)) from error
