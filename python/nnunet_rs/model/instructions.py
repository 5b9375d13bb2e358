"""Which instruction sets PyTorch's convolutions may use on a processor: not AMX, with which they damage memory.

oneDNN, which computes PyTorch's convolutions on processors, writes out of bounds in the backward pass of bfloat16
convolutions by AMX (seen with PyTorch 2.13 and 2.15: crashes, and barriers that are never left), and has wrong results
in some forward passes (pytorch#169688, pytorch#188426). With AVX-512 alone the same shapes are right. Which versions
are free of it is not known, so that every version is kept from AMX.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_rs.core.resources import processor

LIMIT = "AVX512_CORE_BF16"  # the most that has bfloat16 without AMX
VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # what oneDNN reads, once, when it is first used
_GET_PERMISSION, _TILES = 0x1022, 1 << 18  # of Linux's <asm/prctl.h>: ARCH_GET_XCOMP_PERM, XFEATURE_XTILEDATA
_ARCH_PRCTL = 158  # the system call's number on x86-64

# bounds below bfloat16, which is then slower than float32
_WITHOUT_BFLOAT16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")

# (channels in, channels out, kernel, stride, size), batch 2: of plans with thick slices, small enough for every machine
_Three = tuple[int, int, int]
TRIED: tuple[tuple[int, int, _Three, _Three, _Three], ...] = (
    (4, 4, (1, 3, 3), (1, 1, 1), (4, 112, 96)),
    (4, 8, (1, 3, 3), (1, 2, 2), (4, 112, 96)),
    (8, 8, (3, 3, 3), (1, 1, 1), (4, 56, 48)),
    (8, 4, (1, 1, 1), (1, 1, 1), (4, 112, 80)),
)


@dataclass(frozen=True, slots=True)
class Instructions:
    """What oneDNN is bounded to in this process, and why."""

    limit: str  # as oneDNN names instruction sets; empty: no bound
    reason: str
    safe: bool = True  # whether convolutions in 16 bits may be computed


@cache
def bounded_instructions() -> Instructions:
    """Keep oneDNN from AMX in this process and those it starts, where the processor has AMX; tell what came of it.

    The environment variable ONEDNN_MAX_CPU_ISA is set unless the user has set it, or DNNL_MAX_CPU_ISA: theirs holds.
    oneDNN reads it when it is first used. Whether it was used before is seen from the system: a process must ask Linux
    for AMX's registers, and oneDNN does so as soon as it may use them. Where that cannot be told, or somebody else has
    asked, convolutions in 16 bits are not safe.
    """
    if not has_amx():
        return Instructions("", "the processor has no AMX")
    own = next((name for name in VARIABLES if os.environ.get(name)), None)
    if own is not None:
        return Instructions(os.environ[own], f"{own} is set")
    os.environ[VARIABLES[0]] = LIMIT
    _convolve_once()
    if amx_permitted() is False:
        return Instructions(LIMIT, "with AMX PyTorch's convolutions in bfloat16 damage memory")
    return Instructions(
        "",
        "this process may have used AMX before nnunet_rs could rule it out, and with AMX convolutions in 16 bits "
        f"damage memory; start it with {VARIABLES[0]}={LIMIT} in its environment",
        safe=False,
    )


def bfloat16_bounded() -> bool:
    """Whether the user has bounded oneDNN below the instructions that multiply in bfloat16."""
    return any(os.environ.get(name, "").upper() in _WITHOUT_BFLOAT16 for name in VARIABLES)


def has_amx() -> bool:
    """Whether the processor has AMX, by the system or by PyTorch (which tells since 2.5)."""
    asked = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return "amx_tile" in processor().instructions or bool(asked and asked())


def amx_permitted() -> bool | None:
    """Whether this process has asked for AMX's registers and got them; None where the system does not tell."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return None
    permitted = ctypes.c_uint64(0)
    if ctypes.CDLL(None).syscall(_ARCH_PRCTL, _GET_PERMISSION, ctypes.byref(permitted)) != 0:
        return None
    return bool(permitted.value & _TILES)


def _convolve_once() -> None:
    """Let oneDNN choose a kernel for a convolution in bfloat16."""
    image, kernel = torch.zeros(1, 16, 4, 8, 8), torch.zeros(16, 16, 3, 3, 3)
    F.conv3d(image.bfloat16(), kernel.bfloat16(), padding=1)


def try_convolutions() -> None:
    """Compute convolutions in bfloat16, forward and backward: where that is not safe the process may die or hang."""
    bounded_instructions()
    for inputs, outputs, kernel, stride, size in TRIED:
        image = torch.randn(2, inputs, *size, requires_grad=True)
        layer = nn.Conv3d(inputs, outputs, kernel, stride, padding=(kernel[0] // 2, kernel[1] // 2, kernel[2] // 2))
        with torch.autocast("cpu", torch.bfloat16):
            result = layer(image)
        result.float().square().mean().backward()
