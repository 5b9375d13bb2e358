from dataclasses import replace
from pathlib import Path

import pytest
import torch
from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.types import Shape
from nnunet_rs.model.batches import open_loaders, small_patch
from nnunet_rs.model.config import new_config
from nnunet_rs.model.device import choose_compute
from nnunet_rs.model.metadata import read_metadata
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.recipe import FAST, V2
from nnunet_rs.model.setup import set_up
from nnunet_rs.model.train import train_fold
from nnunet_rs.plan.files import read_plan, write_plan
from nnunet_rs.plan.schema import Configuration, Plan
from torch import Tensor, nn
from trainings import ANEW, SHORT, Heard, StopsAfter, weights


@pytest.mark.parametrize(
    ("patch", "steps", "spacing", "expected"),
    [
        ((128, 128, 128), (32, 32, 32), (1, 1, 1), (64, 64, 64)),
        ((40, 56, 40), (8, 8, 8), (1, 1, 1), (24, 32, 24)),  # multiples of what the network divides by, rounded up
        ((20, 256, 224), (4, 32, 32), (5, 1.6, 1.6), (20, 128, 128)),  # thick slices are kept together
        ((32, 80, 80), (8, 16, 16), (1, 1, 1), (16, 48, 48)),  # these are as thin as the rest
        ((20, 80, 80), (4, 16, 16), (3, 1.6, 1.6), (12, 48, 48)),
        ((256, 224), (32, 32), (1.6, 1.6), (128, 128)),
        ((64, 32), (4, 4), (1, 1), (32, 16)),
        ((32, 32, 32), (32, 32, 32), (1, 1, 1), (32, 32, 32)),  # half: less than one voxel in the lowest map
        ((64, 64, 64), (32, 32, 32), (1, 1, 1), (64, 64, 64)),  # and here it would be one
    ],
)
def test_small_patches_have_half_the_length(
    small3d: Configuration, patch: Shape, steps: Shape, spacing: tuple[float, ...], expected: Shape
) -> None:
    strides = ((1,) * len(patch), steps)
    assert small_patch(replace(small3d, patch_size=patch, strides=strides, spacing=spacing)) == expected


class Sizes:
    """A loss that notes what sizes it is given while gradients are computed."""

    def __init__(self) -> None:
        self.seen: list[Shape] = []

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self.seen.append(tuple(target.shape[1:]))
        return nn.functional.cross_entropy(logits.float(), target.long())


def test_the_first_part_of_a_training_has_small_patches(work: Path) -> None:
    loss = Sizes()
    train_fold(work, "3d_fullres", 0, replace(SHORT, loss=loss, epochs=2, batches=5, small_patches=0.3))
    assert loss.seen[-10:] == [(4, 4, 4)] * 3 + [(4, 8, 8)] * 7
    loss, brief = Sizes(), replace(FAST, small_iterations=2)
    train_fold(work, "3d_fullres", 0, replace(SHORT, loss=loss, epochs=2, batches=5, fresh=True, recipe=brief))
    assert loss.seen[-10:] == [(4, 4, 4)] * 2 + [(4, 8, 8)] * 8  # two at most, of the five that are half of it
    loss = Sizes()
    train_fold(work, "2d", 0, replace(SHORT, loss=loss, epochs=1, batches=4))
    assert loss.seen[-4:] == [(8, 4)] * 2 + [(16, 8)] * 2
    loss = Sizes()
    train_fold(work, "3d_fullres", 0, replace(ANEW, loss=loss, epochs=1, recipe=V2))
    assert loss.seen[-4:] == [(4, 8, 8)] * 4


def test_it_is_said_which_patches_there_are(work: Path) -> None:
    heard = Heard()
    train_fold(work, "3d_fullres", 0, replace(SHORT, epochs=1, batches=2, small_patches=0.3), heard)
    assert heard.done == 0.25 + 1  # a small one, and a planned one of four times its voxels
    first = "the first 0.3 of the training (2500 iterations at most)"
    counted = "a batch of the small ones is counted as 0.25 of a planned one"
    assert f"patches are 4 x 4 x 4 in {first}, then 4 x 8 x 8; {counted}" in heard.lines
    heard = Heard()
    train_fold(work, "3d_fullres", 0, replace(ANEW, epochs=1, batches=2, small_patches=0.0), heard)
    assert not any("patches are" in line for line in heard.lines)
    plan = read_plan(work / "plan.json")
    whole = replace(plan.configurations["2d"], patch_size=(8, 2))
    write_plan(work / "plan.json", replace(plan, configurations={**plan.configurations, "2d": whole}))
    heard = Heard()
    train_fold(work, "2d", 0, replace(SHORT, epochs=1, batches=2), heard)
    assert "all patches are 8 x 2: half of that is too small for this network" in heard.lines


def test_weights_of_cases_hold_for_small_patches_too(work: Path) -> None:
    first, drawn, *others = set_up(work, "3d_fullres", 0, SHORT).cases.train
    weights = dict.fromkeys((first, *others), 0.0)
    setup = set_up(work, "3d_fullres", 0, replace(SHORT, case_sampling=weights, small_patches=0.5))
    training, validation, small = open_loaders(setup, choose_compute(torch.device("cpu")), Heard())
    with training, validation, small:
        for loader in (training, small):
            assert {name for batch in loader.epoch(0, 6) for name in batch.names} == {drawn}


def test_loaders_know_of_the_cycles_before(work: Path) -> None:
    setup = set_up(work, "3d_fullres", 0, SHORT)
    setup = replace(setup, config=replace(setup.config, iterations_before=70))
    loaders = list(open_loaders(setup, choose_compute(torch.device("cpu")), Heard()))
    assert [loader.options.before for loader in loaders] == [70, 0, 70]  # training, validation, small patches
    for loader in loaders:
        loader.close()


@pytest.mark.parametrize("stop", [2, 6])
def test_a_training_resumes_in_either_part(work: Path, stop: int) -> None:
    options = replace(SHORT, epochs=1, batches=8)
    train_fold(work, "3d_fullres", 0, options)
    expected = weights(work / "models" / "3d_fullres" / "fold_0")
    stopped = train_fold(work, "3d_fullres", 0, replace(options, fresh=True), StopsAfter(stop))
    assert not stopped.finished
    assert train_fold(work, "3d_fullres", 0, replace(options, resume=True)).finished
    found = weights(work / "models" / "3d_fullres" / "fold_0")
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)
    assert read_metadata(work / "models" / "3d_fullres" / "fold_0").config.small_patches == 0.5


def test_the_recipe_decides_unless_told_otherwise(small_plan: Plan) -> None:
    def small(options: TrainOptions, *, on_gpu: bool = False) -> float:
        return new_config(options, small_plan, "3d_fullres", on_gpu=on_gpu).small_patches

    assert small(TrainOptions(recipe=FAST)) == 0.5
    assert small(TrainOptions(recipe=FAST), on_gpu=True) == 0
    assert small(TrainOptions(recipe=FAST, small_patches=0.2), on_gpu=True) == 0.2
    assert small(TrainOptions(recipe=V2)) == 0
    assert small(TrainOptions(recipe=FAST, network="own.py:network")) == 0
    assert small(TrainOptions(recipe=FAST, augmentation="own.py:augmentation")) == 0
    with pytest.raises(PlanError, match="small patches is 1: must be a share of the training, 0 to below 1"):
        small(TrainOptions(small_patches=1.0))


def test_fast_mirrors_where_it_is_asked_to(small_plan: Plan) -> None:
    def axes(options: TrainOptions) -> Shape | None:
        return new_config(options, small_plan, "3d_fullres").mirror_axes

    assert axes(TrainOptions(recipe=FAST)) == ()
    assert axes(TrainOptions(recipe=FAST, mirror_axes=(0, 1))) == (0, 1)
    assert axes(TrainOptions(recipe=V2)) is None
    assert axes(TrainOptions(recipe=FAST, augmentation="own.py:augmentation")) is None
