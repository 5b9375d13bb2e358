"""What this process may use of the machine."""

from __future__ import annotations

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # control groups, version 2: "<microseconds> <of period>" or "max <period>"


def processors() -> int:
    """Count the processors this process may use: those of its affinity mask, within a container's quota; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(count, _quota(_QUOTA) or count))


def _quota(file: Path) -> int | None:
    """Processors that the control group grants, rounded up; None without a limit."""
    try:
        granted, period = file.read_text().split()
        return -(-int(granted) // int(period))
    except (OSError, ValueError):  # no control groups, or "max"
        return None
