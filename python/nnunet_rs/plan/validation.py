"""What a plan must satisfy to be followed: the checks behind the reading of an edited plan.json."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnunet_rs.core.errors import PlanError

if TYPE_CHECKING:
    from nnunet_rs.plan.schema import Configuration, Plan


def check_plan(plan: Plan, source: str) -> None:
    """Check that the values of a plan agree with each other.

    Parameters
    ----------
    plan
        Each value already of its declared type.
    source
        The file it came from, for error messages.

    Raises
    ------
    PlanError
        Names file, key, value and what is allowed.
    """
    _check_head(plan, source)
    _check_channels(plan, source)
    for name, configuration in plan.configurations.items():
        where = f"{source}: configurations.{name}"
        if configuration.name != name:
            raise PlanError(f'{where}.name is "{configuration.name}": must be "{name}", the key it stands under')
        _check_sizes(configuration, where)
        _check_stages(configuration, where)
        _check_patch(configuration, where)
        _check_previous(plan, configuration, where)


def _check_head(plan: Plan, source: str) -> None:
    if sorted(plan.transpose) != [0, 1, 2]:
        raise PlanError(f"{source}: transpose is {list(plan.transpose)}: must be a permutation of 0, 1, 2")
    if not plan.configurations:
        raise PlanError(f"{source}: configurations is empty: must hold at least one")
    labels = plan.labels
    if len(labels.names) != len(labels.values) or not labels.values or labels.values[0] != 0:
        raise PlanError(f"{source}: labels: names and values must be equally many, beginning with the background 0")


def _check_channels(plan: Plan, source: str) -> None:
    if len(plan.normalization) != len(plan.channels) or not plan.channels:
        raise PlanError(
            f"{source}: normalization has {len(plan.normalization)} entries: must have one for each of the "
            f"{len(plan.channels)} channels"
        )
    for channel, rule in enumerate(plan.normalization):
        where = f"{source}: normalization[{channel}]"
        if rule.scheme == "ct" and (rule.stats is None or rule.stats.std <= 0):
            found = "missing" if rule.stats is None else f"std {rule.stats.std}"
            raise PlanError(f"{where}.stats is {found}: the scheme ct needs the foreground statistics, with std > 0")


def _check_sizes(configuration: Configuration, where: str) -> None:
    dims = configuration.dims
    if dims not in (2, 3):
        raise PlanError(f"{where}.patch_size is {list(configuration.patch_size)}: must have 2 or 3 entries")
    for key in ("spacing", "median_shape"):
        _check_positive(getattr(configuration, key), dims, f"{where}.{key}")
    _check_positive(configuration.patch_size, dims, f"{where}.patch_size")
    _check_positive((configuration.batch_size,), 1, f"{where}.batch_size")


def _check_positive(values: Sequence[float], count: int, where: str) -> None:
    if len(values) != count:
        raise PlanError(f"{where} is {list(values)}: must have {count} entries, as patch_size has")
    if not all(value > 0 and math.isfinite(value) for value in values):
        shown = list(values) if count > 1 else values[0]
        raise PlanError(f"{where} is {shown}: must be greater than 0")


def _check_stages(configuration: Configuration, where: str) -> None:
    stages = len(configuration.strides)
    for key in ("kernels", "features", "blocks_encoder"):
        found = len(getattr(configuration, key))
        if found != stages:
            raise PlanError(f"{where}.{key} has {found} entries: must have {stages}, one per stage, as strides has")
    if stages == 0 or any(stride != 1 for stride in configuration.strides[0]):
        raise PlanError(f"{where}.strides must begin with a stage of ones, the full resolution")
    if len(configuration.blocks_decoder) != stages - 1:
        found = len(configuration.blocks_decoder)
        raise PlanError(f"{where}.blocks_decoder has {found} entries: must have {stages - 1}, one fewer than strides")
    for key in ("features", "blocks_encoder", "blocks_decoder"):
        values = getattr(configuration, key)
        _check_positive(values, len(values), f"{where}.{key}")
    for stage in range(stages):
        _check_positive(configuration.strides[stage], configuration.dims, f"{where}.strides[{stage}]")
        _check_positive(configuration.kernels[stage], configuration.dims, f"{where}.kernels[{stage}]")
        if any(size % 2 == 0 for size in configuration.kernels[stage]):
            raise PlanError(f"{where}.kernels[{stage}] is {list(configuration.kernels[stage])}: must be odd")


def _check_patch(configuration: Configuration, where: str) -> None:
    for axis, size in enumerate(configuration.patch_size):
        step = math.prod(stride[axis] for stride in configuration.strides)
        if size % step:
            near = size // step * step
            choices = f"{near} or {near + step}" if near else f"{step}"
            raise PlanError(
                f"{where}.patch_size[{axis}] is {size}: must be a multiple of {step}, the product of the strides "
                f"along this axis; for example {choices}"
            )


def _check_previous(plan: Plan, configuration: Configuration, where: str) -> None:
    previous = configuration.previous
    if previous is None:
        return
    lower = plan.configurations.get(previous)
    if lower is None or lower.previous is not None or lower.dims != configuration.dims:
        others = [c.name for c in plan.configurations.values() if c.previous is None and c.dims == configuration.dims]
        raise PlanError(f'{where}.previous is "{previous}": must be {" or ".join(["null", *others])}')
