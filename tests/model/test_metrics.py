import math

import pytest
import torch
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.model.metrics import Counts, count_voxels, mean_dice

LABELS = LabelSet(("background", "a", "b"), (0, 1, 2))


def predicted(classes: list[int]) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor([classes]), 3).movedim(-1, 1).float()


def test_dice_of_counts_over_several_patches() -> None:
    first = count_voxels(predicted([0, 1, 1, 0]), torch.tensor([[0, 1, 0, 1]]), LABELS)
    assert first.true_positive.tolist() == [1, 0]
    assert first.false_positive.tolist() == [1, 0]
    assert first.false_negative.tolist() == [1, 0]
    second = count_voxels(predicted([1, 2, 0, 0]), torch.tensor([[1, 2, 2, 0]]), LABELS)
    assert (first + second).dice() == pytest.approx((2 * 2 / (4 + 1 + 1), 2 * 1 / (2 + 0 + 1)))


def test_a_class_that_never_occurs_has_no_dice() -> None:
    dice = count_voxels(predicted([0, 1]), torch.tensor([[0, 1]]), LABELS).dice()
    assert dice[0] == 1
    assert math.isnan(dice[1])
    assert mean_dice(dice) == 1
    assert math.isnan(mean_dice((math.nan,)))


def test_ignored_voxels_are_not_counted() -> None:
    labels = LabelSet(LABELS.names, LABELS.values, ignore=9)
    counts = count_voxels(predicted([1, 1]), torch.tensor([[1, 3]]), labels)
    assert counts.dice()[0] == 1


def test_regions_may_overlap() -> None:
    labels = LabelSet(LABELS.names, LABELS.values, (Region("all", (1, 2), 1), Region("b", (2,), 2)))
    logits = torch.tensor([[[1.0, 1.0, -1.0], [-1.0, 0.0, 1.0]]])  # all: voxels 0, 1; b: voxels 1, 2
    counts = count_voxels(logits, torch.tensor([[1, 2, 0]]), labels)
    assert counts.dice() == pytest.approx((1, 2 * 1 / (2 + 1)))


def test_counts_of_all_processes() -> None:
    own = Counts(torch.tensor([3.0]), torch.tensor([1.0]), torch.tensor([2.0]))
    assert own.over(lambda sums: 2 * sums).dice() == own.dice()
    assert own.over(lambda sums: sums + 1).dice() == pytest.approx((8 / 13,))
