import pytest
import torch
from nnunet_rs.model.optimiser import build_optimiser, optimiser_tensors, restore_optimiser, set_rate
from nnunet_rs.model.recipe import FAST, PAPER, V2
from torch import nn


def steps(network: nn.Module, optimiser: torch.optim.Optimizer, seeds: range) -> None:
    for seed in seeds:
        x = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(seed))
        optimiser.zero_grad()
        network(x).square().mean().backward()
        optimiser.step()


def fresh() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv1d(3, 2, 3)


@pytest.mark.parametrize("recipe", [PAPER, V2, FAST])
def test_goes_on_from_its_tensors(recipe) -> None:
    whole = fresh()
    optimiser = build_optimiser(recipe, whole.parameters())
    steps(whole, optimiser, range(3))
    halfway, remembered = {k: v.clone() for k, v in whole.state_dict().items()}, optimiser_tensors(optimiser)
    remembered = {name: value.clone() for name, value in remembered.items()}
    steps(whole, optimiser, range(3, 6))
    part = fresh()
    part.load_state_dict(halfway)
    second = build_optimiser(recipe, part.parameters())
    restore_optimiser(second, remembered)
    steps(part, second, range(3, 6))
    assert torch.equal(part.weight, whole.weight)


def test_the_recipes_constants() -> None:
    group = build_optimiser(PAPER, fresh().parameters()).param_groups[0]
    assert (group["lr"], group["weight_decay"], group["amsgrad"]) == (3e-4, 3e-5, True)
    sgd = build_optimiser(V2, fresh().parameters())
    group = sgd.param_groups[0]
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (0.01, 0.99, True, 3e-5)
    set_rate(sgd, 0.5)
    assert sgd.param_groups[0]["lr"] == 0.5


def test_groups_keep_the_proportion_of_their_rates() -> None:
    one, other = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimiser = torch.optim.SGD([{"params": [one], "lr": 0.1}, {"params": [other], "lr": 0.02}])
    for rate in (0.05, 0.1):
        set_rate(optimiser, rate)
        assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([rate, rate / 5])
