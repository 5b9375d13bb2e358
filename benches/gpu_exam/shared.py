"""What the sections of the GPU exam share: its clock and lines, networks of usual sizes, one training iteration."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunet_rs.core.types import LabelSet
from nnunet_rs.data.store import Store
from nnunet_rs.model.compiled import batch_loss
from nnunet_rs.model.device import batch_memory, choose_compute, find_device, kernels_measured
from nnunet_rs.model.ema import WeightEMA
from nnunet_rs.model.losses import DeepSupervision, build_loss
from nnunet_rs.model.network_options import NetworkOptions
from nnunet_rs.model.optimiser import build_optimiser, set_rate
from nnunet_rs.model.recipe import TrainRecipe
from nnunet_rs.model.unet import build_unet
from nnunet_rs.plan.schema import Configuration
from torch import nn

BEGUN = time.monotonic()
LABELS = LabelSet(("background", "a", "b"), (0, 1, 2))
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Exam:
    """The settings, the clock and where lines go."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.quick: bool = arguments.quick
        self.device = find_device(arguments.device)
        self.cuda = self.device.type == "cuda"
        if self.cuda and self.device.index is None:  # as some functions of torch.cuda want it
            self.device = torch.device("cuda", torch.cuda.current_device())
        out = Path(arguments.output)
        out.mkdir(parents=True, exist_ok=True)
        self.file = (out / "exam.jsonl").open("w")
        self.scratch = Path(arguments.scratch or tempfile.mkdtemp(prefix="gpu_exam_"))
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.section = ""
        self._work: Path | None = None

    def left(self) -> float:
        return self.arguments.seconds - (time.monotonic() - BEGUN)

    def say(self, **values: Any) -> None:
        line = json.dumps({"section": self.section, **values}, default=str)
        print(line, flush=True)
        self.file.write(line + "\n")
        self.file.flush()

    @contextmanager
    def going_on(self, **values: Any) -> Iterator[None]:
        """Say what failed, and go on."""
        try:
            yield
        except Exception as error:
            self.say(**values, failed=f"{type(error).__name__}: {error}"[:400])
        self.clear()

    def work(self) -> Path:
        """Return a prepared work folder of the dataset, made the first time."""
        if self._work is None:
            data = (
                Path(self.arguments.data) if self.arguments.data else make_up(self.scratch / "Task04_Made", self.quick)
            )
            begun = time.monotonic()
            self._work = self.scratch / "work"
            shutil.rmtree(self._work, ignore_errors=True)
            command = [sys.executable, "-m", "nnunet_rs", "preprocess", str(data), "-o", str(self._work), "-q"]
            command += ["-c", "3d_fullres", "2d"]
            if self.quick:
                command += ["--features", "4"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds = time.monotonic() - begun
            self.say(
                what="preprocess",
                seconds=round(seconds, 2),
                cases=len(Store(self._work / "prepared/3d_fullres").names()),
            )
        return self._work

    def sync(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def clear(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def memory(self) -> dict[str, float]:
        if not self.cuda:
            return {}
        allocated, reserved = torch.cuda.max_memory_allocated(self.device), torch.cuda.max_memory_reserved(self.device)
        return {"peak_allocated_gib": round(allocated / 2**30, 3), "peak_reserved_gib": round(reserved / 2**30, 3)}


SECTIONS: dict[str, tuple[float, Callable[[Exam], None]]] = {}  # name -> (seconds that it wants, function)


def section(seconds: float) -> Callable[[Callable[[Exam], None]], Callable[[Exam], None]]:
    def register(function: Callable[[Exam], None]) -> Callable[[Exam], None]:
        SECTIONS[function.__name__] = (seconds, function)
        return function

    return register


class Silent:
    """Progress that keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def task(self, name: str, total: float, *, timed: bool = False) -> Iterator[Silent]:  # noqa: ARG002
        yield self

    def advance(self, count: float = 1, note: str = "") -> None:
        pass

    def say(self, text: str) -> None:
        self.lines.append(text)


def make_up(folder: Path, quick: bool) -> Path:
    """Write a dataset in the Decathlon's layout, of the hippocampus' sizes."""
    import nibabel

    rng, cases = np.random.default_rng(0), 10 if quick else 120
    (folder / "imagesTr").mkdir(parents=True, exist_ok=True)
    (folder / "labelsTr").mkdir(exist_ok=True)
    names = []
    for case in range(cases):
        shape = (
            tuple(int(n) for n in rng.integers((24, 34, 22), (31, 42, 30)))
            if quick
            else tuple(int(n) for n in rng.integers((31, 43, 24), (43, 59, 47)))
        )
        grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
        middle = rng.uniform(-0.15, 0.15, (3, 1, 1, 1))
        near = ((grid - middle) ** 2 * np.array([3.0, 6.0, 6.0])[:, None, None, None]).sum(0) < 1
        labels = np.where(near, np.where(grid[1] > 0.1, 1, 2), 0).astype(np.uint8)
        image = (np.array([300, 450, 600])[labels] + 60 * rng.standard_normal(shape)).astype(np.float32)
        name = f"made_{case:03d}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), folder / "imagesTr" / name)
        nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), folder / "labelsTr" / name)
        names.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    document = {
        "name": "Made",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "numTraining": cases,
        "numTest": 0,
        "training": names,
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(document))
    return folder


def configuration(
    patch: tuple[int, ...], features: tuple[int, ...], batch: int, residual: bool = False, blocks: tuple[int, ...] = ()
) -> Configuration:
    n, d = len(features), len(patch)
    strides, kernels = ((1,) * d,) + ((2,) * d,) * (n - 1), tuple((3,) * d for _ in features)
    decoder = (1,) * (n - 1) if residual else (2,) * (n - 1)
    return Configuration(
        "exam",
        (1.0,) * d,
        patch,
        batch,
        patch,
        strides,
        kernels,
        features,
        blocks or (2,) * n,
        decoder,
        residual,
        False,
        False,
        1,
    )


def networks(quick: bool) -> dict[str, Configuration]:
    if quick:
        return {
            "hippocampus": configuration((16, 24, 16), (4, 8, 12), 3),
            "hippocampus_30": configuration((16, 24, 16), (3, 6, 9), 3),
            "hippocampus_fast": configuration((16, 24, 16), (4, 8, 12), 2),
            "large": configuration((32, 32, 32), (4, 8, 12, 16), 2),
            "residual": configuration((16, 16, 16), (4, 8, 12), 2, True, (1, 2, 2)),
            "plane": configuration((64, 64), (4, 8, 12, 16), 3),
        }
    return {
        "hippocampus": configuration((40, 56, 40), (32, 64, 128, 256), 9),
        "hippocampus_30": configuration((40, 56, 40), (30, 60, 120, 240), 9),  # no multiples of 8, as the paper's
        "hippocampus_fast": configuration((40, 56, 40), (30, 60, 120, 240), 2),
        "large": configuration((128,) * 3, (32, 64, 128, 256, 320, 320), 2),
        "residual": configuration((96,) * 3, (32, 64, 128, 256, 320, 320), 2, True, (1, 3, 4, 6, 6, 6)),
        "plane": configuration((512, 512), (32, 64, 128, 256, 512, 512, 512, 512), 12),
    }


class Step:
    """One iteration, as `Loop._iterate` does it."""

    def __init__(
        self, exam: Exam, c: Configuration, recipe: TrainRecipe, dtype: str, mode: str = "eager", last: bool = False
    ) -> None:
        self.exam, self.c, self.recipe = exam, c, recipe
        self.compute = choose_compute(exam.device, dtype, last)  # type: ignore[arg-type]
        torch.manual_seed(0)
        options = NetworkOptions(deep_supervision=recipe.deep_supervision)
        self.network = self.compute.to_device(build_unet(c, 1, LABELS.outputs, options), c.dims)
        self.optimiser = build_optimiser(recipe, self.network.parameters())
        self.scaler = self.compute.scaler()
        self.average = None if recipe.ema_decay is None else WeightEMA(self.network, recipe.ema_decay)
        self.loss = DeepSupervision(build_loss(LABELS)).to(exam.device)
        self.whole: Any = None  # network and loss as one, as `model.compiled` has them
        if mode != "eager":
            self.whole = compiled_as(mode, batch_loss(self.network, self.loss, self.compute))
        empty = partial(batch_memory, exam.device)
        rng = np.random.default_rng(0)
        self.data, self.labels = (
            empty((c.batch_size, 1, *c.patch_size), np.float32),
            empty((c.batch_size, *c.patch_size), np.int16),
        )
        self.data[...] = rng.standard_normal(self.data.shape, np.float32)
        self.labels[...] = (self.data[:, 0] > 0.5).astype(np.int16) + (self.data[:, 0] > 1.5)
        self.events: list[Any] | None = None

    def mark(self) -> None:
        if self.events is not None:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.events.append(event)

    def __call__(self) -> torch.Tensor:
        recipe, compute = self.recipe, self.compute
        self.mark()
        set_rate(self.optimiser, recipe.learning_rate * 0.1)
        data, labels = torch.as_tensor(self.data), torch.as_tensor(self.labels)
        data = data.to(compute.device, non_blocking=True, memory_format=compute.layout(self.c.dims))
        labels = labels.to(compute.device, non_blocking=True)
        self.optimiser.zero_grad(set_to_none=True)
        if self.whole is None:
            with compute.autocast():
                outputs = self.network(data)
            self.mark()
            loss = self.loss(outputs, labels)
        else:
            self.mark()
            loss = self.whole(data, labels)
        self.mark()
        self.scaler.scale(loss).backward()
        self.mark()
        if recipe.gradient_clip is not None:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.network.parameters(), recipe.gradient_clip)
        self.mark()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.mark()
        if self.average is not None:
            self.average.update()
        self.mark()
        return loss.detach().clone()  # a graph's own memory is written again by the next iteration


def compiled_as(mode: str, function: Any) -> Any:
    """Compile a function, as nnU-Net does or with CUDA graphs."""
    return torch.compile(function, dynamic=False, mode="reduce-overhead" if mode == "graphs" else None)


PHASES = ("copy_and_forward", "loss", "backward", "clip", "optimiser", "average")


def timed(exam: Exam, step: Step, count: int) -> dict[str, Any]:
    """Time the first iteration, then many, with losses read every twentieth."""
    exam.clear()
    with kernels_measured():
        begun = time.perf_counter()
        step().item()
        first = time.perf_counter() - begun
        for _ in range(2 if exam.quick else 6):
            step()
        exam.sync()
        begun, pending = time.perf_counter(), []
        for _ in range(count):
            pending.append(step())
            if len(pending) == 20:
                torch.stack(pending).tolist()
                pending.clear()
        queued = time.perf_counter() - begun
        exam.sync()
        whole = time.perf_counter() - begun
        found: dict[str, Any] = {
            "first_s": round(first, 2),
            "ms": round(1e3 * whole / count, 3),
            "host_ms": round(1e3 * queued / count, 3),
            "iterations_per_s": round(count / whole, 1),
            "loss_finite": math.isfinite(step().item()),
            **exam.memory(),
        }
        if exam.cuda:
            rows = []
            for _ in range(3):
                step.events = []
                step()
                exam.sync()
                rows.append([a.elapsed_time(b) for a, b in zip(step.events, step.events[1:], strict=False)])
            step.events = None
            found["phases_ms"] = {p: round(statistics.median(row[i] for row in rows), 3) for i, p in enumerate(PHASES)}
    return found


# ---- the sections, the most important first
