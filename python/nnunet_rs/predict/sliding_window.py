"""The sliding window: every network on every window and every mirror image of it, averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.types import FloatArray, IntArray, Shape, Shape3, Task
from nnunet_rs.data.previous_stage import one_hot
from nnunet_rs.model.device import Compute, kernels_measured, require_unforked
from nnunet_rs.predict.blend import Activation, WindowAccumulator, open_sums
from nnunet_rs.predict.window_grid import WindowGrid

# Voxels of network input to go through at once: enough to keep the processors busy with small windows, little enough
# that feature maps of large ones do not add up.
BATCH_VOXELS = {"cpu": 1 << 19, "cuda": 1 << 22}

Range = tuple[int, int]  # [start, stop)


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """How a volume is predicted."""

    # Axes of the tile, 0 the first, as the networks were trained mirrored along: averaged are all 2^n mirror images.
    mirror_axes: Shape = ()
    activation: Activation = "softmax"  # what is averaged: probabilities (paper), or logits: "none" (v2)
    batch: int | None = None  # windows at a time; None: by their size
    by_rows: bool = True  # hand out rows as they finish, not whole planes only: half the memory


@dataclass(frozen=True, slots=True, eq=False)
class Previous:
    """A cascade's first segmentation: further channels, one per foreground class, that exist within windows only."""

    labels: IntArray  # (z, y, x) class indices, on the image's grid
    classes: int  # the background included


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A finished part of a volume, in sweep axes; it reaches over all columns.

    `read(planes, rows)` gives averaged scores (c, planes, rows, columns) of any part of it, and of the one plane and
    the one row before it, until the next region is asked for.
    """

    planes: Range
    rows: Range
    read: Callable[[Range, Range], FloatArray]


def sliding_window_scores(
    networks: Sequence[nn.Module],
    image: FloatArray,
    window_grid: WindowGrid,
    options: WindowOptions,
    compute: Compute,
    task: Task | None = None,
    *,
    previous: Previous | None = None,
) -> Iterator[Region]:
    """Predict a prepared image window by window and hand out parts as soon as no later window touches them.

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
        Where the networks are, and in which precision they compute; sums are float32, and on that device too.
    task
        Told of every window.
    previous
        Of a cascade's second stage; its one-hot channels follow those of the image.

    Yields
    ------
    Region
        Layer by layer, within a layer row by row; together they cover the volume.

    Raises
    ------
    NnunetError
        A network's output is not finite, or a single window does not fit the device's memory; or this process was
        forked from one that computes with PyTorch (`model.device.require_unforked`).
    """
    require_unforked()
    swept = _Swept.of(image, previous, window_grid)
    finished = _finished(window_grid, options.by_rows)
    for sums, done in _Window(networks, options, compute).run(swept, window_grid, task):
        while finished and finished[0].after <= done:
            part = finished.pop(0)
            yield from _region(part, sums, window_grid)
            sums.forget(max(0, part.planes[1] - 1), part.forget_rows)


def mirror_images(axes: Shape) -> tuple[Shape, ...]:
    """List the sets of axes to mirror along, 2^n of n axes, the empty one first."""
    return tuple(chosen for count in range(len(axes) + 1) for chosen in combinations(axes, count))


@dataclass(frozen=True, slots=True, eq=False)
class _Swept:
    """What windows are cut out of, in sweep axes, padded."""

    image: FloatArray  # (c, *padded)
    previous: Previous | None

    @classmethod
    def of(cls, image: FloatArray, previous: Previous | None, window_grid: WindowGrid) -> _Swept:
        known = None
        if previous is not None:
            labels = _padded(previous.labels[None].transpose(0, *(axis + 1 for axis in window_grid.axes)), window_grid)[
                0
            ]
            known = Previous(labels, previous.classes)
        return cls(_padded(image.transpose(0, *(axis + 1 for axis in window_grid.axes)), window_grid), known)

    def cut(self, start: Shape3, tile: Shape3) -> FloatArray:
        """Return the network's input (c, *tile)."""
        box = tuple(slice(s, s + n) for s, n in zip(start, tile, strict=True))
        window = self.image[(slice(None), *box)]
        if self.previous is None:
            return window
        return np.concatenate([window, one_hot(self.previous.labels[box], self.previous.classes)])


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the padded volume that is finished once the first `after` windows have been added."""

    planes: Range
    rows: Range
    after: int
    forget_rows: int  # whose sums are read no more, in all planes but the last of the part


def _finished(window_grid: WindowGrid, by_rows: bool) -> list[_Part]:
    """List the parts of a padded volume in the order in which they finish."""
    layers = _between([start[0] for start in window_grid.starts], window_grid.padded[0])
    rows = (
        _between([start[1] for start in window_grid.starts], window_grid.padded[1])
        if by_rows
        else [(0, window_grid.padded[1])]
    )
    windows = len(window_grid.starts) // (len(layers) * len(rows))
    return [
        _Part(planes, part, (index + 1) * windows, part[1] if part[1] == window_grid.padded[1] else max(0, part[1] - 1))
        for index, (planes, part) in enumerate(product(layers, rows))
    ]


def _between(starts: Sequence[int], end: int) -> list[Range]:
    """Cut an axis at the starts of its windows."""
    edges = [*sorted(set(starts)), end]
    return list(pairwise(edges))


@dataclass(slots=True)
class _Window:
    networks: Sequence[nn.Module]
    options: WindowOptions
    compute: Compute
    limit: int | None = None  # windows at a time that the device's memory was found to hold

    def run(self, swept: _Swept, window_grid: WindowGrid, task: Task | None) -> Iterator[tuple[WindowAccumulator, int]]:
        """Add window after window; yield the sums and how many windows they hold."""
        sums: WindowAccumulator | None = None
        done = 0
        while done < len(window_grid.starts):
            starts = window_grid.starts[done : done + self._batch(window_grid.tile)]
            try:
                with self.compute.memory():
                    for outputs, mirrored in self._outputs(self._gather(swept, window_grid, starts), window_grid):
                        sums = sums or self._open(outputs.shape[1], window_grid)
                        sums.add(outputs, starts, mirrored)
                        del outputs  # of many classes they are large: gone before the network makes the next
            except _TooMuchError as error:
                self._shrink(len(starts), error)
                continue
            done += len(starts)
            if task is not None:
                task.advance(len(starts))
            if sums is not None:
                yield sums, done

    def _open(self, classes: int, window_grid: WindowGrid) -> WindowAccumulator:
        ahead = self._batch(window_grid.tile) - 1
        layers = [start[0] for start in window_grid.starts]
        span = max(layers[min(i + ahead, len(layers) - 1)] - first for i, first in enumerate(layers))
        return open_sums(classes, window_grid, span, self.options.activation, self.compute.device)

    def _batch(self, tile: Shape3) -> int:
        voxels = BATCH_VOXELS.get(self.compute.device.type, 1 << 20)
        wanted = self.options.batch or max(1, voxels // int(np.prod(tile)))
        return min(wanted, self.limit or wanted)

    def _shrink(self, tried: int, error: Exception) -> None:
        if tried == 1:
            raise NnunetError(
                f"{self.compute.device}: a single window does not fit its memory; use a larger device, or the CPU"
            ) from error
        self.limit = tried // 2
        torch.cuda.empty_cache()

    def _gather(self, swept: _Swept, window_grid: WindowGrid, starts: Sequence[Shape3]) -> Tensor:
        """Cut windows out: (b, c, *tile) in working axes, on the device."""
        order = (0, *(axis + 1 for axis in window_grid.back))
        cuts = [swept.cut(start, window_grid.tile).transpose(order) for start in starts]
        batch = torch.from_numpy(np.stack([cut[:, 0] if window_grid.flat else cut for cut in cuts]))
        return batch.to(self.compute.device, non_blocking=True)

    def _outputs(self, batch: Tensor, window_grid: WindowGrid) -> Iterator[tuple[Tensor, Shape]]:
        """Yield every network's outputs for every mirror image, and the sweep axes along which it is mirrored."""
        offset = 3 - (batch.dim() - 2)  # a slice's first axis is working axis 1
        for axes in mirror_images(self.options.mirror_axes):
            mirrored = tuple(window_grid.axes.index(axis + offset) for axis in axes)
            for network in self.networks:
                seen = batch.flip([axis + 2 for axis in axes]) if axes else batch
                yield _swept(self._forward(network, seen, first=not axes), window_grid), mirrored

    @torch.inference_mode()
    def _forward(self, network: nn.Module, batch: Tensor, first: bool) -> Tensor:
        try:
            with kernels_measured(), self.compute.autocast():
                outputs: Tensor = network(batch)
            return outputs.float()
        except torch.OutOfMemoryError as error:
            if not (first and network is self.networks[0]):
                raise  # parts of this batch are in the sums already
            raise _TooMuchError from error


def _swept(outputs: Tensor, window_grid: WindowGrid) -> Tensor:
    """Bring outputs (b, classes, *tile) from working axes to sweep axes."""
    outputs = outputs.unsqueeze(2) if window_grid.flat else outputs
    return outputs.permute(0, 1, *(axis + 2 for axis in window_grid.axes))


class _TooMuchError(Exception):
    """A batch does not fit the device's memory, and nothing of it has been added yet."""


def _region(part: _Part, sums: WindowAccumulator, window_grid: WindowGrid) -> Iterator[Region]:
    """Leave out what belongs to the padding; nothing may be left."""
    planes, rows = (
        (max(0, low - before), min(size, high - before))
        for (low, high), before, size in zip(
            (part.planes, part.rows), window_grid.before, window_grid.size, strict=False
        )
    )
    if planes[0] >= planes[1] or rows[0] >= rows[1]:
        return
    columns = window_grid.before[2], window_grid.before[2] + window_grid.size[2]

    def read(planes: Range, rows: Range) -> FloatArray:
        low, high = zip(
            (planes[0] + window_grid.before[0], planes[1] + window_grid.before[0]),
            (rows[0] + window_grid.before[1], rows[1] + window_grid.before[1]),
            columns,
            strict=True,
        )
        return _finite(sums.mean(low, high))

    yield Region(planes, rows, read)


def _finite(scores: FloatArray) -> FloatArray:
    if not torch.isfinite(torch.from_numpy(scores).sum()):
        raise NnunetError(
            "the network's output is not finite; predict in float32, and see whether the training diverged"
        )
    return scores


def _padded(swept: NDArray[Any], window_grid: WindowGrid) -> NDArray[Any]:
    if window_grid.padded == window_grid.size:
        return swept
    after = [
        whole - part - low
        for whole, part, low in zip(window_grid.padded, window_grid.size, window_grid.before, strict=True)
    ]
    return np.pad(swept, [(0, 0), *zip(window_grid.before, after, strict=True)])  # zero is the mean, or the outside
