"""Dice on validation patches while training: true and false voxels counted over all patches, then one ratio a class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from nnunet_rs.core.partial_labels import NONE, PartialLabels, step
from nnunet_rs.core.types import LabelSet
from nnunet_rs.model.losses import Total, region_table, region_truth, split_target


@dataclass(frozen=True, slots=True)
class Counts:
    """Voxels per foreground class, or per region, summed over patches; int64 on the network's device."""

    true_positive: Tensor  # (outputs,)
    false_positive: Tensor
    false_negative: Tensor

    def __add__(self, other: Counts) -> Counts:
        """Return the counts of both."""
        return Counts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
        )

    def over(self, total: Total) -> Counts:
        """Return the counts of all processes."""
        sums = total(torch.stack((self.true_positive, self.false_positive, self.false_negative)))
        return Counts(sums[0], sums[1], sums[2])

    def dice(self) -> tuple[float, ...]:
        """Return 2·TP / (2·TP + FP + FN) per class; NaN where a class is neither predicted nor there."""
        # On the processor: Apple's GPUs know no float64.
        sums = torch.stack((2 * self.true_positive, self.false_positive, self.false_negative)).cpu().double()
        return tuple((sums[0] / sums.sum(0)).tolist())


def count_voxels(logits: Tensor, target: Tensor, labels: LabelSet, partial: PartialLabels = NONE) -> Counts:
    """Compare a prediction with its labels.

    Parameters
    ----------
    logits
        (b, outputs, *size): the greatest wins among classes; a region is predicted where its logit is at least 0.
    target
        Class indices (b, *size); the ignore label's voxels are not counted.
    labels
        What the outputs stand for.
    partial
        Samples that are annotated in part: a class counts where they are annotated for it.

    Returns
    -------
    Counts
        As nnU-Net's "pseudo Dice" collects them: foreground classes only, or all regions.
    """
    known: Tensor | None = None
    if partial:
        annotated = torch.tensor(partial.table(labels), device=logits.device)
        target, known = split_target(target, step(labels), annotated)
    if labels.regions:
        table = _region_table(tuple(region.classes for region in labels.regions), labels.count, logits.device)
        truth, predicted = region_truth(table, target) > 0, logits >= 0  # (b, outputs, *size)
    else:
        classes = torch.arange(1, labels.count, device=logits.device).view(1, -1, *(1,) * (logits.ndim - 2))
        truth, predicted = target.unsqueeze(1) == classes, logits.argmax(1, keepdim=True) == classes
    if labels.ignore_index is not None:
        counted = (target != labels.ignore_index).unsqueeze(1)
        truth, predicted = truth & counted, predicted & counted
    if known is not None:
        counted = known.bool().view(*known.shape, *(1,) * (logits.ndim - 2))
        truth, predicted = truth & counted, predicted & counted
    axes = (0, *range(2, logits.ndim))
    both = (truth & predicted).sum(axes)
    return Counts(both, predicted.sum(axes) - both, truth.sum(axes) - both)


@lru_cache(maxsize=8)
def _region_table(regions: tuple[tuple[int, ...], ...], classes: int, device: torch.device) -> Tensor:
    """Return the regions' table on a device, copied there once: a copy waits for all that the device has to do."""
    return region_table(regions, classes).to(device)


def mean_dice(values: Sequence[float]) -> float:
    """Return the mean over the classes that have a Dice; NaN where none has."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
