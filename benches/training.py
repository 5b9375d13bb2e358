"""Augmentation, loading and iterations of a training beside batchgenerators and nnU-Net v2, timed in one run.

    .venv/bin/python benches/training.py PYTHON Task04_Hippocampus FOLDER [--runs 3] [--only NAME] [-o table.md]

PYTHON is an interpreter whose environment has the peers (`pip install nnunetv2 batchgenerators`). FOLDER takes what
both sides prepare, the first time. Each side runs in its own interpreter, in turns, or ours before and after the
other; medians.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sides
from sides import Case, Side, Work

PATCH, REGION, SAMPLES = (128,) * 3, 206, 50  # the region that batchgenerators' pipeline is given, as nnU-Net 2019 does
BATCHES = 60  # of a loader, in one run
ITERATIONS = 10  # in one run
BATCH, FEATURES = 2, 16  # of the network that iterates
THREADS = 2


CASES = (
    Case("`paper` augmentation, 128³ with labels, one thread", "our_augmentation", "their_augmentation", "paper",
         "batchgenerators", threads=1),
    Case("sample into training, Hippocampus, `v2` augmentation", "our_loader", "their_loader", "v2"),
    Case("the same, `paper` augmentation", "our_loader", "their_loader", "paper", "nnU-Net v2 (its own)"),
    Case("the same, `light` augmentation", "our_loader", "their_loader", "light", "nnU-Net v2 (its own)"),
    Case("iteration, float32", "our_iteration", "their_iteration", "float32", "nnU-Net v2 (float32)",
         rests=True),
    Case("iteration, bfloat16", "our_iteration", "their_iteration", "bfloat16", "nnU-Net v2 (float32)",
         rests=True),
)  # fmt: skip


def sample() -> tuple[Any, Any]:
    """Make what both sides augment: smooth intensities, four labels in blobs."""
    rng = np.random.default_rng(0)
    rough = rng.standard_normal([(REGION + 7) // 8] * 3).astype(np.float32)
    for axis in range(3):
        rough = rough.repeat(8, axis).take(range(REGION), axis)
    image = rough + 0.3 * rng.standard_normal(rough.shape, dtype=np.float32)
    return image[None], np.digitize(rough, (0.5, 1.0, 1.5)).astype(np.uint8)[None]


# Ours.


def our_augmentation(_: int, name: str, __: Path) -> Work:
    from nnunet_rs.data.augment import build_augmentation
    from nnunet_rs.plan.schema import Configuration

    once = ((1, 1, 1),)
    three = (1.0,) * 3
    configuration = Configuration("3d", three, PATCH, 2, PATCH, once, once, (8,), (2,), (), False, False, False, 1)
    augmentation = build_augmentation(name, configuration)
    image, labels = sample()

    def one(seed: int) -> None:
        rng = np.random.default_rng(seed)
        drawn = augmentation.draw(rng)
        inner = tuple(slice((REGION - n) // 2, (REGION - n) // 2 + n) for n in augmentation.region(drawn))
        region = (slice(None), *inner)
        moved = augmentation.apply(drawn, image[region].copy(), labels[region].copy(), rng)
        [np.ascontiguousarray(array) for array in moved]

    return lambda: mean_seconds(one, range(SAMPLES))


def our_loader(threads: int, name: str, folder: Path) -> Work:
    from nnunet_rs.data.augment import build_augmentation
    from nnunet_rs.data.loader import Loader, LoaderOptions
    from nnunet_rs.data.store import open_store
    from nnunet_rs.plan.files import read_plan

    plan = read_plan(folder / "work/plan.json")
    settings = plan.configurations["3d_fullres"]
    store = open_store(folder / "work", plan, settings.name, cache=1 << 31)
    names = store.names()
    augmentation = build_augmentation(name, settings, plan.normalization)
    loader = Loader(store, names, settings, plan.labels, augmentation, LoaderOptions(threads=threads))
    epochs = iter(range(1 << 30))
    for batch in loader.epoch(next(epochs), BATCHES):  # every case is read once, as in the first epoch of a training
        assert batch.data.shape[0] == settings.batch_size
    return lambda: seconds_a_batch(loader.epoch(next(epochs), 4 * BATCHES)) / settings.batch_size


def our_iteration(threads: int, precision: str, folder: Path) -> Work:
    from nnunet_rs.model.options import TrainOptions
    from nnunet_rs.model.recipe import V2
    from nnunet_rs.model.train import train_fold

    options = TrainOptions(
        V2, 2, ITERATIONS, 0, batch_size=BATCH, features=FEATURES, augmentation="none", device="cpu",
        precision=precision, threads=threads,
    )  # fmt: skip

    def run() -> float:
        epochs = train_fold(folder / "work", "3d_fullres", 0, options).history.epochs
        return epochs[1].seconds_training / ITERATIONS  # the first one warms up

    return run


# Theirs.


def their_augmentation(_: int, __: str, ___: Path) -> Work:
    from batchgenerators.transforms.abstract_transforms import Compose
    from batchgenerators.transforms.color_transforms import GammaTransform
    from batchgenerators.transforms.spatial_transforms import MirrorTransform, SpatialTransform

    turn = (-15 / 360 * 2 * np.pi, 15 / 360 * 2 * np.pi)
    pipeline = Compose([
        SpatialTransform(
            PATCH, patch_center_dist_from_border=None, do_elastic_deform=True, alpha=(0.0, 900.0), sigma=(9.0, 13.0),
            do_rotation=True, angle_x=turn, angle_y=turn, angle_z=turn, do_scale=True, scale=(0.85, 1.25),
            border_mode_data="constant", order_data=3, border_mode_seg="constant", order_seg=1, random_crop=False,
            p_el_per_sample=0.2, p_scale_per_sample=0.2, p_rot_per_sample=0.2,
        ),
        GammaTransform((0.7, 1.5), invert_image=False, per_channel=True, retain_stats=True, p_per_sample=0.3),
        MirrorTransform((0, 1, 2)),
    ])  # fmt: skip
    image, labels = sample()
    labels = labels.astype(np.float32)

    def one(seed: int) -> None:
        np.random.seed(seed)
        pipeline(data=image[None].copy(), seg=labels[None].copy())

    return lambda: mean_seconds(one, range(SAMPLES))


def trainer(folder: Path, processes: int) -> Any:
    """Build nnU-Net's trainer of fold 0 on processors."""
    os.environ |= {**nnunet_folders(folder), "nnUNet_n_proc_DA": str(processes)}
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    home = next((folder / "nnunet/preprocessed").iterdir())
    plans, dataset = (json.loads((home / name).read_text()) for name in ("nnUNetPlans.json", "dataset.json"))
    configuration = plans["configurations"]["3d_fullres"]
    plans["continue_training"] = False
    if processes == 0:
        configuration["batch_size"] = BATCH
        arguments = configuration["architecture"]["arch_kwargs"]
        arguments["features_per_stage"] = [FEATURES * 2**stage for stage in range(arguments["n_stages"])]
    return nnUNetTrainer(plans, "3d_fullres", 0, dataset, torch.device("cpu"))


def their_loader(processes: int, _: str, folder: Path) -> Work:
    import torch

    torch.set_num_threads(1)
    built = trainer(folder, processes)
    built.initialize()
    training, _ = built.get_dataloaders()
    for _ in range(20):  # processes start, the queue is full
        next(training)
    return lambda: seconds_a_batch(next(training) for _ in range(BATCHES)) / built.batch_size


def their_iteration(threads: int, _: str, folder: Path) -> Work:
    import torch

    built = trainer(folder, 0)
    built.initialize()
    training, _ = built.get_dataloaders()
    torch.set_num_threads(threads)
    batch = next(training)
    built.network.train()
    built.train_step(batch)
    return lambda: mean_seconds(lambda _: built.train_step(batch), range(ITERATIONS))


# The measurement.


def mean_seconds(work: Callable[[int], Any], seeds: range) -> float:
    begun = time.perf_counter()
    for seed in seeds:
        work(seed)
    return (time.perf_counter() - begun) / len(seeds)


def seconds_a_batch(batches: Iterator[Any]) -> float:
    begun = time.perf_counter()
    count = sum(1 for _ in batches)
    return (time.perf_counter() - begun) / count


def nnunet_folders(folder: Path) -> dict[str, str]:
    return {f"nnUNet_{name}": str(folder / "nnunet" / name) for name in ("raw", "preprocessed", "results")}


def prepare(peers: str, data: Path, folder: Path) -> None:
    """Let both sides prepare the dataset, unless it is there."""
    home, environment = Path(peers).parent, os.environ | nnunet_folders(folder)
    if not (folder / "nnunet/preprocessed").is_dir():
        for name in ("preprocessed", "results"):
            (folder / "nnunet" / name).mkdir(parents=True)
        sides.as_raw(data, folder / "nnunet/raw", 4)
        plan = (home / "nnUNetv2_plan_and_preprocess", "-d", "4", "-c", "3d_fullres", "-np", "2")
        subprocess.run(plan, check=True, env=environment)
    ours = (sys.executable, "-m", "nnunet_rs", "preprocess", data, "-o", folder / "work", "--recipe", "v2")
    subprocess.run([*ours, "-c", "3d_fullres"], check=True)


def in_turns(ours: Side, start: Callable[[], Side], runs: int) -> tuple[list[float], list[float]]:
    theirs = start()
    turns = [(ours.run(), theirs.run()) for _ in range(3 * runs)]
    theirs.close()
    return [mine for mine, _ in turns], [other for _, other in turns]


def around(ours: Side, start: Callable[[], Side], runs: int) -> tuple[list[float], list[float]]:
    """Run ours before and after theirs: while nnU-Net's loader lives, its processes work."""
    mine = [ours.run() for _ in range(runs)]
    theirs = start()
    other = [theirs.run() for _ in range(runs)]
    theirs.close()
    return mine + [ours.run() for _ in range(runs)], other


def measure(case: Case, peers: str, folder: Path, runs: int) -> tuple[list[float], list[float]]:
    """Measure both sides."""
    argument, threads = f"{case.argument},{folder}", case.threads or THREADS
    ours = Side(sys.executable, __file__, case.ours, threads, argument)
    start = partial(Side, peers, __file__, case.theirs, threads, argument)
    measured = (in_turns if case.rests else around)(ours, start, runs)
    ours.close()
    return measured


def main() -> None:
    """Measure every case and print the table."""
    parser = sides.parser(__doc__)
    parser.add_argument("data", metavar="DATA", type=Path, help="Task04_Hippocampus of the Decathlon")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="for what both sides prepare")
    parser.add_argument("--prepare", action="store_true", help="prepare, and measure nothing")
    options = parser.parse_args()
    peers, folder = options.peers, options.folder.resolve()
    prepare(peers, options.data, folder)
    if options.prepare:
        return
    note = f"Medians; {THREADS} threads where a row says nothing else; {sides.machine()}; {sides.versions(peers)}."
    cases = [case for case in CASES if options.only in case.name]
    sides.tabulate(cases, lambda case: measure(case, peers, folder, options.runs), note, options.output)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        function, threads, argument = sys.argv[2:5]
        name, place = argument.split(",", 1)
        sides.serve(lambda: globals()[function](int(threads), name, Path(place)))
    else:
        main()
