"""What a plan must satisfy to be followed: the checks behind the reading of an edited plan.json."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnunet_rs.core.errors import NnunetError, PlanError
from nnunet_rs.core.labels import MAX_VALUE
from nnunet_rs.core.orientation import is_orientation
from nnunet_rs.plan.normalization import SCHEMES

if TYPE_CHECKING:
    from nnunet_rs.core.types import ChannelStats, LabelSet
    from nnunet_rs.plan.schema import CasePrint, Configuration, Fingerprint, Plan

# Far beyond what networks and scans have: above, a slip of the keyboard would ask for all memory, or run for ever.
MOST = {"patch_size": 1 << 14, "batch_size": 1 << 16, "features": 1 << 14, "kernels": 99, "strides": 64}
FLOAT32 = 3.4028235e38
MOST_EDGE = 1 << 20  # voxels along an axis of a scan
MOST_STAGES, MOST_BLOCKS, MOST_VOXELS = 20, 200, 1 << 34
SPACING = (1e-9, 1e9)  # mm
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,100}")


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
        if not _NAME.fullmatch(name):
            raise PlanError(f"{where}: must be a name that a folder can have: letters, digits, _ and -")
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
    from nnunet_rs.plan.planners import find_planner  # it knows fingerprints, whose reading leads here

    try:
        find_planner(plan.recipe)
    except PlanError as error:
        raise PlanError(f"{source}: recipe: {error}") from None
    _check_labels(plan.labels, f"{source}: labels")


def _check_labels(labels: LabelSet, where: str) -> None:
    values = list(labels.values)
    if len(labels.names) != len(values) or len(values) < 2 or values[0] != 0:
        raise PlanError(
            f"{where}: names and values must be equally many, at least two, beginning with the background 0"
        )
    if values != sorted(set(values)) or values[-1] > MAX_VALUE:
        raise PlanError(f"{where}.values must rise, up to {MAX_VALUE} at most")
    for key, names in (("names", labels.names), ("regions", tuple(region.name for region in labels.regions))):
        if len(set(names)) < len(names):
            raise PlanError(f"{where}.{key} has a name twice: each must have its own")
    if labels.ignore is not None and not values[-1] < labels.ignore <= MAX_VALUE:
        raise PlanError(f"{where}.ignore is {labels.ignore}: must be above all values, up to {MAX_VALUE} at most")
    for number, region in enumerate(labels.regions):
        classes = region.classes
        if not classes or sorted(set(classes)) != list(classes) or not 0 <= classes[0] <= classes[-1] < len(values):
            raise PlanError(
                f"{where}.regions[{number}].classes is {list(classes)}: must rise from 0 to {len(values) - 1}"
            )
        if region.paint not in values:
            raise PlanError(f"{where}.regions[{number}].paint is {region.paint}: must be one of the values {values}")


def _check_channels(plan: Plan, source: str) -> None:
    if len(plan.normalization) != len(plan.channels) or not plan.channels:
        raise PlanError(
            f"{source}: normalization has {len(plan.normalization)} entries: must have one for each of the "
            f"{len(plan.channels)} channels"
        )
    for channel, rule in enumerate(plan.normalization):
        where = f"{source}: normalization[{channel}]"
        if rule.scheme not in SCHEMES:
            raise PlanError(f'{where}.scheme is "{rule.scheme}": must be one of {", ".join(SCHEMES)}')
        if SCHEMES[rule.scheme].uses_dataset and (rule.stats is None or rule.stats.std <= 0):
            found = "missing" if rule.stats is None else f"std {rule.stats.std}"
            needed = f"the scheme {rule.scheme} needs the foreground statistics, with std > 0"
            raise PlanError(f"{where}.stats is {found}: {needed}")
        if rule.stats is not None:
            _check_stats(rule.stats, f"{where}.stats")


def _check_stats(stats: ChannelStats, where: str) -> None:
    """Statistics that no voxels have: every value is that of a float32 image."""
    if stats.percentile_00_5 > stats.percentile_99_5 or stats.min > stats.max or stats.std < 0:
        raise PlanError(f"{where}: min and percentile_00_5 must not exceed max and percentile_99_5, std not be below 0")
    for key in ("mean", "std", "median", "min", "max", "percentile_00_5", "percentile_99_5"):
        if abs(getattr(stats, key)) > FLOAT32:
            raise PlanError(f"{where}.{key} is {getattr(stats, key)}: must be within {FLOAT32:.3g}, as voxels are")


def _check_sizes(configuration: Configuration, where: str) -> None:
    dims = configuration.dims
    if dims not in (2, 3):
        raise PlanError(f"{where}.patch_size is {list(configuration.patch_size)}: must have 2 or 3 entries")
    for key in ("spacing", "median_shape"):
        _check_positive(getattr(configuration, key), dims, f"{where}.{key}")
    for size in configuration.spacing:
        if not SPACING[0] <= size <= SPACING[1]:
            raise PlanError(
                f"{where}.spacing is {list(configuration.spacing)}: must be in mm, {SPACING[0]} to {SPACING[1]}"
            )
    _check_positive(configuration.patch_size, dims, f"{where}.patch_size", MOST["patch_size"])
    _check_positive((configuration.batch_size,), 1, f"{where}.batch_size", MOST["batch_size"])
    voxels = math.prod(configuration.patch_size) * configuration.batch_size
    if voxels > MOST_VOXELS:
        raise PlanError(
            f"{where}: patch_size and batch_size make {voxels} voxels a batch: must be {MOST_VOXELS} at most"
        )
    if configuration.memory_estimate < 0 or configuration.memory_gb < 0:
        raise PlanError(f"{where}.memory_estimate and memory_gb must not be negative")


def _check_positive(values: Sequence[float], count: int, where: str, most: float = math.inf) -> None:
    if len(values) != count:
        raise PlanError(f"{where} is {list(values)}: must have {count} entries, as patch_size has")
    if not all(value > 0 and math.isfinite(value) for value in values):
        shown = list(values) if count > 1 else values[0]
        raise PlanError(f"{where} is {shown}: must be greater than 0")
    if max(values, default=0) > most:
        raise PlanError(f"{where} is {list(values) if count > 1 else values[0]}: must be {most} at most")


def _check_stages(configuration: Configuration, where: str) -> None:
    stages = len(configuration.strides)
    for key in ("kernels", "features", "blocks_encoder"):
        found = len(getattr(configuration, key))
        if found != stages:
            raise PlanError(f"{where}.{key} has {found} entries: must have {stages}, one per stage, as strides has")
    if stages > MOST_STAGES:
        raise PlanError(f"{where}.strides has {stages} entries: must have {MOST_STAGES} at most")
    if stages == 0 or any(stride != 1 for stride in configuration.strides[0]):
        raise PlanError(f"{where}.strides must begin with a stage of ones, the full resolution")
    if len(configuration.blocks_decoder) != stages - 1:
        found = len(configuration.blocks_decoder)
        raise PlanError(f"{where}.blocks_decoder has {found} entries: must have {stages - 1}, one fewer than strides")
    for key in ("features", "blocks_encoder", "blocks_decoder"):
        values = getattr(configuration, key)
        _check_positive(values, len(values), f"{where}.{key}", MOST.get(key, MOST_BLOCKS))
    for stage in range(stages):
        for key in ("strides", "kernels"):
            _check_positive(
                getattr(configuration, key)[stage], configuration.dims, f"{where}.{key}[{stage}]", MOST[key]
            )
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

    bottom = math.prod(configuration.patch_size) // math.prod(math.prod(stride) for stride in configuration.strides)
    if bottom < 2:
        raise PlanError(
            f"{where}.strides leave a single voxel of the patch {list(configuration.patch_size)} at the bottom, which "
            "instance normalisation cannot normalise: take a larger patch, or fewer or smaller strides"
        )


def check_fingerprint(fingerprint: Fingerprint, source: str) -> None:
    """Check that a fingerprint is one that cases can have; errors as `check_plan`."""
    if not fingerprint.cases:
        raise PlanError(f"{source}: cases is empty: must hold at least one")
    for number, case in enumerate(fingerprint.cases):
        check_case_print(case, f"{source}: cases[{number}]")
    for number, stats in enumerate(fingerprint.channels):
        _check_stats(stats, f"{source}: channels[{number}]")
    if not 0 < fingerprint.relative_size_after_crop <= 1:
        found = fingerprint.relative_size_after_crop
        raise PlanError(f"{source}: relative_size_after_crop is {found}: must be above 0, up to 1")


def check_case_print(case: CasePrint, where: str, error: type[NnunetError] = PlanError) -> None:
    """Check the sizes of one case; the `error` names what is wrong."""
    sizes = zip(case.shape_after_crop, case.shape, strict=True)
    if not all(0 < cropped <= size <= MOST_EDGE for cropped, size in sizes):
        shapes = f"{list(case.shape)} and {list(case.shape_after_crop)}"
        raise error(f"{where}: shape and shape_after_crop are {shapes}: must be positive, the second no larger")
    if not all(SPACING[0] <= edge <= SPACING[1] for edge in case.spacing):
        raise error(f"{where}.spacing is {list(case.spacing)}: must be in mm, {SPACING[0]} to {SPACING[1]}")
    if case.orientation and not is_orientation(case.orientation):
        raise error(f'{where}.orientation is "{case.orientation}": must be a code of three letters, as "LPS", or empty')


def _check_previous(plan: Plan, configuration: Configuration, where: str) -> None:
    previous = configuration.previous
    if previous is None:
        return
    lower = plan.configurations.get(previous)
    if lower is None or lower.previous is not None or lower.dims != configuration.dims:
        others = [c.name for c in plan.configurations.values() if c.previous is None and c.dims == configuration.dims]
        raise PlanError(f'{where}.previous is "{previous}": must be {" or ".join(["null", *others])}')
