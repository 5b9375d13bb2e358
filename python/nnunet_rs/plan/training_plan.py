"""The plan that one training follows: the work folder's, with the batch size and features asked for, resolved once."""

from __future__ import annotations

from dataclasses import replace

from nnunet_rs.core.errors import PlanError
from nnunet_rs.plan.planners import find_planner
from nnunet_rs.plan.schema import Plan
from nnunet_rs.plan.topology import features_of


def training_plan(plan: Plan, configuration: str, *, batch_size: int, features: int | None) -> Plan:
    """Return the plan as a training of a configuration follows it; its model keeps it.

    Parameters
    ----------
    plan
        As it was read; it stays as it is.
    configuration
        What is trained.
    batch_size
        Samples.
    features
        Of the first stage; None: the plan's. The others double at each stage up to the limit of the plan's planner, as
        the planner has them.

    Raises
    ------
    PlanError
        A number is less than 1.
    """
    for name, value in (("batch size", batch_size), ("features", features)):
        if value is not None and value < 1:
            raise PlanError(f"{name} is {value}: must be at least 1")
    resolved = replace(plan.configurations[configuration], batch_size=batch_size)
    if features is not None and features != resolved.features[0]:
        limit = max(find_planner(plan.recipe).rules(resolved.dims).max_features, features)
        resolved = replace(resolved, features=features_of(len(resolved.features), features, limit))
    return replace(plan, configurations={**plan.configurations, configuration: resolved})
