"""Where memory is refused the answer is MemoryError, wherever that happens: no kernel ends the process.

Run as a script in a child process: `python test_kernels_memory.py KERNEL LIMITS` calls the kernel in one forked process
for each limit of the address space, and prints what each said.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnunet_rs.core.kernels import (
    Blend,
    Elastic,
    ForegroundAccumulator,
    IntensityChanges,
    SpatialWarp,
    WindowAccumulator,
    foreground_statistics,
    gaussian_importance,
    logits_to_labels,
    logits_to_regions,
    mirror,
    resample_image,
    resample_labels,
    resample_probabilities,
    warp,
    window_starts,
)

LIMITS = 24
MOST = 160 << 20  # bytes beyond what the process has already: enough for every case, its threads' own heaps included
IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space so")


def noise(shape: tuple[int, ...], dtype: str = "float32") -> Any:
    return (np.arange(np.prod(shape)) * 7919 % 1009).astype(dtype).reshape(shape)


def images() -> Callable[[], Any]:
    image = noise((1, 40, 60, 70))[..., ::-1]
    return lambda: (
        resample_image(image, (60, 80, 90), threads=2),
        resample_image(image, (20, 80, 90), lowres_axis=0, threads=2),
        resample_image(noise((1, 1, 1, 2)), (1, 1, 200_000), threads=2),
    )


def labels() -> Callable[[], Any]:
    marks = noise((30, 60, 70), "int32").transpose(2, 1, 0)
    return lambda: (
        resample_labels(marks, (60, 80, 90), threads=2),
        resample_labels(marks[:1, :1, :1], (1, 1, 200_000), threads=2),
    )


def logits() -> Callable[[], Any]:
    outputs = noise((3, 20, 30, 40), "float16")[..., ::-1]
    single = outputs.astype("float32")
    return lambda: (
        logits_to_labels(outputs, (40, 60, 90), threads=2),
        logits_to_labels(single, (1, 1, 200_000), threads=2),
        logits_to_regions(single, (40, 60, 90), [1, 2, 3], threads=2),
        resample_probabilities(outputs, (20, 60, 90), dtype="float16", threads=2),
    )


def foreground(dtype: str) -> Callable[[], Any]:
    image = noise((2, 40, 60, 70), dtype)
    marks = noise((40, 60, 70), "uint8") % 2
    return lambda: foreground_statistics(image, marks[:, ::-1], threads=2)


def accumulator() -> Callable[[], Any]:
    image = noise((2, 40, 60, 70)) / 3
    marks = noise((40, 60, 70), "uint8") % 2

    def run() -> Any:
        made, other = ForegroundAccumulator(2), ForegroundAccumulator(2)
        made.add(image, marks, threads=2)
        other.add(image, marks, threads=2)
        made.merge(other)
        made.refine(image, marks, threads=2)
        return ForegroundAccumulator.from_bytes(made.to_bytes()).finish()

    return run


def windows() -> Callable[[], Any]:
    return lambda: (window_starts((300, 300), (3, 3)), gaussian_importance((100, 100, 100)))


def blend() -> Callable[[], Any]:
    patch = noise((3, 30, 40, 50))[..., ::-1]

    def run() -> Any:
        for dtype in ("float32", "float16"):
            sums = Blend(3, (60, 40, 50), (30, 40, 50), stream_axis=0, dtype=dtype, threads=2)
            for start in (0, 15, 30):
                sums.add(patch.astype(dtype), (start, 0, 0))
            sums.finish()
        whole = Blend(3, (30, 60, 60), (30, 40, 50), dtype="float16", threads=2)
        for y in (0, 20):
            for x in (0, 10):
                whole.add(patch, (0, y, x))
        return whole.finish()

    return run


def window_sums() -> Callable[[], Any]:
    output = noise((3, 30, 40, 50))

    def run() -> Any:
        sums = WindowAccumulator(3, (60, 60, 50), (30, 40, 50), threads=2)
        for start in ((0, 0, 0), (0, 20, 0), (30, 0, 0), (30, 20, 0)):
            sums.add(output, start, activation="softmax")
            sums.forget(start[0], start[1])
        return sums.mean((30, 20, 0), (60, 60, 50))

    return run


def warps() -> Callable[[], Any]:
    image, marks = noise((2, 40, 60, 70)), noise((1, 40, 60, 70), "int16")[..., ::-1]
    bent = SpatialWarp((40, 50, 60), IDENTITY, (20.0, 30.0, 35.0), Elastic(300.0, 8.0, 1))
    return lambda: [warp(image, marks, bent, order=order, threads=2) for order in (0, 1, 3)]


def intensities() -> Callable[[], Any]:
    image = noise((2, 40, 60, 70))
    changes = IntensityChanges()
    changes.noise(0, 1.0, 1)
    changes.blur(0, 3.0)
    changes.simulate_low_resolution(1, (20, 30, 35))
    changes.gamma(1, 1.5)
    return lambda: (
        changes.apply(image, threads=2),
        changes.apply(image[..., ::-1], threads=2),
        mirror(image[..., ::2], (0, 1, 2), threads=2),
    )


CASES: dict[str, Callable[[], Callable[[], Any]]] = {
    "image": images,
    "labels": labels,
    "logits": logits,
    "foreground of 16 bits": lambda: foreground("int16"),
    "foreground of 32 bits": lambda: foreground("float32"),
    "foreground of 64 bits": lambda: foreground("float64"),
    "accumulator": accumulator,
    "windows": windows,
    "blend": blend,
    "window sums": window_sums,
    "warp": warps,
    "intensities": intensities,
}


@pytest.mark.parametrize("name", CASES)
def test_a_refusal_of_memory_is_an_error(name):
    command = [sys.executable, __file__, name, str(LIMITS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RUST_BACKTRACE": "0"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    said = Counter(done.stdout.split())
    assert done.returncode == 0, done.stderr
    assert set(said) <= {"result", "MemoryError"}, f"{dict(said)}\n{done.stderr[-2000:]}"
    assert said["MemoryError"] > 0, "no limit was low enough to be felt"
    assert said["result"] > 0, "no limit was high enough"


def answer(run: Callable[[], Any], limit: int) -> str:
    """What `run` says in a process whose address space may grow by `limit` bytes."""
    import resource

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + limit, size + limit))
        try:
            run()
            said = b"result"
        except BaseException as error:
            said = type(error).__name__.encode()
        os.write(writer, said)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return said if status == 0 else f"signal-{status}"


if __name__ == "__main__":
    kernel, limits = CASES[sys.argv[1]](), int(sys.argv[2])
    for step in range(limits):
        print(answer(kernel, int(MOST * (step / (limits - 1)) ** 3)))  # noqa: T201 — most of the limits are low
