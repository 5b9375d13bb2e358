"""The U-Net of a patch: where it pools, which kernels and features it has, how many feature-map elements that makes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial

from nnunet_rs.plan.spacing import Floats

Ints = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """Poolings and kernels of a patch."""

    patch: Ints  # padded up to multiples of 2 ** pools
    pools: Ints  # poolings per axis
    strides: tuple[Ints, ...]  # per stage; the first is all ones
    kernels: tuple[Ints, ...]  # per stage

    @property
    def bottleneck(self) -> Ints:
        """Size of the deepest feature map."""
        return tuple(size >> count for size, count in zip(self.patch, self.pools, strict=True))


@dataclass(frozen=True, slots=True)
class PlannedNetwork:
    """A topology with its features and blocks."""

    topology: Topology
    features: Ints  # per stage
    blocks_encoder: Ints  # per stage
    blocks_decoder: Ints  # per decoder stage, one fewer
    residual: bool


Pooling = Callable[[Floats, Floats, int], Topology]  # (spacing, size, shortest edge at the bottom)
Estimate = Callable[[PlannedNetwork, int, int], int]  # (network, input channels, classes)
Start = Callable[[Floats, Floats], Floats]  # (spacing, median shape) -> first patch, before padding
Shrink = Callable[[Topology, int, Callable[[Floats], Topology], int], int]  # (now, axis, pool again, edge) -> new edge


# --- pooling -------------------------------------------------------------------------------------------------------


def pool_late(spacing: Floats, size: Floats, edge: int) -> Topology:
    """Pool by size alone; an axis with fewer poolings starts later, so that all axes pool at the bottom (paper, 3-D).

    An axis is pooled as long as `edge` voxels remain. A kernel spans an axis from the stage on where its spacing,
    doubled by each pooling, exceeds half of the coarsest; when all axes have got there, every kernel is 3 x 3 x 3.
    Source: nnU-Net of May 2019, ``get_pool_and_conv_props_poolLateV2``.
    """
    pools = tuple(_halvings(int(n), edge) for n in size)
    strides = _late_strides(pools)
    now, coarsest, kernels = spacing, max(spacing), []
    for stride in strides[1:]:
        reached = [s / coarsest > 0.5 for s in now]
        kernels.append((3,) * len(size) if all(reached) else tuple(1 if r else 3 for r in reached))
        now = tuple(s * step for s, step in zip(now, stride, strict=True))
    kernels.append((3,) * len(size))
    return Topology(_padded(size, pools), pools, strides, tuple(kernels))


@cache
def _late_strides(pools: Ints) -> tuple[Ints, ...]:
    depth = max(pools)
    later = (tuple(2 if count + stage >= depth else 1 for count in pools) for stage in range(depth))
    return ((1,) * len(pools), *later)


def _halvings(size: int, edge: int) -> int:
    """Count how often `size` halves with at least `edge` left; 0 for an axis shorter than `edge`."""
    return max(0, (size // edge).bit_length() - 1)


def pool_similar(spacing: Floats, size: Floats, edge: int) -> Topology:
    """Pool, stage by stage, the axes that are within twice the finest (nnU-Net v2, ``get_pool_and_conv_props``).

    An axis is pooled while `edge` voxels remain (1.5 times as many if it is pooled alone); its kernel becomes 3 when
    its spacing comes within twice of the finest, and stays 3.
    """

    def choose(now: Floats, left: Floats) -> list[int]:
        room = [axis for axis, n in enumerate(left) if n >= 2 * edge]
        finest = min((now[axis] for axis in room), default=0.0)
        axes = [axis for axis in room if now[axis] / finest < 2]
        return [] if len(axes) == 1 and left[axes[0]] < 3 * edge else axes

    def kernel(now: Floats, before: Ints) -> Ints:
        finest = min(now)
        return tuple(3 if k == 3 or s / finest < 2 else 1 for s, k in zip(now, before, strict=True))

    return _pool_by_stage(spacing, size, choose, kernel, math.ceil)


def pool_in_plane(spacing: Floats, size: Floats, edge: int) -> Topology:
    """Pool, stage by stage, the axes within twice the finest of all (paper, 2-D).

    Halves of odd sizes are kept; where the axes differ twofold or more, the kernel spans the first of them only.
    Source: nnU-Net of May 2019, ``get_pool_and_conv_props``.
    """

    def choose(now: Floats, left: Floats) -> list[int]:
        finest = min(now)
        return [axis for axis, n in enumerate(left) if now[axis] / finest < 2 and n >= 2 * edge]

    def kernel(now: Floats, before: Ints) -> Ints:  # noqa: ARG001
        return (3,) * len(now) if max(now) / min(now) < 2 else (3,) + (1,) * (len(now) - 1)

    return _pool_by_stage(spacing, size, choose, kernel, float)


def _pool_by_stage(
    spacing: Floats,
    size: Floats,
    choose: Callable[[Floats, Floats], list[int]],
    kernel: Callable[[Floats, Ints], Ints],
    halved: Callable[[float], float],  # what becomes of half an axis
) -> Topology:
    dims = len(size)
    now, left, spans = spacing, size, (1,) * dims
    strides, kernels = [(1,) * dims], []
    while axes := choose(now, left):
        spans = kernel(now, spans)
        kernels.append(spans)
        stride = tuple(2 if axis in axes else 1 for axis in range(dims))
        strides.append(stride)
        now = tuple(s * step for s, step in zip(now, stride, strict=True))
        left = tuple(halved(n / 2) if axis in axes else n for axis, n in enumerate(left))
    kernels.append((3,) * dims)
    pools = tuple(sum(stride[axis] == 2 for stride in strides) for axis in range(dims))
    return Topology(_padded(size, pools), pools, tuple(strides), tuple(kernels))


def _padded(size: Floats, pools: Ints) -> Ints:
    return tuple(math.ceil(n / 2**count) * 2**count for n, count in zip(size, pools, strict=True))


# --- the first patch, and smaller ones -----------------------------------------------------------------------------


def start_by_edge(spacing: Floats, median: Floats, edge: int = 512) -> Floats:
    """Begin with `edge` voxels along the coarsest axis, as many mm along the others, at most the median (paper)."""
    density = [1 / s for s in spacing]
    mean = sum(density) / len(density)
    relative = [d / mean for d in density]
    scale = edge / min(relative)
    return tuple(min(float(round(r * scale)), n) for r, n in zip(relative, median, strict=True))


def start_at_median(spacing: Floats, median: Floats) -> Floats:  # noqa: ARG001
    """Begin with the whole median slice (paper, 2-D)."""
    return median


def start_by_volume(spacing: Floats, median: Floats, edge: int) -> Floats:
    """Begin with an isotropic patch of `edge` ** dims voxels, at most the median (v2)."""
    density = [1 / s for s in spacing]
    scale = (edge ** len(spacing) / math.prod(density)) ** (1 / len(spacing))
    return tuple(min(float(round(d * scale)), n) for d, n in zip(density, median, strict=True))


start_256_cubed = partial(start_by_volume, edge=256)
start_2048_squared = partial(start_by_volume, edge=2048)


def shrink_half_steps(now: Topology, axis: int, pool: Callable[[Floats], Topology], edge: int) -> int:  # noqa: ARG001
    """Take one multiple off the axis; half a multiple where its bottom is already at the shortest edge (paper)."""
    step = 1 << now.pools[axis]
    return now.patch[axis] - (step if now.bottleneck[axis] > edge else max(1, step // 2))


def shrink_next_multiple(now: Topology, axis: int, pool: Callable[[Floats], Topology], edge: int) -> int:  # noqa: ARG001
    """Take off the multiple that the smaller patch would need (v2): after 256 comes 224, not 192."""
    smaller = list(now.patch)
    smaller[axis] -= 1 << now.pools[axis]
    return now.patch[axis] - (1 << pool(tuple(smaller)).pools[axis])


# --- features and feature maps -------------------------------------------------------------------------------------


@cache
def features_of(stages: int, base: int, most: int) -> Ints:
    """Return the features per stage: doubled at each pooling, at most `most`."""
    return tuple(min(base * 2**stage, most) for stage in range(stages))


@cache
def repeated(blocks: Ints, count: int) -> Ints:
    """Return the first `count` entries; the last one goes on."""
    return tuple(blocks[min(stage, len(blocks) - 1)] for stage in range(count))


def voxels_per_stage(topology: Topology) -> tuple[int, ...]:
    """Return the number of voxels of the feature maps of each stage."""
    return _voxels(topology.patch, topology.strides)


@lru_cache(maxsize=4096)
def _voxels(patch: Ints, strides: tuple[Ints, ...]) -> tuple[int, ...]:
    size, voxels = patch, []
    for stride in strides:
        size = tuple(n // step for n, step in zip(size, stride, strict=True))
        voxels.append(math.prod(size))
    return tuple(voxels)


def estimate_paper(network: PlannedNetwork, channels: int, classes: int) -> int:
    """Return the feature-map elements of one sample as the 2019 code counts them.

    Five maps per resolution, two at the bottom, plus input and output: ``compute_approx_vram_consumption``.
    """
    voxels, features = voxels_per_stage(network.topology), network.features
    deepest = len(voxels) - 1
    below = sum((2 if stage == deepest else 5) * voxels[stage] * features[stage] for stage in range(1, len(voxels)))
    return (5 * features[0] + channels + classes) * voxels[0] + below


def estimate_convolutions(network: PlannedNetwork, channels: int, classes: int) -> int:  # noqa: ARG001
    """Return the elements of the outputs of all convolutions of one sample (v2).

    Plain stages have one output per convolution. Residual stages have two per block and one more for the projected
    skip where size or features change, and a stem before them. A decoder stage has its blocks and the transposed
    convolution; the finest one also the segmentation. Equals ``compute_conv_feature_map_size`` of
    dynamic_network_architectures 0.4.
    """
    voxels, features = voxels_per_stage(network.topology), network.features
    total = voxels[0] * features[0] if network.residual else 0
    for stage, blocks in enumerate(network.blocks_encoder):
        maps = 2 * blocks + (stage > 0) if network.residual else blocks
        total += maps * voxels[stage] * features[stage]
    for stage, blocks in enumerate(reversed(network.blocks_decoder)):
        total += (blocks + 1) * voxels[stage] * features[stage]
    return total + (classes * voxels[0] if network.blocks_decoder else 0)
