import pytest
import torch
from nnunet_rs.model.schedule import Plateau, PlateauRule, one_cycle, polynomial


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
