"""Whether the device computes what the processor computes, and which lines make the program wait for it."""

from __future__ import annotations

import copy
import math
import sys
import time
import traceback
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunet_rs import __version__ as VERSION
from nnunet_rs.core.resources import processors
from nnunet_rs.model.device import Compute, choose_compute
from nnunet_rs.model.losses import DeepSupervision, build_loss
from nnunet_rs.model.muon import orthogonal
from nnunet_rs.model.network_options import NetworkOptions
from nnunet_rs.model.recipe import FAST, V2
from nnunet_rs.model.unet import build_unet
from nnunet_rs.predict.engines.torch_accumulator import DeviceAccumulator, TensorAccumulator
from nnunet_rs.predict.engines.torch_engine import torch_engine
from nnunet_rs.predict.sliding_window import WindowOptions, sliding_window_scores
from nnunet_rs.predict.window_grid import sliding_window_grid
from torch import nn

from gpu_exam.shared import BEGUN, LABELS, TYPES, Exam, Step, configuration, networks, section


@section(5)
def machine(exam: Exam) -> None:
    facts: dict[str, Any] = {
        "nnunet_rs": VERSION,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if exam.cuda else None,
        "processors": processors(),
        "device": str(exam.device),
        "numpy": np.__version__,
        "import_s": round(time.monotonic() - BEGUN, 2),
    }
    if exam.cuda:
        free, total = torch.cuda.mem_get_info(exam.device)
        facts |= {
            "gpu": torch.cuda.get_device_name(exam.device),
            "capability": torch.cuda.get_device_capability(exam.device),
            "free_gib": round(free / 2**30, 1),
            "total_gib": round(total / 2**30, 1),
            "tf32_convolutions": torch.backends.cudnn.allow_tf32,
            "tf32_matmuls": torch.backends.cuda.matmul.allow_tf32,
            "default": choose_compute(exam.device).describe(),
        }
    exam.say(**facts)
    # how much a launch costs the host here, and how fast memory is
    if exam.cuda:
        x, y = torch.zeros(8, device=exam.device), torch.zeros(1 << 28, dtype=torch.uint8, device=exam.device)
        z = torch.empty_like(y)
        for _ in range(100):
            x.add_(1)
        exam.sync()
        begun = time.perf_counter()
        for _ in range(2000):
            x.add_(1)
        host = (time.perf_counter() - begun) / 2000
        exam.sync()
        begun = time.perf_counter()
        for _ in range(20):
            z.copy_(y)
        exam.sync()
        copied = 20 * 2 * y.numel() / (time.perf_counter() - begun)
        exam.say(what="launch", host_us=round(1e6 * host, 2), copy_tb_s=round(copied / 1e12, 2))
        host_side = torch.empty(1 << 26, dtype=torch.uint8, pin_memory=True)
        pageable = torch.empty(1 << 26, dtype=torch.uint8)
        for name, source in (("pinned", host_side), ("pageable", pageable)):
            y[: 1 << 26].copy_(source)
            exam.sync()
            begun = time.perf_counter()
            for _ in range(8):
                y[: 1 << 26].copy_(source, non_blocking=True)
            exam.sync()
            exam.say(
                what="host to device", memory=name, gb_s=round(8 * (1 << 26) / (time.perf_counter() - begun) / 1e9, 1)
            )


@section(30)
def correctness(exam: Exam) -> None:
    """Compare outputs, losses and gradients of the device with those of the processor in float32."""
    sizes = {"hippocampus": 2, "plane": 1, "residual": 1}
    for name, batch in sizes.items():
        c = networks(exam.quick)[name]
        c = replace(c, batch_size=batch, patch_size=tuple(min(n, 128) for n in c.patch_size)) if name == "plane" else c
        c = replace(c, batch_size=batch, patch_size=(64,) * 3) if name == "residual" and not exam.quick else c
        if name == "plane":  # so small a patch takes fewer poolings
            c = configuration(c.patch_size, c.features[:5], batch)
        torch.manual_seed(0)
        options = NetworkOptions(deep_supervision=name == "hippocampus")
        reference = build_unet(c, 1, LABELS.outputs, options)
        data = torch.randn(batch, 1, *c.patch_size)
        labels = (data[:, 0] > 0.5).short() + (data[:, 0] > 1.5).short()
        loss_of = DeepSupervision(build_loss(LABELS))
        with torch.enable_grad():
            outputs = reference(data)
            loss = loss_of(outputs, labels)
            loss.backward()
        finest = (outputs[0] if isinstance(outputs, list) else outputs).detach()
        gradients = [p.grad for p in reference.parameters()]
        size = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        for dtype, tf32 in (("float32", False), ("float32", True), ("float16", True), ("bfloat16", True)):
            if tf32 and dtype == "float32" and not exam.cuda:
                continue
            torch.backends.cudnn.allow_tf32 = tf32
            try:
                compute = Compute(exam.device, TYPES[dtype])
                network = compute.to_device(copy.deepcopy(reference), c.dims)
                network.zero_grad()
                with compute.autocast():
                    there = network(data.to(exam.device))
                scale = 1024.0 if dtype == "float16" else 1.0
                other = loss_of.to(exam.device)(there, labels.to(exam.device))
                (other * scale).backward()
                best = (there[0] if isinstance(there, list) else there).detach().float().cpu()
                apart = math.sqrt(
                    sum(
                        float((p.grad.cpu() / scale - g).square().sum())
                        for p, g in zip(network.parameters(), gradients, strict=True)
                    )
                )
                exam.say(
                    network=name,
                    dtype=dtype,
                    tf32=tf32,
                    max_abs=float((best - finest).abs().max()),
                    relative=float((best - finest).norm() / finest.norm()),
                    loss=other.item(),
                    loss_reference=loss.item(),
                    gradient_relative=apart / size,
                    labels_that_differ=int((best.argmax(1) != finest.argmax(1)).sum()),
                    voxels=labels.numel(),
                )
            finally:
                torch.backends.cudnn.allow_tf32 = True
    _convolutions(exam)
    _muon(exam)
    _sums(exam)
    _prediction(exam)


def _muon(exam: Exam) -> None:
    """The same steps on the device, and what TF32 would make of them."""
    torch.manual_seed(0)
    n, m = (24, 200) if exam.quick else (320, 8640)
    left, right = torch.linalg.qr(torch.randn(n, n))[0], torch.linalg.qr(torch.randn(m, n))[0]
    kernels = [torch.randn(n, m), left @ torch.diag(torch.logspace(0, -4, n)) @ right.T]
    expected = orthogonal(kernels)
    for tf32 in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        try:
            found = [x.cpu() for x in orthogonal([k.to(exam.device) for k in kernels])]
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False
        exam.say(
            what="muon",
            tf32=tf32,
            relative=[float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True)],
            largest_singular_value=[float(torch.linalg.matrix_norm(x, 2)) for x in found],
        )


def _sums(exam: Exam) -> None:
    """The sums of windows on the device against those of the Rust kernel."""
    sweep = sliding_window_grid((20, 30, 26), (12, 16, 16))
    outputs_of = [torch.randn(1, 3, 12, 16, 16) for _ in sweep.starts]  # in working axes
    sums: list[Any] = [TensorAccumulator(3, sweep, "none"), DeviceAccumulator(3, sweep, 8, exam.device)]
    whole = [np.zeros((3, *sweep.padded), np.float32) for _ in sums]
    layers = sorted({start[0] for start in sweep.starts})
    for index, layer in enumerate(layers):
        stop = layers[index + 1] if index + 1 < len(layers) else sweep.padded[0]
        for each, target in zip(sums, whole, strict=True):
            for start, output in zip(sweep.starts, outputs_of, strict=True):
                if start[0] == layer:
                    each.add(output if each is sums[0] else output.to(exam.device), [start], (0, 2))
            target[:, layer:stop] = each.mean((layer, 0, 0), (stop, *sweep.padded[1:]))()
            each.forget(max(0, stop - 1), sweep.padded[1])
    exam.say(what="sums of windows", max_abs=float(np.abs(whole[0] - whole[1]).max()))


def _prediction(exam: Exam) -> None:
    """A whole prediction, of two networks and all mirror images, against the processor's in float32."""
    c = networks(exam.quick)["hippocampus"]
    torch.manual_seed(0)
    made = [build_unet(c, 1, LABELS.outputs).eval().requires_grad_(False) for _ in range(2)]
    size = tuple(int(1.6 * n) for n in c.patch_size)
    image, grid = (
        np.random.default_rng(0).standard_normal((1, *size), np.float32),
        sliding_window_grid(size, c.patch_size),
    )
    found: dict[str, Any] = {}
    for name, device, dtype in (
        ("cpu", "cpu", "float32"),
        ("float32", exam.device, "float32"),
        ("auto", exam.device, "auto"),
    ):
        compute = choose_compute(torch.device(device), dtype)
        engine = torch_engine([copy.deepcopy(network).to(device) for network in made], compute, fill=True)
        whole = np.zeros((LABELS.outputs, *grid.size), np.float32)
        for block in sliding_window_scores(engine, image, grid, WindowOptions((0, 1, 2), "softmax")):
            whole[:, slice(*block.planes), slice(*block.rows)] = block.read(block.planes, block.rows)
        found[name] = whole
    for name in ("float32", "auto"):
        differ = int((found[name].argmax(0) != found["cpu"].argmax(0)).sum())
        apart = float(np.abs(found[name] - found["cpu"]).max())
        exam.say(what="prediction", dtype=name, max_abs=apart, labels_that_differ=differ, voxels=found["cpu"][0].size)


def _convolutions(exam: Exam) -> None:
    """Large 3-D convolutions and gradients in each type beside float32 without TF32: cuDNN 9.8 to 9.15 err."""
    for n, i, o, side, kernel in (
        ((1, 4, 6, 8, 3),)
        if exam.quick
        else ((2, 32, 32, 128, 3), (2, 64, 32, 128, 3), (9, 30, 30, 40, 3), (2, 320, 320, 8, 3))
    ):
        torch.manual_seed(0)
        x = torch.randn(n, i, side, side, side, device=exam.device)
        w = torch.randn(o, i, kernel, kernel, kernel, device=exam.device) / math.sqrt(i * kernel**3)
        g = torch.randn(n, o, side, side, side, device=exam.device)
        results = {}
        for name, dtype, tf32 in (
            ("exact", "float32", False),
            ("TF32", "float32", True),
            ("float16", "float16", True),
            ("bfloat16", "bfloat16", True),
        ):
            torch.backends.cudnn.allow_tf32 = tf32
            try:
                a, b = (t.detach().to(TYPES[dtype], copy=True).requires_grad_() for t in (x, w))
                y = nn.functional.conv3d(a, b, padding=kernel // 2)
                y.backward(g.to(TYPES[dtype]))
                found = [t.detach().float() for t in (y, a.grad, b.grad)]  # type: ignore[union-attr]
            finally:
                torch.backends.cudnn.allow_tf32 = True
            if name == "exact":
                results["exact"] = found
                continue
            apart = [float((p - q).norm() / q.norm()) for p, q in zip(found, results["exact"], strict=True)]
            exam.say(
                what="convolution",
                shape=[n, i, o, side],
                arithmetic=name,
                relative=dict(zip(("output", "input_gradient", "weight_gradient"), apart, strict=True)),
            )
        del x, w, g, results
        exam.clear()


@section(20)
def synchronising(exam: Exam) -> None:
    """Name the lines that make the host wait for the GPU, in a training step and in a prediction."""
    if not exam.cuda:
        exam.say(skipped="no CUDA")
        return
    found: Counter[str] = Counter()

    def note(message: Any, *_: Any, **__: Any) -> None:
        if "synchronizing" in str(message):
            frames = [
                f for f in traceback.extract_stack() if "nnunet_rs" in f.filename and "gpu_exam" not in f.filename
            ]
            found[" < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-3:]))] += 1

    shown = warnings.showwarning
    c = networks(exam.quick)
    for name, recipe, dtype in (
        ("hippocampus", V2, "bfloat16"),
        ("hippocampus_fast", FAST, "bfloat16"),
        ("hippocampus_fast", FAST, "float16"),
    ):
        step = Step(exam, c[name], recipe, dtype)
        step(), step(), exam.sync()
        found.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = note
            torch.cuda.set_sync_debug_mode("warn")
            try:
                step()
            finally:
                torch.cuda.set_sync_debug_mode("default")
                warnings.showwarning = shown
        exam.say(what="iteration", network=name, recipe=recipe.name, dtype=dtype, sites=dict(found))
    network = build_unet(c["hippocampus"], 1, 3).eval().requires_grad_(False).to(exam.device)
    size = tuple(2 * n for n in c["hippocampus"].patch_size)
    image, sweep = np.zeros((1, *size), np.float32), sliding_window_grid(size, c["hippocampus"].patch_size)
    found.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            engine = torch_engine([network], choose_compute(exam.device), fill=True)
            for region in sliding_window_scores(engine, image, sweep, WindowOptions()):
                region.read(region.planes, region.rows)
        finally:
            torch.cuda.set_sync_debug_mode("default")
            warnings.showwarning = shown
    exam.say(what="prediction", windows=len(sweep.starts), sites=dict(found))
