"""Losses, Dice on patches and a training where cases are annotated for some classes only; class weights; by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunet_rs.core.errors import CheckpointError, PluginError
from nnunet_rs.core.partial_labels import PartialLabels
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.model.header import read_config
from nnunet_rs.model.losses import ClassLoss, DeepSupervision, RegionLoss, build_loss, soft_dice
from nnunet_rs.model.metrics import count_voxels
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.recipe import FAST
from nnunet_rs.model.train import train_fold
from torch import Tensor
from torch.nn import functional as F

LABELS = LabelSet(("background", "a", "b"), (0, 1, 2))
REGIONS = LabelSet(LABELS.names, LABELS.values, (Region("whole", (1, 2), 1), Region("core", (2,), 2)))
NO_B = PartialLabels.of({"case": (1,)})  # annotated for a alone: its labels come with 4 added
P = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.1, 0.3]])  # of two voxels: background, a, b


def logits(probabilities: Tensor = P) -> Tensor:
    """(1, classes, 2 voxels)."""
    return probabilities.log().T.unsqueeze(0)


def test_background_may_be_a_class_that_is_not_annotated() -> None:
    """Voxel 0 is labelled background, voxel 1 is labelled a; of b nothing is known."""
    target = torch.tensor([[0, 1]]) + 4
    entropy = -(math.log(0.2 + 0.5) + math.log(0.1)) / 2
    assert build_loss(LABELS, "ce", partial=NO_B)(logits(), target).item() == pytest.approx(entropy, rel=1e-6)
    dice = (2 * 0.1 + 1e-5) / (0.3 + 0.1 + 1 + 1e-5)  # of a alone: intersection .1, sizes .4 and 1
    assert build_loss(LABELS, "dice", partial=NO_B)(logits(), target).item() == pytest.approx(-dice, rel=1e-6)
    both = build_loss(LABELS, partial=NO_B)(logits(), target).item()
    assert both == pytest.approx(entropy - dice, rel=1e-6)


def test_what_is_not_annotated_is_not_punished() -> None:
    """Moving probability from background to b, where that is labelled, changes nothing; of a full case it does."""
    moved = torch.tensor([[0.01, 0.3, 0.69], [0.6, 0.1, 0.3]])
    partly, full = torch.tensor([[4, 5]]), torch.tensor([[0, 1]])
    loss = build_loss(LABELS, partial=NO_B)
    assert loss(logits(moved), partly).item() == pytest.approx(loss(logits(), partly).item(), rel=1e-5)
    assert loss(logits(moved), full) > loss(logits(), full) + 0.5


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("terms", ["ce", "dice", "ce_dice"])
@pytest.mark.parametrize("labels", [LABELS, REGIONS, LabelSet(LABELS.names, LABELS.values, ignore=3)])
def test_full_cases_have_the_loss_that_they_had(labels: LabelSet, terms: Any, batch_dice: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    values, target = torch.randn(3, labels.outputs, 5, 6, generator=rng), torch.randint(0, 3, (3, 5, 6), generator=rng)
    usual = build_loss(labels, terms, batch_dice=batch_dice)
    partial = build_loss(labels, terms, batch_dice=batch_dice, partial=NO_B)
    ones = build_loss(labels, terms, batch_dice=batch_dice, weights={})
    for other in (partial, ones):
        assert other(values, target).item() == pytest.approx(usual(values, target).item(), rel=1e-5)


def test_batch_dice_of_a_class_rests_on_the_samples_annotated_for_it() -> None:
    """Of the second sample b is unknown: b's Dice is the first one's, a's that of both."""
    p = torch.cat([logits(), logits()]).exp()[:, 1:]
    truth = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]])
    known = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    a = (2 * 0.2 + 1e-5) / (2 * 0.4 + 2 + 1e-5)
    b = (2 * 0.5 + 1e-5) / (0.8 + 1 + 1e-5)
    assert soft_dice(p, truth, batch=True, known=known).item() == pytest.approx((a + b) / 2, rel=1e-6)
    nobody = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert soft_dice(p, truth, batch=True, known=nobody).item() == pytest.approx(a, rel=1e-6)


def test_class_weights_are_those_of_cross_entropy_and_of_the_mean_of_dice() -> None:
    target = torch.tensor([[0, 2]])
    values = logits()
    weights = {"background": 0.5, "b": 4.0}  # a: 1
    entropy = F.cross_entropy(values, target, weight=torch.tensor([0.5, 1.0, 4.0])).item()
    assert entropy == pytest.approx(-(0.5 * math.log(0.2) + 4 * math.log(0.3)) / 4.5, rel=1e-6)
    assert build_loss(LABELS, "ce", weights=weights)(values, target).item() == pytest.approx(entropy, rel=1e-6)
    a, b = 1e-5 / (0.4 + 1e-5), (2 * 0.3 + 1e-5) / (0.8 + 1 + 1e-5)
    for batch_dice in (False, True):
        loss = build_loss(LABELS, "dice", weights=weights, batch_dice=batch_dice)
        assert loss(values, target).item() == pytest.approx(-(a + 4 * b) / 5, rel=1e-6)


def test_weights_leave_out_what_is_ignored() -> None:
    labels = LabelSet(LABELS.names, LABELS.values, ignore=3)
    loss = build_loss(labels, "ce", weights={"b": 4.0})
    assert loss(logits(), torch.tensor([[3, 2]])).item() == pytest.approx(-math.log(0.3), rel=1e-6)
    assert loss(logits(), torch.tensor([[3, 3]])).item() == 0


def test_regions_that_are_not_annotated_count_nowhere() -> None:
    """The core is not annotated; the whole is at voxel 1. Then the same with the core four times as important."""
    values, target = torch.tensor([[[0.0, 2.0], [1.0, -1.0]]]), torch.tensor([[0, 1]])
    whole = [math.log(2), math.log(1 + math.exp(-2))]
    core = [math.log(1 + math.exp(1)), math.log(1 + math.exp(-1))]
    partly = build_loss(REGIONS, "ce", partial=NO_B)
    assert partly(values, target + 4).item() == pytest.approx(sum(whole) / 2, rel=1e-6)
    assert partly(values, target).item() == pytest.approx(sum(whole + core) / 4, rel=1e-6)
    weighted = build_loss(REGIONS, "ce", weights={"core": 4.0})
    assert weighted(values, target).item() == pytest.approx((sum(whole) + 4 * sum(core)) / 10, rel=1e-6)
    sizes = 0.5 + 1 / (1 + math.exp(-2))
    dice = (2 / (1 + math.exp(-2)) + 1e-5) / (sizes + 1 + 1e-5)
    assert build_loss(REGIONS, "dice", partial=NO_B)(values, target + 4).item() == pytest.approx(-dice, rel=1e-6)


@pytest.mark.parametrize("labels", [LABELS, REGIONS])
def test_lower_resolutions_and_gradients(labels: LabelSet) -> None:
    """What is known of a sample reaches every resolution, and the logits of what is not known get no gradient."""
    loss = DeepSupervision(build_loss(labels, partial=NO_B))
    outputs = [torch.zeros(2, labels.outputs, size, requires_grad=True) for size in (8, 4)]
    target = torch.zeros(2, 8, dtype=torch.int16) + torch.tensor([[0], [4]], dtype=torch.int16)
    loss(outputs, target).backward()
    for output in outputs:
        assert output.grad is not None
        assert torch.isfinite(output.grad).all()
        unknown = output.grad[:, -1]
        assert unknown[0].abs().sum() > 0
        pulled_down = (unknown[1] > 1e-6).any()  # a full sample's b is pushed down on background
        assert not pulled_down
        assert (unknown[0] > 0).all()


def test_dice_on_patches_leaves_out_what_is_not_known() -> None:
    values = logits(torch.tensor([[0.1, 0.2, 0.7], [0.1, 0.8, 0.1]]))  # b, a
    full = count_voxels(values, torch.tensor([[0, 1]]), LABELS, NO_B)
    assert full.dice() == (1.0, 0.0)
    partly = count_voxels(values, torch.tensor([[4, 5]]), LABELS, NO_B).dice()
    assert partly[0] == 1.0
    assert math.isnan(partly[1])


def test_classes_of_losses() -> None:
    assert isinstance(build_loss(LABELS, partial=NO_B), ClassLoss)
    assert isinstance(build_loss(REGIONS, partial=NO_B), RegionLoss)


# ---- a training ------------------------------------------------------------------------------------------------------

SHORT = TrainOptions(
    recipe=FAST, epochs=2, batches=6, validation_batches=2, augmentation="none", device="cpu", precision="float32",
    threads=1, seed=3, learning_rate=0.05,
)  # fmt: skip


def annotate(work: Path, **cases: list[str]) -> None:
    (work / "dataset.json").write_text(json.dumps({"annotated_labels": cases}))


def losses(work: Path, **options: Any) -> list[float]:
    result = train_fold(work, "3d_fullres", 0, replace(SHORT, fresh=True, **options))
    return [epoch.loss for epoch in result.history.epochs]


def test_a_training_follows_what_is_annotated(work: Path) -> None:
    usual = losses(work)
    annotate(work)
    assert losses(work) == usual  # nothing is annotated in part: the same to the last bit
    annotate(work, **{f"case_{k}": ["large"] for k in range(6)})
    assert losses(work) != usual
    annotate(work, **{f"case_{k}": ["large", "small"] for k in range(6)})
    assert losses(work) == usual


def test_resuming_wants_the_same_annotation(work: Path) -> None:
    annotate(work, case_1=["large"])
    stop = []

    def interrupt(history: Any) -> None:
        stop.append(history)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_fold(work, "3d_fullres", 0, SHORT, on_epoch=interrupt)
    annotate(work)
    with pytest.raises(CheckpointError, match="was begun with another set of cases in this fold"):
        train_fold(work, "3d_fullres", 0, replace(SHORT, resume=True))


def blind(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), target.long())


def heeding(logits: Tensor, target: Tensor, context: Any) -> Tensor:
    classes, known = context.split_target(target)
    assert known.shape == (len(target), 2)
    assert classes.max() <= 2
    loss: Tensor = context.build_loss()(logits, target)
    return loss


def test_an_own_loss_must_know_of_it(work: Path) -> None:
    annotate(work, **{f"case_{k}": ["large"] for k in range(6)})
    with pytest.raises(PluginError, match=r"blind.*annotated for some classes only.*parameter named context"):
        losses(work, loss=blind)
    assert losses(work, loss=heeding) == losses(work)


def test_class_weights_are_recorded_and_change_the_training(work: Path) -> None:
    usual = losses(work)
    assert losses(work, class_weights={"small": 5.0}) != usual
    config = read_config(work / "models/3d_fullres/fold_0")
    assert config is not None
    assert config.class_weights == {"small": 5.0}
