"""Errors of a GPU as one line with a way on: no kernels for it, taken by another, too old a driver, failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nnunet_rs.core.errors import NnunetError, TrainingError, first_line, is_out_of_memory

RESUMED = "`train --resume` goes on from the last checkpoint"
_MUCH = 0.1  # of a GPU's memory: more than what CUDA itself takes for a process
# What CUDA's errors contain, and what to do; {device} and {version} (of PyTorch) are filled in.
_CAUSES = {
    "no kernel image": "PyTorch {version} has no kernels for {device}: install a build for it (pytorch.org), or use "
    "--device cpu",
    "not compatible with devices": "the cuDNN of PyTorch {version} has no kernels for {device}: install a build for it "
    "(pytorch.org), or use --device cpu",
    "busy or unavailable": "{device} cannot be used: another process has it for itself (nvidia-smi lists processes "
    "and the compute mode); wait for that, name another GPU by --device cuda:1, or use --device cpu",
    "driver version is insufficient": "the NVIDIA driver is too old for PyTorch {version}: update it, install a "
    "PyTorch for an older CUDA, or use --device cpu",
    "driver on your system is too old": "the NVIDIA driver is too old for PyTorch {version}: update it, install a "
    "PyTorch for an older CUDA, or use --device cpu",
}


@contextmanager
def gpu_errors_explained(
    device: torch.device, onward: str = RESUMED, kind: type[NnunetError] = TrainingError
) -> Iterator[None]:
    """Turn errors of CUDA within the block, but for memory, into one line.

    Raises
    ------
    TrainingError
        In place of PyTorch's error; or another `kind`. `onward` says how to go on after a failure in the middle.
    """
    try:
        yield
    except RuntimeError as error:
        said = explained(error, device, onward)
        if not said:
            raise
        raise kind(said) from error


def explained(error: RuntimeError, device: torch.device, onward: str = RESUMED) -> str:
    """Say what an error of CUDA means and what to do; nothing: it is none, or one of memory."""
    text = str(error)
    if device.type != "cuda" or is_out_of_memory(error):
        return ""
    for cause, advice in _CAUSES.items():
        if cause in text:
            return advice.format(device=device, version=torch.__version__)
    if "CUDA error" not in text and "CUDA driver error" not in text:
        return ""
    return (
        f"{device} failed ({first_line(error)}): the system's log and nvidia-smi say more; {onward}. Should it "
        "come again in the same place, CUDA_LAUNCH_BLOCKING=1 and -v show where"
    )


def taken_by_others(device: torch.device) -> str:
    """Say how much of a GPU's memory other processes hold; nothing: little."""
    if device.type != "cuda":
        return ""
    free, total = torch.cuda.mem_get_info(device)
    others = total - free - torch.cuda.memory_reserved(device)
    return f"others hold {others / 1e9:.1f} of its {total / 1e9:.1f} GB" if others > _MUCH * total else ""
