"""Cross-entropy and soft Dice, on classes or regions, with voxels to ignore and outputs at several resolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_rs.core.choices import LossTerms, names
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.types import LabelSet
from nnunet_rs.model.plugins import LossFunction

SMOOTH = 1e-5  # added to numerator and denominator of Dice

# Turns sums over this process's samples into sums over the whole batch.
Total: TypeAlias = Callable[[Tensor], Tensor]


def alone(sums: Tensor) -> Tensor:
    """Return the sums of the only process."""
    return sums


def soft_dice(
    probabilities: Tensor, truth: Tensor, mask: Tensor | None = None, *, batch: bool = False, total: Total = alone
) -> Tensor:
    """Return the mean soft Dice over channels (and samples).

    Parameters
    ----------
    probabilities, truth
        (b, c, *size), float32; `truth` is 0 or 1.
    mask
        (b, 1, *size), 1 where a voxel counts; None: everywhere.
    batch
        The whole batch is one sample; else each sample's Dice counts by itself.
    total
        Sums over several processes that share a batch.

    Returns
    -------
    Tensor
        Scalar, mean of (2·Σpt + 1e-5) / (Σp + Σt + 1e-5): as `MemoryEfficientSoftDiceLoss` of nnU-Net 2.8.1.
    """
    if mask is not None:
        probabilities, truth = probabilities * mask, truth * mask
    axes = tuple(range(2, probabilities.ndim))
    both = (probabilities * truth).sum(axes)  # (b, c)
    either = probabilities.sum(axes) + truth.sum(axes)
    if not batch:
        ratios = (2 * both + SMOOTH) / (either + SMOOTH)
        return _mean(ratios.sum(), ratios.numel(), total)
    both, either = _totals(total, both.sum(0), either.sum(0))
    mean: Tensor = ((2 * both + SMOOTH) / (either + SMOOTH)).mean()
    return mean


class ClassLoss(nn.Module):
    """Cross-entropy minus soft Dice of the softmax, the background left out of Dice."""

    def __init__(
        self, terms: LossTerms = "ce_dice", *, batch_dice: bool = False, ignore: int | None = None, total: Total = alone
    ) -> None:
        """Choose the terms; voxels of the class index `ignore` count in none of them."""
        super().__init__()
        self.terms, self.batch_dice, self.ignore, self.total = terms, batch_dice, ignore, total

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits (b, classes, *size) against class indices (b, *size)."""
        log_p = F.log_softmax(logits.float(), dim=1)
        mask = None if self.ignore is None else target != self.ignore  # (b, *size)
        target = target.long() if mask is None else torch.where(mask, target.long(), 0)
        loss = log_p.new_zeros(())
        if self.terms != "dice":
            entropy = F.nll_loss(log_p, target, reduction="sum" if mask is None else "none")
            loss = loss + _masked_mean(entropy, target.numel(), mask, self.total)
        if self.terms != "ce":
            truth = torch.zeros_like(log_p).scatter_(1, target.unsqueeze(1), 1)[:, 1:]
            weight = None if mask is None else mask.unsqueeze(1).to(log_p.dtype)
            loss = loss - soft_dice(log_p[:, 1:].exp(), truth, weight, batch=self.batch_dice, total=self.total)
        return loss


class RegionLoss(nn.Module):
    """Binary cross-entropy minus soft Dice of the sigmoids, one channel per region; regions may overlap."""

    membership: Tensor

    def __init__(
        self,
        regions: Sequence[Sequence[int]],
        classes: int,
        terms: LossTerms = "ce_dice",
        *,
        batch_dice: bool = False,
        ignore: int | None = None,
        total: Total = alone,
    ) -> None:
        """Take the class indices of each region; `classes` counts the background, not the ignore label."""
        super().__init__()
        self.terms, self.batch_dice, self.ignore, self.total = terms, batch_dice, ignore, total
        membership = region_table(regions, classes)
        self.register_buffer("membership", membership, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits (b, regions, *size) against class indices (b, *size)."""
        logits = logits.float()
        truth = region_truth(self.membership, target)
        mask = None if self.ignore is None else (target != self.ignore).unsqueeze(1).to(logits.dtype)
        loss = logits.new_zeros(())
        if self.terms != "dice":
            entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
            entropy = entropy.mean(1, keepdim=True)
            loss = loss + _masked_mean(entropy, target.numel(), mask, self.total)
        if self.terms != "ce":
            loss = loss - soft_dice(logits.sigmoid(), truth, mask, batch=self.batch_dice, total=self.total)
        return loss


class DeepSupervision(nn.Module):
    """A loss over the outputs of several resolutions, weighted 1, 1/2, 1/4 … and divided by their sum.

    The labels of a lower resolution are the nearest voxels. nnU-Net v2 gives the lowest output no weight; the network
    does not make that output. A device is told all of it without being waited for.
    """

    def __init__(self, loss: LossFunction) -> None:
        """Wrap `loss`, which sees one resolution at a time."""
        super().__init__()
        self.loss = loss

    def forward(self, outputs: Tensor | list[Tensor], target: Tensor) -> Tensor:
        """Return the loss of one output, or of a list of outputs with the finest first, against (b, *size)."""
        if isinstance(outputs, Tensor):
            return self.loss(outputs, target)
        weights = [0.5**i for i in range(len(outputs))]
        losses = [
            weight * self.loss(logits, shrink_labels(target, logits.shape[2:]))
            for weight, logits in zip(weights, outputs, strict=True)
        ]
        return torch.stack(losses).sum() / sum(weights)


def build_loss(
    labels: LabelSet, terms: LossTerms = "ce_dice", *, batch_dice: bool = False, total: Total = alone
) -> nn.Module:
    """Return the loss for a dataset's labels: regions where they are declared, classes otherwise.

    Raises
    ------
    NnunetError
        There are no such terms.
    """
    if terms not in names(LossTerms):
        raise NnunetError(f"loss {terms!r} is unknown: allowed are {', '.join(names(LossTerms))}")
    ignore = labels.ignore_index
    if labels.regions:
        regions = [region.classes for region in labels.regions]
        return RegionLoss(regions, labels.count, terms, batch_dice=batch_dice, ignore=ignore, total=total)
    return ClassLoss(terms, batch_dice=batch_dice, ignore=ignore, total=total)


def region_table(regions: Sequence[Sequence[int]], classes: int) -> Tensor:
    """Return (regions, classes + 1) float32: 1 where a class belongs to a region; last column: the ignore label."""
    table = torch.zeros(len(regions), classes + 1)
    for row, members in enumerate(regions):
        table[row, list(members)] = 1
    return table


def region_truth(table: Tensor, target: Tensor) -> Tensor:
    """Turn class indices (b, *size) into (b, regions, *size) of 0 and 1, by `region_table`."""
    return table[:, target.long()].movedim(0, 1)


def shrink_labels(target: Tensor, size: Sequence[int]) -> Tensor:
    """Return class indices (b, *target size) at a lower resolution (b, *size): the voxel nearest to each centre.

    The centre of output voxel i is (i + 1/2) · length / wanted in input voxels; a tie goes to the higher one. Where an
    axis is divided evenly these are every nth voxel, and all such axes take one copy together.
    """
    if target.shape[1:] == torch.Size(size):
        return target
    ratios = [(length // wanted, length % wanted) for length, wanted in zip(target.shape[1:], size, strict=True)]
    target = target[(slice(None), *(slice(None) if rest else slice(n // 2, None, n) for n, rest in ratios))]
    for axis, (length, wanted) in enumerate(zip(target.shape[1:], size, strict=True), start=1):
        if length != wanted:
            index = ((2 * torch.arange(wanted, device=target.device) + 1) * length) // (2 * wanted)
            target = target.index_select(axis, index)
    return target.contiguous()


def _masked_mean(values: Tensor, count: int, mask: Tensor | None, total: Total) -> Tensor:
    """Return the mean over the voxels that count, `count` where there is no mask; 0 where none does."""
    if mask is None:
        return _mean(values.sum(), count, total)
    return _mean((values * mask).sum(), mask.sum(), total)


def _mean(value: Tensor, count: Tensor | int, total: Total) -> Tensor:
    """Return the mean over the whole batch from this process's sum and count."""
    if total is alone and not isinstance(count, Tensor):
        return value / max(count, 1)
    # A number is made on the device: to copy one there would wait for all that the device has still to do.
    number = count.to(value.dtype) if isinstance(count, Tensor) else value.new_full((), count)
    value, number = _totals(total, value, number)
    return value / number.clamp(min=1)


def _totals(total: Total, *sums: Tensor) -> Sequence[Tensor]:
    """Return each of the sums over all processes, which are asked once."""
    return sums if total is alone else total(torch.stack(sums)).unbind()
