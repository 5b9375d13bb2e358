from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.progress import Silent
from nnunet_rs.core.types import ChannelStats, Dataset, LabelSet
from nnunet_rs.plan.files import read_plan, write_plan
from nnunet_rs.plan.planner import PlanOverrides
from nnunet_rs.plan.reconcile import reconcile_plan
from nnunet_rs.plan.schema import CasePrint, Fingerprint, Plan

DATASET = Dataset("Made", Path("made"), "nnunet", ("MRI",), LabelSet(("background", "a"), (0, 1)), ())
STATS = ChannelStats(5, 1, 5, 0, 9, 1, 8)
FINGERPRINT = Fingerprint((CasePrint("a", (40, 60, 60), (40, 60, 60), (2, 1, 1)),) * 30, (STATS,), 1.0)


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def _settle(work: Path, planner: str | None = None, overrides: PlanOverrides | None = None) -> tuple[Plan, list[str]]:
    listener = Listener()
    plan = reconcile_plan(DATASET, FINGERPRINT, work, planner, overrides, listener)
    assert read_plan(work / "plan.json") == plan
    return plan, listener.said


def test_a_new_plan_is_the_papers(tmp_path: Path) -> None:
    plan, said = _settle(tmp_path)
    assert plan.recipe == "paper"
    assert said == []
    assert _settle(tmp_path) == (plan, [])


def test_an_edited_plan_is_followed(tmp_path: Path) -> None:
    plan, _ = _settle(tmp_path)
    full = replace(plan.configurations["3d_fullres"], batch_size=7)
    write_plan(tmp_path / "plan.json", replace(plan, configurations={**plan.configurations, "3d_fullres": full}))
    followed, said = _settle(tmp_path)
    assert followed.configurations["3d_fullres"].batch_size == 7
    assert "is followed as it is" in said[0]
    assert _settle(tmp_path, "paper")[0] == followed


def test_another_planner_or_overrides_replace_it(tmp_path: Path) -> None:
    first, _ = _settle(tmp_path)
    second, said = _settle(tmp_path, "v2")
    assert second.recipe == "v2"
    assert "kept as plan.previous.json" in said[0]
    assert read_plan(tmp_path / "plan.previous.json") == first
    third, _ = _settle(tmp_path, "v2", PlanOverrides(batch_size=3))
    assert third.configurations["3d_fullres"].batch_size == 3
    assert _settle(tmp_path, "v2", PlanOverrides(batch_size=3)) == (third, [])
    assert _settle(tmp_path)[0] == third


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": ("CT",)}, "is for the channels MRI, the dataset has CT; move it away"),
        ({"labels": LabelSet(("background", "b"), (0, 1))}, "its labels are not those of the dataset"),
    ],
)
def test_a_plan_of_another_dataset(tmp_path: Path, change: dict, message: str) -> None:
    _settle(tmp_path)
    with pytest.raises(PlanError, match=message):
        reconcile_plan(replace(DATASET, **change), FINGERPRINT, tmp_path, None, None, Silent())


def test_a_broken_plan_is_told(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(PlanError, match=r"plan\.json: is not JSON"):
        _settle(tmp_path)
