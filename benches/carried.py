"""A model of nnU-Net v2 carried over: a cold start beside nnU-Net's, and whether its predictions are the same.

    .venv/bin/python benches/carried.py PYTHON MODEL --image FILE        # cold start
    .venv/bin/python benches/carried.py PYTHON MODEL --images IMAGES     # agreement

PYTHON is an interpreter whose environment has nnU-Net v2 (`pip install nnunetv2`), MODEL one of its model folders
(plans.json, dataset.json, dataset_fingerprint.json, fold_0), whose weights are carried over so that both sides compute
the same, and FILE an image for it. For the agreement, MODEL holds its predictions_plain and predictions_mirrored, with
probabilities, and IMAGES the images of these cases. Rows of a table on standard output.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from sides import alone, quiet


def theirs_weights(model: Path, target: Path) -> dict[str, float]:
    """Take the weights out of a checkpoint, in the order of the network's layers."""
    import torch

    # All that nnU-Net's checkpoints hold besides tensors: NumPy's numbers, under the old name of their module too.
    scalar = np._core.multiarray.scalar
    known = [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, type(np.dtype("f8")), type(np.dtype("f4"))]
    with torch.serialization.safe_globals(known):
        weights = torch.load(model / "fold_0" / "checkpoint_final.pth", map_location="cpu", weights_only=True)
    arrays = {name: tensor.numpy() for name, tensor in weights["network_weights"].items()}
    np.savez(target, **arrays)
    return {"arrays": len(arrays)}


def carry_over(model: Path, weights: Path, folder: Path) -> None:
    """Write a model of ours with the plan and the weights of a model of nnU-Net (3d_fullres, plain U-Net)."""
    import torch
    from nnunet_rs.model.checkpoint import ModelMetadata, save_model
    from nnunet_rs.model.config import usual_config
    from nnunet_rs.model.recipe import V2
    from nnunet_rs.model.unet import build_unet
    from nnunet_rs.plan.nnunet import read_nnunet
    from nnunet_rs.plan.planner import PlanOverrides, make_plan

    theirs = json.loads((model / "plans.json").read_text())["configurations"]["3d_fullres"]
    files = read_nnunet(model / "dataset_fingerprint.json", model / "dataset.json")
    features = theirs["architecture"]["arch_kwargs"]["features_per_stage"]
    overrides = PlanOverrides(patch_size=tuple(theirs["patch_size"]), features=features[0])
    plan = make_plan(files.dataset, files.fingerprint, "v2", overrides, training_cases=files.training_cases)
    settings = plan.configurations["3d_fullres"]
    _same(settings.spacing, theirs["spacing"])
    _same(settings.features, features)
    network = build_unet(settings, len(plan.channels), plan.labels.outputs)
    arrays = dict(np.load(weights))
    last = len(settings.features) - 2  # the finest decoder stage, whose head is the only one that prediction uses
    state = {name: torch.from_numpy(arrays[_their_name(name, last)]) for name in network.state_dict()}
    save_model(
        folder,
        state,
        ModelMetadata(
            plan, "3d_fullres", 0, usual_config(plan.recipe, plan.configurations["3d_fullres"], V2), 0, None, None
        ),
    )


def _their_name(name: str, last: int) -> str:
    """Where a weight of ours stands in PlainConvUNet."""
    name = re.sub(r"^encoder\.(\d+)\.0\.(\d+)\.", r"encoder.stages.\1.0.convs.\2.", name)
    name = re.sub(r"^decoder\.(\d+)\.(\d+)\.", r"decoder.stages.\1.convs.\2.", name)
    name = re.sub(r"^up\.", "decoder.transpconvs.", name)
    return re.sub(r"^heads\.0\.", f"decoder.seg_layers.{last}.", name)


def _same(ours: Any, theirs: Any) -> None:
    if list(ours) != list(theirs):
        raise SystemExit(f"the plans differ: {list(ours)} here, {list(theirs)} in the model of nnU-Net")


# The measurements.


def carried(folder: Path, peers: str, threads: int, model: Path) -> Path:
    """Carry the model over, and give its folder."""
    weights, ours = folder / "weights.npz", folder / "models" / "3d_fullres" / "fold_0"
    alone(peers, __file__, "theirs_weights", threads, model, weights)
    carry_over(model, weights, ours)
    return ours


def cold(folder: Path, peers: str, threads: int, models: tuple[Path, Path], image: Path) -> None:
    """One image, from the command line and back, by our model and by theirs."""
    ours, model = models
    (folder / "crop").mkdir()
    shutil.copy(image, folder / "crop" / "crop_0000.nii.gz")
    out = {side: folder / f"cold_{side}" for side in ("ours", "theirs")}
    commands = {
        "ours": [Path(sys.executable).with_name("nnunet-rs"), "predict", ours, "--overwrite", "--device", "cpu"],
        "theirs": [
            Path(peers).with_name("nnUNetv2_predict_from_modelfolder"),
            "-m",
            model,
            "-f",
            "0",
            "-device",
            "cpu",
        ],
    }
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(3):
        for side, command in commands.items():
            times[side].append(timed([*command, "-i", folder / "crop", "-o", out[side]], threads))
    mine, other = min(times["ours"]), min(times["theirs"])
    print(f"| cold predict of one crop | {mine:.2f} s | {other:.2f} s | {other / mine:.1f}× | best of three each |")


def agreement(folder: Path, ours: Path, model: Path, images: Path) -> None:
    """Labels by a model of nnU-Net carried over, against its own predictions of the same cases."""
    import nibabel
    from nnunet_rs.predict.folder import FolderOptions, predict_folder
    from nnunet_rs.predict.predictor import PredictOptions, Predictor

    for name, mirror in (("predictions_plain", False), ("predictions_mirrored", True)):
        files = sorted((model / name).glob("*.nii.gz"))
        (folder / "cases").mkdir(exist_ok=True)
        for file in files:
            shutil.copy(images / file.name, folder / "cases" / file.name)
        for precision in ("float32", "bfloat16"):
            options = PredictOptions(mirror=mirror, precision=precision)
            out = folder / f"{name}_{precision}"
            predict_folder(Predictor.load(ours, "cpu", options=options), folder / "cases", out, FolderOptions())
            apart = [_apart(np.asarray(nibabel.load(out / file.name).dataobj), file) for file in files]
            voxels, differ, clear = (sum(column) for column in zip(*apart, strict=True))
            print(
                f"| {name}, {precision} | {len(files)} cases, {voxels} voxels | {differ} differ, of which {clear} "
                f"where its two best probabilities are not equal in half precision |",
                flush=True,
            )


def _apart(ours: Any, file: Path) -> tuple[int, int, int]:
    """Voxels, those that differ, and those of them that are no tie."""
    import nibabel

    probabilities = np.load(file.with_name(file.name.removesuffix(".nii.gz") + ".npz"))["probabilities"]
    best = np.sort(probabilities.astype(np.float32), axis=0)
    differ = ours != np.asarray(nibabel.load(file).dataobj)
    return differ.size, int(differ.sum()), int((differ & (best[-1] > best[-2]).T).sum())


def timed(command: list[Any], threads: int) -> float:
    """Seconds that a command takes."""
    start = time.perf_counter()
    subprocess.run([str(word) for word in command], env=quiet(threads), check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure what was asked for."""
    if sys.argv[1:3] == ["--call", "theirs_weights"]:
        print(json.dumps(theirs_weights(*map(Path, json.loads(sys.argv[3])))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", metavar="PYTHON", help="interpreter of the peers' environment")
    parser.add_argument("model", metavar="MODEL", type=Path, help="model folder of nnU-Net")
    parser.add_argument("--image", metavar="FILE", type=Path, help="predict this one, cold")
    parser.add_argument("--images", metavar="IMAGES", type=Path, help="compare predictions of these")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    peers, threads = arguments.peers, arguments.threads
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ours = carried(folder, peers, threads, arguments.model)
        if arguments.image:
            cold(folder, peers, threads, (ours, arguments.model), arguments.image)
        if arguments.images:
            agreement(folder, ours, arguments.model, arguments.images)


if __name__ == "__main__":
    main()
