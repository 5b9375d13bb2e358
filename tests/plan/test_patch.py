"""Patch and batch: against the 2019 rules written out with NumPy, and at the edges that its code did not plan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.core.errors import PlanError
from nnunet_rs.plan.patch import Setting, choose_batch, fit_patch
from nnunet_rs.plan.planners import PAPER, PLANNERS
from numpy.typing import NDArray

SETTING = Setting(PAPER, budget_gb=12, base_features=30, channels=1, classes=3, cases=20)


Ints = NDArray[np.int64]
Steps = list[list[int]]


def twin_topology(spacing: NDArray[np.float64], patch: Ints) -> tuple[list[int], Steps, Steps]:
    """The 2019 3-D pooling as its description has it: pools, pool kernels, convolution kernels."""
    pools = np.floor(np.log(patch / 4) / np.log(2)).astype(int)
    deepest = max(pools)
    now, strides, kernels = spacing.copy(), [], []
    for p in range(deepest):
        reached = now / max(spacing) > 0.5
        kernels.append([3, 3, 3] if reached.all() else [1 if r else 3 for r in reached])
        strides.append([2 if k + p >= deepest else 1 for k in pools])
        now = now * strides[-1]
    return pools.tolist(), strides, [*kernels, [3, 3, 3]]


def twin_estimate(patch: Ints, strides: Steps, channels: int, classes: int) -> int:
    shape, features = patch.copy(), 30
    total = (5 * 30 + channels + classes) * int(np.prod(shape))
    for p, stride in enumerate(strides, start=1):
        shape = shape // np.array(stride)
        features = min(2 * features, 320)
        total += (2 if p == len(strides) else 5) * int(np.prod(shape)) * features
    return total


def twin_stage(spacing: tuple[float, ...], median: tuple[int, ...], channels: int, classes: int) -> list[object]:
    """Patch, estimate, pools and kernels of one 3-D stage of the 2019 planner."""
    current, med = np.array(spacing), np.array(median)
    start = 1 / current
    start /= np.mean(start)
    start *= 512 / min(start)
    patch = np.minimum(np.round(start), med).astype(int)
    pools, strides, kernels = twin_topology(current, patch)
    patch = -(-patch // 2 ** np.array(pools)) * 2 ** np.array(pools)
    while twin_estimate(patch, strides, channels, classes) > 520_000_000:
        axis = np.argsort(patch / med, kind="stable")[::-1][0]
        step = 2.0 ** pools[axis]
        patch[axis] -= step if patch[axis] / step > 4 else step / 2
        pools, strides, kernels = twin_topology(current, patch)
        patch = -(-patch // 2 ** np.array(pools)) * 2 ** np.array(pools)
    return [patch.tolist(), twin_estimate(patch, strides, channels, classes), pools, strides, kernels]


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.floats(0.3, 8)] * 3),
    st.tuples(*[st.integers(4, 600)] * 3),
    st.integers(1, 4),
    st.integers(2, 20),
)
def test_a_stage_equals_the_rules_of_2019(
    spacing: tuple[float, ...], median: tuple[int, ...], channels: int, classes: int
) -> None:
    setting = replace(SETTING, channels=channels, classes=classes)
    found = fit_patch(spacing, tuple(map(float, median)), setting)
    expected = twin_stage(spacing, median, channels, classes)
    topology = found.network.topology
    strides = [list(stride) for stride in topology.strides[1:]]
    kernels = [list(kernel) for kernel in topology.kernels]
    assert [list(found.patch), found.estimate, list(topology.pools), strides, kernels] == expected


def test_equal_cover_shrinks_the_last_axis_first() -> None:
    """144 is padded to 160; two axes must give way to 128."""
    found = fit_patch((1.0, 1.0, 1.0), (144.0, 144.0, 144.0), replace(SETTING, budget_gb=13))
    assert found.patch == (160, 128, 128)
    assert found.steps == 2


def test_left_memory_goes_to_the_batch_up_to_five_percent_of_the_data() -> None:
    found = fit_patch((1.0, 1.0, 1.0), (36.0, 50.0, 34.0), SETTING)
    assert found.patch == (40, 56, 40)
    voxels = 36 * 50 * 34
    assert choose_batch(found, voxels * 60, SETTING).size == 2  # 5 % are 2.05 patches
    assert choose_batch(found, voxels * 260, SETTING).size == 9  # 5 % are 8.9
    rich = choose_batch(found, voxels * 1e9, SETTING)
    assert rich.size == rich.by_memory == 57


def test_a_batch_holds_at_least_two() -> None:
    found = fit_patch((1.0, 1.0), (64.0, 64.0), SETTING)
    batch = choose_batch(found, 64 * 64, SETTING)
    assert (batch.size, batch.by_cover) == (2, 0)


def test_slices_that_the_2019_code_refuses_shrink() -> None:
    found = fit_patch((1.0, 1.0), (3000.0, 2000.0), SETTING)
    assert found.steps > 0
    assert found.estimate <= 19_739_648 * 50 / 2
    assert choose_batch(found, 1e12, SETTING).size >= 2
    assert found.patch[0] > found.patch[1]


@pytest.mark.parametrize("name", PLANNERS)
def test_half_the_memory_makes_half_the_patch_and_twice_the_memory_twice(name: str) -> None:
    table = PLANNERS[name]
    base = Setting(table, table.reference_gb, table.base_features, 1, 3, 20)
    voxels = [
        fit_patch((1.0, 1.0, 1.0), (500.0, 500.0, 500.0), replace(base, budget_gb=table.reference_gb * scale)).voxels
        for scale in (0.5, 1, 2)
    ]
    assert voxels[0] < voxels[1] < voxels[2]
    assert voxels[2] / voxels[0] == pytest.approx(4, rel=0.35)


@pytest.mark.parametrize("name", PLANNERS)
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 1.0, 1.0), (1.0, 1.0)])
def test_a_budget_that_nothing_fits_is_an_error(name: str, spacing: tuple[float, ...]) -> None:
    table = PLANNERS[name]
    setting = Setting(table, 1e-6, table.base_features, 1, 3, 20)
    with pytest.raises(PlanError, match=r"a budget of 1e-06 GB is too small: the smallest patch .* needs .* GB"):
        fit_patch(spacing, (64.0,) * len(spacing), setting)


def test_a_thin_axis_is_not_shrunk_below_one_voxel() -> None:
    table = PLANNERS["v2"]
    setting = Setting(table, 0.5, 32, 1, 3, 20)
    found = fit_patch((8.0, 1.0, 1.0), (2.0, 600.0, 600.0), setting)
    assert min(found.patch) >= 1


def test_the_users_patch_is_padded_and_kept_whatever_it_needs() -> None:
    found = fit_patch((1.0, 1.0, 1.0), (300.0, 300.0, 300.0), replace(SETTING, patch_3d=(250, 250, 100)))
    assert found.patch == (256, 256, 112)
    assert found.fixed
    assert found.estimate > 520_000_000
    assert choose_batch(found, 1e12, SETTING).size == 2


def test_gigabytes_are_the_references_share() -> None:
    assert SETTING.gigabytes(3, 520_000_000, 2) == pytest.approx(12)
    assert SETTING.gigabytes(2, 19_739_648, 50) == pytest.approx(12)
    assert SETTING.gigabytes(3, 260_000_000, 2) == pytest.approx(6)
