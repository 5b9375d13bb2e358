"""Muon beside PyTorch's own of matrices, and beside the singular value decomposition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.model import muon
from nnunet_rs.model.muon import ADAM_BETAS, ADAM_RATE, ITERATIONS, POLYNOMIAL, Muon, is_kernel, orthogonal
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


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


SHAPES = [(30, 27), (30, 810), (60, 810), (60, 1620), (30, 810), (60, 240), (7, 1), (60, 1620), (30, 810)]


def test_stacked_as_on_a_gpu_they_are_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = [drawn(*shape, seed=seed) * 10.0**-seed for seed, shape in enumerate(SHAPES)]
    alone = [orthogonal([matrix])[0] for matrix in matrices]
    counted = Products()
    monkeypatch.setattr(muon, "_stacks", lambda _: True)
    with counted:
        stacked = orthogonal(matrices)
    for one, other in zip(alone, stacked, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)
    assert counted.number == 2 * len(set(SHAPES)) + 4 * ITERATIONS - 3  # whatever the number of kernels


class Products(TorchDispatchMode):
    """Counts matrix products, and computes them of numbers that are rounded first."""

    def __init__(self, rounded=lambda x: x) -> None:
        super().__init__()
        self.rounded, self.number = rounded, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in ("mm", "bmm", "baddbmm_"):
            self.number += 1
            kept = 1 if name == "baddbmm_" else 0  # what is added to is no factor
            args = (*args[:kept], *(self.rounded(x) if isinstance(x, torch.Tensor) else x for x in args[kept:]))
        return function(*args, **(kwargs or {}))


def as_tf32(x: torch.Tensor) -> torch.Tensor:
    """Round to ten bits behind the point."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("shape", [(32, 864), (128, 3456)])
@pytest.mark.parametrize("kind", ["drawn", "decaying", "four large"])
def test_where_tf32_is_forced_the_result_stays_near(shape: tuple[int, int], kind: str) -> None:
    """As NVIDIA's own switch does, whatever PyTorch is told."""
    spectra = {
        "decaying": torch.logspace(0, -4, shape[0]),
        "four large": torch.cat([torch.ones(4), torch.full((shape[0] - 4,), 1e-3)]),
    }
    u, _, v = torch.linalg.svd(drawn(*shape), full_matrices=False)
    matrix = u * spectra[kind] @ v if kind in spectra else drawn(*shape)
    (exact,) = orthogonal([matrix])
    with Products(as_tf32):
        (rough,) = orthogonal([matrix])
    assert (rough - exact).norm() < 0.06 * exact.norm()
    assert torch.linalg.svdvals(rough).max() < 1.3


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_the_hosts_precision_of_products_changes_nothing(precision: str) -> None:
    matrices = [drawn(64, 1728), drawn(27, 30)]
    expected = orthogonal(matrices)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        found = orthogonal(matrices)
        with torch.autocast("cpu", torch.bfloat16):
            within = orthogonal(matrices)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)
    for one, other, third in zip(expected, found, within, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, third)


def test_kernels_in_bfloat16_are_computed_in_float32() -> None:
    matrix = drawn(32, 864).bfloat16()
    (found,) = orthogonal([matrix])
    assert found.dtype is torch.bfloat16
    assert torch.equal(found, orthogonal([matrix.float()])[0].bfloat16())


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
    theirs = torch.optim.Muon([matrix], 0.02, 0.01, ns_steps=ITERATIONS)
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
