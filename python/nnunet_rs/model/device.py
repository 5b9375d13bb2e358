"""Where and in which precision a network computes."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nnunet_rs.core.allocator import freed_memory_kept
from nnunet_rs.core.choices import Precision
from nnunet_rs.core.errors import NnunetError, TrainingError, first_line, is_out_of_memory
from nnunet_rs.core.forked import Unforked
from nnunet_rs.core.restored import Restored
from nnunet_rs.core.types import Shape
from nnunet_rs.model.float32_precision import full_float32
from nnunet_rs.model.gpu_errors import taken_by_others
from nnunet_rs.model.gpu_versions import version_problem, why_no_gpu
from nnunet_rs.model.instructions import bfloat16_bounded, bounded_instructions

_TENSOR_CORES, _BFLOAT16 = 7, 8  # compute capability since which there are such: Volta, Ampere
_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Compute:
    """A device, and the number type of its convolutions; weights, norms' statistics and losses stay float32."""

    device: torch.device
    dtype: torch.dtype
    channels_last: bool = False
    remark: str = ""  # what the user should know of the choice

    def autocast(self) -> torch.autocast:
        """Return the context in which forward passes run."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32)

    def memory(self) -> AbstractContextManager[None]:
        """Return the context in which the network takes memory: what it has freed on a processor is kept for it."""
        return freed_memory_kept() if self.device.type == "cpu" else nullcontext()

    def products(self) -> AbstractContextManager[None]:
        """Return the context in which the process computes: float32 means no TF32 in convolutions and products."""
        return full_float32() if self.dtype is torch.float32 else nullcontext()

    def scaler(self) -> torch.amp.GradScaler:
        """Return the gradient scaler, which passes everything through unless the type is float16."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)

    def to_device(self, network: nn.Module, dims: int) -> nn.Module:
        """Move a network to the device, in the memory layout of its data."""
        return network.to(self.device, memory_format=self.layout(dims))  # type: ignore[call-overload,no-any-return]

    def layout(self, dims: int) -> torch.memory_format:
        """Return the memory layout of feature maps with two or three spatial dimensions."""
        if not self.channels_last:
            return torch.contiguous_format
        return torch.channels_last if dims == 2 else torch.channels_last_3d

    def describe(self) -> str:
        """Return device, number type, an unusual memory layout, and whether versions are known to compute wrongly."""
        if self.device.type != "cuda":
            return f"{self.device}, {self.arithmetic()}"
        problem = " (see doctor: its PyTorch or cuDNN is not to be used)" if version_problem(self.dtype) else ""
        return f"{torch.cuda.get_device_name(self.device)}, {self.arithmetic()}{problem}"

    def arithmetic(self) -> str:
        """Return the number type and an unusual memory layout, for people."""
        return str(self.dtype).removeprefix("torch.") + (", channels last" if self.channels_last else "")


def find_device(name: str = "auto") -> torch.device:
    """Return the device of this name, a GPU with its index; `auto` is CUDA where there is one.

    Raises
    ------
    NnunetError
        The name is none, or the machine has no such device.
    """
    if name == "auto":
        name = "cuda" if not why_no_gpu() and torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise NnunetError(f"device {name!r}: unknown; use auto, cpu, cuda, cuda:1, mps") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        why = f" ({why_no_gpu()})" if why_no_gpu() else ""
        raise NnunetError(
            f"device {name}: this machine has {torch.cuda.device_count()} CUDA devices that PyTorch "
            f"{torch.__version__} can use{why}; use cpu, or install a PyTorch that fits the driver"
        )
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())  # which some of PyTorch's functions ask for
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise NnunetError("device mps: PyTorch cannot use it on this machine; use cpu")
    return device


def find_devices(names: str = "auto") -> tuple[str, ...]:
    """Return the devices that are named, separated by commas; `auto` is every CUDA device where there are several.

    The same device may be named twice, and then does two things at a time.

    Raises
    ------
    NnunetError
        As `find_device`.
    """
    if names == "auto" and torch.cuda.device_count() > 1:
        return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    found = tuple(name.strip() for name in names.split(","))
    for name in found:
        find_device(name)
    return found


def choose_compute(device: torch.device, precision: Precision = "auto", channels_last: bool | None = None) -> Compute:
    """Return how to compute on a device.

    Parameters
    ----------
    device
        From `find_device`.
    precision
        `auto`: bfloat16 where the device multiplies it natively (twice the speed of float32 on processors with
        AVX-512 BF16 or AMX), else float16 on GPUs since Volta, else float32. float32 is computed without TF32.
    channels_last
        None: no; a training on a processor measures (`model.measured_compute`). On CUDA it gains nothing yet: PyTorch's
        norms return feature maps in the usual layout, and each convolution turns them again.

    On a processor with AMX oneDNN is kept from it (`bounded_instructions`), by an environment variable of this process;
    where it is too late for that, 16 bits become float32, and `remark` says so.
    """
    require_unforked()
    dtype = _native_type(device) if precision == "auto" else _TYPES[precision]
    if device.type == "cpu":
        instructions = bounded_instructions()
        if dtype is not torch.float32 and not instructions.safe:
            remark = f"computing in float32, not {str(dtype).removeprefix('torch.')}: {instructions.reason}"
            return Compute(device, torch.float32, bool(channels_last), remark)
    problem = version_problem(dtype) if device.type == "cuda" else ""
    return Compute(device, dtype, bool(channels_last), f"warning: {problem}" if problem else "")


_UNFORKED = Unforked("PyTorch", "call torch.set_num_threads(1) first")


def require_unforked() -> None:
    """Check that this process was not forked from one that computes with PyTorch; to be called before it is used.

    With a single thread there are none that a fork would leave behind.

    Raises
    ------
    NnunetError
        It was.
    """
    if torch.get_num_threads() > 1:
        _UNFORKED.require()


def batch_memory(device: torch.device, shape: Shape, kind: Any) -> NDArray[Any]:
    """Return memory for a batch; for CUDA in pages that the GPU fetches by itself, while others are computed.

    PyTorch reuses such pages, and not before the copies from them are done, if these begin at the first byte: who
    copies a part of a batch keeps the batch until that is done (`pending_losses` does).
    """
    memory = np.empty(shape if device.type != "cuda" else 0, kind)
    if device.type != "cuda":
        return memory
    return torch.empty(shape, dtype=torch.from_numpy(memory).dtype, pin_memory=True).numpy()


def release_memory(device: torch.device, error: BaseException | None = None) -> None:
    """Free what PyTorch keeps idle of a device's memory, and what a computation that failed still holds.

    That is the tensors in the functions that its error came through.
    """
    if error is not None:
        traceback.clear_frames(error.__traceback__)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps" and torch.backends.mps.is_available():
        torch.mps.empty_cache()


_GPU_WORDS = ("CUDA", "CUDNN", "CUBLAS", "HIP", "MPS", "engine")  # in errors that are no torch.OutOfMemoryError


@contextmanager
def out_of_memory_explained(
    advice: str, device: torch.device | None = None, kind: type[NnunetError] = TrainingError
) -> Iterator[None]:
    """Turn an allocation that failed, on the device or on the processor, into one line that says what to change.

    With a device it says too what other processes hold of its memory.

    Raises
    ------
    TrainingError
        In place of PyTorch's error; or another `kind`.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        on_gpu = isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in _GPU_WORDS)
        which = "GPU memory" if on_gpu else "memory"
        # PyTorch goes on about its own settings.
        said = f" ({first_line(error).partition('. Of the allocated')[0]})" if str(error) else ""
        others = taken_by_others(device) if on_gpu and device is not None else ""
        raise kind(f"out of {which}{said}; {f'{others}; ' if others else ''}{advice}") from error


@contextmanager
def kernels_measured() -> Iterator[None]:
    """Let cuDNN measure its kernels once and take the fastest: all patches have one size."""
    with _BENCHMARK():
        torch.backends.cudnn.benchmark = True
        yield


def _benchmark(value: bool) -> None:
    torch.backends.cudnn.benchmark = value


_BENCHMARK = Restored(lambda: torch.backends.cudnn.benchmark, _benchmark)


def _native_type(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        if major < _TENSOR_CORES:
            return torch.float32  # float16 is no faster there
        return torch.bfloat16 if major >= _BFLOAT16 else torch.float16
    if device.type == "cpu" and any(_processor_has(name) for name in ("avx512_bf16", "amx_tile")):
        return torch.float32 if bfloat16_bounded() else torch.bfloat16
    return torch.float32


def _processor_has(instructions: str) -> bool:
    """Whether PyTorch finds these instructions; it tells since 2.5 or later, older ones count as no."""
    asked = getattr(torch.cpu, f"_is_{instructions}_supported", None)
    return bool(asked and asked())
