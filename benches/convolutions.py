"""Convolutions of many plans' layers on this processor, forward and backward, by instruction set and number type.

    python benches/convolutions.py            # what each instruction set takes, and which kernels oneDNN chooses
    python benches/convolutions.py --check    # every layer under the C library's check of freed memory (Linux, glibc)

Every row runs in a process of its own: oneDNN reads ONEDNN_MAX_CPU_ISA once, and memory that is written out of bounds
may end or hang the process that does it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

# (channels in, channels out, kernel, stride, size), batch 2: first layers, strided and deeper ones of plans for thick
# slices, cubes, flat and long patches, and slices; odd numbers of channels among them
LAYERS = (
    (1, 32, (1, 3, 3), (1, 1, 1), (10, 256, 224)),
    (30, 30, (1, 3, 3), (1, 1, 1), (10, 256, 224)),
    (32, 32, (3, 3, 3), (1, 1, 1), (12, 320, 256)),
    (32, 64, (1, 3, 3), (1, 2, 2), (10, 256, 224)),
    (1, 4, (1, 3, 3), (1, 1, 1), (4, 112, 96)),
    (4, 4, (1, 3, 3), (1, 1, 1), (4, 112, 80)),
    (8, 4, (1, 3, 3), (1, 1, 1), (4, 112, 128)),
    (4, 4, (1, 1, 1), (1, 1, 1), (4, 112, 96)),
    (16, 16, (3, 3, 3), (1, 1, 1), (40, 56, 40)),
    (16, 32, (3, 3, 3), (2, 2, 2), (40, 56, 40)),
    (32, 32, (3, 3, 3), (1, 1, 1), (64, 64, 64)),
    (32, 32, (3, 3, 3), (1, 1, 1), (32, 96, 96)),
    (3, 30, (3, 3, 3), (1, 1, 1), (64, 64, 64)),
    (64, 128, (3, 3, 3), (2, 2, 2), (16, 40, 40)),
    (320, 320, (3, 3, 3), (1, 1, 1), (4, 6, 5)),
    (320, 320, (1, 3, 3), (1, 2, 2), (5, 8, 7)),
    (64, 64, (3, 3, 3), (1, 1, 1), (4, 7, 6)),
    (16, 16, (3, 3, 3), (3, 3, 3), (9, 9, 3)),
    (32, 4, (1, 1, 1), (1, 1, 1), (32, 64, 64)),
    (1, 32, (3, 3), (1, 1), (256, 224)),
    (32, 32, (3, 3), (1, 1), (256, 224)),
    (32, 64, (3, 3), (2, 2), (256, 224)),
    (128, 256, (3, 3), (2, 2), (64, 56)),
    (480, 480, (3, 3), (1, 1), (8, 7)),
)
SETS = ("", "AVX512_CORE_BF16", "AVX512_CORE", "AVX2")
CHECK = {"LD_PRELOAD": "libc_malloc_debug.so.0", "GLIBC_TUNABLES": "glibc.malloc.check=3"}
ROUNDS = 2  # the faster one counts
SECONDS = 300.0  # most that one process may take


def compute(layers: list[int], kind: str, rounds: int, channels_last: bool) -> None:
    """Compute layers, forward and backward; print each one's milliseconds of processor time, of the fastest round."""
    import torch
    from torch import nn

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    for index in layers:
        inputs, outputs, kernel, stride, size = LAYERS[index]
        dims = len(size)
        layout = (torch.channels_last if dims == 2 else torch.channels_last_3d) if channels_last else None
        convolution = (nn.Conv2d if dims == 2 else nn.Conv3d)(
            inputs, outputs, kernel, stride, padding=tuple(k // 2 for k in kernel)
        )
        image = torch.randn(2, inputs, *size)
        if layout is not None:
            convolution, image = convolution.to(memory_format=layout), image.to(memory_format=layout)
        image.requires_grad_()
        best = [float("inf")] * 2
        for _ in range(rounds):
            begun = time.process_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bfloat16"):
                result = convolution(image)
            between = time.process_time()
            result.backward(torch.ones_like(result))
            times = (between - begun, time.process_time() - between)
            best = [min(pair) for pair in zip(best, times, strict=True)]
        print(f"layer {index} {1e3 * best[0]:.2f} {1e3 * best[1]:.2f}", flush=True)


def run(layers: list[int], kind: str, limit: str, rounds: int, extra: dict[str, str], *, last: bool) -> tuple[str, str]:
    """Return how a process ended that computes layers, and what it printed."""
    command = [sys.executable, __file__, "--child", kind, "--layers", ",".join(map(str, layers))]
    command += ["--rounds", str(rounds), *(["--channels-last"] if last else [])]
    environment = {**os.environ, **extra, **({"ONEDNN_MAX_CPU_ISA": limit} if limit else {})}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"not done in {SECONDS:.0f} s", ""
    return ("ok" if done.returncode == 0 else f"code {done.returncode}: {done.stderr.strip()[-80:]}"), done.stdout


def check(kinds: tuple[str, ...], limits: tuple[str, ...]) -> None:
    """Print how every layer fares under the C library's check, each in a process of its own."""
    for index, layer in enumerate(LAYERS):
        told = []
        for kind in kinds:
            for limit in limits:
                for last in (False, True):
                    ended, _ = run([index], kind, limit, 2, CHECK, last=last)
                    told.append(f"{kind} {limit or 'all'}{' channels last' if last else ''}: {ended}")
        wrong = [text for text in told if not text.endswith(": ok")]
        print(*layer, "|", "; ".join(wrong) if wrong else f"ok ({len(told)} ways)", flush=True)


def measure() -> None:
    """Print milliseconds and kernels of every layer, an instruction set and number type a column."""
    everything = list(range(len(LAYERS)))
    for kind in ("float32", "bfloat16"):
        for limit in SETS:
            ended, told = run(everything, kind, limit, ROUNDS, {"ONEDNN_VERBOSE": "1"}, last=False)
            times = {int(i): (f, b) for i, f, b in re.findall(r"^layer (\d+) (\S+) (\S+)$", told, re.MULTILINE)}
            total = sum(float(forward) + float(backward) for forward, backward in times.values())
            print(f"\n{kind}, {limit or 'no bound'}: {ended}; total {total:.0f} ms")
            kernels = re.findall(r",exec,cpu,convolution,([^,]+),(forward|backward)\w*", told)
            print(
                "kernels:", ", ".join(f"{count // ROUNDS} × {name}" for name, count in sorted(_counts(kernels).items()))
            )
            for index, layer in enumerate(LAYERS):
                print(*layer, "|", *times.get(index, ("-", "-")))


def _counts(kernels: list[tuple[str, str]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, way in kernels:
        found[f"{way} {name}"] = found.get(f"{way} {name}", 0) + 1
    return found


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--child", metavar="TYPE", help=argparse.SUPPRESS)
    parser.add_argument("--layers", default="", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5, help=argparse.SUPPRESS)
    parser.add_argument("--channels-last", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        layers = [int(index) for index in arguments.layers.split(",")]
        compute(layers, arguments.child, arguments.rounds, arguments.channels_last)
    elif arguments.check:
        amx = "amx_tile" in Path("/proc/cpuinfo").read_text()
        check(("bfloat16",), ("", "AVX512_CORE_BF16") if amx else ("",))
    else:
        measure()


if __name__ == "__main__":
    main()
