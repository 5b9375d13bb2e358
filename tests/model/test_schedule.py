from dataclasses import replace

import pytest
import torch
from nnunet_rs.model.config import TrainingConfig, new_config
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.recipe import FAST, PAPER, V2, PlateauRule, TrainRecipe
from nnunet_rs.model.schedule import (
    Plateau,
    Position,
    batches_left,
    is_over,
    learning_rate,
    one_cycle,
    polynomial,
    share,
)
from nnunet_rs.plan.schema import Plan


def test_polynomial_from_one_to_nothing() -> None:
    assert polynomial(0) == 1
    assert polynomial(0.5) == pytest.approx(0.5**0.9)
    assert polynomial(1) == polynomial(2) == 0


def test_one_cycle_rises_for_a_tenth_then_falls() -> None:
    assert one_cycle(0) == pytest.approx(1 / 25)
    assert one_cycle(0.05) == pytest.approx((1 + 1 / 25) / 2)
    assert one_cycle(0.1) == pytest.approx(1)
    assert one_cycle(0.55) == pytest.approx((1 + 1e-3) / 2)
    assert one_cycle(1) == one_cycle(7) == pytest.approx(1e-3)
    schedule = [one_cycle(step / 100) for step in range(101)]
    assert schedule[:11] == sorted(schedule[:11])
    assert schedule[10:] == sorted(schedule[10:], reverse=True)


def test_plateau_by_hand() -> None:
    rule = PlateauRule(smoothing=0.5, patience=1, threshold=0.1, factor=0.2)
    state = Plateau().after(1.0, rule)
    assert (state.average, state.best, state.waited, state.factor) == (1.0, 1.0, 0, 1.0)
    state = state.after(0.0, rule)  # average 0.5: improved
    assert (state.average, state.best, state.waited) == (0.5, 0.5, 0)
    state = state.after(0.4, rule)  # average 0.45: not by more than 0.1
    assert (state.best, state.waited, state.factor) == (0.5, 1, 1.0)
    state = state.after(0.45, rule)  # a second one is beyond the patience
    assert (state.best, state.waited, state.factor) == (0.5, 0, 0.2)


def test_plateau_equals_torch() -> None:
    rule, state = PlateauRule(patience=3), Plateau()
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=0.2, patience=3, threshold=1e-3, threshold_mode="abs"
    )
    generator = torch.Generator().manual_seed(0)
    average = None
    for epoch in range(120):
        loss = 1 / (1 + epoch) + 0.05 * float(torch.rand(1, generator=generator))
        average = loss if average is None else 0.93 * average + 0.07 * loss
        state = state.after(loss, rule)
        peer.step(average)
        assert state.factor == pytest.approx(optimiser.param_groups[0]["lr"])
    assert state.factor < 0.2


def config(plan: Plan, recipe: TrainRecipe, **asked: float) -> TrainingConfig:
    return new_config(TrainOptions(recipe, **asked), plan, "3d_fullres")


def test_polynomial_by_the_epoch(small_plan: Plan) -> None:
    v2 = config(small_plan, V2)
    assert (v2.epochs, v2.batches, v2.validation_batches) == (1000, 250, 50)
    assert learning_rate(v2, Position()) == 0.01
    assert learning_rate(v2, Position(epoch=500, batch=0)) == pytest.approx(0.01 * 0.5**0.9)
    assert learning_rate(v2, Position(epoch=500, batch=249)) == learning_rate(v2, Position(epoch=500))
    assert is_over(v2, Position(epoch=1000))
    assert not is_over(v2, Position(epoch=999, batch=249))


def test_one_cycle_by_the_iteration(small_plan: Plan) -> None:
    fast = config(small_plan, FAST, epochs=4, batches=10)
    assert learning_rate(fast, Position(epoch=1, batch=5)) == pytest.approx(FAST.learning_rate * one_cycle(15 / 40))


def test_one_cycle_by_the_clock(small_plan: Plan) -> None:
    fast = config(small_plan, FAST, time_budget=100)
    assert fast.epochs is None
    halfway = Position(epoch=77, seconds=50)
    assert share(fast, halfway) == 0.5
    assert learning_rate(fast, halfway) == pytest.approx(FAST.learning_rate * one_cycle(0.5))
    assert share(fast, halfway, reserve=20) == 50 / 80  # the last validation takes 20 s of the budget
    assert is_over(fast, Position(seconds=81), reserve=20)


def test_whichever_ends_first(small_plan: Plan) -> None:
    fast = config(small_plan, FAST, epochs=4, batches=10, time_budget=100)
    assert share(fast, Position(epoch=2, seconds=10)) == 0.5
    assert share(fast, Position(epoch=1, seconds=90)) == 0.9
    assert config(small_plan, V2, time_budget=60).epochs == 1000


def test_plateau_stops_below_the_least_rate(small_plan: Plan) -> None:
    paper = config(small_plan, PAPER)
    assert learning_rate(paper, Position(plateau=Plateau(factor=0.2))) == pytest.approx(6e-5)
    assert not is_over(paper, Position(epoch=1, plateau=Plateau(factor=0.2**3)))
    assert is_over(paper, Position(epoch=1, plateau=Plateau(factor=0.2**4)))
    patient = replace(paper, plateau=replace(paper.plateau, stop_below=1e-9))
    assert not is_over(patient, Position(epoch=1, plateau=Plateau(factor=0.2**4)))


def test_small_patches_count_as_the_part_that_they_are(small_plan: Plan) -> None:
    half = config(small_plan, FAST, epochs=4, batches=10)  # the first 20 of 40 are small
    assert batches_left(half, Position()) == 40
    assert batches_left(half, Position(), 0.25) == 20 * 0.25 + 20
    assert batches_left(half, Position(epoch=1, batch=5, iterations=15), 0.25) == 5 * 0.25 + 20
    assert batches_left(half, Position(epoch=3, batch=1, iterations=31), 0.25) == 9
    brief = config(small_plan, replace(FAST, small_iterations=12), epochs=4, batches=10)
    assert batches_left(brief, Position(), 0.25) == 12 * 0.25 + 28
