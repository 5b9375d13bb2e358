"""PyTorch's CUDA build on a pretended GPU: how it is built and begun, what it counts, and cuDNN's part of it.

`pretended_gpu.c` says what is pretended. cuDNN cannot be: it asks the driver for more than a runtime's functions.
Convolutions and its norms, which allocate their results and count their launches, stand here instead, once
`take_cudnns_place` was called.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("pretended_gpu.c")
LIBRARY = "libpretendedgpu.so"
COUNTED = (
    "launches",
    "waits",
    "copies_in",
    "copies_out",
    "copies_within",
    "pageable_in",
    "pageable_out",
    "pinned",
    "refused",
)


def why_not() -> str:
    """Say why there can be no pretended GPU; empty where there can."""
    if not sys.platform.startswith("linux"):
        return "a GPU is pretended by LD_PRELOAD, which is Linux'"
    if importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed"
    import torch

    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is not a build for CUDA"
    if compiler() is None:
        return "there is no C compiler (gcc, cc, or what CC names)"
    return "" if _headers() else "the headers of the CUDA runtime (driver_types.h) are not beside PyTorch"


def compiler() -> str | None:
    """Return the C compiler."""
    return next(filter(None, map(shutil.which, (os.environ.get("CC", "gcc"), "gcc", "cc"))), None)


def _headers() -> list[Path]:
    """Folders with CUDA's own headers, those of the version that PyTorch runs with first."""
    found: list[Path] = []
    for package, pattern in (("nvidia", "*/include"), ("triton", "backends/nvidia/include")):
        spec = importlib.util.find_spec(package)
        for folder in () if spec is None else spec.submodule_search_locations or ():
            found += sorted(Path(folder).glob(pattern))
    return found if any((folder / "driver_types.h").is_file() for folder in found) else []


def build(folder: Path) -> Path:
    """Compile the pretended GPU into a folder; returns the library."""
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / LIBRARY
    includes = [f"-I{include}" for include in _headers()]
    command = [
        str(compiler()),
        "-O2",
        "-shared",
        "-fPIC",
        "-w",
        *includes,
        "-o",
        str(library),
        str(SOURCE),
        "-lpthread",
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)
    driver = folder / "libcuda.so.1"  # which Triton and PyTorch open by this name
    driver.unlink(missing_ok=True)
    driver.symlink_to(library.name)
    return library


def environment(library: Path, *, gpus: int = 1, gib: float = 80, capability: str = "9.0") -> dict[str, str]:
    """Return the environment of a program that is to see the pretended GPU."""
    return os.environ | {
        "LD_PRELOAD": str(library),
        "LD_LIBRARY_PATH": str(library.parent),
        "PRETENDED_GPUS": str(gpus),
        "PRETENDED_GB": str(gib),
        "PRETENDED_CAPABILITY": capability,
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(gpus))),
    }


class Gpu:
    """The pretended GPU that this process was begun with."""

    def __init__(self) -> None:
        self._library: Any = ctypes.CDLL(None)
        self._library.pretended_count.restype = ctypes.c_long
        self._library.pretended_count.argtypes = [ctypes.c_char_p]
        self._library.pretended_used.restype = ctypes.c_long
        self._library.pretended_memory.argtypes = [ctypes.c_double]
        self._library.pretended_refuse_pinned.argtypes = [ctypes.c_long]
        self._library.pretended_launches.argtypes = [ctypes.c_long]

    def counts(self) -> dict[str, int]:
        """What was counted since `begin_count`."""
        return {name: self._library.pretended_count(name.encode()) for name in COUNTED}

    def begin_count(self) -> None:
        self._library.pretended_begin_count()

    def launched(self, count: int) -> None:
        self._library.pretended_launches(count)

    def set_memory(self, gib: float) -> None:
        self._library.pretended_memory(gib)

    def refuse_pinned(self, requests: int) -> None:
        """Let the next requests for pinned memory fail."""
        self._library.pretended_refuse_pinned(requests)

    def used(self, device: int = 0) -> int:
        """Bytes of a device's memory that are taken."""
        return int(self._library.pretended_used(device))


def take_cudnns_place(gpu: Gpu) -> None:
    """Let convolutions and cuDNN's norms on CUDA check devices and types, allocate results, and count launches."""
    import torch
    from torch import Tensor

    def every(values: Any, dims: int) -> list[int]:
        return list(values) * dims if len(values) == 1 else list(values)

    def layout(x: Tensor, weight: Tensor) -> torch.memory_format:
        last = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
        is_last = any(t.is_contiguous(memory_format=last) and not t.is_contiguous() for t in (x, weight))
        return last if is_last else torch.contiguous_format

    def convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups):
        for name, other in (("weight", weight), ("bias", bias)):
            if other is not None and (other.device, other.dtype) != (x.device, x.dtype):
                raise RuntimeError(f"input is {x.dtype} on {x.device}, {name} {other.dtype} on {other.device}")
        dims = weight.dim() - 2
        stride, padding, dilation, more = (every(v, dims) for v in (stride, padding, dilation, output_padding))
        size = []
        for n, k, s, p, d, extra in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, more, strict=True):
            reach = d * (k - 1)
            size.append((n - 1) * s - 2 * p + reach + extra + 1 if transposed else (n + 2 * p - reach - 1) // s + 1)
        channels = weight.shape[1] * groups if transposed else weight.shape[0]
        gpu.launched(1 if bias is None else 2)
        return torch.empty(
            (x.shape[0], channels, *size), dtype=x.dtype, device=x.device, memory_format=layout(x, weight)
        )

    def convolution_backward(
        gradient, x, weight, bias_sizes, stride, padding, dilation, transposed, output_padding, groups, wanted
    ):
        gpu.launched(sum(map(int, wanted)))
        return (
            torch.empty_like(x, memory_format=layout(x, weight)) if wanted[0] else None,
            torch.empty_like(weight) if wanted[1] else None,
            torch.empty(bias_sizes, dtype=weight.dtype, device=weight.device) if wanted[2] else None,
        )

    def batch_norm(x, weight, bias, mean, variance, training, factor, eps):
        gpu.launched(1)
        reserve = torch.empty(0, dtype=torch.uint8, device=x.device)
        return torch.empty_like(x), *(torch.empty(x.shape[1], device=x.device) for _ in range(2)), reserve

    def batch_norm_backward(x, gradient, weight, mean, variance, saved_mean, saved_variance, eps, reserve):
        gpu.launched(1)
        return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)

    library = torch.library.Library("aten", "IMPL")
    take_cudnns_place.library = library  # type: ignore[attr-defined]  # what is registered goes when this does
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that operators are registered anew
        library.impl("convolution", convolution, "CUDA")
        library.impl("convolution_backward", convolution_backward, "CUDA")
        library.impl("cudnn_batch_norm", batch_norm, "CUDA")
        library.impl("cudnn_batch_norm_backward", batch_norm_backward, "CUDA")
