"""Poolings, kernels and counts of feature maps, by hand and against the numbers their authors left."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunet_rs.plan.topology import (
    PlannedNetwork,
    Topology,
    estimate_convolutions,
    estimate_paper,
    features_of,
    pool_in_plane,
    pool_late,
    pool_similar,
    repeated,
    shrink_half_steps,
    shrink_next_multiple,
    start_256_cubed,
    start_2048_squared,
    start_at_median,
    start_by_edge,
    voxels_per_stage,
)

SIZES = st.tuples(*[st.integers(1, 600).map(float)] * 3)
SPACINGS = st.tuples(*[st.floats(0.1, 20)] * 3)


def network(
    topology: Topology, base: int, most: int, blocks: tuple[int, ...], decoder: int, residual: bool
) -> PlannedNetwork:
    stages = len(topology.strides)
    return PlannedNetwork(
        topology, features_of(stages, base, most), repeated(blocks, stages), (decoder,) * (stages - 1), residual
    )


def even(patch: tuple[int, ...], pools: tuple[int, ...]) -> Topology:
    """Pools as late as possible, kernels of 3."""
    depth = max(pools)
    strides = tuple(tuple(2 if n + stage >= depth else 1 for n in pools) for stage in range(depth))
    return Topology(patch, pools, ((1,) * len(patch), *strides), ((3,) * len(patch),) * (depth + 1))


@pytest.mark.parametrize(
    ("size", "pools", "patch"),
    [
        ((36, 50, 34), (3, 3, 3), (40, 56, 40)),  # hippocampus: 36 / 2 / 2 / 2 is 4.5
        ((127, 128, 128), (4, 5, 5), (128, 128, 128)),  # counted before padding: the bottleneck is 8, 4, 4
        ((9, 256, 215), (1, 6, 5), (10, 256, 224)),  # ACDC
        ((3, 16, 7), (0, 2, 0), (3, 16, 7)),  # shorter than 4, exactly 4 left, not poolable
    ],
)
def test_late_pooling_counts_halvings_that_leave_four_voxels(
    size: tuple[int, ...], pools: tuple[int, ...], patch: tuple[int, ...]
) -> None:
    found = pool_late((1.0, 1.0, 1.0), tuple(map(float, size)), 4)
    assert found.pools == pools
    assert found.patch == patch


def test_late_pooling_ends_on_all_axes_and_kernels_wait_for_the_coarse_axis() -> None:
    found = pool_late((4.0, 1.0, 1.0), (20.0, 160.0, 160.0), 4)
    assert found.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    # y and x: 1, 2, 4, 8 mm; 2 is exactly half of 4 and has not reached it
    assert found.kernels == ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))


def test_late_pooling_makes_one_dimensional_kernels_where_one_axis_lags() -> None:
    """An axis that 'reached' the coarsest gets kernel 1 until all have: the 2019 rule, kept."""
    found = pool_late((5.462, 0.665, 0.702), (25.0, 256.0, 256.0), 4)
    assert found.kernels[:4] == ((1, 3, 3), (1, 3, 3), (1, 3, 1), (3, 3, 3))


def test_similar_pooling_waits_for_spacings_within_twice() -> None:
    found = pool_similar((4.0, 1.0, 1.0), (20.0, 160.0, 160.0), 4)
    # at 4 mm y and x have caught up and z joins; z stops at 5 voxels, the others go on to 5
    assert found.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2))
    assert found.kernels == ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))


def test_similar_pooling_leaves_a_single_axis_unless_it_is_long() -> None:
    assert pool_similar((1.0, 1.0), (11.0, 4.0), 4).pools == (0, 0)  # less than 3 x 4
    assert pool_similar((1.0, 1.0), (12.0, 4.0), 4).pools == (1, 0)


def test_similar_pooling_keeps_the_half_voxel_of_an_axis_that_is_not_pooled() -> None:
    """A median of 7.5 voxels stays below the 8 that a pooling needs."""
    assert pool_similar((1.0, 1.0), (7.5, 36.0), 4).pools == (0, 2)
    assert pool_similar((1.0, 1.0), (8.0, 36.0), 4).pools == (1, 2)


def test_in_plane_pooling_keeps_half_voxels_where_v2_rounds_up() -> None:
    assert pool_in_plane((1.0, 1.0), (15.0, 16.0), 4).pools == (1, 2)  # 15, 7.5
    assert pool_similar((1.0, 1.0), (15.0, 16.0), 4).pools == (2, 2)  # 15, 8, 4


def test_in_plane_pooling_stops_where_the_other_axis_is_left_behind_twofold() -> None:
    """128 voxels could be pooled five times; after 15 stopped at 7.5 the spacings are 2 and 4."""
    assert pool_in_plane((1.0, 1.0), (15.0, 128.0), 4).pools == (1, 2)


def test_in_plane_kernel_spans_the_first_axis_while_spacings_differ_twofold() -> None:
    found = pool_in_plane((1.0, 2.0), (64.0, 64.0), 4)
    assert found.strides == ((1, 1), (2, 1), (2, 2), (2, 2), (2, 2), (1, 2))
    assert found.kernels == ((3, 1), (3, 3), (3, 3), (3, 3), (3, 3), (3, 3))


@given(SPACINGS, SIZES, st.sampled_from([pool_late, pool_similar, pool_in_plane]))
def test_any_topology_holds_together(spacing: tuple[float, ...], size: tuple[float, ...], pool: type[Topology]) -> None:
    found = pool(spacing, size, 4)  # type: ignore[call-arg,arg-type]
    assert len(found.strides) == len(found.kernels)
    assert found.strides[0] == (1, 1, 1)
    assert found.kernels[-1] == (3, 3, 3)
    for axis in range(3):
        product = math.prod(stride[axis] for stride in found.strides)
        assert product == 2 ** found.pools[axis]
        assert found.patch[axis] == found.bottleneck[axis] * product
        assert size[axis] <= found.patch[axis] < size[axis] + product
        assert found.bottleneck[axis] >= 4 or found.pools[axis] == 0


def test_first_patches() -> None:
    assert start_by_edge((2.0, 1.0, 1.0), (600.0, 2000.0, 300.0)) == (512, 1024, 300)
    assert start_256_cubed((1.0, 1.0, 1.0), (600.0, 100.5, 300.0)) == (256, 100.5, 256)
    assert start_2048_squared((1.0, 4.0), (9000.0, 9000.0)) == (4096, 1024)
    assert start_at_median((1.0, 4.0), (90.0, 80.0)) == (90, 80)


def test_shrinking_by_multiples_and_half_multiples() -> None:
    at_bottom, above = even((128, 128), (5, 5)), even((160, 160), (5, 5))
    assert shrink_half_steps(at_bottom, 0, lambda size: at_bottom, 4) == 112  # 128 / 32 is 4 already: half a step
    assert shrink_half_steps(above, 1, lambda size: above, 4) == 128

    def pool(size: tuple[float, ...]) -> Topology:
        return pool_similar((1.0, 1.0), size, 4)

    assert shrink_next_multiple(pool((256.0, 256.0)), 0, pool, 4) == 224  # not 192


def test_features_and_blocks() -> None:
    assert features_of(6, 30, 320) == (30, 60, 120, 240, 320, 320)
    assert repeated((1, 3, 4, 6), 6) == (1, 3, 4, 6, 6, 6)
    assert repeated((1, 3, 4, 6), 2) == (1, 3)


def test_voxels_per_stage() -> None:
    assert voxels_per_stage(even((8, 16, 16), (1, 2, 2))) == (2048, 512, 64)


def test_paper_estimate_equals_the_constants_of_its_code() -> None:
    """The references were computed with 4 channels and 4 classes: 19 739 648, and 505 789 440 before rounding up."""
    flat = network(even((256, 256), (6, 6)), 30, 480, (2,), 2, residual=False)
    assert estimate_paper(flat, 4, 4) == 19_739_648
    deep = network(even((64, 192, 160), (4, 5, 5)), 30, 320, (2,), 2, residual=False)
    assert estimate_paper(deep, 4, 4) == 505_789_440


def test_convolution_estimate_equals_the_numbers_in_nnunets_source() -> None:
    """Residual encoders with 1 channel and 3 classes, as nnU-Net v2 states them; its count has deep supervision.

    The segmentations of the lower stages, which planning leaves out, are added here.
    """
    cubed = network(even((128,) * 3, (5,) * 3), 32, 320, (1, 3, 4, 6), 1, residual=True)
    heads = sum(3 * voxels for voxels in voxels_per_stage(cubed.topology)[1:-1])
    assert estimate_convolutions(cubed, 1, 3) + heads == 558_319_104
    squared = network(even((512,) * 2, (6,) * 2), 32, 512, (1, 3, 4, 6), 1, residual=True)
    heads = sum(3 * voxels for voxels in voxels_per_stage(squared.topology)[1:-1])
    assert estimate_convolutions(squared, 1, 3) + heads == 129_793_792


def test_convolution_estimate_of_a_plain_network_by_hand() -> None:
    tiny = network(even((8, 8), (1, 1)), 32, 512, (2,), 2, residual=False)
    encoder = 2 * 32 * 64 + 2 * 64 * 16
    decoder = (2 + 1) * 32 * 64 + 5 * 64  # two convolutions, the transposed one, five classes
    assert estimate_convolutions(tiny, 1, 5) == encoder + decoder
