"""Planning: from a fingerprint to a plan, by the rules of a planner. Arithmetic only."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace

from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.text import by
from nnunet_rs.core.types import Dataset, LabelSet, Shape3, Spacing3
from nnunet_rs.core.workspace import DATASET_JSON
from nnunet_rs.plan import explain
from nnunet_rs.plan.normalization import SCHEMES, Normalization, scheme_of_channel
from nnunet_rs.plan.patch import BatchChoice, Fitted, Setting, choose_batch, fit_patch, network_memory
from nnunet_rs.plan.planners import Planner, find_planner
from nnunet_rs.plan.resolution import Resolution
from nnunet_rs.plan.schema import Configuration, Fingerprint, Plan
from nnunet_rs.plan.spacing import (
    Floats,
    coarsest_axis,
    front_axis,
    median_shape,
    raised,
    reoriented,
    shape_at,
    target_spacing,
    transposed,
)


@dataclass(frozen=True, slots=True)
class PlanOverrides:
    """What the user decides instead of the planner; None leaves the decision to it."""

    vram_gb: float | None = None
    spacing: Spacing3 | None = None  # target, mm, axes as in the files (z, y, x)
    patch_size: tuple[int, ...] | None = None  # working axes; three entries for the 3-D configurations, two for 2d
    batch_size: int | None = None  # of every configuration
    features: int | None = None  # of the first resolution
    reorient: bool = False  # turn images to right, anterior, superior first; `spacing` is then along S, A, R


def make_plan(
    dataset: Dataset,
    fingerprint: Fingerprint,
    planner: Planner | str = "paper",
    overrides: PlanOverrides | None = None,
    *,
    training_cases: int | None = None,
    recipe: Planner | str | None = None,
) -> Plan:
    """Decide everything about a dataset, and say why.

    Parameters
    ----------
    dataset
        Its name, channels and labels are used.
    fingerprint
        Of the training cases; axes as in the files.
    planner
        A table of constants or its name; `recipe` is its earlier name.
    overrides
        What the user decides.
    training_cases
        Number of training cases where it is not that of the fingerprint's cases.

    Returns
    -------
    Plan
        With ``2d``, where the data is not flat ``3d_fullres``, and where the patch covers too little of the median
        case ``3d_lowres`` and ``3d_cascade_fullres``.

    Raises
    ------
    PlanError
        The fingerprint or an override breaks a rule, or nothing fits the memory.
    """
    table = _table(planner, recipe)
    overrides = overrides or PlanOverrides()
    fingerprint = _checked(dataset, fingerprint, overrides)
    setting = _setting(dataset, table, overrides, training_cases or len(fingerprint.cases))
    target = overrides.spacing or target_spacing(fingerprint, table.coarse_percentile, table.anisotropy)
    shape = median_shape(fingerprint, target, table.round_cases)
    order = _working_order(target, shape, table)
    full = _resolution(transposed(target, order), transposed(shape, order), table)
    normalization = _normalization(dataset.channels, fingerprint, table)
    return Plan(
        dataset=dataset.name,
        recipe=table.name,
        transpose=order,
        channels=dataset.channels,
        labels=dataset.labels,
        normalization=normalization,
        configurations=_configurations(full, setting),
        reasons=(
            explain.why_planner(setting),
            explain.why_spacing(fingerprint, target, table, overrides.spacing is not None),
            explain.why_order(order, target, shape) + (explain.REORIENTED if overrides.reorient else ""),
            *explain.why_normalization(dataset.channels, normalization, fingerprint, table),
        ),
        reorient=overrides.reorient,
    )


def _table(planner: Planner | str, recipe: Planner | str | None) -> Planner:
    if recipe is not None:
        warnings.warn("make_plan(recipe=...) is now make_plan(planner=...)", DeprecationWarning, stacklevel=3)
        planner = recipe
    return find_planner(planner) if isinstance(planner, str) else planner


def with_memory(plan: Plan) -> Plan:
    """Fill in the memory that networks take, by the estimate of the plan's planner: of plans that others made."""
    planner, channels = find_planner(plan.recipe), len(plan.channels)
    budget, features = planner.reference_gb, planner.base_features
    setting = Setting(planner, budget, features, channels, declared_labels(plan.labels), cases=0)
    filled = {}
    for name, configuration in plan.configurations.items():
        estimate = network_memory(configuration, setting)
        gigabytes = round(setting.gigabytes(configuration.dims, estimate, configuration.batch_size), 3)
        filled[name] = replace(configuration, memory_estimate=estimate, memory_gb=gigabytes)
    return replace(plan, configurations=filled)


def declared_labels(labels: LabelSet) -> int:
    """Count the labels that dataset.json declares: background, classes or regions, and the ignore label."""
    declared = 1 + len(labels.regions) if labels.regions else labels.count
    return declared + (labels.ignore is not None)


def _setting(dataset: Dataset, planner: Planner, overrides: PlanOverrides, cases: int) -> Setting:
    patch = overrides.patch_size or ()
    return Setting(
        planner=planner,
        budget_gb=overrides.vram_gb or planner.reference_gb,
        base_features=overrides.features or planner.base_features,
        channels=len(dataset.channels),
        classes=declared_labels(dataset.labels),
        cases=cases,
        patch_2d=patch if len(patch) == 2 else None,
        patch_3d=patch if len(patch) == 3 else None,
        batch=overrides.batch_size,
    )


def _checked(dataset: Dataset, fingerprint: Fingerprint, overrides: PlanOverrides) -> Fingerprint:
    """Return the fingerprint of the images as they are seen; raise a PlanError where nothing can be planned."""
    if not fingerprint.cases:
        raise PlanError("the fingerprint holds no case: planning needs at least one")
    for case in fingerprint.cases:
        if min(case.spacing) <= 0 or min(case.shape_after_crop) < 1:
            raise PlanError(
                f"the fingerprint's case {case.name} has spacing {list(case.spacing)} and shape after crop "
                f"{list(case.shape_after_crop)}: spacing must be greater than 0 and each axis have a voxel"
            )
    if len(fingerprint.channels) != len(dataset.channels):
        raise PlanError(
            f"the fingerprint has {len(fingerprint.channels)} channels, {DATASET_JSON} {len(dataset.channels)}: "
            f"they must be of the same dataset; take the fingerprint again"
        )
    _check_overrides(overrides)
    return reoriented(fingerprint) if overrides.reorient else fingerprint


def _check_overrides(overrides: PlanOverrides) -> None:
    for name, value in (
        ("vram", overrides.vram_gb),
        ("batch-size", overrides.batch_size),
        ("features", overrides.features),
    ):
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise PlanError(f"--{name} is {value:g}: must be greater than 0")
    if overrides.spacing is not None and not all(0 < s < math.inf for s in overrides.spacing):
        raise PlanError(f"--spacing is {list(overrides.spacing)}: must be three numbers greater than 0, in mm")
    patch = overrides.patch_size
    if patch is not None and (len(patch) not in (2, 3) or min(patch) < 1):
        raise PlanError(f"--patch-size is {list(patch)}: must be two (2d) or three (3-D) sizes of at least 1 voxel")


def _working_order(target: Spacing3, shape: Floats, planner: Planner) -> Shape3:
    """Bring the coarsest axis to the front; of flat data the shortest, so that 2-D slices are the data's slices."""
    order = front_axis(coarsest_axis(target))
    if planner.two_d_only(transposed(shape, order)) and round(shape[order[0]]) >= planner.shortest_edge:
        return front_axis(shape.index(min(shape)))
    return order


def _resolution(spacing: Floats, exact: Floats, planner: Planner) -> Resolution:
    if min(round(size) for size in exact) < 1:
        raise PlanError(
            f"--spacing leaves a median shape of {by(exact, '.2g')} voxels: must be at least 1 along each "
            f"axis; take a smaller spacing"
        )
    return Resolution(spacing, exact, _rounded(exact) if planner.round_median else exact)


def _rounded(shape: Floats) -> Floats:
    return tuple(max(1, round(size)) for size in shape)


def _configurations(full: Resolution, setting: Setting) -> dict[str, Configuration]:
    """Plan 2d, and in three dimensions full resolution and the cascade."""
    planner = setting.planner
    flat = planner.two_d_only(full.median)
    plane = Resolution(full.spacing[1:], full.exact[1:], full.median[1:])
    slices = fit_patch(plane.spacing, plane.median, setting)
    batch = choose_batch(slices, full.voxels(planner) * setting.cases, setting)
    two = _configuration("2d", plane, slices, batch, setting)
    two = replace(
        two, batch_dice=True, reasons=(*two.reasons, *((explain.why_flat(full.median, planner),) if flat else ()))
    )
    return {"2d": two} if flat else {"2d": two, **_three_dimensional(full, setting)}


def _three_dimensional(full: Resolution, setting: Setting) -> dict[str, Configuration]:
    planner = setting.planner
    fitted = fit_patch(full.spacing, full.median, setting)
    low, low_fitted = _low_resolution(full, fitted, setting)
    cascade = full.voxels(planner) > planner.clearly_smaller * low.voxels(planner)
    why = explain.why_cascade(full, fitted, low, low_fitted, cascade, planner)
    batch = choose_batch(fitted, full.voxels(planner) * setting.cases, setting)
    three = _configuration("3d_fullres", full, fitted, batch, setting)
    three = replace(three, batch_dice=cascade, reasons=(*three.reasons, why))
    if not cascade:
        return {"3d_fullres": three}
    low_batch = choose_batch(low_fitted, low.voxels(planner) * setting.cases, setting)
    lower = _configuration("3d_lowres", low, low_fitted, low_batch, setting)
    last = replace(three, name="3d_cascade_fullres", previous=lower.name, reasons=explain.why_last(lower.name))
    return {
        "3d_lowres": replace(lower, reasons=(explain.why_low(full, low, planner), *lower.reasons)),
        "3d_fullres": three,
        "3d_cascade_fullres": last,
    }


def _low_resolution(full: Resolution, fitted: Fitted, setting: Setting) -> tuple[Resolution, Fitted]:
    """Raise the spacing step by step until the patch planned for it covers enough of the median case."""
    planner, resolution = setting.planner, full
    while fitted.voxels / resolution.voxels(planner) < planner.cascade_cover:
        spacing = raised(resolution.spacing, planner.raise_factor)
        exact = shape_at(spacing, full.spacing, full.exact)
        resolution = Resolution(spacing, exact, _rounded(exact))
        fitted = fit_patch(resolution.spacing, resolution.median, setting)
    return resolution, fitted


def _configuration(
    name: str, resolution: Resolution, fitted: Fitted, batch: BatchChoice, setting: Setting
) -> Configuration:
    network, patch = fitted.network, fitted.patch
    return Configuration(
        name=name,
        spacing=resolution.spacing,
        patch_size=patch,
        batch_size=batch.size,
        median_shape=resolution.median,
        strides=network.topology.strides,
        kernels=network.topology.kernels,
        features=network.features,
        blocks_encoder=network.blocks_encoder,
        blocks_decoder=network.blocks_decoder,
        residual=network.residual,
        batch_dice=False,
        inplane_augmentation=len(patch) == 3 and max(patch) / patch[0] > setting.planner.anisotropy,
        memory_estimate=fitted.estimate,
        memory_gb=round(setting.gigabytes(len(patch), fitted.estimate, batch.size), 3),
        reasons=(
            explain.why_patch(fitted, resolution.median, setting),
            explain.why_topology(fitted),
            explain.why_batch(batch, fitted, setting),
        ),
    )


def _normalization(channels: tuple[str, ...], fingerprint: Fingerprint, planner: Planner) -> tuple[Normalization, ...]:
    """Choose each channel's scheme by its name, and the mask by how much the crop took off."""
    cropped = fingerprint.relative_size_after_crop < planner.mask_below

    def choose(channel: int, name: str) -> Normalization:
        scheme = scheme_of_channel(name)
        named = any(part in name for part in planner.unmasked_names)
        masked = cropped and SCHEMES[scheme].uses_mask and not named
        return Normalization(scheme, masked, fingerprint.channels[channel])

    return tuple(choose(channel, name) for channel, name in enumerate(channels))
