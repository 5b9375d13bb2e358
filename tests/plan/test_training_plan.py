"""A plan with what one training was asked for otherwise; the plan that was read stays as it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.types import Dataset
from nnunet_rs.plan.comparison import decide_alike, differing_configuration, differing_data
from nnunet_rs.plan.planner import make_plan
from nnunet_rs.plan.schema import Fingerprint, Plan
from nnunet_rs.plan.training_plan import training_plan


@pytest.fixture
def plan(dataset: Callable[..., Dataset], fingerprint: Callable[..., Fingerprint]) -> Plan:
    return make_plan(dataset(), fingerprint((100, 120, 140)))


def test_features_double_up_to_the_limit_of_the_planner(plan: Plan) -> None:
    before = plan.configurations["3d_fullres"]
    resolved = training_plan(plan, "3d_fullres", batch_size=3, features=100).configurations["3d_fullres"]
    assert resolved.batch_size == 3
    assert resolved.features == (100, 200, *(320,) * (len(before.features) - 2))
    assert plan.configurations["3d_fullres"] == before


def test_what_is_not_asked_for_is_the_plans(plan: Plan) -> None:
    size = plan.configurations["2d"].batch_size
    assert training_plan(plan, "2d", batch_size=size, features=None) == plan
    assert training_plan(plan, "2d", batch_size=size, features=plan.configurations["2d"].features[0]) == plan


@pytest.mark.parametrize(("batch", "features", "text"), [(0, None, "batch size is 0"), (1, 0, "features is 0")])
def test_numbers_below_one_are_refused(plan: Plan, batch: int, features: int | None, text: str) -> None:
    with pytest.raises(PlanError, match=f"{text}: must be at least 1"):
        training_plan(plan, "2d", batch_size=batch, features=features)


def test_what_differs_is_named(plan: Plan) -> None:
    other = training_plan(plan, "2d", batch_size=1, features=8)
    assert differing_data(plan, other) == ()
    assert differing_configuration(plan, other, "2d") == ("batch_size", "features")
    assert differing_configuration(plan, other, "2d", without=("batch_size", "features")) == ()
    assert differing_configuration(plan, other, "3d_fullres") == ()
    assert not decide_alike(plan, other)
    assert decide_alike(plan, plan)
