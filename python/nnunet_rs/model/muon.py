"""Muon: steps along the nearest orthogonal matrix, for convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

MOMENTUM = 0.95
ADAM_RATE = 0.1  # of what is no kernel, as a part of the kernels' rate
ADAM_BETAS = (0.9, 0.95)
POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # drives singular values of (0, 1] to about 1, steepest at 0
ITERATIONS = 5
SMALL = 1e-7  # the least norm that is divided by


class Muon(AdamW):
    """Muon for kernels of more than one voxel, AdamW at a tenth of the rate for all else.

    A kernel's momentum, as a matrix (first axis, all others), is replaced by the orthogonal matrix nearest to it: every
    direction that the gradients share is stepped along by the same length, also those in which they are small.

    Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); `torch.optim.Muon`, which takes
    matrices alone, does the same steps.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float = 0.02, weight_decay: float = 0.01) -> None:
        """Take a network's parameters; `lr` is that of kernels, decay is decoupled from the gradients."""
        every = list(parameters)
        kernels = [p for p in every if is_kernel(p)]
        others = [p for p in every if not is_kernel(p)]
        groups: list[dict[str, Any]] = [
            {"params": kernels, "lr": lr},
            {"params": others, "lr": lr * ADAM_RATE},
        ]
        super().__init__(
            [group for group in groups if group["params"]], betas=ADAM_BETAS, weight_decay=weight_decay, foreach=True
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step; the kernels' gradients are gone afterwards, so that AdamW leaves them alone."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            kernels = [p for p in group["params"] if is_kernel(p) and p.grad is not None]
            steps = orthogonal([self._ahead(kernel) for kernel in kernels])
            for kernel, step in zip(kernels, steps, strict=True):
                rows, columns = step.shape
                rate = group["lr"] * max(1.0, rows / columns) ** 0.5
                kernel.mul_(1 - group["lr"] * group["weight_decay"]).add_(step.view_as(kernel), alpha=-rate)
                kernel.grad = None
        super().step()
        return loss

    def _ahead(self, kernel: Tensor) -> Tensor:
        """Take a kernel's gradient into its momentum; returns where Nesterov's rule looks, as a matrix."""
        gradient, state = kernel.grad, self.state[kernel]
        assert gradient is not None
        if not state:
            state.update(step=torch.tensor(0.0), momentum_buffer=torch.zeros_like(kernel))
        state["step"] += 1  # which AdamW looks for in every state
        momentum: Tensor = state["momentum_buffer"]
        momentum.lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(momentum, MOMENTUM).flatten(1)


def is_kernel(parameter: Tensor) -> bool:
    """Whether this is a convolution's weight, (out, in, *size), of more than one voxel."""
    return parameter.ndim > 2 and parameter[0, 0].numel() > 1


def orthogonal(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Return about the orthogonal matrix nearest to each matrix, UVᵀ of USVᵀ, by a Newton-Schulz iteration.

    Singular values come out between 0.7 and 1.2, which is near enough; those far below the greatest are raised some
    hundred times. Each of the five steps multiplies X by the polynomial aI + bXXᵀ + c(XXᵀ)². The polynomials are
    multiplied with each other before they meet X: a kernel as a matrix is many times longer than high, so that all but
    two products are of its height squared; and kernels of the same height go these steps together.
    """
    wide = [x.T if x.shape[0] > x.shape[1] else x for x in matrices]
    wide = [x / x.norm().clamp(min=SMALL) for x in wide]
    nearest = list(wide)
    for height in {len(x) for x in wide}:
        places = [place for place, x in enumerate(wide) if len(x) == height]
        products = _polynomials(torch.stack([wide[place] @ wide[place].T for place in places]))
        for place, product in zip(places, products, strict=True):
            nearest[place] = product @ wide[place]
    return [x if x.shape == matrix.shape else x.T for x, matrix in zip(nearest, matrices, strict=True)]


def _polynomials(squares: Tensor) -> Tensor:
    """Return the product of all steps' polynomials for each XXᵀ, (k, n, n)."""
    identity = torch.eye(squares.shape[1], device=squares.device, dtype=squares.dtype)
    product = identity.expand_as(squares)
    a, b, c = POLYNOMIAL
    for _ in range(ITERATIONS):
        factor = torch.baddbmm(torch.add(a * identity, squares, alpha=b), squares, squares, alpha=c)
        product, squares = factor @ product, factor @ squares @ factor
    return product
