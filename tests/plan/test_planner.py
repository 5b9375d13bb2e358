"""Whole plans: against both families of oracles, where the paper's text decides, and by the user's wishes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.types import Dataset, LabelSet, Region
from nnunet_rs.data.pipeline import PrepareOptions
from nnunet_rs.plan.patch import Setting, choose_batch, fit_patch
from nnunet_rs.plan.planner import PlanOverrides, declared_labels, make_plan
from nnunet_rs.plan.planners import PAPER, PLANNERS
from nnunet_rs.plan.schema import Configuration, Fingerprint, Plan

Oracles = Callable[[str], Iterator[tuple[str, Dataset, Fingerprint, int, dict[str, Any]]]]
NAMES = {
    "ExperimentPlanner": "v2",
    "nnUNetPlannerResEncM": "v2-resenc-m",
    "nnUNetPlannerResEncL": "v2-resenc-l",
}
JUNE_2019 = "400d3c9b (2019-06-27, 3D transposed)"


def lists(value: Any) -> Any:
    return [lists(item) for item in value] if isinstance(value, (tuple, list)) else value


# --- v2 ------------------------------------------------------------------------------------------------------------


def v2_values(configuration: dict[str, Any]) -> dict[str, Any]:
    """The decisions in a configuration of nnU-Net's plans.json, under this library's names."""
    network = configuration["architecture"]["arch_kwargs"]
    return {
        "spacing": configuration["spacing"],
        "patch_size": configuration["patch_size"],
        "batch_size": configuration["batch_size"],
        "median_shape": configuration["median_image_size_in_voxels"],
        "strides": network["strides"],
        "kernels": network["kernel_sizes"],
        "features": network["features_per_stage"],
        "blocks_encoder": network.get("n_conv_per_stage") or network["n_blocks_per_stage"],
        "blocks_decoder": network["n_conv_per_stage_decoder"],
        "residual": "n_blocks_per_stage" in network,
        "batch_dice": configuration["batch_dice"],
    }


def test_v2_plans_equal_nnunets(oracles: Oracles) -> None:
    compared = 0
    for name, dataset, fingerprint, cases, content in oracles("plans"):
        for planner, expected in content["plans"].items():
            plan = make_plan(dataset, fingerprint, NAMES[planner], training_cases=cases)
            assert list(plan.transpose) == expected["transpose_forward"], (name, planner)
            assert set(plan.configurations) == set(expected["configurations"]), (name, planner)
            for key, configuration in expected["configurations"].items():
                if "inherits_from" in configuration:
                    assert plan.configurations[key].previous == configuration["previous_stage"]
                    continue
                values = v2_values(configuration)
                found = {field: lists(getattr(plan.configurations[key], field)) for field in values}
                assert found == values, (name, planner, key)
                compared += 1
    assert compared > 100


# --- paper ---------------------------------------------------------------------------------------------------------


def paper_values(stage: dict[str, Any], dims: int) -> dict[str, Any]:
    """The decisions of a stage of the 2019 plan, under this library's names."""
    return {
        "spacing": stage["current_spacing"][-dims:],
        "patch_size": stage["patch_size"],
        "batch_size": stage["batch_size"],
        "median_shape": stage["median_patient_size_in_voxels"][-dims:],
        "strides": [[1] * dims, *stage["pool_op_kernel_sizes"]],
        "kernels": stage["conv_kernel_sizes"],
        "features": stage["features_per_stage"],
        "memory_estimate": stage["vram_estimate"],
        "inplane_augmentation": stage["do_dummy_2D_data_aug"],
    }


def stages(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Stages of a 2019 plan, the lowest resolution first; none where its code failed."""
    found = plan.get("plans_per_stage", {})
    return [found[key] for key in sorted(found)]


def assert_equals(configuration: Configuration, expected: dict[str, Any], name: str) -> None:
    found = {field: lists(getattr(configuration, field)) for field in expected}
    assert found == expected, (name, configuration.name)


def test_paper_plans_equal_the_code_of_2019_at_full_resolution_and_in_2d(oracles: Oracles) -> None:
    for name, dataset, fingerprint, cases, content in oracles("plans_paper"):
        june = content["variants"][JUNE_2019]
        plan = make_plan(dataset, fingerprint, "paper", training_cases=cases)
        assert_equals(plan.configurations["2d"], paper_values(stages(june["plan_2d"])[-1], 2), name)
        assert list(plan.transpose) == june["plan_2d"]["transpose_forward"]
        schemes = {"ct": "CT", "zscore": "nonCT"}
        for channel, rule in enumerate(plan.normalization):
            assert schemes[rule.scheme] == june["plan_2d"]["normalization_schemes"][str(channel)]
            assert rule.use_mask == june["plan_2d"]["use_mask_for_norm"][str(channel)]
        for stage in stages(june["plan_3d"])[-1:]:
            assert_equals(plan.configurations["3d_fullres"], paper_values(stage, 3), name)


@pytest.mark.parametrize("variant", ["as released", JUNE_2019])
def test_every_3d_stage_of_2019_is_planned_alike_at_its_spacing(oracles: Oracles, variant: str) -> None:
    """Low resolutions are raised until the re-planned patch covers 25 %, so their spacings differ; the rest must not.

    The release of the paper planned in the files' axis order, the next in the working order.
    """
    for name, dataset, _, cases, content in oracles("plans_paper"):
        plan = content["plan_3d"] if variant == "as released" else content["variants"][variant]["plan_3d"]
        setting = Setting(PAPER, 12.0, 30, len(dataset.channels), declared_labels(dataset.labels), cases)
        for stage in stages(plan):
            expected = paper_values(stage, 3)
            fitted = fit_patch(tuple(expected["spacing"]), tuple(expected["median_shape"]), setting)
            topology = fitted.network.topology
            found = lists([fitted.patch, fitted.estimate, topology.strides, topology.kernels, fitted.network.features])
            keys = ("patch_size", "memory_estimate", "strides", "kernels", "features")
            assert found == [expected[key] for key in keys], name
            voxels = math.prod(expected["median_shape"]) * cases
            assert choose_batch(fitted, voxels, setting).size == expected["batch_size"], name


def test_paper_cascade_follows_the_text(oracles: Oracles) -> None:
    """A cascade stands where the planned patch covers less than a quarter, and its low resolution is covered."""
    seen = 0
    for name, dataset, fingerprint, cases, _ in oracles("plans_paper"):
        configurations = make_plan(dataset, fingerprint, "paper", training_cases=cases).configurations
        if "3d_fullres" not in configurations:
            continue
        full = configurations["3d_fullres"]
        if "3d_lowres" not in configurations:
            assert full.batch_dice is False
            continue
        low, seen = configurations["3d_lowres"], seen + 1
        assert math.prod(full.patch_size) < 0.25 * math.prod(full.median_shape), name
        assert math.prod(low.patch_size) >= 0.25 * math.prod(low.median_shape), name
        assert math.prod(full.median_shape) > 1.5 * math.prod(low.median_shape), name
        assert (full.batch_dice, low.batch_dice) == (True, False)
        assert configurations["3d_cascade_fullres"].previous == "3d_lowres"
    assert seen >= 5


def test_no_step_fewer_would_cover_a_quarter(dataset: Any, fingerprint: Any) -> None:
    made = fingerprint((400, 400, 400), cases=20)
    low = make_plan(dataset(), made).configurations["3d_lowres"]
    spacing = low.spacing[0] / 1.01
    shape = tuple(float(round(400 / spacing)) for _ in range(3))
    before = fit_patch((spacing,) * 3, shape, Setting(PAPER, 12, 30, 1, 2, 20))
    assert before.voxels < 0.25 * math.prod(shape)


def test_a_patch_that_covers_a_quarter_needs_no_cascade(dataset: Any, fingerprint: Any) -> None:
    plan = make_plan(dataset(), fingerprint((128, 128, 128)))
    assert list(plan.configurations) == ["2d", "3d_fullres"]
    assert "no cascade" in plan.configurations["3d_fullres"].reasons[-1]


def test_a_cascade_that_is_hardly_smaller_is_dropped(dataset: Any, fingerprint: Any) -> None:
    """210 voxels an axis: 128 cubed covers 23 %."""
    plan = make_plan(dataset(), fingerprint((210, 210, 210)))
    assert "3d_lowres" not in plan.configurations
    assert "is not more than 1.5 times smaller" in plan.configurations["3d_fullres"].reasons[-1]


# --- where the code of 2019 fails ----------------------------------------------------------------------------------


@pytest.mark.parametrize("thickness", [1, 2, 3])
def test_flat_data_is_planned_in_2d_only(dataset: Any, fingerprint: Any, thickness: int) -> None:
    plan = make_plan(dataset(), fingerprint((thickness, 300, 200), (5, 1, 1)))
    assert list(plan.configurations) == ["2d"]
    assert plan.configurations["2d"].patch_size == (320, 224)
    assert "2-D only" in plan.configurations["2d"].reasons[-1]


def test_slices_of_flat_data_lie_across_its_short_axis(dataset: Any, fingerprint: Any) -> None:
    """The coarsest axis is y here, but the slices are (y, x)."""
    plan = make_plan(dataset(), fingerprint((1, 300, 200), (1, 1.5, 1)))
    assert plan.transpose == (0, 1, 2)
    assert plan.configurations["2d"].median_shape == (300, 200)
    assert "flat along z" in plan.reasons[2]


def test_large_slices_and_small_datasets_still_get_two_a_batch(dataset: Any, fingerprint: Any) -> None:
    plan = make_plan(dataset(), fingerprint((1, 4000, 4000), (5, 1, 1), cases=1))
    assert plan.configurations["2d"].batch_size == 2
    assert max(plan.configurations["2d"].patch_size) < 4000
    plan = make_plan(dataset(), fingerprint((5, 12, 12), cases=1))
    assert {c.batch_size for c in plan.configurations.values()} == {2}
    assert "at least 2" in plan.configurations["2d"].reasons[2]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.tuples(*[st.integers(1, 700)] * 3),
    st.tuples(*[st.floats(0.2, 12)] * 3),
    st.sampled_from(list(PLANNERS)),
    st.integers(1, 200),
)
def test_any_plan_can_be_followed(
    dataset: Any, fingerprint: Any, shape: tuple[int, int, int], spacing: tuple[float, ...], planner: str, cases: int
) -> None:
    plan = make_plan(dataset(), fingerprint(shape, spacing, cases=cases), planner)
    assert sorted(plan.transpose) == [0, 1, 2]
    for configuration in plan.configurations.values():
        assert configuration.batch_size >= 2
        assert configuration.reasons
        for axis, size in enumerate(configuration.patch_size):
            assert size % math.prod(stride[axis] for stride in configuration.strides) == 0


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.tuples(*[st.integers(8, 400)] * 3),
    st.tuples(*[st.floats(0.3, 6)] * 3),
    st.sampled_from(list(PLANNERS)),
)
def test_axis_order_in_the_files_does_not_matter_but_for_the_first(
    dataset: Any, fingerprint: Any, shape: tuple[int, ...], spacing: tuple[float, ...], planner: str
) -> None:
    """Moving the coarsest axis elsewhere, and keeping the others' order, changes the transposition alone."""
    coarse = spacing.index(max(spacing))
    assume(spacing.count(max(spacing)) == 1)
    others = [axis for axis in range(3) if axis != coarse]
    moved = (others[0], coarse, others[1])
    one = make_plan(dataset(), fingerprint(shape, spacing), planner)
    two = make_plan(dataset(), fingerprint(tuple(shape[a] for a in moved), tuple(spacing[a] for a in moved)), planner)
    assert one.configurations == two.configurations
    assert two.transpose == (1, 0, 2)


# --- normalisation, labels, wishes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("planner", "names", "schemes", "masks"),
    [
        ("paper", ("CT", "ct", "MRI", "CTA"), ("ct", "ct", "zscore", "zscore"), (False, False, True, False)),
        ("v2", ("CT", "ct", "MRI", "CTA"), ("ct", "ct", "zscore", "zscore"), (False, False, True, True)),
        (
            "v2",
            ("noNorm", "rescale_to_0_1", "RGB_to_0_1", "zScore"),
            ("none", "rescale_to_0_1", "rgb_to_0_1", "zscore"),
            (False, False, False, True),
        ),
    ],
)
def test_channel_names_decide_the_normalisation(
    dataset: Any, fingerprint: Any, planner: str, names: tuple[str, ...], schemes: Any, masks: Any
) -> None:
    plan = make_plan(dataset(names), fingerprint((40, 40, 40), channels=4, relative=0.7), planner)
    assert tuple(rule.scheme for rule in plan.normalization) == schemes
    assert tuple(rule.use_mask for rule in plan.normalization) == masks


@pytest.mark.parametrize(("relative", "masked"), [(0.7499, True), (0.75, False), (1.0, False)])
def test_the_mask_is_used_where_the_crop_takes_more_than_a_quarter(
    dataset: Any, fingerprint: Any, relative: float, masked: bool
) -> None:
    plan = make_plan(dataset(), fingerprint((40, 40, 40), relative=relative))
    assert plan.normalization[0].use_mask is masked


def test_declared_labels_count_background_regions_and_ignore() -> None:
    plain = LabelSet(("background", "a", "b"), (0, 1, 2))
    assert declared_labels(plain) == 3
    assert declared_labels(replace(plain, ignore=3)) == 4
    regions = (Region("whole", (1, 2), 1), Region("core", (2,), 2))
    assert declared_labels(replace(plain, regions=regions)) == 3


def test_wishes_are_followed(dataset: Any, fingerprint: Any) -> None:
    made = fingerprint((100, 200, 200), (2, 1, 1))
    wishes = PlanOverrides(vram_gb=24, spacing=(1.0, 1.0, 2.0), batch_size=5, features=16)
    plan = make_plan(dataset(), made, "paper", wishes)
    full = plan.configurations["3d_fullres"]
    assert plan.transpose == (2, 0, 1)
    assert full.spacing == (2, 1, 1)
    assert full.median_shape == (100, 200, 200)
    assert {c.batch_size for c in plan.configurations.values()} == {5}
    assert full.features[:3] == (16, 32, 64)
    assert "24 GB of GPU memory, scaled from the planner's 12 GB" in plan.reasons[0]
    assert "given by --spacing" in plan.reasons[1]
    assert "given by --batch-size" in full.reasons[2]


def test_more_memory_gives_larger_patches_first(dataset: Any, fingerprint: Any) -> None:
    made = fingerprint((300, 300, 300))
    small, large = (
        make_plan(dataset(), made, "paper", PlanOverrides(vram_gb=gb)).configurations["3d_fullres"] for gb in (8, 40)
    )
    assert math.prod(large.patch_size) > 3 * math.prod(small.patch_size)
    assert large.batch_size == 2
    assert 0 < small.memory_gb <= 8 < large.memory_gb <= 40


@pytest.mark.parametrize(
    ("patch", "changed", "expected"),
    [((60, 100, 100), "3d_fullres", (64, 112, 112)), ((100, 90), "2d", (112, 96))],
)
def test_the_users_patch_goes_to_the_configurations_of_its_dimension(
    dataset: Any, fingerprint: Any, patch: tuple[int, ...], changed: str, expected: tuple[int, ...]
) -> None:
    made = fingerprint((120, 160, 160))
    given_patch = make_plan(dataset(), made, "paper", PlanOverrides(patch_size=patch)).configurations
    default = make_plan(dataset(), made, "paper").configurations
    for name, configuration in given_patch.items():
        if len(configuration.patch_size) == len(patch):
            assert configuration.patch_size == expected
            assert "given by --patch-size" in " ".join(configuration.reasons) or configuration.previous
        else:
            assert configuration == default[name]
    assert changed in given_patch


@pytest.mark.parametrize(
    ("wishes", "text"),
    [
        (PlanOverrides(vram_gb=0), "--vram is 0: must be greater than 0"),
        (PlanOverrides(vram_gb=math.nan), "--vram is nan"),
        (PlanOverrides(batch_size=-1), "--batch-size is -1"),
        (PlanOverrides(features=0), "--features is 0"),
        (PlanOverrides(spacing=(1, 0, 1)), r"--spacing is \[1, 0, 1\]"),
        (PlanOverrides(patch_size=(64,)), r"--patch-size is \[64\]: must be two \(2d\) or three"),
        (PlanOverrides(patch_size=(64, 0, 64)), r"--patch-size is \[64, 0, 64\]"),
        (PlanOverrides(spacing=(500, 1, 1)), "--spacing leaves a median shape of .* must be at least 1"),
        (PlanOverrides(vram_gb=1e-6), "--vram"),
    ],
)
def test_wishes_that_cannot_be_followed_are_named(
    dataset: Any, fingerprint: Any, wishes: PlanOverrides, text: str
) -> None:
    with pytest.raises(PlanError, match=text):
        make_plan(dataset(), fingerprint((40, 40, 40)), "paper", wishes)


def test_fingerprints_that_cannot_be_planned_are_named(dataset: Any, fingerprint: Any) -> None:
    with pytest.raises(PlanError, match="holds no case"):
        make_plan(dataset(), fingerprint((40, 40, 40), cases=0))
    with pytest.raises(PlanError, match=r"case 0 has spacing \[0.0, 1.0, 1.0\]"):
        make_plan(dataset(), fingerprint((40, 40, 40), (0, 1, 1)))
    with pytest.raises(PlanError, match=r"has 2 channels, dataset.json 1"):
        make_plan(dataset(), fingerprint((40, 40, 40), channels=2))
    with pytest.raises(
        PlanError, match="planner 'v3' is unknown; there are paper, v2, v2-resenc-m, v2-resenc-l, v2-resenc-xl"
    ):
        make_plan(dataset(), fingerprint((40, 40, 40)), "v3")


def test_a_planner_is_a_value_that_can_be_varied(dataset: Any, fingerprint: Any) -> None:
    """One constant changed is one behaviour changed: no class to derive from."""
    deeper = replace(PAPER, name="shallow", shortest_edge=8)
    plan: Plan = make_plan(dataset(), fingerprint((64, 64, 64)), deeper)
    assert len(plan.configurations["3d_fullres"].strides) == 4
    assert len(make_plan(dataset(), fingerprint((64, 64, 64))).configurations["3d_fullres"].strides) == 5


def test_an_axis_thousands_of_times_coarser_still_has_a_voxel_of_the_patch(dataset, fingerprint) -> None:
    one, other = fingerprint((30, 40, 50), (1e6, 1, 2)), fingerprint((30, 40, 50), (1, 1.5, 2))
    odd = replace(one, cases=(one.cases[0], other.cases[0]))
    for planner in ("paper", "v2"):
        plan = make_plan(dataset(), odd, planner)
        assert all(min(c.patch_size) >= 1 and min(c.median_shape) >= 1 for c in plan.configurations.values())


def test_the_earlier_name_of_a_planner_is_taken_with_a_warning(dataset: Any, fingerprint: Any) -> None:
    with pytest.warns(DeprecationWarning, match=r"is now make_plan\(planner=\.\.\.\)"):
        plan = make_plan(dataset(), fingerprint((40, 40, 40)), recipe="v2")
    assert plan == make_plan(dataset(), fingerprint((40, 40, 40)), planner="v2")
    with pytest.warns(DeprecationWarning, match="recipe is now planner"):
        assert PrepareOptions(recipe="v2") == PrepareOptions(planner="v2")
