"""Memory that deciding labels takes beside its input and its output, at its highest, in this process.

    .venv/bin/python benches/memory.py float32 2      # type of the logits, threads

Linux only: it asks the system to forget the peak so far.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from nnunet_rs.core.kernels import logits_to_labels

SOURCE, TARGET = (15, 80, 160, 160), (100, 320, 320)


def resident(key: str) -> int:
    """Bytes that the system says this process holds (VmRSS) or held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key))


def main() -> None:
    """Make logits, then labels."""
    dtype, threads = sys.argv[1], int(sys.argv[2])
    rng = np.random.default_rng(0)
    logits = np.empty(SOURCE, dtype)
    for channel in logits:
        channel[...] = rng.standard_normal(channel.shape, dtype=np.float32)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    labels = logits_to_labels(logits, TARGET, threads=threads)
    beside = resident("VmHWM") - before - labels.nbytes
    sizes = f"{beside / 2**20:.1f} MiB beside input and output ({labels.nbytes / 2**20:.1f} MiB)"
    print(f"{dtype}, {threads} threads: {sizes}")


if __name__ == "__main__":
    main()
