"""Prediction on a pretended GPU: waits counted, with little memory, after a training, from model files."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace
from typing import Any

import nibabel
import numpy as np
import torch
from made import FLAT, LABELS, PLAIN, configuration
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.model.device import choose_compute
from nnunet_rs.model.recipe import PAPER, V2
from nnunet_rs.model.unet import build_unet
from nnunet_rs.predict import sliding_window
from nnunet_rs.predict.engines import torch_accumulator
from nnunet_rs.predict.engines.torch_engine import torch_engine
from nnunet_rs.predict.engines.torch_opening import _cast_convolutions
from nnunet_rs.predict.ensemble import Ensemble
from nnunet_rs.predict.folder import FolderOptions, predict_folder
from nnunet_rs.predict.options import PredictOptions
from nnunet_rs.predict.predictor import Predictor
from nnunet_rs.predict.sliding_window import WindowOptions, sliding_window_scores
from nnunet_rs.predict.window_grid import sliding_window_grid
from nnunet_rs.predict.window_source import Previous
from sections import Audit, options_of, section, train


def predict(
    audit: Audit,
    what: str,
    size: tuple[int, int, int],
    net: Any,
    *,
    classes: int = 3,
    gib: float = 80.0,
    networks: int = 1,
    previous: int = 0,
    activation: Any = "none",
    counting: bool = False,
    crowded: bool = False,
) -> dict[str, Any]:
    """Predict an empty volume, in the way that `Predictor` does; returns what was counted.

    `crowded`: after the first part of it something else takes what is free of the GPU's memory.
    """
    device = torch.device("cuda", 0)
    torch.cuda.empty_cache()
    audit.gpu.set_memory(gib)
    try:
        compute = choose_compute(device)
        made = [build_unet(net, 1 + previous, classes).eval().requires_grad_(False).to(device) for _ in range(networks)]
        for network in made:
            _cast_convolutions(network, compute.dtype)
        grid = sliding_window_grid(size, net.patch_size)
        first = None if not previous else Previous(np.ones(size, np.uint8), previous + 1)
        options = WindowOptions(tuple(range(len(net.patch_size))), activation)
        engine = torch_engine(made, compute, fill=True)
        kinds: Counter[str] = Counter()
        opened = torch_accumulator.DeviceAccumulator.give_back

        def moved(sums: Any) -> bool:
            kinds["moved"] += 1
            return opened(sums)

        torch_accumulator.DeviceAccumulator.give_back = moved  # type: ignore[method-assign]
        torch.cuda.empty_cache()  # of weights that were cast
        audit.gpu.begin_count()
        audit.waiting.clear()
        voxels, held = 0, list[torch.Tensor]()
        try:
            image = np.zeros((1, *size), np.float32)
            for block in sliding_window_scores(engine, image, grid, options, previous=first):
                voxels += block.read(block.planes, block.rows)[0].size
                if crowded and not held:
                    held += _all_but(8 << 20, audit)
        finally:
            torch_accumulator.DeviceAccumulator.give_back = opened  # type: ignore[method-assign]
        counted = audit.gpu.counts() | {"moved": kinds["moved"], "sizes": sorted(engine.taken)}  # type: ignore[union-attr]
        audit.require(voxels == size[0] * size[1] * size[2], f"{voxels} voxels")
        if counting:
            kept = ("launches", "waits", "pageable_in", "pageable_out")
            audit.counted[f"prediction: {what}"] = {key: counted[key] for key in kept}
        return counted
    finally:
        audit.gpu.set_memory(80.0)
        torch.cuda.empty_cache()


# Values mean nothing here: sums may be 0, and so their weights.
sliding_window._finite = lambda scores: scores  # type: ignore[attr-defined]


def _all_but(rest: int, audit: Audit) -> list[torch.Tensor]:
    """Take the memory of the GPU until less than `rest` bytes are left."""
    torch.cuda.empty_cache()
    audit.gpu.set_memory(audit.gpu.used() / 2**30)
    held = []
    with contextlib.suppress(torch.OutOfMemoryError):
        while True:
            held.append(torch.empty(rest, dtype=torch.uint8, device="cuda"))
    return held


@section
def predictions(audit: Audit) -> None:
    """Count the waits and copies of a prediction: volumes of 27 windows and of slices."""
    large = configuration((128,) * 3, (32, 64, 128, 256, 320, 320))
    small = configuration((40, 56, 40), (32, 64, 128, 256))
    slices = configuration((256, 256), (32, 64, 128, 256, 512, 512), "2d")
    rows: list[tuple[str, tuple[int, int, int], Any, dict[str, Any]]] = [
        ("27 windows of 128 a side", (200, 256, 256), large, {}),
        ("the same, 15 classes", (200, 256, 256), large, {"classes": 15}),
        ("a small organ, 8 windows", (60, 80, 60), small, {}),
        ("the same, two networks, probabilities", (60, 80, 60), small, {"networks": 2, "activation": "softmax"}),
        ("a second stage", (60, 80, 60), small, {"previous": 2, "activation": "sigmoid"}),
        ("21 slices", (21, 300, 256), slices, {}),
    ]
    for what, size, net, more in [rows[0], rows[4]] if audit.short else rows:
        with audit.checked(f"prediction: {what}"):
            predict(audit, what, size, net, counting=True, **more)


@section
def little_memory(audit: Audit) -> None:
    """Predict with ever less memory of the GPU: fewer windows, sums and volume elsewhere, at last one clear error."""
    net, size = configuration((64,) * 3, (32, 64, 128, 256)), (150, 160, 160)
    with audit.checked("little memory"):
        ways: list[dict[str, Any]] = []
        for gib in (4.0, 0.6) if audit.short else (4.0, 2.0, 1.0, 0.8, 0.6, 0.5, 0.4, 0.3):
            try:
                ways.append(predict(audit, "", size, net, classes=15, gib=gib))
            except NnunetError as error:
                audit.require("single window does not fit" in str(error), str(error))
                ways.append({"error": str(error)})
        audit.require("error" not in ways[0] and not ways[0]["refused"], f"4 GB: {ways[0]}")
        sizes = [max(way["sizes"]) for way in ways if "sizes" in way]
        audit.require(len(sizes) > 1 and sizes[-1] < sizes[0], f"the windows did not become fewer: {ways}")
    with audit.checked("memory that others take meanwhile"):
        way = predict(audit, "", size, net, classes=15, gib=4.0, crowded=True)
        audit.require(way["moved"] == 1, f"the sums stayed where they were: {way}")
    with audit.checked("much too little memory"):
        try:
            predict(audit, "", size, net, classes=15, gib=0.1)
        except NnunetError as error:
            audit.require("single window does not fit" in str(error), str(error))
    with audit.checked("no pinned memory"):
        audit.gpu.refuse_pinned(3)
        predict(audit, "", size, net, classes=3)
        audit.gpu.refuse_pinned(0)


@section
def after_training(audit: Audit) -> None:
    """Predict where PyTorch holds most of the memory idle: sums still go to the GPU."""
    net = configuration((64,) * 3, (32, 64, 128, 256))
    with audit.checked("idle memory"):
        held = [torch.empty(1 << 28, device="cuda") for _ in range(10)]  # 10 GiB
        del held
        audit.gpu.set_memory(10.5)
        counted = predict(audit, "", (150, 160, 160), net, classes=15, gib=10.5)
        audit.require(not counted["moved"] and counted["pageable_out"] == 0, f"{counted}")


@section
def predictors(audit: Audit) -> None:
    """Train, then predict from the model's files: labels, probabilities, an ensemble, regions, in number types."""
    image = np.random.default_rng(0).normal(size=(30, 50, 40)).astype(np.float32)
    spacing = (2.0, 1.0, 1.0)
    for labels, recipe in (("regions", V2),) if audit.short else (("regions", V2), ("classes", PAPER)):
        with audit.checked(f"predictor: {labels}, {recipe.name}"):
            work = audit.work(LABELS[labels], PLAIN, FLAT)
            for name in (PLAIN.name, FLAT.name):
                train(work, options_of(recipe), name)
            members = []
            for precision in ("auto", "float16", "float32"):
                options = PredictOptions(precision=precision)  # type: ignore[arg-type]
                members = [Predictor.load(work, "cuda", configuration=c.name, options=options) for c in (PLAIN, FLAT)]
                for member in members:
                    audit.require(member(image, spacing).shape == image.shape, "another shape")
            outputs = LABELS[labels].outputs
            for each in (members[0], Ensemble(tuple(members))):
                found = each.predict_probabilities(image, spacing)
                audit.require(found.shape == (outputs, *image.shape), f"{found.shape}")
            with_lowres = replace(members[0].options, step=1.0, mirror=False, batch=3)
            member = Predictor.load(work, "cuda", configuration=PLAIN.name, options=with_lowres)
            audit.require(member(image, spacing).shape == image.shape, "another shape")


@section
def folders(audit: Audit) -> None:
    """Predict folders, where labels of one case are made beside the next one's windows; nothing stays on the GPU."""
    with audit.checked("folders"):
        work, images = audit.work(LABELS["classes"], PLAIN, FLAT), audit.folder / "images"
        images.mkdir()
        for index in range(3):
            voxels = np.random.default_rng(index).normal(size=(20, 30, 20 + index)).astype(np.float32)
            nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.0, 1.0, 2.0, 1.0])), images / f"case_{index}.nii.gz")
        for name in (PLAIN.name, FLAT.name):
            train(work, options_of(V2), name)
        members = tuple(Predictor.load(work, "cuda", configuration=c.name) for c in (PLAIN, FLAT))
        members[0](np.ones((16, 24, 20), np.float32) * np.arange(20, dtype=np.float32), (2.0, 1.0, 1.0))
        before = torch.cuda.memory_allocated()
        for number, each in enumerate(members[:1] if audit.short else (members[0], Ensemble(members))):
            out, options = audit.folder / f"out_{number}", FolderOptions(save_probabilities=True)
            audit.require(len(predict_folder(each, images, out, options).written) == 3, "not all cases were written")
            audit.require(len(list(out.glob("*.b2nd"))) == 3, "not all probabilities were written")
            held = torch.cuda.memory_allocated() - before
            audit.require(held <= 0, f"{held} bytes more are held on the GPU")
