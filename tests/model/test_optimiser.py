import pytest
import torch
from nnunet_rs.model.optimiser import build_optimiser, optimiser_tensors, restore_optimiser, set_rate
from nnunet_rs.model.recipe import FAST, PAPER, V2
from nnunet_rs.model.tensors import read_tensors, write_tensors
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


@pytest.mark.parametrize("recipe", [PAPER, V2, FAST])
def test_what_is_remembered_has_the_memory_layout_of_its_parameter(recipe, tmp_path) -> None:
    """Files hold tensors row by row; the fused steps pair numbers by their place in memory."""

    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Conv3d(4, 8, 3).to(memory_format=torch.channels_last_3d)

    def step(network: nn.Module, optimiser: torch.optim.Optimizer, seed: int) -> None:
        for parameter in network.parameters():
            numbers = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
            parameter.grad = torch.empty_like(parameter).copy_(numbers)
        optimiser.step()

    whole = network()
    optimiser = build_optimiser(recipe, whole.parameters())
    for seed in range(3):
        step(whole, optimiser, seed)
    write_tensors(tmp_path / "state", optimiser_tensors(optimiser))
    part = network()
    part.load_state_dict(whole.state_dict())
    second = build_optimiser(recipe, part.parameters())
    restore_optimiser(second, read_tensors(tmp_path / "state", "")[0])
    assert any(value.shape == part.weight.shape for value in second.state[part.weight].values())
    for seed in range(3, 6):
        step(whole, optimiser, seed)
        step(part, second, seed)
    assert torch.equal(part.weight, whole.weight)


@pytest.mark.parametrize("name", ["2/exp_avg", "exp_avg", "-1/exp_avg", "0/"])
def test_what_is_remembered_of_another_network_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="the optimiser has no"):
        restore_optimiser(build_optimiser(PAPER, fresh().parameters()), {name: torch.zeros(1)})
