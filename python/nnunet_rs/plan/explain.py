"""Why a plan is as it is: one sentence per decision, with its rule and numbers, and the whole as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnunet_rs.core.text import by, counted
from nnunet_rs.plan.normalization import SCHEMES, Normalization
from nnunet_rs.plan.patch import BatchChoice, Fitted, Setting
from nnunet_rs.plan.planners import Planner
from nnunet_rs.plan.schema import Fingerprint, Plan
from nnunet_rs.plan.spacing import Floats, has_one_slice, is_anisotropic, percentile

if TYPE_CHECKING:
    from nnunet_rs.plan.resolution import Resolution

AXES = ("z", "y", "x")


def why_planner(setting: Setting) -> str:
    """Say which planner and which memory."""
    planner = setting.planner
    scaled = setting.budget_gb != planner.reference_gb
    origin = f", scaled from the planner's {planner.reference_gb:g} GB" if scaled else ""
    return (
        f"planner {planner.name}: {planner.summary}; {setting.budget_gb:g} GB of GPU memory{origin}; "
        f"{counted(setting.channels, 'input channel')}, "
        f"{counted(setting.classes, 'declared label')} with the background, "
        f"{counted(setting.cases, 'training case')}"
    )


def why_spacing(fingerprint: Fingerprint, target: Floats, planner: Planner, given: bool) -> str:
    """Say where the target spacing comes from."""
    spacing = f"target spacing {by(target, '.4g')} mm (z, y, x of the files)"
    if given:
        return f"{spacing}: given by --spacing"
    reason = f"{spacing}: the median over {counted(len(fingerprint.cases), 'case')}, axis by axis"
    coarse = max(range(3), key=lambda axis: target[axis])
    if planner.coarse_percentile is None or not is_anisotropic(fingerprint, planner.anisotropy):
        return reason
    middle = percentile([case.spacing[coarse] for case in fingerprint.cases], 50)
    return (
        f"{reason}; along {AXES[coarse]} the {planner.coarse_percentile:g}th percentile instead of the median "
        f"{middle:.4g} mm, as this axis is more than {planner.anisotropy:g} times coarser, and has more than "
        f"{planner.anisotropy:g} times fewer voxels, than the others"
    )


def why_order(order: Sequence[int], target: Floats, shape: Floats) -> str:
    """Say which axis comes first."""
    front = order[0]
    named = ", ".join(AXES[axis] for axis in order)
    if target[front] < max(target):
        return (
            f"working axes {named}: the data is flat along {AXES[front]} ({shape[front]:.3g} voxels), which comes first"
        )
    if min(target) == max(target):
        alike = f"working axes {named}, as in the files: no axis is coarser than another"
        return f"{alike}; 2-D slices lie across {AXES[front]}"
    return (
        f"working axes {named}: the coarsest, {AXES[front]} with {target[front]:.4g} mm, comes first; "
        f"2-D slices lie across it"
    )


REORIENTED = "; images are turned to right, anterior, superior first, as asked for: z, y, x are S, A, R"


def why_normalization(
    channels: Sequence[str], rules: Sequence[Normalization], fingerprint: Fingerprint, planner: Planner
) -> tuple[str, ...]:
    """Say how each channel is normalised."""
    size = fingerprint.relative_size_after_crop
    crop = f"the crop to non-zero leaves {size:.0%} of the median case"
    return tuple(
        f"channel {index} ({name}): {SCHEMES[rule.scheme].reason(rule)}{_mask(rule, crop, size, planner)}"
        for index, (name, rule) in enumerate(zip(channels, rules, strict=True))
    )


def _mask(rule: Normalization, crop: str, size: float, planner: Planner) -> str:
    if not SCHEMES[rule.scheme].uses_mask:
        return ""
    if rule.use_mask:
        return f", inside the non-zero mask: {crop}, less than {planner.mask_below:.0%}"
    if size < planner.mask_below:
        return f", of all voxels: the name contains {' or '.join(planner.unmasked_names)}"
    return f", of all voxels: {crop}, not less than {planner.mask_below:.0%}"


def why_flat(median: Floats, planner: Planner) -> str:
    """Say why there is only a 2-D network."""
    slices = planner.two_d_only is has_one_slice
    least = "at least 2 along the first axis" if slices else f"at least {planner.shortest_edge} along each axis"
    return f"2-D only: the median case has {by(median, '.4g')} voxels; a 3-D network needs {least}"


def why_patch(fitted: Fitted, median: Floats, setting: Setting) -> str:
    """Say how the patch came about."""
    dims, planner = len(fitted.patch), setting.planner
    rules = planner.rules(dims)
    share = math.prod(fitted.patch) / math.prod(median)
    limit = setting.reference(dims) * rules.reference_batch / rules.fit_batch
    patch = f"patch {by(fitted.patch)} ({share:.0%} of the median {by(median, 'g')})"
    count = f"{fitted.estimate / 1e6:.4g} million feature-map elements a sample"
    if fitted.fixed:
        over = "within" if fitted.estimate <= limit else "MORE than"
        given = f"{patch}: given by --patch-size, padded to what the poolings divide"
        return f"{given}; {count}, {over} the {limit / 1e6:.4g} that fit"
    begun = f"{patch}: begun at {by(fitted.start)} (at most the median)"
    if fitted.steps == 0:
        return f"{begun}, padded to what the poolings divide; {count} fit the {limit / 1e6:.4g}"
    extra = "; the 2019 code refuses slices this large" if planner.name == "paper" and dims == 2 else ""
    return (
        f"{begun}; the axis that covers most of the median shrank, {counted(fitted.steps, 'time')}, until {count} "
        f"fit the {limit / 1e6:.4g} that {rules.fit_batch} samples may take{extra}"
    )


def why_topology(fitted: Fitted) -> str:
    """Say where the network pools."""
    network, topology = fitted.network, fitted.network.topology
    thin = sum(1 in kernel for kernel in topology.kernels)
    flat = (
        f"; {counted(thin, 'stage')} with kernels of 1 along axes still much coarser or finer than the others"
        if thin
        else ""
    )
    return (
        f"{len(topology.strides)} stages, {by(topology.pools)} poolings per axis down to {by(topology.bottleneck)} "
        f"voxels{flat}; features {network.features[0]} to {network.features[-1]}, doubled at each pooling"
    )


def why_batch(batch: BatchChoice, fitted: Fitted, setting: Setting) -> str:
    """Say how the batch size came about."""
    planner = setting.planner
    needs = setting.gigabytes(len(fitted.patch), fitted.estimate, batch.size)
    if batch.fixed:
        return f"batch {batch.size}: given by --batch-size; about {needs:.2g} GB of the {setting.budget_gb:g} GB"
    enough = f"{batch.by_cover} make up" if batch.by_cover else "a single sample is more than"
    cover = f"{enough} {planner.dataset_cover:.0%} of the dataset's voxels, the most one batch may see"
    least = f"; at least {planner.min_batch}" if min(batch.by_memory, batch.by_cover) < planner.min_batch else ""
    return f"batch {batch.size}: memory allows {batch.by_memory}, {cover}{least}; about {needs:.2g} GB"


def why_cascade(
    full: Resolution, fitted: Fitted, low: Resolution, low_fitted: Fitted, kept: bool, planner: Planner
) -> str:
    """Say why there is a cascade or not."""
    share = fitted.voxels / full.voxels(planner)
    rule = f"the patch covers {share:.1%} of the median case's {by(full.median, 'g')} voxels"
    if low is full:
        return f"no cascade: {rule}, not less than {planner.cascade_cover:.0%}"
    times = full.voxels(planner) / low.voxels(planner)
    smaller = f"{by(low.median, 'g')} voxels at {by(low.spacing, '.3g')} mm is {times:.3g} times smaller"
    if not kept:
        return (
            f"no cascade: {rule}, less than {planner.cascade_cover:.0%}, but the lower resolution that the patch "
            f"{by(low_fitted.patch)} would cover ({smaller}) is not more than {planner.clearly_smaller:g} times smaller"
        )
    return f"cascade: {rule}, less than {planner.cascade_cover:.0%}; at the lower resolution {smaller}"


def why_low(full: Resolution, low: Resolution, planner: Planner) -> str:
    """Say how the low resolution came about."""
    return (
        f"spacing {by(low.spacing, '.3g')} mm: raised from {by(full.spacing, '.3g')} in steps of "
        f"{planner.raise_factor - 1:.0%}, the fine axes first, until the patch planned for it covers "
        f"{planner.cascade_cover:.0%} of the median case"
    )


def why_last(previous: str) -> tuple[str, ...]:
    """Say what the second network of the cascade is."""
    return (f"as 3d_fullres in everything; the segmentation of {previous}, one-hot, is a further input",)


def explain(plan: Plan) -> list[str]:
    """Return a plan's reasons as lines for a terminal: those of all configurations first, then those of each.

    Parameters
    ----------
    plan
        As planned, or as read from an edited file.
    """
    lines = ["", "all configurations", *(f"  {reason}" for reason in plan.reasons)]
    for name, configuration in plan.configurations.items():
        lines += ["", name, *(f"  {reason}" for reason in configuration.reasons)]
    return [*lines, ""]
