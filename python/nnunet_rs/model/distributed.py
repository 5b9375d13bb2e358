"""Several processes that train one network: who does what, and what they must agree on.

Every process holds the network and takes its share of each batch. Losses are those of the whole batch: their sums run
over all processes, so that batch Dice and ignored voxels count as in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from nnunet_rs.core.errors import PlanError, TrainingError

_PATIENCE = timedelta(days=1)  # others wait while the first one predicts; a process that dies is noticed at once
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The processes of one training, as one of them sees them; by default it is alone."""

    rank: int = 0
    size: int = 1
    control: Any = None  # the process group in which they agree: on processors, so that no GPU is waited for

    @property
    def is_rank_0(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all processes; a gradient goes back to this process's own values.

        The gradients of all processes together are then those of the whole.
        """
        return values if self.size == 1 else _Total.apply(values)  # type: ignore[no-untyped-call]

    def agree(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """Return rank 0's seconds, and whether any process is asked to stop; all must call it."""
        if self.size == 1:
            return seconds, stop
        said = torch.tensor([seconds if self.is_rank_0 else 0.0, float(stop)], dtype=torch.float64)
        dist.all_reduce(said, group=self.control)
        return float(said[0]), bool(said[1] > 0)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier(group=self.control)

    def check_batch(self, batch_size: int) -> None:
        """Check that every process gets a sample of a batch.

        Raises
        ------
        PlanError
            There are more processes than samples.
        """
        if batch_size < self.size:
            raise PlanError(
                f"batch size is {batch_size}: {self.size} processes need at least one sample each; start fewer, or "
                "train with a larger --batch-size"
            )

    def prepare(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Let batch norms use the statistics of the whole batch; to be called before the optimiser is built.

        Raises
        ------
        PlanError
            They cannot, on processors.
        """
        if self.size == 1 or not any(isinstance(module, _BATCH_NORMS) for module in network.modules()):
            return network
        if device.type != "cuda":
            raise PlanError(
                "batch norm: PyTorch shares its statistics among GPUs only; use --norm instance, or one process"
            )
        synchronised: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return synchronised

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return what computes like the network and brings the mean of all processes' gradients to each."""
        if self.size == 1:
            return network
        return DistributedDataParallel(network, gradient_as_bucket_view=True)


class _Total(torch.autograd.Function):
    """The sum over all processes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return gradient


def is_shared() -> bool:
    """Whether this process is one of several that train one network."""
    return dist.is_available() and dist.is_initialized()


def is_rank_0() -> bool:
    """Whether this process is the one that writes files and speaks; alone it is."""
    return not is_shared() or dist.get_rank() == 0


def current_group() -> ProcessGroup:
    """Return the processes of the default process group; one alone where there is none. All must call it."""
    if not is_shared():
        return ProcessGroup()
    return ProcessGroup(dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo", timeout=_PATIENCE))


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Join the processes that `torchrun` started, by the environment it gave them, and leave them at the end.

    Raises
    ------
    TrainingError
        Another process is gone.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield
        dist.barrier()
    except RuntimeError as error:
        if any(word in str(error) for word in ("Connection closed by peer", "Connection reset by peer", "NCCL")):
            raise TrainingError("another process of this training is gone; its own message says why") from error
        raise
    finally:
        dist.destroy_process_group()


class SharedLoss(nn.Module):
    """The mean of a loss over the samples of all processes, for losses that know nothing of others."""

    def __init__(self, loss: Callable[[Any, Tensor], Tensor], group: ProcessGroup) -> None:
        """Wrap `loss`, which sees this process's samples."""
        super().__init__()
        self.loss, self.group = loss, group

    def forward(self, outputs: Any, target: Tensor) -> Tensor:
        """Return the mean over all processes, each weighing as many as its samples (b, *size)."""
        own: Tensor = self.loss(outputs, target)
        if self.group.size == 1:
            return own
        count = own.new_full((), len(target))  # made on the device, which is not waited for
        sums = self.group.total(torch.stack((own * count, count)))
        return sums[0] / sums[1]
