"""Patch and batch: the largest patch that fits the memory, then what is left goes to the batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from nnunet_rs.core.errors import PlanError
from nnunet_rs.plan.planners import DimensionRules, Planner
from nnunet_rs.plan.schema import Configuration
from nnunet_rs.plan.spacing import Floats
from nnunet_rs.plan.topology import PlannedNetwork, Topology, features_of, repeated


@dataclass(frozen=True, slots=True)
class Setting:
    """What all configurations of a plan share."""

    planner: Planner
    budget_gb: float
    base_features: int
    channels: int
    classes: int  # declared labels, the background included
    cases: int
    patch_2d: tuple[int, ...] | None = None  # the user's
    patch_3d: tuple[int, ...] | None = None
    batch: int | None = None

    def reference(self, dims: int) -> float:
        """Feature-map elements of one sample that fill the budget at the rules' reference batch."""
        return self.planner.rules(dims).reference * (self.budget_gb / self.planner.reference_gb)

    def gigabytes(self, dims: int, estimate: int, batch: int) -> float:
        """Scale an estimate of one sample to the memory of a batch."""
        rules = self.planner.rules(dims)
        return estimate * batch / (rules.reference * rules.reference_batch) * self.planner.reference_gb


@dataclass(frozen=True, slots=True)
class Fitted:
    """A patch whose network fits the memory."""

    network: PlannedNetwork
    estimate: int  # feature-map elements of one sample
    start: Floats  # the patch before it shrank and was padded
    steps: int  # how often it shrank
    fixed: bool  # the user's patch

    @property
    def patch(self) -> tuple[int, ...]:
        """Size in voxels, working axes."""
        return self.network.topology.patch

    @property
    def voxels(self) -> int:
        """Voxels of the patch."""
        return math.prod(self.patch)


@dataclass(frozen=True, slots=True)
class BatchChoice:
    """A batch size and the two numbers it was chosen from."""

    size: int
    by_memory: int
    by_cover: int  # as many patches as make up the share of the dataset that one batch may see
    fixed: bool  # the user's


def fit_patch(spacing: Floats, median: Floats, setting: Setting) -> Fitted:
    """Return the largest patch whose network fits the budget, by the planner's rules.

    Begins at the planner's first patch (or takes the user's), and shrinks the axis that covers most of the median
    shape until `fit_batch` samples fit.

    Parameters
    ----------
    spacing, median
        mm and voxels of the working axes; two entries plan a 2-D network.
    setting
        What the configurations share.

    Raises
    ------
    PlanError
        Nothing fits the budget.
    """
    rules, fixed = setting.planner.rules(len(spacing)), _fixed(setting, len(spacing))

    def pool(size: Floats) -> Topology:
        return rules.pool(spacing, size, setting.planner.shortest_edge)

    first = rules.start(spacing, median) if fixed is None else tuple(map(float, fixed))
    start = tuple(max(1.0, edge) for edge in first)  # an axis thousands of times coarser would round to none
    network = _network(pool(start), setting, rules)
    estimate, steps = _estimate(network, setting), 0
    while fixed is None and estimate / rules.reference_batch * rules.fit_batch > setting.reference(len(spacing)):
        smaller = _smaller(network.topology, median, pool, setting.planner)
        if smaller is None or not any(smaller.pools):
            raise PlanError(_too_small(network, estimate, setting, rules))
        network = _network(smaller, setting, rules)
        estimate, steps = _estimate(network, setting), steps + 1
    return Fitted(network, estimate, start, steps, fixed is not None)


def choose_batch(fitted: Fitted, dataset_voxels: float, setting: Setting) -> BatchChoice:
    """Give the memory that the patch leaves to the batch: at most the planner's share of the dataset, at least two."""
    planner, dims = setting.planner, len(fitted.patch)
    rules = planner.rules(dims)
    by_memory = planner.round_batch(setting.reference(dims) / fitted.estimate * rules.reference_batch)
    by_cover = round(planner.dataset_cover * dataset_voxels / fitted.voxels)
    chosen = max(min(by_memory, by_cover), planner.min_batch)
    return BatchChoice(setting.batch or chosen, by_memory, by_cover, setting.batch is not None)


def network_memory(configuration: Configuration, setting: Setting) -> int:
    """Return the feature-map elements of one sample of a network that is planned already."""
    c = configuration
    pools = tuple(sum(step > 1 for step in axis) for axis in zip(*c.strides, strict=True))
    topology = Topology(c.patch_size, pools, c.strides, c.kernels)
    return _estimate(PlannedNetwork(topology, c.features, c.blocks_encoder, c.blocks_decoder, c.residual), setting)


def _fixed(setting: Setting, dims: int) -> tuple[int, ...] | None:
    return setting.patch_2d if dims == 2 else setting.patch_3d


def _network(topology: Topology, setting: Setting, rules: DimensionRules) -> PlannedNetwork:
    stages, planner = len(topology.strides), setting.planner
    return PlannedNetwork(
        topology,
        features_of(stages, setting.base_features, rules.max_features),
        repeated(planner.blocks_encoder, stages),
        repeated(planner.blocks_decoder, stages - 1),
        planner.residual,
    )


def _estimate(network: PlannedNetwork, setting: Setting) -> int:
    return setting.planner.estimate(network, setting.channels, setting.classes)


def _smaller(now: Topology, median: Floats, pool: Callable[[Floats], Topology], planner: Planner) -> Topology | None:
    """Shrink the axis that covers most of the median, the last of equals; None where no axis can shrink."""
    cover = [size / whole for size, whole in zip(now.patch, median, strict=True)]
    for axis in sorted(range(len(cover)), key=lambda a: (cover[a], a), reverse=True):
        edge = planner.shrink(now, axis, pool, planner.shortest_edge)
        if edge >= planner.shortest_patch_edge:
            size = [float(edge if a == axis else n) for a, n in enumerate(now.patch)]
            smaller = pool(tuple(size))
            if smaller.patch != now.patch:
                return smaller
    return None


def _too_small(network: PlannedNetwork, estimate: int, setting: Setting, rules: DimensionRules) -> str:
    patch = network.topology.patch
    needed = setting.gigabytes(len(patch), estimate, rules.fit_batch)
    return (
        f"a budget of {setting.budget_gb:g} GB is too small: the smallest patch {' x '.join(map(str, patch))} with "
        f"{setting.base_features} base features needs {needed:.2g} GB at batch {rules.fit_batch}; "
        f"raise --vram or lower --features"
    )
