"""The reasons, as a person reads them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from nnunet_rs.core.text import by
from nnunet_rs.plan.explain import explain
from nnunet_rs.plan.planner import PlanOverrides, make_plan


def test_each_decision_comes_with_its_rule_and_numbers(dataset: Any, fingerprint: Any) -> None:
    plan = make_plan(dataset(("CT",), classes=3), fingerprint((300, 400, 400), (1.5, 0.8, 0.8), cases=30))
    planner, spacing, order, channel = plan.reasons
    assert "12 GB" in planner
    assert "1 input channel, 3 declared labels with the background, 30 training cases" in planner
    assert "1.5 x 0.8 x 0.8 mm" in spacing
    assert "the median over 30 cases" in spacing
    assert "z with 1.5 mm" in order
    assert "[-2, 30], minus its mean 10, divided by its deviation 3" in channel
    full = plan.configurations["3d_fullres"]
    patch, topology, batch, cascade = full.reasons
    assert patch.startswith(f"patch {by(full.patch_size)} (")
    assert "fit the 520 that 2 samples may take" in patch
    assert f"{len(full.strides)} stages" in topology
    assert re.search(r"batch 2: memory allows 2, \d+ make up 5% of the dataset", batch)
    assert re.search(r"cascade: the patch covers [\d.]+% of the median case's 300 x 400 x 400 voxels", cascade)
    low = plan.configurations["3d_lowres"]
    assert f"spacing {by(low.spacing, '.3g')} mm: raised from 1.5 x 0.8 x 0.8 in steps of 1%" in low.reasons[0]
    assert plan.configurations["3d_cascade_fullres"].reasons == (
        "as 3d_fullres in everything; the segmentation of 3d_lowres, one-hot, is a further input",
    )


def test_a_coarse_axis_of_varying_spacing_is_explained(dataset: Any, fingerprint: Any) -> None:
    made = fingerprint((12, 200, 200), (10, 1, 1), cases=11)
    cases = tuple(replace(c, spacing=(5.0 + i, 1, 1)) for i, c in enumerate(made.cases))
    plan = make_plan(dataset(), replace(made, cases=cases), "v2")
    assert "along z the 10th percentile instead of the median 10 mm" in plan.reasons[1]
    assert plan.configurations["3d_fullres"].spacing == (6, 1, 1)


def test_axes_that_are_all_alike_keep_their_order(dataset: Any, fingerprint: Any) -> None:
    order = make_plan(dataset(), fingerprint((40, 40, 40))).reasons[2]
    assert order == "working axes z, y, x, as in the files: no axis is coarser than another; 2-D slices lie across z"


def test_flat_data_is_told_what_a_3d_network_needs(dataset: Any, fingerprint: Any) -> None:
    for planner, slices, needed in (
        ("paper", 3, "at least 4 along each axis"),
        ("v2", 1, "at least 2 along the first"),
    ):
        plan = make_plan(dataset(), fingerprint((slices, 66, 60), (3, 1, 1)), planner)
        assert (
            f"the median case has {slices} x 66 x 60 voxels; a 3-D network needs {needed}"
            in (plan.configurations["2d"].reasons[-1])
        )


def test_a_batch_that_is_more_than_the_share_of_the_dataset_is_told(dataset: Any, fingerprint: Any) -> None:
    batch = make_plan(dataset(), fingerprint((40, 40, 40), cases=2)).configurations["3d_fullres"].reasons[2]
    assert "a single sample is more than 5% of the dataset's voxels, the most one batch may see; at least 2" in batch


def test_masks_are_explained(dataset: Any, fingerprint: Any) -> None:
    made = fingerprint((40, 40, 40), channels=3, relative=0.4)
    names = ("MRI", "CTA", "rgb_to_0_1")
    masked, named, other = make_plan(dataset(names), made).reasons[3:]
    assert masked.endswith(
        "inside the non-zero mask: the crop to non-zero leaves 40% of the median case, less than 75%"
    )
    assert named.endswith("of all voxels: the name contains CT")
    assert other == "channel 2 (rgb_to_0_1): divided by 255, because it is named rgb_to_0_1"
    whole = make_plan(dataset(), fingerprint((40, 40, 40))).reasons[3]
    assert whole.endswith("leaves 100% of the median case, not less than 75%")


def test_a_patch_of_ones_own_that_needs_too_much_is_told(dataset: Any, fingerprint: Any) -> None:
    wishes = PlanOverrides(patch_size=(256, 256, 256))
    plan = make_plan(dataset(), fingerprint((300, 300, 300)), "paper", wishes)
    assert "MORE than the 520 that fit" in plan.configurations["3d_fullres"].reasons[0]


def test_the_reasons_as_text(dataset: Any, fingerprint: Any) -> None:
    plan = make_plan(dataset(), fingerprint((300, 400, 400)))
    lines = explain(plan)
    assert lines[:2] == ["", "all configurations"]
    for name, configuration in plan.configurations.items():
        place = lines.index(name)
        assert lines[place + 1 :][: len(configuration.reasons)] == [f"  {reason}" for reason in configuration.reasons]
    assert lines[2 : 2 + len(plan.reasons)] == [f"  {reason}" for reason in plan.reasons]


def test_an_edited_plan_of_an_unknown_planner_can_be_explained(dataset: Any, fingerprint: Any) -> None:
    plan = make_plan(dataset(), fingerprint((60, 60, 60)))
    bare = {name: replace(c, memory_gb=0.0, reasons=()) for name, c in plan.configurations.items()}
    lines = explain(replace(plan, recipe="mine", reasons=(), configurations=bare))
    assert lines == ["", "all configurations", "", "2d", "", "3d_fullres", ""]
