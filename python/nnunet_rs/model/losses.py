"""Cross-entropy and soft Dice, on classes or regions, with voxels to ignore and outputs at several resolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_rs.core.choices import LossTerms, names
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.partial_labels import PartialLabels, step
from nnunet_rs.core.types import LabelSet
from nnunet_rs.model.plugins import LossFunction

SMOOTH = 1e-5  # added to numerator and denominator of Dice
_LEAST = 1e-12  # sum of weights that is divided by

# Turns sums over this process's samples into sums over the whole batch.
Total: TypeAlias = Callable[[Tensor], Tensor]
# What a set of labels differs from the next by, and which targets each is annotated for: `core.partial_labels`.
Annotated: TypeAlias = tuple[int, list[list[float]]]


def alone(sums: Tensor) -> Tensor:
    """Return the sums of the only process."""
    return sums


def soft_dice(
    probabilities: Tensor,
    truth: Tensor,
    mask: Tensor | None = None,
    *,
    batch: bool = False,
    total: Total = alone,
    weights: Tensor | None = None,
    known: Tensor | None = None,
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
    weights
        (c,), of the channels in the mean; None: all alike.
    known
        (b, c), 1 where a sample is annotated for a channel, 0: its Dice counts nowhere; None: all are.

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
    if weights is not None or known is not None:
        return _weighted_dice(both, either, batch, total, weights, known)
    if not batch:
        ratios = (2 * both + SMOOTH) / (either + SMOOTH)
        return _mean(ratios.sum(), ratios.numel(), total)
    both, either = _totals(total, both.sum(0), either.sum(0))
    mean: Tensor = ((2 * both + SMOOTH) / (either + SMOOTH)).mean()
    return mean


def _weighted_dice(
    both: Tensor, either: Tensor, batch: bool, total: Total, weights: Tensor | None, known: Tensor | None
) -> Tensor:
    """Return the mean of Dice by sums (b, c), of the channels' weights, where samples are annotated for them."""
    known = torch.ones_like(both) if known is None else known
    weights = torch.ones_like(both[0]) if weights is None else weights
    if not batch:
        share = known * weights
        ratios = (2 * both + SMOOTH) / (either + SMOOTH)
        return _mean((share * ratios).sum(), share.sum(), total, _LEAST)
    both, either, samples = total(torch.stack([(sums * known).sum(0) for sums in (both, either, known)]))
    weights = weights * (samples > 0)
    ratios = (2 * both + SMOOTH) / (either + SMOOTH)
    return (weights * ratios).sum() / weights.sum().clamp(min=_LEAST)


class ClassLoss(nn.Module):
    """Cross-entropy minus soft Dice of the softmax, the background left out of Dice.

    Of a sample that is annotated for some classes only, background means "background, or a class that is not
    annotated": their probabilities are added there, and Dice counts the annotated classes (the marginal loss of
    Shi et al., "Marginal loss and exclusion loss for partially supervised multi-organ segmentation", Medical Image
    Analysis 70, 2021; the same as the target adaptive loss of Fang and Yan, IEEE TMI 39, 2020).
    """

    weights: Tensor | None
    annotated: Tensor | None

    def __init__(
        self,
        terms: LossTerms = "ce_dice",
        *,
        batch_dice: bool = False,
        ignore: int | None = None,
        total: Total = alone,
        weights: Sequence[float] | None = None,
        annotated: Annotated | None = None,
    ) -> None:
        """Choose the terms; voxels of the class index `ignore` count in none of them.

        `weights` are those of the classes, the background first: a voxel counts in the cross-entropy by its class's, as
        in `torch.nn.CrossEntropyLoss`, and a class in the mean of Dice. `annotated`: see `split_target`.
        """
        super().__init__()
        self.terms, self.batch_dice, self.ignore, self.total = terms, batch_dice, ignore, total
        self.step = 0 if annotated is None else annotated[0]
        self.register_buffer("weights", None if weights is None else torch.tensor(weights), persistent=False)
        self.register_buffer("annotated", None if annotated is None else torch.tensor(annotated[1]), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits (b, classes, *size) against class indices (b, *size)."""
        log_p = F.log_softmax(logits.float(), dim=1)
        known: Tensor | None = None
        if self.annotated is not None:
            target, known = split_target(target, self.step, self.annotated)
            log_p = _with_background(log_p, known)
        mask = None if self.ignore is None else target != self.ignore  # (b, *size)
        target = target.long() if mask is None else torch.where(mask, target.long(), 0)
        loss = log_p.new_zeros(())
        if self.terms != "dice":
            loss = loss + self._entropy(log_p, target, mask)
        if self.terms != "ce":
            truth = torch.zeros_like(log_p).scatter_(1, target.unsqueeze(1), 1)[:, 1:]
            weight = None if mask is None else mask.unsqueeze(1).to(log_p.dtype)
            loss = loss - soft_dice(
                log_p[:, 1:].exp(),
                truth,
                weight,
                batch=self.batch_dice,
                total=self.total,
                weights=None if self.weights is None else self.weights[1:],
                known=known,
            )
        return loss

    def _entropy(self, log_p: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        """Return the mean cross-entropy of the voxels that count, by their classes' weights."""
        if self.weights is None:
            entropy = F.nll_loss(log_p, target, reduction="sum" if mask is None else "none")
            return _masked_mean(entropy, target.numel(), mask, self.total)
        share = self.weights[target]
        share = share if mask is None else share * mask
        entropy = F.nll_loss(log_p, target, reduction="none")
        return _mean((entropy * share).sum(), share.sum(), self.total, _LEAST)


class RegionLoss(nn.Module):
    """Binary cross-entropy minus soft Dice of the sigmoids, one channel per region; regions may overlap.

    Regions that a sample is not annotated for count in neither.
    """

    membership: Tensor
    weights: Tensor | None
    annotated: Tensor | None

    def __init__(
        self,
        regions: Sequence[Sequence[int]],
        classes: int,
        terms: LossTerms = "ce_dice",
        *,
        batch_dice: bool = False,
        ignore: int | None = None,
        total: Total = alone,
        weights: Sequence[float] | None = None,
        annotated: Annotated | None = None,
    ) -> None:
        """Take the class indices of each region; `classes` counts the background, not the ignore label.

        `weights` are those of the regions, in both terms. `annotated`: see `split_target`.
        """
        super().__init__()
        self.step = 0 if annotated is None else annotated[0]
        self.register_buffer("weights", None if weights is None else torch.tensor(weights), persistent=False)
        self.register_buffer("annotated", None if annotated is None else torch.tensor(annotated[1]), persistent=False)
        self.terms, self.batch_dice, self.ignore, self.total = terms, batch_dice, ignore, total
        membership = region_table(regions, classes)
        self.register_buffer("membership", membership, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits (b, regions, *size) against class indices (b, *size)."""
        logits = logits.float()
        known: Tensor | None = None
        if self.annotated is not None:
            target, known = split_target(target, self.step, self.annotated)
        truth = region_truth(self.membership, target)
        mask = None if self.ignore is None else (target != self.ignore).unsqueeze(1).to(logits.dtype)
        loss = logits.new_zeros(())
        if self.terms != "dice":
            entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
            loss = loss + self._entropy(entropy, mask, known)
        if self.terms != "ce":
            dice = soft_dice(
                logits.sigmoid(),
                truth,
                mask,
                batch=self.batch_dice,
                total=self.total,
                weights=self.weights,
                known=known,
            )
            loss = loss - dice
        return loss

    def _entropy(self, entropy: Tensor, mask: Tensor | None, known: Tensor | None) -> Tensor:
        """Return the mean of (b, regions, *size) over the voxels that count and the regions, by their weights."""
        if self.weights is None and known is None:
            entropy = entropy.mean(1, keepdim=True)
            return _masked_mean(entropy, entropy.numel(), mask, self.total)
        share = entropy.new_ones(entropy.shape[:2])  # (b, regions)
        share = share if self.weights is None else share * self.weights
        share = share if known is None else share * known
        share = share.view(*share.shape, *(1,) * (entropy.ndim - 2)).expand_as(entropy)
        share = share if mask is None else share * mask
        return _mean((entropy * share).sum(), share.sum(), self.total, _LEAST)


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
    labels: LabelSet,
    terms: LossTerms = "ce_dice",
    *,
    batch_dice: bool = False,
    total: Total = alone,
    weights: Mapping[str, float] | None = None,
    partial: PartialLabels | None = None,
) -> nn.Module:
    """Return the loss for a dataset's labels: regions where they are declared, classes otherwise.

    Parameters
    ----------
    labels
        Of the dataset.
    terms
        Of the loss.
    batch_dice, total
        As in `soft_dice`.
    weights
        Of classes, the background among them, or regions, by name; those that are not named have 1.
    partial
        Cases that are annotated in part.

    Raises
    ------
    NnunetError
        There are no such terms.
    """
    if terms not in names(LossTerms):
        raise NnunetError(f"loss {terms!r} is unknown: allowed are {', '.join(names(LossTerms))}")
    weighted = None if weights is None else [weights.get(name, 1.0) for name in labels.output_names]
    annotated = (step(labels), partial.table(labels)) if partial else None
    more: dict[str, Any] = {"batch_dice": batch_dice, "total": total, "weights": weighted, "annotated": annotated}
    if labels.regions:
        regions = [region.classes for region in labels.regions]
        return RegionLoss(regions, labels.count, terms, ignore=labels.ignore_index, **more)
    return ClassLoss(terms, ignore=labels.ignore_index, **more)


def region_table(regions: Sequence[Sequence[int]], classes: int) -> Tensor:
    """Return (regions, classes + 1) float32: 1 where a class belongs to a region; last column: the ignore label."""
    table = torch.zeros(len(regions), classes + 1)
    for row, members in enumerate(regions):
        table[row, list(members)] = 1
    return table


def region_truth(table: Tensor, target: Tensor) -> Tensor:
    """Turn class indices (b, *size) into (b, regions, *size) of 0 and 1, by `region_table`."""
    return table[:, target.long()].movedim(0, 1)


def split_target(target: Tensor, step: int, annotated: Tensor) -> tuple[Tensor, Tensor]:
    """Take apart what the loader puts together for samples that are annotated in part, see `core.partial_labels`.

    Parameters
    ----------
    target
        (b, *size).
    step
        One more than the greatest class index.
    annotated
        (sets, targets), 1 where a set is annotated for a class (the background not among them) or region.

    Returns
    -------
    target
        Class indices (b, *size).
    known
        (b, targets): the samples' rows of `annotated`.
    """
    number = target.flatten(1)[:, 0].long() // step
    return target % step, annotated[number]


def _with_background(log_p: Tensor, known: Tensor) -> Tensor:
    """Give the background (b, 0, *size) the probability of all classes that a sample is not annotated for."""
    joined = torch.cat((torch.zeros_like(known[:, :1]), known), 1).bool()  # (b, classes), False: of the background
    joined = joined.view(*joined.shape, *(1,) * (log_p.ndim - 2))
    background = log_p.masked_fill(joined, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat((background, log_p[:, 1:]), 1)


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


def _mean(value: Tensor, count: Tensor | int, total: Total, least: float = 1.0) -> Tensor:
    """Return the mean over the whole batch from this process's sum and count, which is taken for `least` if below."""
    if total is alone and not isinstance(count, Tensor):
        return value / max(count, least)
    # A number is made on the device: to copy one there would wait for all that the device has still to do.
    number = count.to(value.dtype) if isinstance(count, Tensor) else value.new_full((), count)
    value, number = _totals(total, value, number)
    return value / number.clamp(min=least)


def _totals(total: Total, *sums: Tensor) -> Sequence[Tensor]:
    """Return each of the sums over all processes, which are asked once."""
    return sums if total is alone else total(torch.stack(sums)).unbind()
