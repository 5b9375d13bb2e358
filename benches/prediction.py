"""Prediction beside nnU-Net v2: everything around the network, memory, many classes, a cold start.

    .venv/bin/python benches/prediction.py PYTHON [--model DIR --image FILE --images IMAGES] [--only NAME ...]

PYTHON is an interpreter whose environment has nnU-Net v2 (`pip install nnunetv2`). The scans are made up; both sides
predict them with the same network, a convolution of one voxel, whose own time is measured and subtracted. For the cold
start, DIR is a model folder of nnU-Net v2 (plans.json, dataset.json, dataset_fingerprint.json, fold_0) and FILE an
image for it; its weights are carried over, so that both commands compute the same. For the agreement, DIR holds its
predictions_plain and predictions_mirrored, with probabilities, and IMAGES the images of these cases. One process a
measurement; rows of a table on standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FINE, COARSE = 0.8, 1.5  # mm: the scan's voxels, and the model's
TILE = (64, 192, 192)  # what nnU-Net plans for such scans
CLASSES = 15


# What both sides see.


def save_scan(path: Path, shape: tuple[int, int, int], spacing: float) -> None:
    """Write a smooth scan with some noise, int16, compressed; one that is there already is the same."""
    if path.exists():
        return
    import nibabel

    rng = np.random.default_rng(0)
    small = rng.normal(0, 200, [n // 16 + 2 for n in shape])
    along_z, along_y, along_x = (linear(n, k) for n, k in zip(shape, small.shape, strict=True))
    scan = np.empty(shape, np.int16)
    for plane, weights in zip(scan, along_z, strict=True):
        smooth = along_y @ np.tensordot(weights, small, 1) @ along_x.T
        plane[:] = smooth + rng.normal(0, 5, smooth.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(scan.T, np.diag([spacing] * 3 + [1])), path)


def linear(n: int, k: int) -> Any:
    """Weights (n, k) that interpolate n values between k ones."""
    at = np.linspace(0, k - 1.001, n)
    weights = np.zeros((n, k))
    rows, low = np.arange(n), at.astype(int)
    weights[rows, low], weights[rows, low + 1] = 1 - at % 1, at % 1
    return weights


def make_network(classes: int) -> Any:
    """Bands of intensity as classes, by a convolution of one voxel that measures its own time."""
    import torch

    class Timed(torch.nn.Conv3d):
        seconds = 0.0

        def forward(self, x: Any) -> Any:
            start = time.perf_counter()
            output = super().forward(x)
            Timed.seconds += time.perf_counter() - start
            return output

    network = Timed(1, classes, 1).eval().requires_grad_(False)
    centres = torch.linspace(-2, 2, classes)
    network.weight.data[:] = (2 * centres).view(-1, 1, 1, 1, 1)
    network.bias.data[:] = -(centres**2)
    return network


# Ours.


def our_predictor(classes: int, spacing: float, mirror: bool, threads: int, tile: tuple[int, ...] = TILE) -> Any:
    """A predictor of logits around the made-up network."""
    import torch
    from nnunet_rs.core.types import LabelSet
    from nnunet_rs.model.checkpoint import ModelCard
    from nnunet_rs.model.device import choose_compute
    from nnunet_rs.model.unet import NetworkOptions
    from nnunet_rs.plan.schema import Configuration, Normalization, Plan
    from nnunet_rs.predict.predictor import PredictOptions, Predictor

    torch.set_num_threads(threads)
    one, three = ((1, 1, 1),), ((3, 3, 3),)
    configuration = Configuration(
        "3d_fullres", (spacing,) * 3, tile, 2, tile, one, three, (8,), (1,), (), False, False, False, 1
    )
    names = ("background", *(f"class {index}" for index in range(1, classes)))
    labels = LabelSet(names, tuple(range(classes)))
    rules = (Normalization("zscore", False, None),)
    plan = Plan("made up", "v2", (0, 1, 2), ("MR",), labels, rules, {"3d_fullres": configuration})
    card = ModelCard(plan, "3d_fullres", NetworkOptions(), 0, "v2", 0, 0, None, None)
    options = PredictOptions(mirror=mirror, threads=threads)
    return Predictor((make_network(classes),), (card,), choose_compute(torch.device("cpu"), "float32"), options)


def ours_around(folder: Path, mirror: bool, threads: int) -> dict[str, float]:
    """Predict the scan from file to file."""
    from nnunet_rs.predict.folder import FolderOptions, predict_folder

    predictor = our_predictor(CLASSES, COARSE, mirror, threads)
    start = time.perf_counter()
    predict_folder(predictor, folder / "images", folder / "ours", FolderOptions(overwrite=True))
    return _answer(time.perf_counter() - start, predictor.networks[0].seconds)


def ours_memory(folder: Path, spacing: float) -> dict[str, float]:
    """Predict 105 classes of the large scan and tell the peak, and the network's own part of it."""
    from nnunet_rs.predict.folder import FolderOptions, predict_folder

    predictor = our_predictor(105, spacing, False, 2, (128, 128, 128))
    import torch

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with torch.inference_mode():
        predictor.networks[0](torch.zeros(1, 1, 128, 128, 128))
    network = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    start = time.perf_counter()
    predict_folder(predictor, folder / "large", folder / "ours_large", FolderOptions(overwrite=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": time.perf_counter() - start, "imports": before, "network": network, "peak": peak}


def ours_classes(folder: Path, threads: int) -> dict[str, float]:
    """Blend and export 3 and 118 classes of one prepared scan; without the network's time, the best of two."""
    from nnunet_rs.core.io import read_volume

    volume = read_volume([folder / "images" / "scan_0000.nii.gz"])
    best: dict[str, float] = {}
    for count in (3, 118):
        predictor = our_predictor(count, COARSE, False, threads)
        prepared = predictor.prepare(volume)
        times = []
        for _run in range(2):
            network = predictor.networks[0].seconds
            start = time.perf_counter()
            predictor.predict_prepared(prepared)
            times.append(time.perf_counter() - start - (predictor.networks[0].seconds - network))
        best[str(count)] = min(times)
    return best


# Theirs.


def theirs_around(folder: Path, mirror: bool, threads: int) -> dict[str, float]:
    """Predict the scan from file to file, in one process, as nnU-Net's own `predict_from_files_sequential` does."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    torch.set_num_threads(threads)
    predictor = nnUNetPredictor(
        use_mirroring=mirror, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    resampling = {"order": 3, "order_z": 0, "force_separate_z": None}
    name = "resample_data_or_seg_to_shape"
    plans = {
        "dataset_name": "Dataset001_Made",
        "plans_name": "made",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {}},
        "configurations": {
            "3d_fullres": {
                "data_identifier": "made",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 2,
                "patch_size": list(TILE),
                "spacing": [COARSE] * 3,
                "normalization_schemes": ["ZScoreNormalization"],
                "use_mask_for_norm": [False],
                "architecture": {"network_class_name": "", "arch_kwargs": {}, "_kw_requires_import": []},
                "resampling_fn_data": name,
                "resampling_fn_seg": name,
                "resampling_fn_probabilities": name,
                "resampling_fn_data_kwargs": {"is_seg": False, **resampling},
                "resampling_fn_seg_kwargs": {"is_seg": True, **resampling, "order": 1},
                "resampling_fn_probabilities_kwargs": {"is_seg": False, **resampling, "order": 1},
            }
        },
    }
    labels = {"background": 0, **{f"class {index}": index for index in range(1, CLASSES)}}
    dataset = {"channel_names": {"0": "MR"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    manager = PlansManager(plans)
    network = make_network(CLASSES)
    predictor.manual_initialization(
        network,
        manager,
        manager.get_configuration("3d_fullres"),
        [network.state_dict()],
        dataset,
        "nnUNetTrainer",
        (0, 1, 2) if mirror else None,
    )
    images = [[str(path)] for path in sorted((folder / "images").glob("*.nii.gz"))]
    (folder / "theirs").mkdir(exist_ok=True)
    start = time.perf_counter()
    predictor.predict_from_files_sequential(images, [str(folder / "theirs" / "scan")])
    return _answer(time.perf_counter() - start, network.seconds)


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


def _answer(seconds: float, network: float) -> dict[str, float]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "network": network, "around": seconds - network, "peak": peak}


# Carrying a model of nnU-Net over.


def carry_over(model: Path, weights: Path, folder: Path) -> None:
    """Write a model of ours with the plan and the weights of a model of nnU-Net (3d_fullres, plain U-Net)."""
    import torch
    from nnunet_rs.model.checkpoint import ModelCard, save_model
    from nnunet_rs.model.unet import NetworkOptions, build_unet
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
    save_model(folder, state, ModelCard(plan, "3d_fullres", NetworkOptions(), 0, "v2", 0, 0, None, None))


def _their_name(name: str, last: int) -> str:
    """Where a weight of ours stands in PlainConvUNet."""
    name = re.sub(r"^encoder\.(\d+)\.0\.(\d+)\.", r"encoder.stages.\1.0.convs.\2.", name)
    name = re.sub(r"^decoder\.(\d+)\.(\d+)\.", r"decoder.stages.\1.convs.\2.", name)
    name = re.sub(r"^up\.", "decoder.transpconvs.", name)
    return re.sub(r"^heads\.0\.", f"decoder.seg_layers.{last}.", name)


def _same(ours: Any, theirs: Any) -> None:
    if list(ours) != list(theirs):
        raise SystemExit(f"the plans differ: {list(ours)} here, {list(theirs)} in the model of nnU-Net")


# The measurement.


def alone(python: str, function: str, threads: int, *arguments: object) -> dict[str, float]:
    """Call a function of this file in an interpreter of its own; its last line of output is the answer."""
    count = str(threads)
    environment = os.environ | {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
    environment |= {f"nnUNet_{name}": tempfile.gettempdir() for name in ("raw", "preprocessed", "results")}
    command = [python, __file__, "--call", function, json.dumps([str(argument) for argument in arguments])]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{function} failed:\n{run.stderr[-3000:]}")
    answer: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return answer


CALLS: dict[str, Callable[..., dict[str, float]]] = {
    "ours_around": lambda folder, mirror, threads: ours_around(Path(folder), mirror == "True", int(threads)),
    "theirs_around": lambda folder, mirror, threads: theirs_around(Path(folder), mirror == "True", int(threads)),
    "ours_memory": lambda folder, spacing: ours_memory(Path(folder), float(spacing)),
    "ours_classes": lambda folder, threads: ours_classes(Path(folder), int(threads)),
    "theirs_weights": lambda model, target: theirs_weights(Path(model), Path(target)),
}


def around(folder: Path, peers: str, threads: int, mirror: bool = False) -> None:
    """Everything outside the network's forward passes."""
    import nibabel

    save_scan(folder / "images" / "scan_0000.nii.gz", (200, 512, 512), FINE)
    runs = [alone(sys.executable, "ours_around", threads, folder, mirror, threads) for _ in range(2)]
    ours = min(runs, key=lambda answer: answer["around"])
    theirs = alone(peers, "theirs_around", threads, folder, mirror, threads)
    labels = [np.asarray(nibabel.load(folder / side / "scan.nii.gz").dataobj) for side in ("ours", "theirs")]
    print(
        f"| 15 classes, 512×512×200, {'mirrored' if mirror else 'not mirrored'} | {ours['around']:.2f} s, "
        f"{ours['peak'] / 1e9:.1f} GB | {theirs['around']:.1f} s, {theirs['peak'] / 1e9:.1f} GB | "
        f"{theirs['around'] / ours['around']:.0f}× | network {ours['network']:.1f} s, "
        f"{theirs['network']:.1f} s; {(labels[0] == labels[1]).mean():.4%} of the voxels agree |",
        flush=True,
    )


def mirrored(folder: Path, peers: str, threads: int) -> None:
    """The same with all eight mirror images."""
    around(folder, peers, threads, mirror=True)


def memory(folder: Path, _: str, threads: int) -> None:
    """Peak memory of a large scan with 105 classes."""
    save_scan(folder / "large" / "scan_0000.nii.gz", (800, 512, 512), FINE)
    for spacing in (COARSE, FINE):
        found = alone(sys.executable, "ours_memory", threads, folder, spacing)
        own = found["network"] - found["imports"]
        print(
            f"| 105 classes, 512×512×800, model at {spacing} mm | {(found['peak'] - own) / 1e9:.2f} GB | "
            f"{105 * 512 * 512 * 800 * 4 / 1e9:.0f} GB for the logits alone | | peak {found['peak'] / 1e9:.2f} GB, of "
            f"which the network's own {own / 1e9:.2f} GB; {found['seconds']:.0f} s |",
            flush=True,
        )


def classes(folder: Path, _: str, threads: int) -> None:
    """Sums and export of 118 classes against 3."""
    save_scan(folder / "images" / "scan_0000.nii.gz", (200, 512, 512), FINE)
    found = alone(sys.executable, "ours_classes", threads, folder, threads)
    few, many = found["3"] / 3, found["118"] / 118
    print(
        f"| export of 118 classes against 3, a class | {many * 1e3:.1f} ms | {few * 1e3:.1f} ms (3 classes) | "
        f"{few / many:.1f}× | {found['118']:.2f} s and {found['3']:.2f} s in all |"
    )


def cold(folder: Path, peers: str, threads: int, model: Path, image: Path) -> None:
    """One image, from the command line and back."""
    weights, ours = folder / "weights.npz", folder / "models" / "3d_fullres" / "fold_0"
    alone(peers, "theirs_weights", threads, model, weights)
    carry_over(model, weights, ours)
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


MEASUREMENTS = {"around": around, "mirrored": mirrored, "memory": memory, "classes": classes}


def agreement(folder: Path, peers: str, threads: int, model: Path, images: Path) -> None:
    """Labels by a model of nnU-Net carried over, against its own predictions of the same cases."""
    import nibabel
    from nnunet_rs.predict.folder import FolderOptions, predict_folder
    from nnunet_rs.predict.predictor import PredictOptions, Predictor

    weights, ours = folder / "weights.npz", folder / "models" / "3d_fullres" / "fold_0"
    alone(peers, "theirs_weights", threads, model, weights)
    carry_over(model, weights, ours)
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
    count = str(threads)
    environment = os.environ | {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
    environment |= {f"nnUNet_{name}": tempfile.gettempdir() for name in ("raw", "preprocessed", "results")}
    start = time.perf_counter()
    subprocess.run([str(word) for word in command], env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure what was asked for."""
    if sys.argv[1:2] == ["--call"]:
        print(json.dumps(CALLS[sys.argv[2]](*json.loads(sys.argv[3]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", metavar="PYTHON")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=[*MEASUREMENTS, "cold", "agreement"])
    parser.add_argument("--folder", type=Path, help="where the scans go (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for name in arguments.only:
            if name != "cold":
                {"around": around, "memory": memory, "classes": classes}[name](
                    folder, arguments.peers, arguments.threads
                )
            elif name == "cold" and arguments.model and arguments.image:
                cold(folder, arguments.peers, arguments.threads, arguments.model, arguments.image)


if __name__ == "__main__":
    main()
