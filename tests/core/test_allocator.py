"""Memory that is freed and asked for again, counted in pages that the system had to clear."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest
from nnunet_rs.core.allocator import freed_memory_kept, thresholds_of

PROGRAM = """
import ctypes, resource
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

def megabytes():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20
"""
ONCE = 2 * (30 << 20) // 4096  # pages, where each is cleared once
glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def printed(program: str) -> list[int]:
    run = subprocess.run([sys.executable, "-c", PROGRAM + program], capture_output=True, text=True, check=True)
    return [int(line) for line in run.stdout.split()]


@glibc_only
def test_pages_are_cleared_once_within_the_block_and_given_back_after_it() -> None:
    within, held = printed("with freed_memory_kept():\n    print(faults())\nfaults()\nprint(megabytes())")
    assert within < ONCE
    assert held < 60


@glibc_only
def test_the_first_of_two_blocks_that_ends_does_not_end_the_other() -> None:
    both = (
        "first, second = freed_memory_kept(), freed_memory_kept()\n"
        "first.__enter__(); second.__enter__(); faults()\n"
        "first.__exit__(None, None, None); print(faults(), megabytes())\n"
        "second.__exit__(None, None, None); print(megabytes())"
    )
    within, kept, after = printed(both)
    assert within < ONCE
    assert kept > after + 20  # the piece of 30 MB


def test_elsewhere_the_c_library_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_: pytest.fail("asked for"))
    with freed_memory_kept():
        pass


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
    assert thresholds_of(environment) == {-1: trim, -3: mmap}
