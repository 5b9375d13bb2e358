"""Prediction: its time beside nnU-Net's, what a new number of windows costs, and memory that runs out."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from nnunet_rs.core.resources import peak_memory
from nnunet_rs.model.device import choose_compute
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.recipe import V2
from nnunet_rs.model.train import train_fold
from nnunet_rs.model.unet import build_unet
from nnunet_rs.predict.engines import torch_engine as torch_engine_module
from nnunet_rs.predict.engines.torch_engine import torch_engine
from nnunet_rs.predict.sliding_window import WindowOptions, sliding_window_scores
from nnunet_rs.predict.window_grid import sliding_window_grid
from torch import nn

from gpu_exam.peer import peer_predictor, their_labels
from gpu_exam.shared import Exam, Silent, configuration, networks, section


@section(60)
def predict(exam: Exam) -> None:
    """Time the sliding window and look at its memory, beside nnU-Net's where it is at hand; the same weights."""
    peer = peer_predictor(exam)
    sizes: list[tuple[str, tuple[int, int, int], int]] = (
        [("hippocampus", (20, 30, 20), 3), ("large", (40, 48, 48), 3)]
        if exam.quick
        else [
            ("hippocampus", (36, 50, 35), 3),
            ("hippocampus", (80, 112, 80), 3),
            ("large", (200, 320, 320), 3),
            ("large", (200, 320, 320), 15),
            ("large", (200, 512, 512), 15),
        ]
    )
    for name, size, classes in sizes:
        if exam.left() < (150 if math.prod(size) > 3e7 else 60) and not exam.quick:
            exam.say(skipped=f"{name}, {size}: no time left")
            continue
        c = networks(exam.quick)[name]
        torch.manual_seed(0)
        network = build_unet(c, 1, classes).eval().requires_grad_(False).to(exam.device)
        image = np.random.default_rng(0).standard_normal((1, *size), np.float32)
        sweep = sliding_window_grid(size, c.patch_size)
        labels: dict[str, Any] = {}
        kinds = ("auto", "float16") if name == "hippocampus" or (classes == 3 and exam.cuda) else ("auto",)
        rows: list[tuple[str, Callable[[], Any]]] = [
            (f"ours, {dtype}", partial(_ours, exam, network, image, sweep, dtype)) for dtype in kinds
        ]
        if peer is not None:
            rows.append(("nnU-Net", partial(their_labels, peer, network, image, c, classes)))
        for who, work in rows:
            exam.clear()
            try:
                seconds = []
                for _ in range(1 if exam.quick or name == "large" else 2):
                    begun = time.perf_counter()
                    labels[who] = work()
                    exam.sync()
                    seconds.append(round(time.perf_counter() - begun, 3))
                exam.say(
                    network=name,
                    volume=size,
                    classes=classes,
                    windows=len(sweep.starts),
                    who=who,
                    seconds=seconds,
                    sums=_SUMS.pop("kind", None),
                    **exam.memory(),
                    host_peak_gib=round(peak_memory() / 2**30, 2),
                )
            except Exception as error:
                exam.say(
                    network=name, volume=size, classes=classes, who=who, failed=f"{type(error).__name__}: {error}"[:300]
                )
        base = labels.get("ours, auto")
        exam.say(
            network=name,
            volume=size,
            classes=classes,
            voxels=math.prod(size),
            labels_that_differ={k: int((v != base).sum()) for k, v in labels.items() if base is not None},
        )
        del network
    _batches(exam)


_SUMS: dict[str, str] = {}


def _ours(exam: Exam, network: nn.Module, image: Any, sweep: Any, dtype: str) -> Any:
    opened = torch_engine_module.device_accumulator

    def spy(*arguments: Any) -> Any:
        sums = opened(*arguments)
        _SUMS["kind"] = type(sums).__name__
        return sums

    torch_engine_module.device_accumulator = spy
    labels = np.zeros(sweep.size, np.uint8)
    try:
        compute = choose_compute(exam.device, dtype)  # type: ignore[arg-type]
        options = WindowOptions((0, 1, 2), "none")
        for region in sliding_window_scores(torch_engine([network], compute, fill=True), image, sweep, options):
            labels[slice(*region.planes), slice(*region.rows)] = region.read(region.planes, region.rows).argmax(0)
    finally:
        torch_engine_module.device_accumulator = opened
    return labels.transpose(sweep.back)


def _batches(exam: Exam) -> None:
    """What a new number of windows costs: cuDNN measures again. 2-D, as Hippocampus' slices are."""
    c = configuration((16, 16), (4, 8), 2) if exam.quick else configuration((56, 40), (32, 64, 128, 256), 2)
    network = build_unet(c, 1, 3).eval().requires_grad_(False).to(exam.device)
    compute = choose_compute(exam.device)
    for repeat in (0, 1):
        for slices in (30, 31, 32, 33, 34) if not exam.quick else (4, 5):
            sweep = sliding_window_grid((slices, *c.patch_size), c.patch_size)
            image = np.zeros((1, slices, *c.patch_size), np.float32)
            exam.sync()
            begun = time.perf_counter()
            options = WindowOptions((0, 1), "none")
            for region in sliding_window_scores(torch_engine([network], compute, fill=True), image, sweep, options):
                region.read(region.planes, region.rows)
            exam.sync()
            exam.say(
                what="a new number of windows",
                slices=slices,
                time=repeat + 1,
                seconds=round(time.perf_counter() - begun, 4),
            )


@section(15)
def out_of_memory(exam: Exam) -> None:
    """Let training and prediction run out of the GPU's memory: the message, and whether windows shrink."""
    if not exam.cuda:
        exam.say(skipped="no CUDA")
        return
    work = exam.work()
    total = torch.cuda.get_device_properties(exam.device).total_memory
    exam.clear()
    shutil.rmtree(work / "models", ignore_errors=True)
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1.5 * 2**30 / total), exam.device)
    try:
        options = TrainOptions(
            recipe=V2, epochs=1, batches=2, validation_batches=1, batch_size=64, device=str(exam.device)
        )
        train_fold(work, "3d_fullres", 0, options, Silent())
        exam.say(what="training", message="it fitted")
    except Exception as error:
        exam.say(what="training", error=type(error).__name__, message=str(error)[:600])
    c = networks(exam.quick)["large"]
    exam.clear()
    for gib in (6.0, 2.5, 1.2):
        torch.cuda.set_per_process_memory_fraction(min(1.0, gib * 2**30 / total), exam.device)
        network = build_unet(c, 1, 15).eval().requires_grad_(False).to(exam.device)
        size = (160, 200, 200)
        sweep, begun = sliding_window_grid(size, c.patch_size), time.perf_counter()
        try:
            _ours(exam, network, np.zeros((1, *size), np.float32), sweep, "auto")
            exam.say(
                what="prediction",
                gib=gib,
                sums=_SUMS.pop("kind", None),
                seconds=round(time.perf_counter() - begun, 2),
                **exam.memory(),
            )
        except Exception as error:
            exam.say(what="prediction", gib=gib, error=type(error).__name__, message=str(error)[:400])
        del network
        exam.clear()
    torch.cuda.set_per_process_memory_fraction(1.0, exam.device)
