"""Muon: steps along the nearest orthogonal matrix, for convolutions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from nnunet_rs.model.float32_precision import full_float32

MOMENTUM = 0.95
ADAM_RATE = 0.1  # of what is no kernel, as a part of the kernels' rate
ADAM_BETAS = (0.9, 0.95)
POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # drives singular values of (0, 1] to about 1, steepest at 0
ITERATIONS = 3  # five, as is usual, made no network better in our trials (docs/log.md), and take nearly twice as long
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
        # Of the others' group alone: of the optimiser it would say that the kernels' step scales gradients too.
        fused = bool(others) and all(p.is_cuda for p in others)
        groups: list[dict[str, Any]] = [
            {"params": kernels, "lr": lr, "foreach": True},
            {"params": others, "lr": lr * ADAM_RATE, "foreach": not fused, "fused": fused},
        ]
        super().__init__([group for group in groups if group["params"]], betas=ADAM_BETAS, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step; the kernels' gradients are gone afterwards, so that AdamW leaves them alone."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            kernels: list[Tensor] = [p for p in group["params"] if p.grad is not None and is_kernel(p)]
            if kernels:
                self._step_kernels(kernels, group["lr"], group["weight_decay"])
        super().step()
        return loss

    def _step_kernels(self, kernels: list[Tensor], rate: float, decay: float) -> None:
        """Step all kernels together: on a GPU each of these lines is a launch or two."""
        gradients = [kernel.grad for kernel in kernels if kernel.grad is not None]
        momenta = [self._momentum(kernel) for kernel in kernels]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # where Nesterov's rule looks
        steps = orthogonal([matrix.flatten(1) for matrix in ahead])
        torch._foreach_mul_(kernels, 1 - rate * decay)
        alike: dict[float, list[int]] = defaultdict(list)  # kernels of the same rate
        for place, step in enumerate(steps):
            alike[max(1.0, step.shape[0] / step.shape[1]) ** 0.5].append(place)
        for factor, places in alike.items():
            changes = [steps[place].view_as(kernels[place]) for place in places]
            torch._foreach_add_([kernels[place] for place in places], changes, alpha=-rate * factor)
        for kernel in kernels:
            kernel.grad = None

    def _momentum(self, kernel: Tensor) -> Tensor:
        """Return a kernel's momentum, and count the step, which AdamW looks for in every state."""
        state = self.state[kernel]
        if not state:
            state.update(step=torch.tensor(0.0), momentum_buffer=torch.zeros_like(kernel))
        state["step"] += 1
        momentum: Tensor = state["momentum_buffer"]
        return momentum


def is_kernel(parameter: Tensor) -> bool:
    """Whether this is a convolution's weight, (out, in, *size), of more than one voxel."""
    return parameter.ndim > 2 and prod(parameter.shape[2:]) > 1


def orthogonal(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Return about the orthogonal matrix nearest to each matrix, UVᵀ of USVᵀ, by a Newton-Schulz iteration.

    Singular values come out between 0.7 and 1.1, which is near enough; those far below the greatest are raised some
    forty times. Each of the steps multiplies X by the polynomial aI + bXXᵀ + c(XXᵀ)². The polynomials are multiplied
    with each other before they meet X: a kernel as a matrix is many times longer than high, so that all but two
    products are of its height squared. All of it in float32, whatever the host program lets products of float32 be
    computed in.
    """
    if not matrices:
        return []
    device = matrices[0].device
    wide = [x.T if x.shape[0] > x.shape[1] else x for x in matrices]
    with full_float32(), torch.autocast(device.type, enabled=False):
        stacks = _stacked([x if x.dtype is torch.float64 else x.float() for x in wide])
        for together in _together(stacks):
            _iterate(together)
    nearest = list(wide)
    for stack in stacks:
        for place, x in zip(stack.places, stack.matrices, strict=True):
            nearest[place] = x.to(matrices[place].dtype)
    return [x if x.shape == matrix.shape else x.T for x, matrix in zip(nearest, matrices, strict=True)]


@dataclass(slots=True, eq=False)
class _Stack:
    """Matrices of one shape."""

    places: list[int]  # in the list of all
    matrices: Tensor  # (k, n, m), n <= m


def _stacked(wide: Sequence[Tensor]) -> list[_Stack]:
    """Stack matrices of one shape: a GPU multiplies them by one launch. A processor gains nothing by the copies."""
    alike: dict[Any, list[int]] = defaultdict(list)
    for place, x in enumerate(wide):
        alike[x.shape if _stacks(x) else place].append(place)
    return [
        _Stack(places, torch.stack([wide[p] for p in places]) if len(places) > 1 else wide[places[0]].unsqueeze(0))
        for places in alike.values()
    ]


def _together(stacks: Sequence[_Stack]) -> list[list[_Stack]]:
    """Group what goes the steps together: on a processor stacks of one height, else all, filled up with zeros."""
    groups: dict[int, list[_Stack]] = defaultdict(list)
    for stack in stacks:
        groups[0 if _stacks(stack.matrices) else stack.matrices.shape[1]].append(stack)
    return list(groups.values())


def _stacks(x: Tensor) -> bool:
    """Whether few launches count more than few computations."""
    return x.device.type != "cpu"


def _iterate(stacks: Sequence[_Stack]) -> None:
    """Bring every X its iterations further, beginning with X / ‖X‖, whose square is XXᵀ's trace."""
    height = max(stack.matrices.shape[1] for stack in stacks)
    squares = stacks[0].matrices.new_zeros((sum(len(stack.places) for stack in stacks), height, height))
    parts = _parts(squares, stacks)
    for stack, part in zip(stacks, parts, strict=True):
        _multiply(stack.matrices, stack.matrices.mT, part)
    norms = squares.diagonal(dim1=1, dim2=2).sum(1).clamp_(min=SMALL**2)[:, None, None]  # squared
    products = _polynomials(squares.div_(norms)).mul_(norms.rsqrt_())
    for stack, part in zip(stacks, _parts(products, stacks), strict=True):
        stack.matrices = _multiply(part, stack.matrices)


def _parts(squares: Tensor, stacks: Sequence[_Stack]) -> list[Tensor]:
    """Return where each stack's squares (k, n, n) lie among all, (sum of k, height, height)."""
    parts, start = [], 0
    for stack in stacks:
        count, n, _ = stack.matrices.shape
        parts.append(squares[start : start + count, :n, :n])
        start += count
    return parts


def _multiply(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """Return left @ right, (k, n, m); a single product as one of matrices, which processors share among threads."""
    if len(left) > 1:
        return torch.bmm(left, right) if out is None else torch.bmm(left, right, out=out)
    if out is None:
        return torch.mm(left[0], right[0]).unsqueeze(0)
    torch.mm(left[0], right[0], out=out[0])
    return out


def _polynomials(squares: Tensor) -> Tensor:
    """Return the product of the iterations' polynomials for each XXᵀ, (k, n, n)."""
    a, b, c = POLYNOMIAL
    identity = a * torch.eye(squares.shape[1], device=squares.device, dtype=squares.dtype)
    product: Tensor | None = None
    for left in range(ITERATIONS, 0, -1):
        factor = torch.add(identity, squares, alpha=b).baddbmm_(squares, squares, alpha=c)
        product = factor if product is None else factor @ product
        if left > 1:
            squares = factor @ squares @ factor
    assert product is not None
    return product
