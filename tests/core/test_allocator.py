"""Memory that is freed and asked for again, counted in pages that the system had to clear."""

from __future__ import annotations

import subprocess
import sys

import pytest
from nnunet_rs.core import allocator

PROGRAM = """
import ctypes, resource
from contextlib import nullcontext
from nnunet_rs.core.allocator import freed_memory_kept

library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        place = library.malloc(30 << 20)
        library.memset(place, 1, 30 << 20)
        library.free(place)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

for block in (nullcontext(), freed_memory_kept(), nullcontext()):
    with block:
        print(faults())
print(int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20)
"""


@pytest.mark.skipif(allocator._glibc() is None, reason="the C library is not glibc")
def test_pages_are_cleared_once_within_the_block_and_given_back_after_it() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    _, within, _, megabytes = map(int, run.stdout.split())
    assert within < 2 * (30 << 20) // 4096
    assert megabytes < 60


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with allocator.freed_memory_kept():
        assert allocator._glibc() is None


@pytest.mark.parametrize(
    ("environment", "trim", "mmap"),
    [
        ({}, 1 << 26, 1 << 25),
        ({"MALLOC_TRIM_THRESHOLD_": "1000000"}, 1_000_000, 1 << 25),
        ({"MALLOC_MMAP_THRESHOLD_": "0x10000", "MALLOC_TRIM_THRESHOLD_": "much"}, 1 << 26, 65536),
        ({"GLIBC_TUNABLES": "glibc.malloc.check=3:glibc.malloc.mmap_threshold=4096"}, 1 << 26, 4096),
        ({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=010", "MALLOC_TRIM_THRESHOLD_": "9"}, 8, 1 << 25),
    ],
)
def test_thresholds_are_put_back_to_the_environments(environment: dict[str, str], trim: int, mmap: int) -> None:
    assert allocator._thresholds(environment) == {-1: trim, -3: mmap}


@pytest.mark.skipif(allocator._glibc() is None, reason="the C library is not glibc")
def test_the_first_of_two_blocks_that_ends_does_not_end_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    set_, library = [], allocator._glibc()

    class Told:
        def mallopt(self, option: int, value: int) -> None:
            set_.append((option, value))
            library.mallopt(option, value)

        def malloc_trim(self, pad: int) -> None:
            library.malloc_trim(pad)

    monkeypatch.setattr(allocator, "_glibc", Told)
    first, second = allocator.freed_memory_kept(), allocator.freed_memory_kept()
    first.__enter__()
    second.__enter__()
    kept = len(set_)
    first.__exit__(None, None, None)
    assert len(set_) == kept
    second.__exit__(None, None, None)
    assert dict(set_[kept:]) == allocator._thresholds()
