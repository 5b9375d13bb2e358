"""The sliding window: every network on every window and every mirror image of it, averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.kernels import add_scores
from nnunet_rs.core.types import FloatArray, Shape, Shape3, Task
from nnunet_rs.model.device import Compute
from nnunet_rs.predict.blend import SweepBlend, open_blend
from nnunet_rs.predict.sweep import Sweep

Activation = Literal["softmax", "sigmoid", "none"]

# Voxels of network input to go through at once: enough to keep the processors busy with small windows, little enough
# that feature maps of large ones do not add up.
BATCH_VOXELS = {"cpu": 1 << 19, "cuda": 1 << 22}


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """How a volume is predicted."""

    step: float = 0.5  # of the tile, between neighbouring windows
    mirror: bool = True  # average over all mirror images, 2^d of them
    activation: Activation = "softmax"  # what is averaged: probabilities (paper), or logits: "none" (v2)
    batch: int | None = None  # windows at a time; None: by their size


@dataclass(frozen=True, slots=True, eq=False)
class Slab:
    """Finished planes of a volume along sweep axis 0."""

    start: int  # first plane
    scores: FloatArray  # (c, planes, a, b) in sweep axes: averages of `activation` of the networks' outputs


def sweep_scores(
    networks: Sequence[nn.Module],
    image: FloatArray,
    sweep: Sweep,
    options: WindowOptions,
    compute: Compute,
    task: Task | None = None,
) -> Iterator[Slab]:
    """Predict a prepared image window by window and hand out planes as soon as no later window touches them.

    Each window goes through every network and every mirror image while it is in memory: the sums of several folds
    never exist side by side.

    Parameters
    ----------
    networks
        In evaluation mode, on the device; each maps (b, c, *tile) to (b, classes, *tile), tiles in working axes (of a
        2-D configuration the last two).
    image
        (c, z, y, x) in working axes, prepared.
    sweep
        Where the windows lie, from `plan_sweep`.
    options
        See WindowOptions.
    compute
        Where the networks are, and in which precision they compute; the float32 sums of one layer of windows are
        kept on that device too.
    task
        Told of every window.

    Yields
    ------
    Slab
        In order, without gaps; together they cover the volume.

    Raises
    ------
    NnunetError
        A network's output is not finite, or a single window does not fit the device's memory.
    """
    window = _Window(networks, options, compute, sweep.flat)
    swept = _padded(image.transpose(0, *(axis + 1 for axis in sweep.axes)), sweep)
    planes = 0
    for done in _blended(window.run(swept, sweep), sweep, compute.device, task):
        if not torch.isfinite(torch.from_numpy(done).sum()):
            raise NnunetError(
                "the network's output is not finite; predict in float32, and see whether the training diverged"
            )
        yield from _unpadded(planes, done, sweep)
        planes += done.shape[1]


def _blended(
    windows: Iterator[tuple[tuple[Shape3, ...], Tensor]], sweep: Sweep, device: torch.device, task: Task | None
) -> Iterator[FloatArray]:
    """Yield the averages of finished planes (c, planes, a, b) of the padded volume."""
    blend: SweepBlend | None = None
    for starts, scores in windows:
        blend = blend or open_blend(scores.shape[1], sweep, device)
        for start, patch in zip(starts, scores, strict=True):
            done = blend.add(patch, start)
            if done is not None:
                yield done
            if task is not None:
                task.advance(1)
    if blend is not None:
        yield blend.finish()


def mirror_axes(dims: int) -> tuple[Shape, ...]:
    """All 2^dims sets of spatial axes of a (b, c, *dims) tensor, the empty one first."""
    axes = range(2, 2 + dims)
    return tuple(chosen for count in range(dims + 1) for chosen in combinations(axes, count))


@dataclass(slots=True)
class _Window:
    networks: Sequence[nn.Module]
    options: WindowOptions
    compute: Compute
    flat: bool  # networks take slices: sweep axis 0 of a window has one plane, which they do not see
    limit: int | None = None  # windows at a time that the device's memory was found to hold
    room: Tensor | None = None  # the last batch's sums, to be written over: fresh memory costs more than the sums

    def run(self, swept: FloatArray, sweep: Sweep) -> Iterator[tuple[tuple[Shape3, ...], Tensor]]:
        """Yield the starts of some windows and their scores (b, classes, *tile), in sweep axes."""
        done = 0
        while done < len(sweep.starts):
            starts = sweep.starts[done : done + self._batch(sweep.tile)]
            try:
                scores = self._predict(self._gather(swept, sweep, starts))
            except torch.OutOfMemoryError as error:
                self._shrink(len(starts), error)
                continue
            yield starts, self._to_sweep(scores, sweep)
            done += len(starts)

    def _batch(self, tile: Shape3) -> int:
        wanted = self.options.batch or max(1, BATCH_VOXELS.get(self.compute.device.type, 1 << 20) // int(np.prod(tile)))
        return min(wanted, self.limit or wanted)

    def _shrink(self, tried: int, error: Exception) -> None:
        if tried == 1:
            raise NnunetError(
                f"{self.compute.device}: a single window does not fit its memory; use a larger device, or the CPU"
            ) from error
        self.limit = tried // 2
        torch.cuda.empty_cache()

    def _gather(self, swept: FloatArray, sweep: Sweep, starts: Sequence[Shape3]) -> Tensor:
        """Cut windows out: (b, c, *tile) in working axes, on the device."""
        order = (0, *(axis + 1 for axis in sweep.back))
        cuts = [
            swept[(slice(None), *(slice(s, s + n) for s, n in zip(start, sweep.tile, strict=True)))].transpose(order)
            for start in starts
        ]
        batch = torch.from_numpy(np.stack([cut[:, 0] if self.flat else cut for cut in cuts]))
        return batch.to(self.compute.device, non_blocking=True)

    def _to_sweep(self, scores: Tensor, sweep: Sweep) -> Tensor:
        scores = scores.unsqueeze(2) if self.flat else scores
        return scores.permute(0, 1, *(axis + 2 for axis in sweep.axes))

    @torch.inference_mode()
    def _predict(self, batch: Tensor) -> Tensor:
        """Average all networks and mirror images: float32 (b, classes, *tile)."""
        mirrors = mirror_axes(batch.dim() - 2) if self.options.mirror else ((),)
        total: Tensor | None = None
        for axes in mirrors:
            mirrored = batch.flip(axes) if axes else batch
            for network in self.networks:
                with self.compute.autocast():
                    output = network(mirrored)
                total = self._sum(total, output.float(), axes)
        passes = len(mirrors) * len(self.networks)
        return cast("Tensor", total) if passes == 1 else cast("Tensor", total).mul_(1.0 / passes)

    def _sum(self, total: Tensor | None, output: Tensor, axes: Shape) -> Tensor:
        """Add an output (b, classes, *tile), activated and mirrored back along `axes`, to the total."""
        activation = self.options.activation
        if output.device.type == "cpu":
            if self.room is None or self.room.shape != output.shape:
                self.room = torch.empty(output.shape)
            turned = [axis - 2 for axis in axes]
            add_scores(self.room.numpy(), output.numpy(), activation=activation, mirrored=turned, first=total is None)
            return self.room
        scores = _activated(output, activation)
        scores = scores.flip(axes) if axes else scores
        return scores if total is None else total.add_(scores)


def _activated(output: Tensor, activation: Activation) -> Tensor:
    if activation == "softmax":
        return output.softmax(1)
    if activation == "sigmoid":
        return output.sigmoid()
    return output.clone()  # the sums of mirror images are added in place


def _padded(swept: FloatArray, sweep: Sweep) -> FloatArray:
    if sweep.padded == sweep.size:
        return swept
    after = [whole - part - low for whole, part, low in zip(sweep.padded, sweep.size, sweep.before, strict=True)]
    return np.pad(swept, [(0, 0), *zip(sweep.before, after, strict=True)])  # zero is the mean, or the outside


def _unpadded(first: int, scores: FloatArray, sweep: Sweep) -> Iterator[Slab]:
    """Leave out what belongs to the padding; nothing may be left."""
    low, high = max(first, sweep.before[0]), min(first + scores.shape[1], sweep.before[0] + sweep.size[0])
    if low >= high:
        return
    inner = tuple(slice(start, start + n) for start, n in zip(sweep.before[1:], sweep.size[1:], strict=True))
    yield Slab(low - sweep.before[0], scores[(slice(None), slice(low - first, high - first), *inner)])
