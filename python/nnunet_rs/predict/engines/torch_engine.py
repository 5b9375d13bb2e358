"""Scores of windows by PyTorch, on processors and on devices with memory of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.types import FloatArray, Shape
from nnunet_rs.model.device import Compute, kernels_measured, release_memory, require_unforked
from nnunet_rs.model.gpu_errors import gpu_errors_explained
from nnunet_rs.predict.blend import OutputActivation, WindowAccumulator
from nnunet_rs.predict.engines.device_memory import fitting, idle_memory
from nnunet_rs.predict.engines.device_source import DeviceSource
from nnunet_rs.predict.engines.engine import Alone, HostEngine, Scored, mirror_images
from nnunet_rs.predict.engines.torch_accumulator import TensorAccumulator, device_accumulator
from nnunet_rs.predict.window_grid import WindowGrid
from nnunet_rs.predict.window_source import Previous, WindowSource

Network = Callable[[Tensor], Tensor]  # a module, or what computes like one

AGAIN = "the same command goes on with the cases that are left"
# Voxels of network input to go through a device at once: enough to keep it busy with small windows, little enough
# that feature maps of large ones do not add up.
DEVICE_VOXELS = 1 << 22


def torch_engine(
    networks: Sequence[Network], compute: Compute, remarks: tuple[str, ...] = (), *, fill: bool = False
) -> TorchEngine | DeviceEngine:
    """Return the engine of networks in evaluation mode, on the device, which map (b, c, *tile) to (b, classes, *tile).

    With `fill` the last batches of a volume are filled up to numbers of windows that come again.
    """
    if compute.device.type == "cpu":
        return TorchEngine(tuple(networks), compute, remarks)
    return DeviceEngine(tuple(networks), compute, remarks, fill)


@dataclass(frozen=True, slots=True, eq=False)
class TorchEngine(HostEngine):
    """Engine on processors: every network's scores of every mirror image, one after the other."""

    networks: tuple[Network, ...]
    compute: Compute
    remarks: tuple[str, ...] = ()

    def describe(self) -> str:
        """See Engine."""
        return _described(self.compute)

    def memory(self) -> AbstractContextManager[None]:
        """See Engine."""
        return self.compute.memory()

    def accumulator(
        self,
        classes: int,
        grid: WindowGrid,
        span: int,  # noqa: ARG002 (these sums grow as windows come)
        activation: OutputActivation,
    ) -> WindowAccumulator:
        """See Engine."""
        return TensorAccumulator(classes, grid, activation)

    def scores(
        self,
        windows: FloatArray,
        mirror_axes: Shape,
        activation: OutputActivation = "none",  # noqa: ARG002 (these scores are logits)
        alone: Alone | None = None,
    ) -> Iterator[Scored]:
        """See Engine; scores are float32 tensors."""
        require_unforked()
        batch = torch.from_numpy(windows)
        every = slice(0, len(windows))
        for axes in mirror_images(mirror_axes):
            for number, network in enumerate(self.networks):
                seen = batch.flip([axis + 2 for axis in axes]) if axes else batch
                first = not axes and not number
                # later parts of a batch may not be tried again: the first ones are in the sums already
                with fitting(self.compute.device) if first else nullcontext():
                    scores = _forward(network, seen, self.compute).float()
                if alone is not None and not axes:
                    alone(number, scores, every)
                yield Scored(scores, axes, every)
                del scores


@dataclass(frozen=True, slots=True, eq=False)
class DeviceEngine:
    """Engine on a device with memory of its own: the program asks for work there and goes on.

    Windows are cut out, scored, and averaged over networks and mirror images there: a batch is in the sums whole or not
    at all, and one array of scores has to be summed.
    """

    networks: tuple[Network, ...]
    compute: Compute
    remarks: tuple[str, ...] = ()
    fill: bool = False
    taken: dict[int, int] = field(default_factory=dict)  # bytes that the networks take, by most windows at a time yet

    @property
    def computes_elsewhere(self) -> bool:
        """See Engine."""
        return True

    def describe(self) -> str:
        """See Engine."""
        return _described(self.compute)

    def batch(self, voxels: int) -> int:
        """See Engine."""
        return max(1, DEVICE_VOXELS // voxels)

    def sizes(self, most: int, left: int) -> tuple[int, int]:
        """See Engine; cuDNN measures its kernels anew for every new size, so there are few: `most`, and powers of two.

        A batch is filled up where that wastes at most a quarter of it.
        """
        if left >= most or not self.fill:
            return (min(most, left),) * 2
        below = 1 << (left.bit_length() - 1)
        above = min(most, 2 * below)
        return (left, above) if left > below and 4 * left >= 3 * above else (below, below)

    def source(self, image: FloatArray, previous: Previous | None, grid: WindowGrid) -> WindowSource:
        """See Engine."""
        return DeviceSource(image, previous, grid, self.compute.device)

    def memory(self) -> AbstractContextManager[None]:
        """See Engine; an error of the device is told in one line."""
        return gpu_errors_explained(self.compute.device, AGAIN, NnunetError)

    def accumulator(
        self,
        classes: int,
        grid: WindowGrid,
        span: int,
        activation: OutputActivation,  # noqa: ARG002 (scores have been through it)
    ) -> WindowAccumulator:
        """See Engine."""
        return device_accumulator(classes, grid, span, self.compute.device, max(self.taken.values(), default=0))

    def release_memory(self) -> None:
        """See Engine."""
        release_memory(self.compute.device)

    def scores(
        self, windows: Tensor, mirror_axes: Shape, activation: OutputActivation = "none", alone: Alone | None = None
    ) -> Iterator[Scored]:
        """See Engine; the mean of all scores, a float32 tensor on the device."""
        require_unforked()
        size, device = len(windows), self.compute.device
        larger = size > max(self.taken, default=0)
        if larger:  # what others have left idle would count as the networks'
            release_memory(device)
        with fitting(device):
            mean = self._mean(windows, mirror_axes, activation, alone)
        if larger:
            self.taken[size] = idle_memory(device)
        yield Scored(mean, (), slice(0, size))

    @torch.inference_mode()
    def _mean(self, windows: Tensor, mirror_axes: Shape, activation: OutputActivation, alone: Alone | None) -> Tensor:
        images = mirror_images(mirror_axes)
        total: Tensor | None = None
        for axes in images:
            turned = [axis + 2 for axis in axes]
            seen = windows.flip(turned) if axes else windows
            for number, network in enumerate(self.networks):
                scores = _forward(network, seen, self.compute)
                if alone is not None and not axes:
                    alone(number, scores, slice(0, len(windows)))
                scores = _activated(scores, activation)
                scores = scores.flip(turned) if axes else scores
                total = scores.to(torch.float32, copy=True) if total is None else total.add_(scores)
                del scores
        assert total is not None  # there is a network
        return total.div_(len(images) * len(self.networks))


def _described(compute: Compute) -> str:
    return f"PyTorch {torch.__version__.partition('+')[0]}, {compute.describe()}"


@torch.inference_mode()
def _forward(network: Network, batch: Tensor, compute: Compute) -> Tensor:
    with kernels_measured(), compute.products(), compute.autocast():
        return network(batch)


def _activated(scores: Tensor, activation: OutputActivation) -> Tensor:
    """Turn logits, (b, classes, *tile), into what is averaged."""
    if activation == "softmax":
        return scores.softmax(1, dtype=torch.float32)
    return scores.float().sigmoid() if activation == "sigmoid" else scores
