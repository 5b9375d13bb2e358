"""Training on a pretended GPU: in every way, iterations counted, resumed, in two stages, on two GPUs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made import CASCADE, FLAT, LABELS, LOW, PLAIN, RESIDUAL, segment_first_stage
from nnunet_rs.core.errors import TrainingError
from nnunet_rs.core.progress import Silent
from nnunet_rs.model.recipe import FAST, PAPER, V2
from nnunet_rs.model.train import train_fold
from nnunet_rs.plan.files import read_plan
from nnunet_rs.predict.predictor import Predictor
from sections import Audit, options_of, section, train

HERE = Path(__file__).parent
FEW, MANY = 3, 13  # iterations of two trainings whose difference is that of ten iterations


@section
def trainings(audit: Audit) -> None:
    """Train a little, in every way: no error of devices or types."""
    wanted = [(labels, each, recipe, {}) for labels in LABELS for each in (PLAIN, FLAT) for recipe in (PAPER, V2, FAST)]
    wanted += [("classes", PLAIN, each, {"precision": kind}) for each in (V2, FAST) for kind in ("float16", "float32")]
    wanted += [("classes", RESIDUAL, recipe, {}) for recipe in (PAPER, V2, FAST)]
    for more in (
        {"norm": "batch"},
        {"channels_last": True},
        {"activation": "relu"},
        {"downsampling": "max_pool"},
        {"loss": "ce"},
        {"loss": "dice"},
        {"augmentation": "none"},
    ):
        wanted += [("classes", each, V2, more) for each in (PLAIN, FLAT)]
    if audit.short:
        wanted = [
            ("regions and ignore", PLAIN, V2, {}),
            ("ignore", FLAT, FAST, {}),
            ("classes", RESIDUAL, PAPER, {"precision": "float16"}),
        ]
    for labels, each, recipe, more in wanted:
        kind = "residual" if each.residual else each.name
        with audit.checked(f"training: {labels}, {kind}, {recipe.name} {more or ''}"):
            result = train(audit.work(LABELS[labels], each), options_of(recipe, **more), each.name)
            audit.require(result.finished, "not finished")


@section
def iterations(audit: Audit) -> None:
    """Count launches and waits of an iteration: what ten more iterations of a training add."""
    rows: list[tuple[str, Any, Any, str, dict[str, Any]]] = [
        ("paper, 3d", PLAIN, PAPER, "classes", {}),
        ("v2, 3d", PLAIN, V2, "classes", {}),
        ("fast, 3d", PLAIN, FAST, "classes", {}),
        ("v2, 3d, float16", PLAIN, V2, "classes", {"precision": "float16"}),
        ("fast, 3d, float16", PLAIN, FAST, "classes", {"precision": "float16"}),
        ("v2, 3d, regions and ignore", PLAIN, V2, "regions and ignore", {}),
        ("v2, residual", RESIDUAL, V2, "classes", {}),
        ("v2, 2d", FLAT, V2, "classes", {}),
        ("fast, 2d", FLAT, FAST, "classes", {}),
    ]
    for what, each, recipe, labels, more in rows[1:3] if audit.short else rows:
        _count_iterations(audit, what, audit.work(LABELS[labels], each), options_of(recipe, **more), each.name)


@section
def compiled(audit: Audit) -> None:
    """The same of compiled trainings: one that could not be compiled fails, for it was asked for."""
    if audit.short:
        return
    for what, each, recipe, more in (
        ("v2, 3d, compiled", PLAIN, V2, {}),
        ("fast, 3d, compiled", PLAIN, FAST, {}),
        ("v2, 3d, float16, compiled", PLAIN, V2, {"precision": "float16"}),
        ("v2, residual, compiled", RESIDUAL, V2, {}),
    ):
        options = options_of(recipe, compile=True, **more)
        _count_iterations(audit, what, audit.work(LABELS["classes"], each), options, each.name)


def _count_iterations(audit: Audit, what: str, work: Path, options: Any, name: str) -> None:
    with audit.checked(f"iteration: {what}"):
        train(work, options, name)  # what is made once
        found = []
        for batches in (FEW, MANY):
            audit.gpu.begin_count()
            audit.waiting.clear()
            train(work, replace(options, batches=batches, fresh=True), name)
            found.append((audit.gpu.counts(), Counter(audit.waiting)))
        (before, waits_before), (after, waits_after) = found
        number = MANY - FEW
        counted = {key: (after[key] - before[key]) / number for key in ("launches", "waits", "pageable_in")}
        audit.counted[f"iteration: {what}"] = counted
        audit.places[f"iteration: {what}"] = {
            place: count for place, count in (waits_after - waits_before).items() if count >= number
        }


@section
def resuming(audit: Audit) -> None:
    """Stop a training by SIGTERM and resume it, here or on another device and in another precision."""
    ways: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {}),
        ({"device": "cpu"}, {}),
        ({}, {"device": "cpu"}),
        ({"precision": "float16"}, {"precision": "float16"}),
        ({"channels_last": True}, {"channels_last": True}),
    ]
    for recipe in (V2,) if audit.short else (PAPER, V2, FAST):
        for first, second in ways[:1] if audit.short else ways:
            with audit.checked(f"resuming: {recipe.name}, {first} then {second}"):
                work = audit.work(LABELS["classes"], PLAIN)
                stopped = _stopped(work, options_of(recipe, epochs=3, **first))
                audit.require(not stopped.finished, "it was not stopped")
                try:
                    resumed = train(work, options_of(recipe, epochs=3, resume=True, **second))
                except TrainingError as error:  # what kernels that do nothing left behind may be no numbers
                    audit.require("diverged" in str(error) and "device" in second, str(error))
                else:
                    audit.require(resumed.finished and len(resumed.history.epochs) == 3, "it was not resumed")


def _stopped(work: Path, options: Any) -> Any:

    return train_fold(work, "3d_fullres", 0, options, Silent(), lambda _: os.kill(os.getpid(), signal.SIGTERM))


@section
def cascade(audit: Audit) -> None:
    """Train both stages of a cascade, and predict with them."""
    if audit.short:
        return
    with audit.checked("cascade"):
        work = audit.work(LABELS["classes"], LOW, CASCADE)
        for fold in range(3):
            train(work, options_of(V2, batches=1), LOW.name, fold)
        segment_first_stage(work, read_plan(work / "plan.json"))
        train(work, options_of(V2), CASCADE.name)
        predictor = Predictor.load(work, "cuda", configuration=CASCADE.name)
        image = np.random.default_rng(0).normal(size=(20, 40, 40)).astype(np.float32)
        audit.require(predictor(image, (2.0, 1.0, 1.0)).shape == image.shape, "another shape")


@section
def too_small(audit: Audit) -> None:
    """Train on a GPU that is too small for the plan: one line that says what to change."""
    with audit.checked("a GPU that is too small"):
        work = audit.work(LABELS["classes"], PLAIN)
        torch.cuda.empty_cache()
        audit.gpu.set_memory((audit.gpu.used() + (4 << 20)) / 2**30)
        try:
            train(work, options_of(V2))
        except TrainingError as error:
            said = str(error)
        else:
            said = "it was trained"
        finally:
            audit.gpu.set_memory(80.0)
        audit.require(said.startswith("out of GPU memory") and "--batch-size" in said and "\n" not in said, said)


@section
def second_gpu(audit: Audit) -> None:
    """Train and predict on the second GPU: the first one stays untouched."""
    for recipe in (V2,) if audit.short else (V2, FAST):
        with audit.checked(f"second GPU: {recipe.name}"):
            torch.cuda.empty_cache()
            before = audit.gpu.used(0)
            work = audit.work(LABELS["classes"], PLAIN)
            train(work, options_of(recipe, device="cuda:1"))
            predictor = Predictor.load(work, "cuda:1")
            predictor(np.ones((16, 24, 20), np.float32) * np.arange(20, dtype=np.float32), (2.0, 1.0, 1.0))
            audit.require(audit.gpu.used(0) <= before, "the first GPU's memory was taken")


@section
def processes(audit: Audit) -> None:
    """Train on two GPUs, a process each, gloo in place of NCCL."""
    if audit.short:
        return
    for what, arguments in (("two processes on two GPUs", []), ("the same, compiled", ["compiled"])):
        with audit.checked(what):
            work = audit.work(LABELS["classes"], PLAIN)
            launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
            launch += [str(HERE / "two_processes.py"), str(work), *arguments]
            done = subprocess.run([sys.executable, *launch], capture_output=True, text=True, timeout=1200)
            said = [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line]
            audit.require(done.returncode == 0, "; ".join(said[:4]))
