"""Prepared cases and augmented patches for the viewer: what the network gets to see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.types import LabelSet, Spacing3
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.data.prepared_dataset import PreparedDataset
from nnunet_rs.data.store import Store, open_store
from nnunet_rs.plan.files import read_plan
from nnunet_rs.plan.schema import Plan
from nnunet_rs.report.viewer.layers import Layer, LayerKind, ViewCase, Voxels

PATCHES = 24  # shown at most


def prepared_cases(work: Path, configuration: str = "") -> tuple[ViewCase, ...]:
    """Show prepared cases as training reads them: normalised channels, labels, and the located voxels of classes.

    Raises
    ------
    PlanError, DatasetError
        The folder has no plan, no such configuration, or no prepared case.
    """
    plan = read_plan(WorkFolder(work).plan_file)
    name = _configuration(plan, configuration)
    store = open_store(work, plan, name)
    names = store.names()
    if not names:
        raise DatasetError(f"{work}: no case is prepared for {name}; run `nnunet-rs preprocess`")
    labels = _indexed(plan.labels)
    return tuple(ViewCase(case, partial(_prepared, store, case, plan.channels), labels) for case in names)


def augmented_patches(work: Path, configuration: str = "", augmentation: str = "") -> tuple[ViewCase, ...]:
    """Show training patches of fold 0 before and after augmentation, as the network gets them; the same every time.

    Errors as `prepared_cases`; a PlanError too where there is no such augmentation.
    """
    plan = read_plan(WorkFolder(work).plan_file)
    name = _configuration(plan, configuration)
    chosen = augmentation or ("v2" if plan.recipe.startswith("v2") else "paper")
    plain, moved = (PreparedDataset(work, name, per_case=8, augmentation=which) for which in (None, chosen))
    a, b, c = (1.0, *plan.configurations[name].spacing)[-3:]
    patches = [_Patch(plain, moved, index, (a, b, c), plan.channels, chosen) for index in range(len(plain))]
    labels = _indexed(plan.labels)
    return tuple(ViewCase(patch.name, patch.layers, labels) for patch in patches[:PATCHES])


def _prepared(store: Store, case: str, channels: Sequence[str]) -> tuple[Layer, ...]:
    geometry = store.record(case).geometry
    sizes = zip(geometry.cropped_shape, geometry.working_spacing, geometry.resampled, strict=True)
    a, b, c = (n * mm / resampled for n, mm, resampled in sizes)
    add = partial(_layer, (a, b, c))

    @cache
    def read() -> tuple[NDArray[Any], NDArray[Any]]:
        image, labels, _ = store.read_patch(case, (0, 0, 0), geometry.resampled)
        return image, labels

    images = [
        add(f"image{n}", f"{name}, normalised", "image", partial(_part, read, n)) for n, name in enumerate(channels)
    ]
    labels = add("reference", "Labels", "labels", lambda: _unsigned(read()[1]))
    return (
        *images,
        labels,
        add("located", "Voxels that patches are centred on", "difference", lambda: _located(store, case)),
    )


def _part(read: Callable[[], tuple[NDArray[Any], NDArray[Any]]], channel: int) -> NDArray[Any]:
    found: NDArray[Any] = read()[0][channel]
    return found


def _located(store: Store, case: str) -> NDArray[np.uint8]:
    locations = store.class_locations(case)
    found = np.zeros(locations.shape, np.uint8)
    found.reshape(-1)[np.asarray(locations.flat)] = 1
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Patch:
    """One patch, plain and augmented: both begin with the same random numbers, and lie at the same place."""

    plain: PreparedDataset
    moved: PreparedDataset
    index: int
    spacing: Spacing3
    channels: tuple[str, ...]
    augmentation: str

    @property
    def name(self) -> str:
        names = self.plain.names
        return f"{names[self.index % len(names)]}, patch {self.index // len(names) + 1}"

    def layers(self) -> tuple[Layer, ...]:
        found = [
            *self._of(self.moved, "after", f"augmented ({self.augmentation})"),
            *self._of(self.plain, "before", "before"),
        ]
        return tuple(sorted(found, key=lambda layer: layer.kind == "labels"))

    def _of(self, dataset: PreparedDataset, key: str, told: str) -> Iterator[Layer]:
        item = cache(partial(dataset.__getitem__, self.index))

        def channel(number: int) -> NDArray[Any]:
            return _volume(item()["image"][number])

        for number, name in enumerate(self.channels):
            yield _layer(self.spacing, f"{key}{number}", f"{name}, {told}", "image", partial(channel, number))
        labels = lambda: _unsigned(_volume(item()["labels"]))  # noqa: E731
        made = _layer(self.spacing, f"labels-{key}", f"Labels, {told}", "labels", labels)
        yield replace(made, shown=dataset is self.moved)  # two at once are hard to tell apart


def _layer(spacing: Spacing3, key: str, name: str, kind: LayerKind, read: Callable[[], NDArray[Any]]) -> Layer:
    z, y, x = spacing
    affine = np.diag([x, y, z, 1.0])
    return Layer(key, name, kind, lambda: Voxels(read(), affine))


def _volume(array: NDArray[Any]) -> NDArray[Any]:
    """Give a slice as a volume of one."""
    whole: NDArray[Any] = array[(None,) * (3 - array.ndim)]
    return whole


def _unsigned(labels: NDArray[Any]) -> NDArray[Any]:
    found: NDArray[Any] = np.maximum(labels, 0)
    return found.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)


def _indexed(labels: LabelSet) -> LabelSet:
    """Return labels whose values are class indices, as prepared cases hold them."""
    return LabelSet(labels.names, tuple(range(labels.count)))


def _configuration(plan: Plan, name: str) -> str:
    if not name:
        return next(iter(reversed(plan.configurations)))
    if name not in plan.configurations:
        raise DatasetError(f"no configuration '{name}'; there are {', '.join(plan.configurations)}")
    return name
