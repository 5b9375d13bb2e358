"""Augmentation of a cascade's first segmentation, so that the second stage does not rely on it blindly.

nnU-Net's cascade augmentation: random binary morphology, and components that are lost. Here both work on class indices;
a voxel has one class at any time, which is what nnU-Net keeps up channel by channel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import cc3d
import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.types import FloatArray, IntArray, Mask
from nnunet_rs.data.previous_labels import one_hot
from nnunet_rs.data.transform import SeededTransform

Operation: TypeAlias = Callable[[Mask, float], Mask]


@dataclass(frozen=True, slots=True)
class CascadeAugmentationRule:
    """How often and how wrong; nnU-Net's constants."""

    p_morphology: float = 0.4
    radius: tuple[float, float] = (1.0, 8.0)  # of the ball, voxels
    p_removal: float = 0.2
    largest: float = 0.15  # of the patch: components from this size on are never removed
    p_class: float = 1.0  # for each class, where it happens at all: 1 in the code of 2019, ½ in v2 2.8.1


@dataclass(frozen=True, slots=True)
class CascadeAugmentation(SeededTransform):
    """Change the last channel of `seg`, the first stage's class indices."""

    rule: CascadeAugmentationRule
    classes: int  # the background included

    def apply(self, image: FloatArray, seg: IntArray, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
        """Return the image as it is, and a changed copy of `seg`."""
        morphed, removed = rng.random() < self.rule.p_morphology, rng.random() < self.rule.p_removal
        if not morphed and not removed:
            return image, seg
        changed = np.array(seg)
        if morphed:
            for label in self._drawn(rng):
                operation = OPERATIONS[rng.integers(len(OPERATIONS))]
                reshape_class(changed[-1], label, operation, rng.uniform(*self.rule.radius))
        if removed:
            for label in self._drawn(rng):
                remove_component(changed[-1], label, self.rule.largest, rng)
        return image, changed

    def _drawn(self, rng: np.random.Generator) -> list[int]:
        """Draw classes, in any order: what grows later takes voxels from what grew before."""
        order = 1 + rng.permutation(self.classes - 1)
        return [int(label) for label in order if rng.random() < self.rule.p_class]


@dataclass(frozen=True, slots=True)
class MoveSegAsOneHot(SeededTransform):
    """Take the last channel of `seg` away and append it to the image, one channel per foreground class."""

    classes: int  # the background included

    def apply(self, image: FloatArray, seg: IntArray, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:  # noqa: ARG002
        """Return an image with `classes - 1` more channels."""
        return np.concatenate([image, one_hot(seg[-1], self.classes)]), seg[:-1]


def dilated(mask: Mask, radius: float) -> Mask:
    """Return the voxels within `radius` of the mask, as `binary_dilation` by a ball of skimage 0.25 has them.

    Squared distances add up axis by axis, so that a ball takes three lines of its diameter, not its volume.
    """
    reach = int(radius)
    kind, far = ("u1", 128) if reach <= 11 else ("u2", 1 << 15)
    squared: NDArray[Any] = np.where(mask, 0, far).astype(kind)
    for axis in range(mask.ndim):
        before, now = np.moveaxis(squared, axis, 0), np.moveaxis(squared.copy(), axis, 0)
        for step in range(1, min(reach, len(now) - 1) + 1):
            further = before + squared.dtype.type(step * step)
            np.minimum(now[step:], further[:-step], out=now[step:])
            np.minimum(now[:-step], further[step:], out=now[:-step])
        squared = np.moveaxis(now, 0, axis)
    return squared <= min(radius * radius, far - 1)


def eroded(mask: Mask, radius: float) -> Mask:
    """Return the voxels farther than `radius` from any voxel outside the mask; the border erodes nothing."""
    return ~dilated(~mask, radius)


def closed(mask: Mask, radius: float) -> Mask:
    """Dilate, then erode."""
    return eroded(dilated(mask, radius), radius)


def opened(mask: Mask, radius: float) -> Mask:
    """Erode, then dilate."""
    return dilated(eroded(mask, radius), radius)


OPERATIONS: tuple[Operation, ...] = (dilated, eroded, closed, opened)


def reshape_class(labels: IntArray, label: int, operation: Operation, radius: float) -> None:
    """Apply an operation to a class, in place: what it gains it takes from others, what it loses is background."""
    box = _surroundings(labels == label, int(radius) + 1)
    if box is None:
        return
    part = labels[box]
    before = part == label
    after = operation(before, radius)
    part[before] = 0
    part[after] = label


def remove_component(labels: IntArray, label: int, largest: float, rng: np.random.Generator) -> None:
    """Set one of a class's components smaller than a share of the patch to background, in place, if there is one."""
    parts = cc3d.connected_components(labels == label, connectivity=26 if labels.ndim == 3 else 8)
    sizes = np.bincount(parts.ravel())[1:]
    small = 1 + np.flatnonzero(sizes < largest * labels.size)
    if len(small):
        labels[parts == rng.choice(small)] = 0


def _surroundings(mask: Mask, margin: int) -> tuple[slice, ...] | None:
    """Return the mask's bounding box, grown by a margin within the array; None for an empty mask."""
    box = []
    for axis in range(mask.ndim):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not len(found):
            return None
        box.append(slice(max(0, int(found[0]) - margin), int(found[-1]) + 1 + margin))
    return tuple(box)
