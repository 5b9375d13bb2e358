"""The planners: a table of constants each. Where planners differ, the difference stands here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from nnunet_rs.core import choices
from nnunet_rs.core.errors import PlanError, among
from nnunet_rs.plan.spacing import Floats, has_one_slice, has_short_axis
from nnunet_rs.plan.topology import (
    Estimate,
    Pooling,
    Shrink,
    Start,
    estimate_convolutions,
    estimate_paper,
    pool_in_plane,
    pool_late,
    pool_similar,
    shrink_half_steps,
    shrink_next_multiple,
    start_256_cubed,
    start_2048_squared,
    start_at_median,
    start_by_edge,
)


@dataclass(frozen=True, slots=True)
class DimensionRules:
    """What a planner does in two or in three dimensions."""

    max_features: int
    reference: int  # feature-map elements of one sample that fill reference_gb at reference_batch
    reference_batch: int
    fit_batch: int  # the patch shrinks until this many samples fit
    start: Start
    pool: Pooling


@dataclass(frozen=True, slots=True)
class Planner:
    """The constants of one way of planning."""

    name: str
    summary: str
    reference_gb: float  # memory the references stand for, and the default budget
    base_features: int
    blocks_encoder: tuple[int, ...]  # convolutions or residual blocks per stage; the last entry goes on
    blocks_decoder: tuple[int, ...]
    residual: bool
    coarse_percentile: float | None  # of the spacing along a much coarser axis; None: the median there too
    round_cases: bool  # round each resampled shape before the median is taken
    round_median: bool  # round the median shape before it is used
    two_d_only: Callable[[Floats], bool]  # median shape in working order -> no 3-D configuration
    shrink: Shrink
    shortest_patch_edge: int  # no axis is shrunk below
    estimate: Estimate
    round_batch: Callable[[float], int]
    dataset_cover: float  # share of the dataset's voxels that one batch may see
    raise_factor: float  # one step of the low resolution's spacing
    clearly_smaller: float  # the full resolution must have this many times more voxels than the low one
    unmasked_names: tuple[str, ...]  # channels whose name contains one of these never use the non-zero mask
    two: DimensionRules
    three: DimensionRules
    min_batch: int = 2
    shortest_edge: int = 4  # of the feature maps at the bottom
    cascade_cover: float = 0.25  # a cascade is planned where the patch covers less of the median case
    anisotropy: float = 3.0  # times coarser
    mask_below: float = 0.75  # median size after crop below which z-scores use the non-zero mask

    def rules(self, dims: int) -> DimensionRules:
        """Return the rules of two or three dimensions."""
        return self.two if dims == 2 else self.three


def _v2(
    name: str,
    summary: str,
    *,
    gb: float,
    references: tuple[int, int],
    fit_batches: tuple[int, int] = (2, 2),
    blocks: tuple[tuple[int, ...], tuple[int, ...]] = ((2,), (2,)),
    residual: bool = False,
    cover: float = 0.05,
) -> Planner:
    """Return a planner of the v2 family; pairs are of 2-D and 3-D, or of encoder and decoder."""
    return Planner(
        name=name,
        summary=summary,
        reference_gb=gb,
        base_features=32,
        blocks_encoder=blocks[0],
        blocks_decoder=blocks[1],
        residual=residual,
        coarse_percentile=10.0,
        round_cases=True,
        round_median=False,
        two_d_only=has_one_slice,
        shrink=shrink_next_multiple,
        shortest_patch_edge=1,
        estimate=estimate_convolutions,
        round_batch=round,
        dataset_cover=cover,
        raise_factor=1.03,
        clearly_smaller=2.0,
        unmasked_names=(),
        two=DimensionRules(512, references[0], 12, fit_batches[0], start_2048_squared, pool_similar),
        three=DimensionRules(320, references[1], 2, fit_batches[1], start_256_cubed, pool_similar),
    )


def _residual(name: str, memory: str, *, gb: float, references: tuple[int, int]) -> Planner:
    """Return a planner of networks with residual encoders; `memory` is that of the GPUs it is for."""
    return _v2(
        name,
        f"nnU-Net v2's residual encoder for {memory}",
        gb=gb,
        references=references,
        fit_batches=(12, 2),
        blocks=((1, 3, 4, 6), (1,)),
        residual=True,
        cover=1.0,
    )


PAPER = Planner(
    name="paper",
    summary="the paper's rules and the constants of its code (2019)",
    reference_gb=12.0,
    base_features=30,
    blocks_encoder=(2,),
    blocks_decoder=(2,),
    residual=False,
    coarse_percentile=None,
    round_cases=False,
    round_median=True,
    two_d_only=has_short_axis,
    shrink=shrink_half_steps,
    shortest_patch_edge=4,
    estimate=estimate_paper,
    round_batch=math.floor,
    dataset_cover=0.05,
    raise_factor=1.01,
    clearly_smaller=1.5,
    unmasked_names=("CT",),
    two=DimensionRules(480, 19_739_648, 50, 2, start_at_median, pool_in_plane),
    three=DimensionRules(320, 520_000_000, 2, 2, start_by_edge, pool_late),
)

_PLANNERS = {
    planner.name: planner
    for planner in (
        PAPER,
        _v2("v2", "nnU-Net v2's default planner", gb=8.0, references=(85_000_000, 560_000_000)),
        _residual("v2-resenc-m", "9 to 11 GB", gb=8.0, references=(135_000_000, 680_000_000)),
        _residual("v2-resenc-l", "24 GB", gb=24.0, references=(380_000_000, 2_100_000_000)),
        _residual("v2-resenc-xl", "40 GB", gb=40.0, references=(560_000_000, 3_600_000_000)),
    )
}
PLANNERS = choices.complete(choices.PLANNER_NAMES, _PLANNERS)


def find_planner(name: str) -> Planner:
    """Return the planner of a name.

    Raises
    ------
    PlanError
        There is none of this name.
    """
    if name not in PLANNERS:
        raise PlanError(f"planner {name!r} is unknown; {among(name, PLANNERS)}")
    return PLANNERS[name]
