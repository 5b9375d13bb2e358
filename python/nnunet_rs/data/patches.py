"""Choose where training patches lie, by random numbers alone: nothing here reads voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_rs.core.types import LabelSet, Shape3
from nnunet_rs.data.class_locations import ClassLocations

FOREGROUND_SHARE = 0.33  # of the samples of a batch that are centred on foreground
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class PatchRule:
    """What decides where a patch lies, besides the case and random numbers."""

    patch: Shape3  # size in working axes; (1, y, x) for 2-D
    foreground_classes: tuple[tuple[int, ...], ...]  # to be oversampled: a class each, or the classes of a region
    annotated: tuple[int, ...] = ()  # with an ignore label: the classes that any patch must be centred on

    @classmethod
    def of(cls, patch: Sequence[int], labels: LabelSet) -> PatchRule:
        """Return the rule for a configuration's patch size (two or three axes) and a dataset's labels."""
        size = (1, *patch) if len(patch) == 2 else tuple(patch)
        foreground_classes = tuple(r.classes for r in labels.regions) or tuple((c,) for c in range(1, labels.count))
        annotated = tuple(range(labels.count)) if labels.ignore is not None else ()
        return cls((size[0], size[1], size[2]), foreground_classes, annotated)


def oversamples_foreground(
    sample: int, batch_size: int, index: int, share: float | None = None, epoch: int = 0
) -> bool:
    """Whether a sample of the `index`-th batch of an epoch is centred on foreground.

    Without a share the last third of every batch is, and at least one of its samples; of batches of one, every second.
    With one, so many of a batch's last samples that the share is met over the batches, and over the epochs.
    """
    if share is None:
        return index % 2 == 1 if batch_size == 1 else sample >= batch_size - math.ceil(FOREGROUND_SHARE * batch_size)
    begun = epoch * _GOLDEN % 1  # spread evenly: epochs of few batches would else all be rounded down
    before, after = (math.floor(begun + share * batch_size * batches) for batches in (index, index + 1))
    return sample >= batch_size - (after - before)


def choose_start(
    rule: PatchRule,
    class_locations: ClassLocations,
    foreground: bool,
    rng: np.random.Generator,
    centre: tuple[int, ...] | None = None,
) -> Shape3:
    """Draw where a patch starts in a case.

    Parameters
    ----------
    rule
        The patch size and what to centre on.
    class_locations
        The case's shape and its sampled class voxels.
    foreground
        Centre on a voxel of a random class (or region) among those that occur; where none does, anywhere.
    rng
        The sample's own generator.
    centre
        Classes, one of which occurs, to centre on instead.

    Returns
    -------
    Shape3
        First voxel of the patch, working axes. Negative, or with the patch's end beyond the case, where the patch
        hangs over the border: a case smaller than the patch is centred in it, and a patch centred on foreground may
        hang over the far end, as nnU-Net's `get_bbox` lets it.
    """
    bounds = [_bounds(size, length) for size, length in zip(rule.patch, class_locations.shape, strict=True)]
    target = _target(rule, class_locations, foreground, rng) if centre is None else centre
    if target is None:
        z, y, x = (int(rng.integers(low, high + 1)) for low, high in bounds)
        return z, y, x
    voxel = class_locations.pick(target, rng)
    z, y, x = (max(low, v - size // 2) for (low, _), v, size in zip(bounds, voxel, rule.patch, strict=True))
    return z, y, x


def _bounds(size: int, length: int) -> tuple[int, int]:
    """Return an axis' first and last start: inside the case, or centred on it (rounded either way) if it is shorter."""
    lacking = max(size - length, 0)
    return -(lacking // 2) - lacking % 2, length - size + lacking // 2 + lacking % 2


def _target(
    rule: PatchRule, class_locations: ClassLocations, foreground: bool, rng: np.random.Generator
) -> tuple[int, ...] | None:
    """Return the classes to centre on, None for anywhere."""
    if foreground:
        present = [target for target in rule.foreground_classes if any(c in class_locations.spans for c in target)]
        if present:
            return present[rng.integers(len(present))]
    if any(c in class_locations.spans for c in rule.annotated):
        return rule.annotated
    return None
