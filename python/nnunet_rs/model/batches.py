"""Where the batches of a training come from: prepared cases that fit the plan, patches of them, augmented."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.resources import processors
from nnunet_rs.core.types import Shape
from nnunet_rs.core.workspace import PLAN_JSON
from nnunet_rs.data.augment import Augmentation, build_augmentation, with_first_stage_channels, with_mirror_axes
from nnunet_rs.data.loader import Loader, LoaderOptions
from nnunet_rs.data.mirroring import axes_named, declares_mirror_axes, image_axes, mirrored_axes
from nnunet_rs.data.preprocess import working_axes
from nnunet_rs.data.resampling import resampled_shape
from nnunet_rs.data.sampling import Sampling
from nnunet_rs.data.store import Store, normalization_key, open_store
from nnunet_rs.model.device import Compute, batch_memory
from nnunet_rs.model.plugin_checks import check_augmentation
from nnunet_rs.model.setup import Setup
from nnunet_rs.plan.schema import Configuration

COARSE = 2.0  # times the finest spacing: from there on `plan.topology` does not pool an axis with the others
MOST_THREADS = 8  # that make batches: four keep a fast GPU supplied, and only two batches are made ahead


def open_loaders(setup: Setup, compute: Compute, progress: Progress) -> Iterator[Loader]:
    """Yield where training, validation and small batches come from, the last where the training begins with such.

    Patches of validation are not augmented.

    Raises
    ------
    DatasetError
        A case is not prepared, or was prepared for another plan.
    PluginError
        The user's own augmentation is none.
    """
    plan, configuration, options = setup.plan, setup.configuration, setup.options
    store = open_store(setup.work, plan, configuration.name, cache=options.cache)
    for name in sorted({*setup.cases.train, *setup.cases.validation}):
        _check_prepared(store, name, setup)
    _report_absent(store, setup, progress)
    previous = None if setup.first is None else setup.first.store
    config = setup.config
    sampling = Sampling(config.oversample_foreground, config.class_sampling)
    loading = LoaderOptions(
        config.seed,
        threads=options.threads or min(MOST_THREADS, max(1, processors() // setup.group.size)),
        share=(setup.group.rank, setup.group.size),
        sampling=sampling,
        empty=partial(batch_memory, compute.device),
    )
    augmentation = _augmentation(setup, configuration)
    _report_mirroring(augmentation, setup, progress)
    more: dict[str, Any] = {"previous": previous, "partial": setup.partial}
    weighted = replace(sampling, cases=config.case_sampling)
    trained = replace(loading, sampling=weighted, before=config.iterations_before)
    yield Loader(store, setup.cases.train, configuration, plan.labels, augmentation, trained, **more)
    still = build_augmentation("none", configuration, plan.normalization, plan.labels.count)
    held_out = setup.cases.validation or setup.cases.train  # which no patch is drawn from if none is held out
    yield Loader(store, held_out, configuration, plan.labels, still, replace(loading, purpose="validation"), **more)
    smaller = replace(configuration, patch_size=small_patch(configuration))
    _report_small_patches(setup, smaller.patch_size, progress)
    if setup.config.small_patches and smaller.patch_size != configuration.patch_size:
        augmentation = _augmentation(setup, smaller)
        yield Loader(store, setup.cases.train, smaller, plan.labels, augmentation, trained, **more)


def small_patch(configuration: Configuration) -> Shape:
    """Return a patch of half the length, or little more where the network's strides ask for it.

    An axis across thick slices is kept whole: few of them belong together. So is the patch where the lowest feature map
    would be a single voxel, which has no deviation to be normalised by.
    """
    patch = configuration.patch_size
    steps = [prod(stride[axis] for stride in configuration.strides) for axis in range(len(patch))]
    halved = [-(-side // (2 * step)) * step for side, step in zip(patch, steps, strict=True)]
    spacing = configuration.spacing[-len(patch) :]
    thick = [length >= COARSE * min(spacing) for length in spacing]
    smaller = tuple(s if coarse else half for s, half, coarse in zip(patch, halved, thick, strict=True))
    return smaller if prod(smaller) > prod(steps) else patch


def small_part(configuration: Configuration) -> float:
    """Return which part of a planned patch's voxels a small one has."""
    return prod(small_patch(configuration)) / prod(configuration.patch_size)


def _report_small_patches(setup: Setup, patch: Shape, progress: Progress) -> None:
    """Say which patches the first part of a training has, where it is to have smaller ones."""
    planned, part = setup.configuration.patch_size, setup.config.small_patches
    if part and patch == planned:
        progress.say(f"all patches are {_sides(planned)}: half of that is too small for this network")
    elif part:
        most = setup.config.small_iterations
        first = f"the first {part:g} of the training" + ("" if most is None else f" ({most} iterations at most)")
        line = f"patches are {_sides(patch)} in {first}, then {_sides(planned)}"
        counted = f"; a batch of the small ones is counted as {small_part(setup.configuration):.2g} of a planned one"
        progress.say(line + (counted if setup.config.time_budget is None else ""))


def _sides(patch: Shape) -> str:
    return " x ".join(map(str, patch))


def _augmentation(setup: Setup, configuration: Configuration) -> Augmentation:
    plan, own = setup.plan, setup.plugin("augmentation")
    if own is None:
        name, classes = setup.config.augmentation, plan.labels.count
        return build_augmentation(name, configuration, plan.normalization, classes, setup.mirror_axes)
    augmentation = check_augmentation(own, own(configuration, plan.normalization))
    if setup.mirror_axes is not None:
        augmentation = with_mirror_axes(augmentation, setup.mirror_axes)
    return augmentation if setup.first is None else with_first_stage_channels(augmentation, plan.labels.count)


def _report_mirroring(augmentation: Augmentation, setup: Setup, progress: Progress) -> None:
    """Say along which axes of the image samples are mirrored, for prediction will do the same."""
    axes = image_axes(mirrored_axes(augmentation), setup.configuration.dims, setup.plan.transpose)
    line = f"mirrored in training, and so in prediction: {axes_named(axes)}"
    if not declares_mirror_axes(augmentation) and setup.plugin("augmentation") is not None:
        line += f"; should {setup.config.augmentation} mirror, let it say so (Augmentation.mirror_axes)"
    across = sorted(set(setup.config.mirror_axes or ()) - set(axes))
    if across:
        line += f"; {axes_named(across)} lies across the slices of {setup.configuration.name}"
    progress.say(line)


def _check_prepared(store: Store, case: str, setup: Setup) -> None:
    """Check that a case was prepared as the plan says: plan.json may have been edited, or made anew, since."""
    record = store.record(case)
    if not any(key.endswith(normalization_key(setup.plan)) for key in record.keys):
        raise DatasetError(
            f"{store.folder}: case {case} was normalised by other rules than those of {PLAN_JSON}; run preprocess again"
        )
    geometry = record.geometry
    transpose, _ = working_axes(geometry.header, setup.plan)
    planned = resampled_shape(geometry.cropped_shape, geometry.working_spacing, setup.configuration)
    if geometry.transpose != transpose or geometry.resampled != planned:
        raise DatasetError(
            f"{store.folder}: case {case} was prepared for another plan (shape {list(geometry.resampled)}, axes "
            f"{list(geometry.transpose)}; the plan makes it {list(planned)}, {list(transpose)}); run preprocess again"
        )


def _report_absent(store: Store, setup: Setup, progress: Progress) -> None:
    """Warn of classes that no case of the fold trains on."""
    trained = {c for case in setup.cases.train for c in store.record(case).voxels}
    absent = [name for c, name in enumerate(setup.plan.labels.names[1:], start=1) if c not in trained]
    if absent:
        progress.say(
            f"warning: fold {setup.fold} trains on no case with {', '.join(absent)}: nothing can be learnt for that"
        )
