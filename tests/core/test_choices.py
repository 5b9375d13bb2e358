from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from nnunet_rs.cli import main
from nnunet_rs.core.choices import PLANNER_NAMES, NnunetNames, complete, planner_of_nnunet
from nnunet_rs.core.files import read_json
from nnunet_rs.plan.files import read_plan
from nnunet_rs.plan.nnunet_plans import read_nnunet_plans
from nnunet_rs.plan.planners import PLANNERS


def test_a_table_has_the_names_of_its_kind_in_their_order() -> None:
    kind = Literal["first", "second"]
    assert list(complete(kind, {"second": 2, "first": 1}).items()) == [("first", 1), ("second", 2)]
    for table in ({"first": 1}, {"first": 1, "second": 2, "third": 3}):
        with pytest.raises(TypeError, match="names without an entry, or entries without a name"):
            complete(kind, table)


def test_planners_of_nnunet_are_recipes() -> None:
    assert planner_of_nnunet("ExperimentPlanner") == "v2"
    assert planner_of_nnunet("nnUNetPlannerResEncL") == "v2-resenc-l"
    assert planner_of_nnunet("MyPlanner") is None


def test_a_planning_recipe_is_a_name_and_a_table_of_constants(
    raw_dataset: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is added here by two entries is added to two files."""
    monkeypatch.setitem(PLANNER_NAMES, "wide", NnunetNames("WidePlanner", "WidePlans", "WidePlans"))  # type: ignore[arg-type]
    monkeypatch.setitem(PLANNERS, "wide", replace(PLANNERS["v2"], name="wide", base_features=48))
    dataset, work, plans = raw_dataset(), tmp_path / "work", tmp_path / "plans.json"
    assert main(["plan", str(dataset), "-o", str(work), "--planner", "wide", "--as-nnunet", str(plans), "-q"]) == 0
    decided = read_plan(work / "plan.json")
    assert decided.recipe == "wide"
    assert decided.configurations["3d_fullres"].features[0] == 48
    written = read_json(plans)
    assert (written["plans_name"], written["experiment_planner_used"]) == ("WidePlans", "WidePlanner")
    assert read_nnunet_plans(plans, dataset / "dataset.json").plan().recipe == "wide"
