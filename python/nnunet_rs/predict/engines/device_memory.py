"""The memory of a device of PyTorch's: how much is free, what does not fit, and the way to the computer's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from nnunet_rs.core.errors import is_out_of_memory
from nnunet_rs.core.types import FloatArray, Shape
from nnunet_rs.model.device import release_memory
from nnunet_rs.model.gpu_errors import taken_by_others
from nnunet_rs.predict.engines.engine import TooManyWindowsError

PLENTY = 1 << 62  # where nothing tells: found out by trying


def idle_memory(device: torch.device) -> int:
    """Count the bytes that PyTorch holds of a device's memory and does not use."""
    if device.type != "cuda":
        return 0
    return torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def free_memory(device: torch.device) -> int:
    """Count the bytes that tensors may take: what the driver has free, and what PyTorch holds and does not use."""
    if device.type != "cuda":
        return PLENTY
    return torch.cuda.mem_get_info(device)[0] + idle_memory(device)


@contextmanager
def fitting(device: torch.device) -> Iterator[None]:
    """Let memory that runs out say that there are too many windows.

    Raises
    ------
    TooManyWindowsError
        In place of whatever error says that an allocation failed.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        release_memory(device, error)
        raise TooManyWindowsError(str(device), taken_by_others(device)) from error


def pinned(shape: Shape, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return memory that a CUDA device reads and writes by itself, while others compute; ordinary if none is left."""
    if device.type == "cuda":
        try:
            return torch.empty(shape, dtype=dtype, pin_memory=True)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
    return torch.empty(shape, dtype=dtype)


def fetch(scores: Tensor) -> Callable[[], FloatArray]:
    """Begin to copy float32 scores to the computer's memory; what is returned waits until they are there."""
    if scores.device.type != "cuda":
        values = scores.cpu().numpy()
        return lambda: values
    here = pinned(scores.shape, scores.dtype, scores.device)
    here.copy_(scores, non_blocking=True)
    arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # the thread that waits sleeps: it is to leave its processor to others
    arrived.record(torch.cuda.current_stream(scores.device))

    def wait() -> FloatArray:
        arrived.synchronize()
        return here.numpy()

    return wait
