"""Muon beside PyTorch's own of matrices, and beside the singular value decomposition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.model.muon import ADAM_BETAS, ADAM_RATE, ITERATIONS, POLYNOMIAL, Muon, is_kernel, orthogonal
from torch import nn


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
@settings(deadline=None)
def test_orthogonal_is_near_the_nearest_one(rows: int, columns: int, seed: int) -> None:
    u, _, v = torch.linalg.svd(drawn(rows, columns, seed=seed), full_matrices=False)
    values = torch.linspace(1, 3, min(rows, columns))
    (found,) = orthogonal([u * values @ v])
    assert found.shape == (rows, columns)
    along = (u.T @ found @ v.T).diagonal()  # the singular values that came out, along the same directions
    assert along.min() > 0.6
    assert along.max() < 1.3
    assert found.norm() == pytest.approx(along.norm().item(), rel=0.03)  # and nothing across them


@pytest.mark.parametrize("shape", [(16, 432), (40, 18), (1, 7), (7, 1), (1, 1)])
@pytest.mark.parametrize("spread", [1, 1e-4, 1e-8])
def test_equals_the_iteration_written_out(shape: tuple[int, int], spread: float) -> None:
    u, s, v = torch.linalg.svd(drawn(*shape).double(), full_matrices=False)
    matrix = u * torch.logspace(0, torch.tensor(spread).log10().item(), len(s)) @ v
    a, b, c = POLYNOMIAL
    x = matrix / matrix.norm()
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    others = [drawn(shape[0], 3), drawn(5, shape[1])]
    found = orthogonal([others[0], matrix.float(), others[1]])
    assert [x.shape for x in found] == [others[0].shape, matrix.shape, others[1].shape]
    assert (found[1] - x).norm() < 2e-3 * x.norm()


def test_nothing_stays_nothing() -> None:
    assert torch.equal(orthogonal([torch.zeros(3, 5)])[0], torch.zeros(3, 5))
    assert orthogonal([]) == []


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon")
@pytest.mark.parametrize("shape", [(8, 4, 3, 3, 3), (40, 2, 3, 3), (5, 7, 1, 2)])
def test_equals_pytorchs_on_the_kernel_as_a_matrix(shape: tuple[int, ...]) -> None:
    """PyTorch's works in bfloat16, to a hundredth."""
    kernel = nn.Parameter(drawn(*shape))
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    ours = Muon([kernel], 0.02, 0.01)
    theirs = torch.optim.Muon([matrix], 0.02, 0.01)
    for seed in range(5):
        gradient = drawn(*shape, seed=seed + 1)
        kernel.grad, matrix.grad = gradient, gradient.flatten(1).clone()
        ours.step()
        theirs.step()
        torch.testing.assert_close(kernel.detach().flatten(1), matrix.detach(), rtol=0, atol=3e-3)
    assert (kernel.detach().flatten(1) - drawn(*shape).flatten(1)).abs().max() > 0.01  # it did move


def test_all_else_is_adamws_at_a_tenth_of_the_rate() -> None:
    network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.InstanceNorm3d(4, affine=True), nn.Conv3d(4, 2, 1))
    assert [is_kernel(p) for p in network.parameters()] == [True, False, False, False, False, False]
    others = [nn.Parameter(p.detach().clone()) for p in network.parameters() if not is_kernel(p)]
    ours = Muon(network.parameters(), 0.05, 0.01)
    theirs = torch.optim.AdamW(others, 0.05 * ADAM_RATE, betas=ADAM_BETAS, weight_decay=0.01)
    for seed in range(3):
        for index, parameter in enumerate(network.parameters()):
            parameter.grad = drawn(*parameter.shape, seed=10 * seed + index)
        for copy, parameter in zip(others, [p for p in network.parameters() if not is_kernel(p)], strict=True):
            copy.grad = parameter.grad.clone()
        ours.step()
        theirs.step()
    for copy, parameter in zip(others, [p for p in network.parameters() if not is_kernel(p)], strict=True):
        torch.testing.assert_close(copy, parameter)


def test_a_closure_is_called_once_with_gradients() -> None:
    convolution = nn.Conv2d(1, 2, 3)
    optimiser, x, calls = Muon(convolution.parameters()), drawn(1, 1, 8, 8), []

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = convolution(x).square().mean()
        loss.backward()
        calls.append(loss.item())
        return loss

    losses = [optimiser.step(closure).item() for _ in range(3)]
    assert losses == calls
    assert losses[2] < losses[0]
