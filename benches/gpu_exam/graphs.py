"""CUDA graphs beside plain compilation: what they save, and whether losses, weights and scores are the same."""

from __future__ import annotations

import time
from typing import Any

import torch
from nnunet_rs.model.device import choose_compute, kernels_measured
from nnunet_rs.model.recipe import FAST, V2, TrainRecipe
from nnunet_rs.model.unet import build_unet
from nnunet_rs.plan.schema import Configuration

from gpu_exam.shared import Exam, Step, compiled_as, networks, section, timed

MODES = ("compiled", "graphs")
FIRST = 8  # iterations whose losses are compared


@section(150)
def graphs(exam: Exam) -> None:
    """Train and predict small networks, whose launches take longer than their kernels, compiled and in CUDA graphs."""
    c = networks(exam.quick)
    rows: list[tuple[str, TrainRecipe, str]] = [("hippocampus_fast", FAST, "bfloat16"), ("hippocampus", V2, "bfloat16")]
    if exam.cuda:
        rows.append(("hippocampus", V2, "float16"))  # the gradient scaler is part of it
    for name, recipe, dtype in rows:
        with exam.going_on(network=name, recipe=recipe.name, dtype=dtype):
            _training(exam, c[name], recipe, dtype, name)
    with exam.going_on(network="hippocampus", what="windows"):
        _windows(exam, c["hippocampus"])


def _training(exam: Exam, c: Configuration, recipe: TrainRecipe, dtype: str, name: str) -> None:
    losses, weights = dict[str, list[float]](), dict[str, Any]()
    for mode in MODES:
        if exam.left() < 30 and not exam.quick:
            exam.say(skipped=f"{name}, {dtype}, {mode}: no time left")
            return
        torch._dynamo.reset()
        step = Step(exam, c, recipe, dtype, mode)
        begun = time.perf_counter()
        with kernels_measured():
            losses[mode] = [step().item() for _ in range(FIRST)]
        compiling = time.perf_counter() - begun
        weights[mode] = [parameter.detach().float().cpu() for parameter in step.network.parameters()]
        found = timed(exam, step, 3 if exam.quick else 60)
        exam.say(network=name, recipe=recipe.name, dtype=dtype, mode=mode, compiling_s=round(compiling, 1), **found)
        exam.clear()
    plain, graphed = (torch.tensor(losses[mode], dtype=torch.float64) for mode in MODES)
    apart = [(a - b).norm() / a.norm().clamp(min=1e-12) for a, b in zip(*weights.values(), strict=True)]
    exam.say(
        network=name,
        recipe=recipe.name,
        dtype=dtype,
        losses_apart=float(((plain - graphed) / plain).abs().max()),
        weights_apart=float(torch.stack(apart).max()),
    )


def _windows(exam: Exam, c: Configuration) -> None:
    """Time a batch of windows through one network."""
    count = 5 if exam.quick else 200
    compute = choose_compute(exam.device)
    torch.manual_seed(0)
    network = build_unet(c, 1, 3).eval().requires_grad_(False).to(exam.device)
    windows = torch.randn((8, 1, *c.patch_size), device=exam.device)

    def forward(batch: torch.Tensor) -> torch.Tensor:
        with compute.autocast():
            return network(batch)

    expected: torch.Tensor | None = None
    for mode in ("eager", *MODES):
        torch._dynamo.reset()
        work = forward if mode == "eager" else compiled_as(mode, forward)
        with torch.inference_mode(), kernels_measured():
            for _ in range(4):
                scores = work(windows).float().clone()
            exam.sync()
            begun = time.perf_counter()
            for _ in range(count):
                work(windows)
            exam.sync()
            seconds = (time.perf_counter() - begun) / count
        expected = scores if expected is None else expected
        apart = float((scores - expected).norm() / expected.norm())
        exam.say(network="hippocampus", what="8 windows", mode=mode, ms=round(1e3 * seconds, 3), scores_apart=apart)
