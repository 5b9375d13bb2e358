"""What two plans decide differently."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields, replace

from nnunet_rs.plan.schema import Configuration, Plan

OF_DATA = ("transpose", "channels", "labels", "normalization")  # what makes another dataset of the same cases
OF_TRAINING = frozenset({"batch_size", "features"})  # options of `train` may set these
_OF_PLANNING = frozenset(
    {"median_shape", "memory_estimate", "memory_gb", "reasons"}
)  # these tell of the planning alone


def decide_alike(one: Plan, other: Plan) -> bool:
    """Whether two plans decide the same, for whatever reasons."""
    return _without_reasons(one) == _without_reasons(other)


def differing_data(one: Plan, other: Plan) -> tuple[str, ...]:
    """Name the parts that differ of what bears on every configuration: axes, channels, labels, normalisation."""
    return tuple(name for name in OF_DATA if getattr(one, name) != getattr(other, name))


def differing_configuration(
    one: Plan, other: Plan, configuration: str, *, without: Collection[str] = ()
) -> tuple[str, ...]:
    """Name the parts of a configuration that two plans decide differently; all of them, where one plan has none."""
    ours, theirs = (plan.configurations.get(configuration) for plan in (one, other))
    names = (field.name for field in fields(Configuration) if field.name not in {*without, *_OF_PLANNING})
    return tuple(name for name in names if getattr(ours, name, None) != getattr(theirs, name, None))


def _without_reasons(plan: Plan) -> Plan:
    bare = {name: replace(configuration, reasons=()) for name, configuration in plan.configurations.items()}
    return replace(plan, configurations=bare, reasons=())
