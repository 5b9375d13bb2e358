"""An iteration's network and loss as one function, which torch.compile makes faster on GPUs where it can."""

from __future__ import annotations

import math
import os
import shutil
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from nnunet_rs.core.errors import TrainingError, first_line, is_out_of_memory
from nnunet_rs.model.config import TrainingConfig
from nnunet_rs.model.device import Compute
from nnunet_rs.model.plugins import is_own

# Data (b, c, *patch_size) and class indices (b, *patch_size) -> the batch's loss, a scalar.
BatchLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]

FEWEST_ITERATIONS = 2500  # which a minute of compiling pays for
SHORTEST = 900.0  # seconds of a time budget
_LONGEST = 200  # characters of an error that are shown
_CAPABILITY = (7, 0)  # the oldest GPUs that Triton compiles for


@dataclass(slots=True)
class GradientStep:
    """Loss and gradients of a batch, by compiled code as long as that works.

    The code is compiled in the first iteration, forward and backward. What goes wrong there is told in one line, and
    the training goes on without; if compiling was asked for, it is an error.
    """

    plain: BatchLoss
    compiled: BatchLoss | None
    required: bool  # compiling was asked for
    say: Callable[[str], object]
    worked: bool = False  # the compiled code has run

    def __call__(
        self, batch: tuple[Tensor, Tensor], weights: Iterable[nn.Parameter], scale: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Add the gradients of scale(loss) to the weights', and return the loss, on the device.

        Raises
        ------
        TrainingError
            The code cannot be compiled, and that was asked for.
        """
        if self.compiled is None:
            return _backward(self.plain, batch, scale)
        try:
            loss = _backward(self.compiled, batch, scale)
        except Exception as error:
            if self.worked or is_out_of_memory(error):
                raise
            if self.required:
                _explain(error)
                raise
            self.say(
                f"warning: compiling failed, training goes on without ({_shortened(error)}); --no-compile skips it"
            )
        else:
            self.worked = True
            return loss
        self.compiled = None
        for weight in weights:
            weight.grad = None
        return _backward(self.plain, batch, scale)


def batch_loss(network: Callable[[Tensor], Any], loss: Callable[[Any, Tensor], Tensor], compute: Compute) -> BatchLoss:
    """Return network and loss as one function."""

    def of_batch(data: Tensor, labels: Tensor) -> Tensor:
        with compute.autocast():
            outputs = network(data)
        return loss(outputs, labels)

    return of_batch


def gradient_step(
    network: nn.Module,
    loss: Callable[[Any, Tensor], Tensor],
    compute: Compute,
    *,
    asked: bool | None,
    config: TrainingConfig,
    shared: bool,
    say: Callable[[str], object],
) -> GradientStep:
    """Return how an iteration computes its gradients: compiled if that is asked for, or by default where it pays.

    Parameters
    ----------
    network, loss
        On the device.
    compute
        Where and in which precision.
    asked
        True: compile, False: do not; None: on CUDA, where Triton and a C compiler are there and the training is long
        enough.
    config
        Of the training: how long it is.
    shared
        Several processes train the network. Then it is compiled alone, for the loss waits for the others' sums; so it
        is with a loss of the user's own, which may do anything.
    say
        Told of what is done.
    """
    plain, required = batch_loss(network, loss, compute), asked is True
    if asked is None and compute.device.type == "cuda":
        reason = missing_for_compiling(compute.device) or _too_short(config)
        if reason:
            say(f"not compiled: {reason}")
        asked = not reason
    if not asked:
        return GradientStep(plain, None, False, say)
    say("compiling network and loss in the first iteration, which takes a minute (--no-compile skips it)")
    if shared or is_own(config.loss):
        compiled = batch_loss(torch.compile(network, dynamic=False), loss, compute)
    else:
        compiled = torch.compile(plain, dynamic=False)
    return GradientStep(plain, compiled, required, say)


def missing_for_compiling(device: torch.device) -> str:
    """Say what torch.compile lacks for a CUDA device, and what to do; nothing: it is all there."""
    capability = torch.cuda.get_device_capability(device)
    if capability < _CAPABILITY:
        return f"Triton compiles for compute capability 7.0 and newer, this GPU has {capability[0]}.{capability[1]}"
    if find_spec("triton") is None:
        return "Triton is not installed (PyTorch's own builds for Linux bring it); pip install triton"
    if os.name == "nt":
        return ""  # Triton's builds for Windows bring a compiler
    if not any(shutil.which(name) for name in (os.environ.get("CC"), "gcc", "clang", "cc") if name):
        return "there is no C compiler, which Triton needs; install gcc (apt-get install gcc), or name one by CC"
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.is_file():
        return f"{header} is not there, which Triton needs; install Python's headers (apt-get install python3-dev)"
    return ""


def _too_short(config: TrainingConfig) -> str:
    budget = config.time_budget or math.inf
    if budget < SHORTEST:
        return f"a training of {budget / 60:.3g} minutes ends before that pays (--compile does it all the same)"
    if config.iterations < FEWEST_ITERATIONS:
        return f"a training of {config.iterations} iterations ends before that pays (--compile does it all the same)"
    return ""


def _backward(loss_of: BatchLoss, batch: tuple[Tensor, Tensor], scale: Callable[[Tensor], Tensor]) -> Tensor:
    loss = loss_of(*batch)
    scale(loss).backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def _explain(error: Exception) -> None:
    """Turn what the compiler could not do into one line."""
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import

    if isinstance(error, TorchDynamoException):
        raise TrainingError(
            f"the network cannot be compiled ({_shortened(error)}); see that there is a C and C++ compiler (gcc and "
            "g++, or what CC and CXX name) and Python's headers, or train with --no-compile"
        ) from error


def _shortened(error: Exception) -> str:
    """Return what an error says first; a command that failed is long."""
    line = first_line(error)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"
