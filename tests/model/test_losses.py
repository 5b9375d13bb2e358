import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.model.losses import (
    ClassLoss,
    DeepSupervision,
    RegionLoss,
    alone,
    build_loss,
    shrink_labels,
    soft_dice,
)
from nnunet_rs.model.metrics import _region_table, count_voxels
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode


class Copies(TorchDispatchMode):
    """Notes what makes the processor wait for a device: copies from one to the other, and values that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        tensors = [x for x in (*args, result) if isinstance(x, torch.Tensor)]
        if (
            name == "_local_scalar_dense"
            or len({x.device.type for x in tensors if x.ndim}) > 1
            or (name in ("_to_copy", "copy_", "lift_fresh_copy") and len({x.device.type for x in tensors}) > 1)
        ):
            self.found.append(name)
        return result


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("regions", [(), (Region("all", (1, 2), 1), Region("b", (2,), 2))])
@pytest.mark.parametrize("ignore", [None, 3])
def test_no_loss_waits_for_a_gpu(batch: bool, regions: tuple[Region, ...], ignore: int | None) -> None:
    """On tensors that only say where they are."""
    labels = LabelSet(("background", "a", "b"), (0, 1, 2), regions, ignore)
    copies = Copies()
    _region_table.cache_clear()
    with FakeTensorMode():
        for total in (alone, lambda sums: sums * 2):
            loss = DeepSupervision(build_loss(labels, batch_dice=batch, total=total)).to("cuda")
            outputs = [
                torch.randn(2, labels.outputs, *size, device="cuda") for size in ((4, 8, 8), (2, 4, 4), (1, 3, 4))
            ]
            target = torch.zeros(2, 4, 8, 8, device="cuda", dtype=torch.int16)
            count_voxels(outputs[0], target, labels)  # which copies the table of regions, once
            with copies:
                loss(outputs, target)
                count_voxels(outputs[0], target, labels)
    _region_table.cache_clear()
    assert copies.found == []


# One sample, two voxels, two classes with probabilities (3/4, 1/4) and (1/5, 4/5); truth: background, foreground.
LOGITS = torch.tensor([[[3.0, 1.0], [1.0, 4.0]]]).log()
TARGET = torch.tensor([[0, 1]])
ENTROPY = -(math.log(3 / 4) + math.log(4 / 5)) / 2
DICE = 2 * 0.8 / (0.25 + 0.8 + 1)


def test_values_by_hand() -> None:
    assert float(ClassLoss("ce")(LOGITS, TARGET)) == pytest.approx(ENTROPY, abs=1e-6)
    assert float(ClassLoss("dice")(LOGITS, TARGET)) == pytest.approx(-DICE, abs=1e-5)
    assert float(ClassLoss()(LOGITS, TARGET)) == pytest.approx(ENTROPY - DICE, abs=1e-5)


def test_a_perfect_prediction_costs_minus_one() -> None:
    logits = 100 * torch.nn.functional.one_hot(TARGET, 2).movedim(-1, 1).float()
    assert float(ClassLoss()(logits, TARGET)) == pytest.approx(-1)


def test_an_absent_class_that_is_not_predicted_has_dice_one() -> None:
    assert float(soft_dice(torch.zeros(1, 1, 4), torch.zeros(1, 1, 4))) == pytest.approx(1)


def test_batch_dice_takes_the_batch_as_one_sample() -> None:
    p = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])  # (b 2, c 1, 2 voxels)
    t = torch.tensor([[[1.0, 1.0]], [[1.0, 0.0]]])
    assert float(soft_dice(p, t)) == pytest.approx((2 / 3 + 2 / 3) / 2, abs=1e-4)
    p[0, 0, 0] = 0
    assert float(soft_dice(p, t)) == pytest.approx((0 + 2 / 3) / 2, abs=1e-4)
    assert float(soft_dice(p, t, batch=True)) == pytest.approx(2 * 1 / (2 + 3), abs=1e-4)


def test_ignored_voxels_change_nothing() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    ignored = target.clone()
    ignored[:, :, -2:] = 3
    for terms in ("ce", "dice", "ce_dice"):
        kept = ClassLoss(terms)(logits[..., :-2], target[..., :-2])
        assert torch.allclose(ClassLoss(terms, ignore=3)(logits, ignored), kept)
    everything = ClassLoss("ce", ignore=3)(logits, torch.full_like(target, 3))
    assert float(everything) == 0


def test_regions_overlap_and_have_their_own_entropy() -> None:
    # classes 1 and 2; regions: whole = {1, 2}, core = {2}; two voxels of classes 1 and 2
    logits = torch.tensor([[[0.0, 0.0], [0.0, math.log(3)]]])  # sigmoids 1/2, 1/2 and 1/2, 3/4
    target = torch.tensor([[1, 2]])
    entropy = (3 * math.log(2) - math.log(3 / 4)) / 4
    dice = (2 * 1 / (1 + 2) + 2 * 0.75 / (1.25 + 1)) / 2
    assert float(RegionLoss([(1, 2), (2,)], 3)(logits, target)) == pytest.approx(entropy - dice, abs=1e-5)


def test_regions_with_ignored_voxels() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 2, 6), torch.randint(0, 3, (2, 6))
    loss, plain = RegionLoss([(1, 2), (2,)], 3, ignore=3), RegionLoss([(1, 2), (2,)], 3)
    ignored = target.clone()
    ignored[:, 4:] = 3
    assert torch.allclose(loss(logits, ignored), plain(logits[..., :4], target[..., :4]))


def test_the_labels_decide_between_classes_and_regions() -> None:
    names, values = ("background", "a", "b"), (0, 1, 2)
    loss = build_loss(LabelSet(names, values, ignore=7), "ce")
    assert isinstance(loss, ClassLoss)
    assert loss.ignore == 3
    assert loss.terms == "ce"
    regions = build_loss(LabelSet(names, values, (Region("a", (1,), 1), Region("all", (1, 2), 2))), batch_dice=True)
    assert isinstance(regions, RegionLoss)
    assert regions.batch_dice
    assert regions.membership.tolist() == [[0, 1, 0, 0], [0, 1, 1, 0]]


def test_deep_supervision_halves_the_weight_of_each_resolution() -> None:
    def missed(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (logits[:, 0] - target).abs().mean()

    target = torch.ones(1, 4, 4, dtype=torch.long)
    outputs = [torch.zeros(1, 1, 4, 4), torch.full((1, 1, 2, 2), 3.0), torch.full((1, 1, 1, 1), 5.0)]
    loss = DeepSupervision(missed)
    assert float(loss(outputs, target)) == pytest.approx((1 * 1 + 2 * 0.5 + 4 * 0.25) / 1.75)
    assert float(loss(outputs[0], target)) == 1


def test_labels_shrink_to_the_nearest_voxel() -> None:
    line = torch.arange(6)[None, None]  # (1, 1, 6)
    assert shrink_labels(line, (1, 3))[0, 0].tolist() == [1, 3, 5]  # centres 1, 3, 5 lie between two: the higher
    assert shrink_labels(line, (1, 2))[0, 0].tolist() == [1, 4]
    assert shrink_labels(line, (1, 6)) is line


@pytest.mark.parametrize("size", [(4, 6, 5), (2, 3, 5), (1, 4, 2), (8, 12, 10), (3, 12, 10)])
def test_shrunk_labels_are_the_nearest_voxels(size: tuple[int, ...]) -> None:
    target = torch.randint(0, 9, (2, 8, 12, 10), generator=torch.Generator().manual_seed(0)).short()
    index = [
        torch.tensor([math.floor((i + 0.5) * length / wanted) for i in range(wanted)])
        for length, wanted in zip(target.shape[1:], size, strict=True)
    ]
    found = shrink_labels(target, size)
    assert torch.equal(found, target[:, index[0]][:, :, index[1]][:, :, :, index[2]])
    assert found.is_contiguous()  # a loss of the user's own may view it


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.integers(2, 4))
def test_equals_the_textbook(seed: int, batch: bool, classes: int) -> None:
    """Against one-hot sums written out, in float64."""
    torch.manual_seed(seed)
    logits, target = 3 * torch.randn(2, classes, 3, 4), torch.randint(0, classes, (2, 3, 4))
    p = logits.double().softmax(1).reshape(2, classes, -1)
    t = torch.stack([(target == c).double().reshape(2, -1) for c in range(classes)], 1)
    entropy = -(t * p.log()).sum(1).mean()
    both, total = (p * t).sum(2), (p + t).sum(2)
    if batch:
        both, total = both.sum(0), total.sum(0)
    dice = ((2 * both + 1e-5) / (total + 1e-5))[..., 1:].mean()
    assert float(ClassLoss(batch_dice=batch)(logits, target)) == pytest.approx(float(entropy - dice), abs=1e-5)


def test_float32_within_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        loss = ClassLoss()(LOGITS.bfloat16(), TARGET)
    assert loss.dtype is torch.float32


def test_terms_that_there_are_not() -> None:
    with pytest.raises(NnunetError, match="loss 'dise' is unknown: allowed are ce_dice, ce, dice"):
        build_loss(LabelSet(("background", "a"), (0, 1)), "dise")
