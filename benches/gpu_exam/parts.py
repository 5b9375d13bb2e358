"""How long parts of a training take by themselves: norms, Muon, the loader."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunet_rs.core.allocator import freed_memory_kept
from nnunet_rs.core.geometry import Geometry
from nnunet_rs.core.resources import processors
from nnunet_rs.core.types import Header, LabelSet
from nnunet_rs.data.augment import build_augmentation
from nnunet_rs.data.loader import Loader, LoaderOptions
from nnunet_rs.data.preprocess import Prepared
from nnunet_rs.data.store import Store, StoreLayout, open_store
from nnunet_rs.model.device import batch_memory
from nnunet_rs.model.muon import Muon, is_kernel
from nnunet_rs.model.unet import build_unet
from nnunet_rs.plan.files import read_plan
from nnunet_rs.plan.schema import Configuration, Normalization
from torch import nn

from gpu_exam.shared import LABELS, TYPES, Exam, configuration, networks, section


@section(15)
def norms(exam: Exam) -> None:
    """Time instance norm with its activation, forward and backward: as the product does it, and in other ways."""
    from nnunet_rs.model.blocks import _normalised

    shapes = [(2, 4, 8, 8, 8)] if exam.quick else [(2, 32, 128, 128, 128), (9, 32, 40, 56, 40), (2, 320, 8, 8, 8)]
    for shape in shapes:
        norm = nn.InstanceNorm3d(shape[1], affine=True).to(exam.device)
        act = nn.LeakyReLU(0.01, inplace=True)
        ways: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
            "product": lambda x, n=norm, a=act: _normalised(n, a, x),
            "group_norm": lambda x, n=norm, a=act: a(nn.functional.group_norm(x, x.shape[1], n.weight, n.bias, n.eps)),
            "var_mean": lambda x, n=norm, a=act: _by_moments(x, n, a),
        }
        for dtype in ("bfloat16", "float16", "float32"):
            for name, way in ways.items():
                x = torch.randn(shape, device=exam.device, dtype=TYPES[dtype], requires_grad=True)
                try:
                    with torch.autocast(exam.device.type, TYPES[dtype], enabled=dtype != "float32"):
                        for _ in range(2):
                            y = way(x)
                            y.backward(torch.ones_like(y))
                        exam.sync()
                        begun = time.perf_counter()
                        for _ in range(1 if exam.quick else 10):
                            y = way(x)
                            y.backward(torch.ones_like(y))
                        exam.sync()
                    ms = 1e3 * (time.perf_counter() - begun) / (1 if exam.quick else 10)
                    passes = x.numel() * x.element_size() * 10  # bytes that a fused one would have to move
                    exam.say(shape=shape, dtype=dtype, way=name, ms=round(ms, 3), tb_s=round(passes / ms / 1e9, 2))
                except Exception as error:
                    exam.say(shape=shape, dtype=dtype, way=name, failed=f"{type(error).__name__}: {error}"[:200])
                del x


def _by_moments(x: torch.Tensor, norm: nn.Module, activation: nn.Module) -> torch.Tensor:
    axes = tuple(range(2, x.ndim))
    variance, mean = torch.var_mean(x.float(), axes, unbiased=False, keepdim=True)
    scale = norm.weight.view(1, -1, *(1,) * len(axes)) * torch.rsqrt(variance + norm.eps)
    shift = norm.bias.view(1, -1, *(1,) * len(axes)) - mean * scale
    return activation((x * scale + shift).to(x.dtype))


@section(20)
def muon(exam: Exam) -> None:
    """Time Muon's step alone, in float32 and TF32, beside a plain Newton-Schulz on stacks in bfloat16."""
    for name in ("hippocampus_fast", "large"):
        c = networks(exam.quick)[name]
        network = build_unet(c, 1, 3).to(exam.device)
        optimiser = Muon(network.parameters())
        gradients = [torch.randn_like(p) * 1e-3 for p in network.parameters()]

        def one(net: nn.Module = network, gs: list[torch.Tensor] = gradients, opt: Any = optimiser) -> None:
            for p, g in zip(net.parameters(), gs, strict=True):
                p.grad = g
            opt.step()

        shapes: dict[tuple[int, ...], list[torch.Tensor]] = {}
        for p, g in zip(network.parameters(), gradients, strict=True):
            if is_kernel(p):
                shapes.setdefault(tuple(g.flatten(1).shape), []).append(g.flatten(1))

        def stacked(groups: Any = shapes) -> None:
            for group in groups.values():
                _newton_schulz(torch.stack(group).to(torch.bfloat16))

        for what, work, tf32 in (
            ("step, float32", one, False),
            ("step, TF32", one, True),
            ("stacked Newton-Schulz, bfloat16", stacked, False),
        ):
            torch.backends.cuda.matmul.allow_tf32 = tf32
            try:
                for _ in range(3):
                    work()
                exam.sync()
                begun, count = time.perf_counter(), 2 if exam.quick else 20
                for _ in range(count):
                    work()
                host = time.perf_counter() - begun
                exam.sync()
                whole = time.perf_counter() - begun
            finally:
                torch.backends.cuda.matmul.allow_tf32 = False
            exam.say(
                network=name,
                what=what,
                kernels=sum(map(len, shapes.values())),
                shapes=len(shapes),
                ms=round(1e3 * whole / count, 3),
                host_ms=round(1e3 * host / count, 3),
            )
        exam.clear()


def _newton_schulz(x: torch.Tensor) -> torch.Tensor:
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x


@section(45)
def loader(exam: Exam) -> None:
    """Count the samples a second that the loader makes: Hippocampus, and patches of 128 voxels a side."""
    work = exam.work()
    plan = read_plan(work / "plan.json")
    settings = plan.configurations["3d_fullres"]
    settings = replace(settings, batch_size=2 if exam.quick else 9)
    most = processors()
    counts = sorted({1, min(4, most), most})
    batches = 4 if exam.quick else 120
    for name in ("v2", "paper", "light"):
        for threads in counts if name == "v2" else counts[1:2]:
            store = open_store(work, plan, "3d_fullres", cache=1 << 31)
            _throughput(
                exam, store, settings, plan.labels, name, threads, batches, plan.normalization, what="hippocampus"
            )
    side, cases = (40, 2) if exam.quick else (192, 4)
    folder = exam.scratch / "large"
    store = _made_store(folder, side, cases)
    large = networks(exam.quick)["large"]
    for name, threads, cache, kept in (
        ("v2", min(4, most), 1 << 34, False),
        ("v2", most, 1 << 34, False),
        ("v2", most, 1 << 34, True),
        ("v2", most, 0, False),
        ("paper", most, 1 << 34, False),
    ):
        if exam.left() < 20:
            break
        with freed_memory_kept() if kept else nullcontext():
            _throughput(
                exam,
                Store(folder, cache=cache),
                large,
                LABELS,
                name,
                threads,
                3 if exam.quick else 40,
                (Normalization("zscore", False, None),),
                what=f"patch {large.patch_size}, cache {cache >> 20} MiB, memory kept {kept}",
            )


def _made_store(folder: Path, side: int, cases: int) -> Store:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    store, c = Store(folder), configuration((min(128, side),) * 3, (8,), 2)
    for case in range(cases):
        rng = np.random.default_rng(case)
        rough = rng.standard_normal([side // 8 + 1] * 3).astype(np.float32)
        for axis in range(3):
            rough = rough.repeat(8, axis).take(range(side), axis)
        image = rough + 0.3 * rng.standard_normal(rough.shape, dtype=np.float32)
        labels = np.digitize(rough, (1.0, 1.8)).astype(np.uint8)
        header = Header("nifti", tuple(tuple(float(i == j) for j in range(4)) for i in range(4)))
        geometry = Geometry(image.shape, (1.0,) * 3, (0, 1, 2), tuple((0, side) for _ in range(3)), image.shape, header)
        store.write(f"case_{case}", Prepared(image[None], labels, None, geometry), ("exam",), StoreLayout.of(c, LABELS))
    return store


def _throughput(
    exam: Exam,
    store: Store,
    c: Configuration,
    labels: LabelSet,
    name: str,
    threads: int,
    batches: int,
    norm: Any,
    what: str,
) -> None:
    augmentation = build_augmentation(name, c, norm, labels.count)
    options = LoaderOptions(threads=threads, empty=partial(batch_memory, exam.device))
    with Loader(store, store.names(), c, labels, augmentation, options) as made:
        for _ in made.epoch(0, max(2, batches // 4)):
            pass
        begun, cpu = time.perf_counter(), time.process_time()
        for _ in made.epoch(1, batches):
            pass
        seconds, worked = time.perf_counter() - begun, time.process_time() - cpu
    samples = batches * c.batch_size
    exam.say(
        what=what,
        augmentation=name,
        threads=threads,
        samples_per_s=round(samples / seconds, 1),
        core_ms_per_sample=round(1e3 * worked / samples, 3),
        batches_per_s=round(batches / seconds, 2),
    )
