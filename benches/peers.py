"""The kernels beside nnU-Net v2, batchgenerators and torch, both sides timed in one run.

    .venv/bin/python benches/peers.py PYTHON [-o docs/peers.md] [--runs 3] [--threads 2] [--only NAME]

PYTHON is an interpreter whose environment has the peers (`pip install nnunetv2`; batchgenerators and batchgeneratorsv2
come with it). Each side runs in its own interpreter on the same made-up arrays; ours takes turns with the peer, so that
what else the machine does meets both. Medians are written as a table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Work = Callable[[], Any]
SHAPE, TARGET = (100, 320, 320), (125, 260, 260)
SOURCE, IMAGE = (80, 160, 160), (100, 320, 320)  # of the logits and of what they are exported to
PATCH = 128


@dataclass(frozen=True)
class Case:
    """One row of the table: the same work by both sides."""

    name: str
    ours: str  # function below, run in this environment
    theirs: str  # function below, run in the peers'
    argument: str = ""
    peer: str = "nnU-Net v2"


CASES = (
    Case("image, order 3, 1×100×320×320 → 125×260×260", "our_image", "nnunet_image"),
    Case("the same, anisotropic (nearest along z)", "our_image", "nnunet_image", "slices"),
    Case("3 labels, the same shapes", "our_labels", "nnunet_labels", "3"),
    Case("15 labels", "our_labels", "nnunet_labels", "15"),
    Case("118 labels", "our_labels", "nnunet_labels", "118"),
    Case("logits 15×80×160×160 → labels 100×320×320", "our_logits", "nnunet_logits"),
    Case("the same, torch variant", "our_logits", "nnunet_logits_torch", peer="nnU-Net v2, torch"),
    Case("statistics of 20 M voxels, float32", "our_statistics", "numpy_statistics", "float32", peer="numpy"),
    Case("statistics of 20 M voxels, int16", "our_statistics", "numpy_statistics", "int16", peer="numpy"),
    Case("warp of a 128³ patch, order 3, elastic, labels", "our_warp", "batchgenerators_warp", "3", "batchgenerators"),
    Case("the same, order 1", "our_warp", "batchgeneratorsv2_warp", "1", "batchgeneratorsv2"),
)


# What both sides see.


def image() -> Any:
    return np.random.default_rng(0).standard_normal((1, *SHAPE), dtype=np.float32)


def blobs(count: str) -> Any:
    small = np.random.default_rng(0).integers(0, int(count), [n // 16 for n in SHAPE])
    nearest = [(np.arange(n) * k) // n for n, k in zip(SHAPE, small.shape, strict=True)]
    return small[np.ix_(*nearest)].astype(np.int8)


def logits() -> Any:
    return np.random.default_rng(0).standard_normal((15, *SOURCE), dtype=np.float32)


def intensities(dtype: str) -> Any:
    return np.random.default_rng(0).normal(0, 300, 20_000_000).astype(dtype)


def patch() -> tuple[Any, Any]:
    side = PATCH + 52
    rng = np.random.default_rng(0)
    small = rng.integers(0, 4, [(side + 15) // 16] * 3)
    labels = small.repeat(16, 0).repeat(16, 1).repeat(16, 2)[:side, :side, :side]
    return rng.standard_normal((1, side, side, side), dtype=np.float32), labels[None].astype(np.int16)


# Ours.


def our_image(threads: int, kind: str) -> Work:
    from nnunet_rs import resample_image

    data, axis = image(), 0 if kind else None
    return lambda: resample_image(data, TARGET, lowres_axis=axis, threads=threads)


def our_labels(threads: int, count: str) -> Work:
    from nnunet_rs import resample_labels

    data = blobs(count)
    return lambda: resample_labels(data, TARGET, threads=threads)


def our_logits(threads: int, _: str) -> Work:
    from nnunet_rs import logits_to_labels

    data = logits()
    return lambda: logits_to_labels(data, IMAGE, threads=threads)


def our_statistics(threads: int, dtype: str) -> Work:
    from nnunet_rs import foreground_statistics

    values = intensities(dtype).reshape(1, 200, 1000, 100)
    foreground = np.ones(values.shape[1:], dtype=np.uint8)
    return lambda: foreground_statistics(values, foreground, threads=threads)


def our_warp(_: int, order: str) -> Work:
    from nnunet_rs.core.kernels import Elastic, SpatialWarp, warp

    data, labels = patch()
    turn = rotation(0.2, -0.1, 0.15) * 1.1
    centre = tuple((n - 1) / 2 for n in data.shape[1:])
    elastic = Elastic(alpha=500, sigma=10, seed=1)
    parameters = SpatialWarp((PATCH,) * 3, tuple(tuple(row) for row in turn.tolist()), centre, elastic)
    return lambda: warp(data, labels, parameters, order=int(order), threads=1)


def rotation(*angles: float) -> Any:
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [a for a in range(3) if a != axis]
        step = np.eye(3)
        step[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        turn = turn @ step
    return turn


# Theirs.


def nnunet_image(_: int, kind: str) -> Work:
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    data = image()
    old, new = ((5.0, 0.7, 0.7), (4.0, 0.86, 0.86)) if kind else ((1.0, 1.0, 1.0), (0.8, 1.23, 1.23))
    options = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    return lambda: resample_data_or_seg_to_shape(data, TARGET, old, new, **options)


def nnunet_labels(_: int, count: str) -> Work:
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    data = blobs(count)[None]
    options = {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None}
    return lambda: resample_data_or_seg_to_shape(data, TARGET, (1.0, 1.0, 1.0), (0.8, 1.23, 1.23), **options)


def nnunet_logits(threads: int, _: str) -> Work:
    import torch
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    torch.set_num_threads(threads)
    data = torch.from_numpy(logits())
    options = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}

    def run() -> Any:
        return torch.from_numpy(
            np.asarray(resample_data_or_seg_to_shape(data, IMAGE, (1.25, 2, 2), (1, 1, 1), **options))
        ).argmax(0)

    return run


def nnunet_logits_torch(threads: int, _: str) -> Work:
    import torch
    from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet

    torch.set_num_threads(threads)
    data = torch.from_numpy(logits())
    options = {"is_seg": False, "num_threads": threads}
    return lambda: resample_torch_fornnunet(data, IMAGE, (1.25, 2, 2), (1, 1, 1), **options).argmax(0)


def numpy_statistics(_: int, dtype: str) -> Work:
    values = intensities(dtype)
    return lambda: (values.mean(dtype=float), values.std(dtype=float), np.percentile(values, (0.5, 50, 99.5)))


def batchgenerators_warp(_: int, order: str) -> Work:
    from batchgenerators.augmentations.spatial_transformations import augment_spatial

    data, labels = patch()
    options: dict[str, Any] = {
        "patch_size": (PATCH,) * 3,
        "patch_center_dist_from_border": [n // 2 for n in data.shape[1:]],
        "random_crop": False,
        "do_elastic_deform": True,
        "alpha": (500.0, 500.0),
        "sigma": (10.0, 10.0),
        "do_rotation": True,
        "angle_x": (0.2, 0.2),
        "angle_y": (-0.1, -0.1),
        "angle_z": (0.15, 0.15),
        "do_scale": True,
        "scale": (1.1, 1.1),
        "border_mode_data": "constant",
        "order_data": int(order),
        "border_mode_seg": "constant",
        "order_seg": 1,
        "p_el_per_sample": 1,
        "p_rot_per_sample": 1,
        "p_scale_per_sample": 1,
    }
    return lambda: augment_spatial(data[None], labels[None].astype(np.float32), **options)


def batchgeneratorsv2_warp(_: int, __: str) -> Work:
    import torch
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

    torch.set_num_threads(1)
    data, labels = (torch.from_numpy(array) for array in patch())
    transform = SpatialTransform(
        patch_size=(PATCH,) * 3,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_elastic_deform=1,
        elastic_deform_scale=(0.1, 0.1),
        elastic_deform_magnitude=(0.1, 0.1),
        p_rotation=1,
        rotation=(0.2, 0.2),
        p_scaling=1,
        scaling=(1.1, 1.1),
    )
    return lambda: transform(image=data, segmentation=labels)


# The measurement.


def serve(function: str, threads: str, argument: str) -> None:
    """Prepare the work, then run it at every line of the input and print the seconds."""
    work = globals()[function](int(threads), argument)
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        work()
        print(time.perf_counter() - start, flush=True)


class Side:
    """One side of a case, in an interpreter of its own."""

    def __init__(self, python: str, function: str, threads: int, argument: str, script: str = __file__) -> None:
        command = [python, script, "--serve", function, str(threads), argument]
        count = str(threads)
        environment = os.environ | {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.answer()

    def answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"{self.process.args} gave no answer")
        return line

    def run(self) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.answer())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(case: Case, peers: str, threads: int, runs: int) -> str:
    """Run both sides in turn; one row of the table."""
    ours = Side(sys.executable, case.ours, threads, case.argument)
    theirs = Side(peers, case.theirs, threads, case.argument)
    ours.run()
    mine, other = [], []
    for _ in range(runs):
        mine += [ours.run() for _ in range(5)]
        other.append(theirs.run())
    ours.close()
    theirs.close()
    a, b = statistics.median(mine), statistics.median(other)
    return f"| {case.name} | {a * 1e3:.1f} ms | {case.peer} | {b * 1e3:,.0f} ms | {b / a:,.0f}× |"


VERSIONS = """
import importlib.metadata as m, json, platform
names = ("nnunetv2", "batchgenerators", "batchgeneratorsv2", "torch", "scipy", "scikit-image", "numpy")
print(json.dumps({"Python": platform.python_version(), **{n: m.version(n) for n in names}}))
"""


def versions(python: str) -> str:
    """Return what the peers' environment holds, in words."""
    found = json.loads(subprocess.run([python, "-c", VERSIONS], check=True, capture_output=True, text=True).stdout)
    return ", ".join(f"{name} {version}" for name, version in found.items())


def machine() -> str:
    """Name the processor, where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def write(path: Path, text: str) -> None:
    """Write beside the place and rename."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, suffix=".md") as file:
        file.write(text)
    Path(file.name).replace(path)


def main() -> None:
    """Measure every case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", metavar="PYTHON", help="interpreter of the peers' environment")
    parser.add_argument("-o", "--output", type=Path, help="also write the table there")
    parser.add_argument("--runs", type=int, default=3, help="runs of each peer; ours runs five times as often")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="for both sides")
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    options = parser.parse_args()
    note = f"Medians; {options.threads} threads for both sides (warps: one), {machine()}; {versions(options.peers)}."
    rows = ["| work | nnunet_rs | against | needs | ratio |", "|---|---:|---|---:|---:|"]
    print(*rows, sep="\n", flush=True)
    for case in CASES:
        if options.only in case.name:
            rows.append(measure(case, options.peers, options.threads, options.runs))
            print(rows[-1], flush=True)
    print(f"\n{note}")
    if options.output:
        write(options.output, "\n".join([*rows, "", note, ""]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:5])
    else:
        main()
