"""The table of schemes: what its entries say is all that the rest knows of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nnunet_rs.cli import main
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.io import read_volume
from nnunet_rs.core.types import ChannelStats
from nnunet_rs.data.preprocess import prepare
from nnunet_rs.data.store import normalization_key
from nnunet_rs.plan.files import read_plan
from nnunet_rs.plan.nnunet_plans import read_nnunet_plans
from nnunet_rs.plan.normalization import (
    SCHEMES,
    IntensityMap,
    Normalization,
    Scheme,
    scheme_of_channel,
    scheme_of_class,
    window,
)
from nnunet_rs.predict.channels import require_channels


def test_channels_and_nnunets_classes_have_schemes() -> None:
    wanted = {"CT": "ct", "noNorm": "none", "T2": "zscore", "Rescale_to_0_1": "rescale_to_0_1", "zScore": "zscore"}
    assert {name: scheme_of_channel(name) for name in wanted} == wanted
    assert [scheme_of_class(known.nnunet_name) for known in SCHEMES.values()] == list(SCHEMES)
    assert scheme_of_class("PercentileNormalization") is None


def _percentiles(channel: np.ndarray, rule: Normalization, mask: np.ndarray | None) -> IntensityMap:
    assert rule.stats is not None
    return IntensityMap(rule.stats.percentile_00_5, rule.stats.percentile_99_5 - rule.stats.percentile_00_5)


@pytest.fixture
def percentile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheme more: the dataset's percentiles become 0 and 1. One entry, in one file."""
    scheme = Scheme(
        nnunet_name="PercentileNormalization",
        channels=("pet",),
        reason=lambda rule: f"percentiles to 0 and 1, because it is named {rule.scheme}",
        summary="the training cases' percentiles to 0 and 1",
        find=_percentiles,
        uses_dataset=True,
        window_unit="counts",
    )
    monkeypatch.setitem(SCHEMES, "percentile", scheme)


@pytest.mark.usefixtures("percentile")
def test_a_scheme_that_is_added_goes_through_everything(raw_dataset, tmp_path: Path, capsys) -> None:
    dataset, work, plans = raw_dataset(cases=5), tmp_path / "work", tmp_path / "plans.json"
    about = json.loads((dataset / "dataset.json").read_text())
    about["channel_names"] = {"0": "PET"}
    (dataset / "dataset.json").write_text(json.dumps(about))
    assert main(["plan", str(dataset), "-o", str(work), "--explain", "--as-nnunet", str(plans)]) == 0
    assert "channel 0 (PET): percentiles to 0 and 1, because it is named percentile" in capsys.readouterr().out
    assert json.loads(plans.read_text())["configurations"]["2d"]["normalization_schemes"] == ["PercentileNormalization"]
    assert read_nnunet_plans(plans, dataset / "dataset.json").plan().normalization[0].scheme == "percentile"
    assert main(["preprocess", str(dataset), "-o", str(work), "-q"]) == 0
    plan = read_plan(work / "plan.json")
    (rule,) = plan.normalization
    assert rule.stats is not None
    assert window(rule) == (rule.stats.percentile_00_5, rule.stats.percentile_99_5)
    volume = read_volume(next(iter((dataset / "imagesTr").iterdir())))
    inside = volume.data[volume.data != 0]  # the crop leaves the rest away
    expected = (inside - np.float32(rule.stats.percentile_00_5)) / np.float32(np.subtract(*window(rule)[::-1]))
    image = prepare(volume, plan, "3d_fullres").image
    np.testing.assert_allclose((image.min(), image.max()), (expected.min(), expected.max()), rtol=1e-5)
    other = replace(rule, stats=replace(rule.stats, percentile_00_5=-1.0))
    assert normalization_key(plan) != normalization_key(replace(plan, normalization=(other,)))


@pytest.mark.usefixtures("percentile")
def test_what_has_a_window_refuses_images_without_a_voxel_there(make_plan, make_volume) -> None:
    stats = ChannelStats(mean=10, std=4, median=9, min=-100, max=900, percentile_00_5=2, percentile_99_5=30)
    plan = make_plan(channels=("PET",), normalization=(Normalization("percentile", False, stats),))
    volume = make_volume((4, 5, 6))
    volume.data[:] = 31
    with pytest.raises(DatasetError, match="as in training; give counts, and the channels in the order PET"):
        require_channels(volume, plan)
    volume.data[0, 1, 2, 3] = 30
    require_channels(volume, plan)
