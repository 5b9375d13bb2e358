from __future__ import annotations

from pathlib import Path

import pytest
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.geometry import Geometry
from nnunet_rs.core.types import ChannelStats, Dataset, Header, LabelSet, Shape3, Spacing3
from nnunet_rs.data import resampling
from nnunet_rs.data.resampling import require_memory, require_resampling, spacing_remark
from nnunet_rs.plan.planner import make_plan
from nnunet_rs.plan.schema import CasePrint, Configuration, Fingerprint, Plan

EYE = tuple(tuple(float(i == j) for j in range(4)) for i in range(4))


def geometry(shape: Shape3, spacing: Spacing3) -> Geometry:
    box = tuple((0, size) for size in shape)
    return Geometry(shape, spacing, (0, 1, 2), box, shape, Header("itk", EYE))


@pytest.fixture
def plan() -> Plan:
    """Of cases of (20, 36, 32) voxels of (2.5, 1, 1) mm."""
    labels = LabelSet(("background", "a"), (0, 1))
    cases = tuple(CasePrint(f"c{i}", (20, 36, 32), (20, 36, 32), (2.5, 1.0, 1.0)) for i in range(6))
    stats = ChannelStats(10.0, 3.0, 9.0, -5.0, 50.0, -2.0, 30.0)
    dataset = Dataset("Made", Path("Made"), "nnunet", ("MRI",), labels, ())
    return make_plan(dataset, Fingerprint(cases, (stats,), 1.0), "paper")


@pytest.fixture
def fullres(plan: Plan) -> Configuration:
    return plan.configurations["3d_fullres"]


def test_what_can_be_meant_is_made(fullres) -> None:
    assert require_resampling(geometry((20, 36, 32), (2.5, 1, 1)), fullres, 4) == (20, 36, 32)
    assert require_resampling(geometry((40, 72, 64), (2.5, 1, 1)), fullres, 4) == (40, 72, 64)
    assert require_resampling(geometry((10, 36, 32), (10, 1, 1)), fullres, 4) == (40, 36, 32)  # thick slices
    assert require_resampling(geometry((20, 50, 50), (2.5, 8, 8)), fullres, 4) == (20, 400, 400)  # a scout
    assert require_resampling(geometry((1, 1, 1), (2.5, 1, 1)), fullres, 4) == (1, 1, 1)
    assert require_resampling(geometry((4, 4, 4), (0.5, 0.2, 0.2)), fullres, 4) == (1, 1, 1)  # tiny as it is


@pytest.mark.parametrize("factor", [1000, 100, 10])
def test_a_spacing_that_is_too_large_is_refused_with_its_numbers(fullres, factor: int) -> None:
    with pytest.raises(DatasetError) as caught:
        require_resampling(geometry((20, 36, 32), (2.5 * factor, factor, factor)), fullres, 4)
    size = tuple(factor * n for n in (20, 36, 32))
    said = f"(20, 36, 32) voxels of ({2.5 * factor:g}, {factor}, {factor}) mm become {size} of (2.5, 1, 1) mm"
    assert said in str(caught.value)
    assert f"{factor**3:,} times the plan's median case, {4 * 23040 * factor**3 / 1e9:.3g} GB of memory" in str(
        caught.value
    )


@pytest.mark.parametrize("factor", [0.001, 0.01])
def test_a_scan_that_becomes_a_voxel_is_refused(fullres, factor: float) -> None:
    with pytest.raises(DatasetError, match=r"become \(1, 1, 1\) of \(2\.5, 1, 1\) mm for 3d_fullres: a single voxel"):
        require_resampling(geometry((20, 36, 32), (2.5 * factor, factor, factor)), fullres, 4)


def test_slices_are_looked_at_one_by_one(plan) -> None:
    flat = plan.configurations["2d"]
    assert require_resampling(geometry((5000, 36, 32), (2.5, 1, 1)), flat, 4) == (5000, 36, 32)
    with pytest.raises(DatasetError, match="a single voxel a slice"):
        require_resampling(geometry((20, 36, 32), (0.0025, 0.001, 0.001)), flat, 4)
    with pytest.raises(DatasetError, match="100 times the plan's median case"):
        require_resampling(geometry((20, 36, 32), (25, 10, 10)), flat, 4)


def test_what_does_not_fit_into_memory_is_refused_before_it_is_asked_for(fullres, monkeypatch) -> None:
    monkeypatch.setattr(resampling, "available_memory", lambda: 90_000)
    with pytest.raises(DatasetError, match=r"takes 9\.22e-05 GB of memory, 9e-05 GB are free; see that the spacing"):
        require_resampling(geometry((20, 36, 32), (2.5, 1, 1)), fullres, 4)
    require_memory(90_000, "")


def test_a_spacing_far_from_the_plans_is_remarked(plan: Plan) -> None:
    shape, spacing = (20, 36, 32), (2.5, 1.0, 1.0)
    assert spacing_remark(shape, spacing, plan) is None
    assert spacing_remark(shape, tuple(2 * edge for edge in spacing), plan) is None
    for factor in (0.1, 10, 1000):
        remark = spacing_remark(shape, tuple(factor * edge for edge in spacing), plan)
        assert remark is not None
        assert "far from" in remark
