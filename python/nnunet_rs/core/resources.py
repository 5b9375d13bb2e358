"""What this process may use of the machine."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path

GROUP = Path("/sys/fs/cgroup")  # control groups, version 2: what a container is granted
CPUINFO = Path("/proc/cpuinfo")
SPINS = 30_000  # of a thread that waits for others, about a millisecond, before it sleeps; GNU OpenMP's own: 300 000
_UNKNOWN = 4 << 30  # bytes taken to be free where the system does not tell


def processors(group: Path = GROUP) -> int:
    """Count the processors this process may use: those of its affinity mask, within a container's quota; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(count, _quota(group / "cpu.max") or count))


def load() -> float:
    """Count the processes that compute or wait for a processor, a mean of the last minute; 0 where it is not known."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows
        return 0.0


def limit_spinning(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let PyTorch's threads sleep soon where they wait for each other, so that others may compute meanwhile.

    Sets GOMP_SPINCOUNT, which GNU's OpenMP reads when PyTorch is loaded, unless it or OMP_WAIT_POLICY is set. Each of
    two programs whose threads wait in busy loops holds up the thread that the other one waits for.
    """
    if not environment.get("OMP_WAIT_POLICY"):
        environment.setdefault("GOMP_SPINCOUNT", str(SPINS))


def busy_remark(threads: int) -> str:
    """Say that others keep the processors busy, and how slow threads that wait for each other become; or nothing."""
    there, busy = os.cpu_count() or 1, load()
    if threads < 2 or busy < there:
        return ""
    return (
        f"other programs keep the processors busy (load {busy:.1f} on {there}): {threads} threads wait for each other, "
        "which can be slower than one; give -j 1, or set OMP_WAIT_POLICY=passive"
    )


@dataclass(frozen=True, slots=True)
class Processor:
    """What the system tells of the processor."""

    name: str
    instructions: frozenset[str]  # sets, as Linux spells them; empty where the system does not tell


def processor(told_in: Path = CPUINFO) -> Processor:
    """Return the processor's name and its instruction sets."""
    try:
        lines = [line.partition(":") for line in told_in.read_text().splitlines()]
    except OSError:
        return Processor(platform.processor() or platform.machine(), frozenset())
    told = {key.strip(): value.strip() for key, _, value in reversed(lines)}
    sets = told.get("flags") or told.get("Features", "")  # x86, ARM
    return Processor(told.get("model name") or platform.machine(), frozenset(sets.split()))


def available_memory(group: Path = GROUP) -> int:
    """Count the bytes that this process may take beyond what it has: what the system can spare, within a container."""
    free = _meminfo("MemAvailable")
    if free is None:
        free = _sysconf("SC_AVPHYS_PAGES") or _UNKNOWN
    limit, used = (_number(group / name) for name in ("memory.max", "memory.current"))
    return free if limit is None or used is None else max(0, min(free, limit - used))


def total_memory(group: Path = GROUP) -> int:
    """Count the bytes of memory of the machine, or of the container; 0 where the system does not tell."""
    there = _meminfo("MemTotal") or _sysconf("SC_PHYS_PAGES") or 0
    return min(there, _number(group / "memory.max") or there)


def resident_memory() -> int:
    """Count the bytes of memory that this process holds now; its peak where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return peak_memory()


def peak_memory() -> int:
    """Count the most bytes of memory that this process has held; 0 where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts kilobytes


def _meminfo(key: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))
    except (OSError, ValueError, StopIteration):
        return None


def _sysconf(name: str) -> int | None:
    try:
        return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no control groups, or "max"
        return None


def _quota(file: Path) -> int | None:
    """Processors that are granted, rounded up ("<microseconds> <of period>", "max <period>"); None without a limit."""
    try:
        granted, period = file.read_text().split()
        return -(-int(granted) // int(period))
    except (OSError, ValueError):  # no control groups, or "max"
        return None
