"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nnunet_rs.core.restored import Restored

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of <malloc.h>
_LARGEST = 300 << 20  # bytes of a piece that is kept: 32 channels of 128 x 128 x 128 voxels
_KEEP = ((_TRIM_THRESHOLD, 2**31 - 1), (_MMAP_THRESHOLD, 1 << 25), (_MMAP_THRESHOLD, _LARGEST))  # before 2.35: 32 MiB
_USUAL = {_TRIM_THRESHOLD: 1 << 26, _MMAP_THRESHOLD: 1 << 25}  # what glibc comes to by itself
# What the user may have chosen, read by glibc when the process begins: the older name, and the tunable's.
_NAMES = {
    _TRIM_THRESHOLD: ("MALLOC_TRIM_THRESHOLD_", "glibc.malloc.trim_threshold"),
    _MMAP_THRESHOLD: ("MALLOC_MMAP_THRESHOLD_", "glibc.malloc.mmap_threshold"),
}


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let this process keep what it frees within the block, for what it asks for next.

    glibc hands large pieces back to the system at once, and the system clears every page of the next. Networks free
    and ask for the same pieces, layer by layer: without that a training is a tenth faster with small patches in
    bfloat16, twice as fast with large ones in float32, a forward pass 1.6 times; up to two fifths more memory is held.
    When the last such block has ended, what is free is given back, and the thresholds are those of the process's
    environment (MALLOC_TRIM_THRESHOLD_, GLIBC_TUNABLES and the like) or glibc's usual ones: glibc does not tell which
    a program has set by `mallopt`. Elsewhere than on Linux with glibc nothing happens.
    """
    library = _glibc()
    if library is None:
        yield
        return
    with _THRESHOLDS():
        for option, value in _KEEP:
            library.mallopt(option, value)  # one that this version does not grant leaves the value before it
        yield


def _give_back(thresholds: Mapping[int, int]) -> None:
    library = _glibc()
    if library is not None:
        for option, value in thresholds.items():
            library.mallopt(option, value)
        library.malloc_trim(0)


def thresholds_of(known: Mapping[str, str]) -> dict[int, int]:
    """Return the thresholds of malloc that an environment asks for, by mallopt's numbers; tunables are the stronger."""
    tunables = dict(part.partition("=")[::2] for part in known.get("GLIBC_TUNABLES", "").split(":"))
    found = dict(_USUAL)
    for option, (name, tunable) in _NAMES.items():
        text = tunables.get(tunable, known.get(name, ""))
        if re.fullmatch(r"\d+|0[xX][\da-fA-F]+", text):
            found[option] = int(text, 16 if text[:2] in ("0x", "0X") else 8 if text.startswith("0") else 10)
    return found


_THRESHOLDS = Restored(lambda: thresholds_of(os.environ), _give_back)


def _glibc() -> Any | None:
    """Return the C library this process runs with if it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    known = all(hasattr(library, name) for name in ("gnu_get_libc_version", "mallopt", "malloc_trim"))
    return library if known else None
