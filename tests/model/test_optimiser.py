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


def test_the_papers_steps_are_adam_with_amsgrad() -> None:
    """Two steps on one number by hand: weight decay in the gradient, the largest second moment in the denominator."""
    (value,) = network = [nn.Parameter(torch.tensor([2.0]))]
    optimiser = build_optimiser(PAPER, network)
    expected, first, second, most = 2.0, 0.0, 0.0, 0.0
    for step, slope in enumerate((1.0, -0.1), start=1):
        value.grad = torch.tensor([slope])
        optimiser.step()
        gradient = slope + 3e-5 * expected
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        most = max(most, second)
        expected -= 3e-4 * (first / (1 - 0.9**step)) / ((most / (1 - 0.999**step)) ** 0.5 + 1e-8)
        assert value.item() == pytest.approx(expected, abs=1e-6)


def test_v2s_steps_are_sgd_with_nesterovs_momentum() -> None:
    (value,) = network = [nn.Parameter(torch.tensor([2.0]))]
    optimiser = build_optimiser(V2, network)
    expected, velocity = 2.0, None
    for slope in (1.0, -0.5, 0.25):
        value.grad = torch.tensor([slope])
        optimiser.step()
        gradient = slope + 3e-5 * expected
        velocity = gradient if velocity is None else 0.99 * velocity + gradient
        expected -= 0.01 * (gradient + 0.99 * velocity)
        assert value.item() == pytest.approx(expected, abs=1e-6)


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
