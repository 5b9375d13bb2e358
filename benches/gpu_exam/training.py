"""How long a training iteration takes: eager, compiled, in whole epochs, and where its time goes."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from dataclasses import replace

import torch
from nnunet_rs.model.device import kernels_measured
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.recipe import FAST, PAPER, V2, TrainRecipe
from nnunet_rs.model.train import train_fold
from nnunet_rs.plan.files import read_plan

from gpu_exam.shared import Exam, Silent, Step, networks, section, timed


@section(75)
def iterations(exam: Exam) -> None:
    """Time iterations: eager in three number types, the paper's filters beside multiples of 8, and channels last."""
    c, count = networks(exam.quick), 4 if exam.quick else 60
    plan: list[tuple[str, TrainRecipe, str, bool]] = [
        ("hippocampus", V2, "bfloat16", False),
        ("hippocampus", V2, "float16", False),
        ("hippocampus", V2, "float32", False),
        ("hippocampus", PAPER, "bfloat16", False),
        ("hippocampus_30", PAPER, "bfloat16", False),
        ("hippocampus_fast", FAST, "bfloat16", False),
        ("large", V2, "bfloat16", False),
        ("large", V2, "float16", False),
        ("large", V2, "float32", False),
        ("large", FAST, "bfloat16", False),
        ("large", V2, "bfloat16", True),
        ("large", V2, "float16", True),
        ("residual", V2, "bfloat16", False),
    ]
    for name, recipe, dtype, last in plan:
        if exam.left() < 30:
            break
        number = count if "hippocampus" in name else max(3, count // 4)
        if dtype == "float16" and name == "large" and not exam.cuda:
            continue
        try:
            step = Step(exam, c[name], recipe, dtype, last=last)
            found = timed(exam, step, number)
            exam.say(
                network=name,
                recipe=recipe.name,
                dtype=dtype,
                mode="eager",
                channels_last=last,
                batch=c[name].batch_size,
                **found,
            )
        except Exception as error:
            exam.say(network=name, recipe=recipe.name, dtype=dtype, failed=f"{type(error).__name__}: {error}"[:300])
        step = None  # type: ignore[assignment]
        exam.clear()


@section(60)
def epoch(exam: Exam) -> None:
    """Train whole epochs of 250 iterations by the product's own loop; the share of waiting; validation's cost."""
    work = exam.work()
    batches, epochs = (6, 2) if exam.quick else (250, 3)
    plan = [
        ("v2, batch 9", {"recipe": V2, "batch_size": 9}),
        ("paper, as planned", {"recipe": PAPER}),
        ("fast, batch 2", {"recipe": FAST}),
    ]
    for name, options in plan:
        if exam.left() < 40:
            break
        shutil.rmtree(work / "models", ignore_errors=True)
        exam.clear()
        say = Silent()
        wanted = TrainOptions(epochs=epochs, batches=batches, device=str(exam.device), **options)  # type: ignore[arg-type]
        if exam.quick:
            wanted = replace(wanted, validation_batches=1, batch_size=2)
        begun = time.perf_counter()
        result = train_fold(work, "3d_fullres", 0, wanted, say)
        whole = time.perf_counter() - begun
        rows = [
            {
                "s": round(e.seconds, 2),
                "waiting_s": round(e.seconds_waiting, 2),
                "training_s": round(e.seconds_training, 2),
                "validation_s": round(e.seconds_validation, 2),
                "loss": round(e.loss, 4),
                "dice": e.mean_dice,
                "ms_per_iteration": round(1e3 * (e.seconds_waiting + e.seconds_training) / batches, 2),
                "share_waiting": round(e.seconds_waiting / e.seconds, 3),
            }
            for e in result.history.epochs
        ]
        exam.say(
            what=name,
            epochs=rows,
            whole_s=round(whole, 2),
            batch=read_plan(work / "plan.json").configurations["3d_fullres"].batch_size,
            **exam.memory(),
        )


@section(100)
def compiled(exam: Exam) -> None:
    """Time compiled networks, as nnU-Net has them by default; the first figure holds the compilation."""
    _compiled(exam, (("hippocampus", V2, "bfloat16", "compiled"), ("large", V2, "bfloat16", "compiled")))


@section(80)
def compiled_more(exam: Exam) -> None:
    """The same in float16."""
    _compiled(exam, (("large", V2, "float16", "compiled"),))


def _compiled(exam: Exam, plan: tuple[tuple[str, TrainRecipe, str, str], ...]) -> None:
    c, count = networks(exam.quick), 3 if exam.quick else 60
    for name, recipe, dtype, mode in plan:
        if exam.left() < 60 and not exam.quick:
            exam.say(skipped=f"{name}, {dtype}, {mode}: no time left")
            continue
        if name == "large" and not exam.cuda:
            continue
        try:
            torch._dynamo.reset()
            number = count if "hippocampus" in name else max(3, count // 4)
            found = timed(exam, Step(exam, c[name], recipe, dtype, mode), number)
            exam.say(network=name, recipe=recipe.name, dtype=dtype, mode=mode, batch=c[name].batch_size, **found)
        except Exception as error:
            exam.say(network=name, dtype=dtype, mode=mode, failed=f"{type(error).__name__}: {error}"[:400])
        exam.clear()


@section(20)
def kernels(exam: Exam) -> None:
    """Tell where an iteration's time on the GPU goes, and how much of it the GPU is busy."""
    from torch.profiler import ProfilerActivity, profile

    c = networks(exam.quick)
    for name, recipe, dtype in (
        ("hippocampus", V2, "bfloat16"),
        ("large", V2, "bfloat16"),
        ("large", V2, "float16"),
        ("hippocampus_fast", FAST, "bfloat16"),
    ):
        if dtype == "float16" and not exam.cuda:
            continue
        step = Step(exam, c[name], recipe, dtype)
        with kernels_measured():
            for _ in range(3):
                step()
            exam.sync()
            begun = time.perf_counter()
            for _ in range(3):
                step()
            exam.sync()
            wall = (time.perf_counter() - begun) / 3
            with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * exam.cuda) as profiler:
                step()
                exam.sync()
        rows = [
            (getattr(e, "self_device_time_total", 0.0) or getattr(e, "self_cuda_time_total", 0.0), e.count, e.key)
            for e in profiler.key_averages()
            if str(getattr(e, "device_type", "")).endswith("CUDA")
        ]
        busy, launches = sum(row[0] for row in rows), sum(row[1] for row in rows)
        groups: Counter[str] = Counter()
        for us, _, key in rows:
            groups[_kind(key)] += us / 1e3
        exam.say(
            network=name,
            recipe=recipe.name,
            dtype=dtype,
            wall_ms=round(1e3 * wall, 3),
            busy_ms=round(busy / 1e3, 3),
            launches=launches,
            groups_ms={k: round(v, 3) for k, v in groups.most_common()},
            top=[
                {"ms": round(us / 1e3, 3), "n": n, "kernel": key[:90]} for us, n, key in sorted(rows, reverse=True)[:12]
            ],
        )
        step = None  # type: ignore[assignment]
        exam.clear()


def _kind(name: str) -> str:
    low = name.lower()
    for kind, words in {
        "norm": ("batch_norm", "bn_fw", "bn_bw", "batchnorm"),
        "layout": ("nchwtonhwc", "nhwctonchw", "converttensor", "transpose"),
        "convolution": ("conv", "xmma", "cutlass", "fprop", "dgrad", "wgrad", "implicit", "cudnn"),
        "matrices": ("gemm", "gemv", "cublas"),
        "copies": ("memcpy", "memset", "copy"),
        "optimiser": ("multi_tensor", "fused"),
    }.items():
        if any(word in low for word in words):
            return kind
    return "elementwise and reductions"


@section(15)
def repeatable(exam: Exam) -> None:
    """Train twice with one seed: by how much do the losses part?"""
    c = networks(exam.quick)["hippocampus_fast"]
    runs = []
    for _ in range(2):
        step = Step(exam, c, V2, "auto")
        with kernels_measured():
            runs.append([step().item() for _ in range(4 if exam.quick else 30)])
    exam.say(
        largest_difference=max(abs(a - b) for a, b in zip(*runs, strict=True)),
        first=runs[0][0],
        last=[run[-1] for run in runs],
    )
