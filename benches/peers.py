"""The kernels beside nnU-Net v2, batchgenerators and torch, both sides timed in one run.

    .venv/bin/python benches/peers.py PYTHON [-o docs/peers.md] [--runs 3] [--threads 2] [--only NAME]

PYTHON is an interpreter whose environment has the peers (`pip install nnunetv2`; batchgenerators and batchgeneratorsv2
come with it). Each side runs in its own interpreter on the same made-up arrays; ours takes turns with the peer, so that
what else the machine does meets both. Medians are written as a table.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import sides
from sides import Case, Side

Work = Callable[[], Any]
SHAPE, TARGET = (100, 320, 320), (125, 260, 260)
SOURCE, IMAGE = (80, 160, 160), (100, 320, 320)  # of the logits and of what they are exported to
PATCH = 128


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


def timed(work: Work) -> sides.Work:
    """The same work, telling how long it took."""

    def run() -> float:
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun

    return run


def measure(case: Case, peers: str, threads: int, runs: int) -> tuple[list[float], list[float]]:
    """Run both sides in turn, ours five times as often."""
    ours = Side(sys.executable, __file__, case.ours, threads, case.argument)
    theirs = Side(peers, __file__, case.theirs, threads, case.argument)
    ours.run()
    mine, other = [], []
    for _ in range(runs):
        mine += [ours.run() for _ in range(5)]
        other.append(theirs.run())
    ours.close()
    theirs.close()
    return mine, other


def main() -> None:
    """Measure every case and print the table."""
    parser = sides.parser(__doc__)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="for both sides")
    options = parser.parse_args()
    threads, peers = options.threads, options.peers
    note = f"Medians; {threads} threads for both sides (warps: one), {sides.machine()}; {sides.versions(peers)}."
    cases = [case for case in CASES if options.only in case.name]
    sides.tabulate(cases, lambda case: measure(case, peers, threads, options.runs), note, options.output)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        function, threads, argument = sys.argv[2:5]
        sides.serve(lambda: timed(globals()[function](int(threads), argument)))
    else:
        main()
