"""Prediction beside nnU-Net v2: everything around the network, memory, many classes.

    .venv/bin/python benches/prediction.py PYTHON [--only NAME ...]

PYTHON is an interpreter whose environment has nnU-Net v2 (`pip install nnunetv2`). The scans are made up; both sides
predict them with the same network, a convolution of one voxel, whose own time is measured and subtracted. One process a
measurement; rows of a table on standard output.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sides import alone

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
    from nnunet_rs.model.checkpoint import ModelMetadata
    from nnunet_rs.model.config import usual_config
    from nnunet_rs.model.device import choose_compute
    from nnunet_rs.model.recipe import V2
    from nnunet_rs.plan.schema import Configuration, Normalization, Plan
    from nnunet_rs.predict.engines.torch_engine import TorchEngine
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
    metadata = ModelMetadata(
        plan, "3d_fullres", 0, usual_config(plan.recipe, plan.configurations["3d_fullres"], V2), 0, None, None
    )
    options = PredictOptions(mirror=mirror, threads=threads)
    compute = choose_compute(torch.device("cpu"), "float32")
    return Predictor(TorchEngine((make_network(classes),), compute), (metadata,), options)


def ours_around(folder: Path, mirror: bool, threads: int) -> dict[str, float]:
    """Predict the scan from file to file."""
    from nnunet_rs.predict.folder import FolderOptions, predict_folder

    predictor = our_predictor(CLASSES, COARSE, mirror, threads)
    start = time.perf_counter()
    predict_folder(predictor, folder / "images", folder / "ours", FolderOptions(overwrite=True))
    return _answer(time.perf_counter() - start, predictor.engine.networks[0].seconds)


def ours_memory(folder: Path, spacing: float) -> dict[str, float]:
    """Predict 105 classes of the large scan and tell the peak, and the network's own part of it."""
    from nnunet_rs.predict.folder import FolderOptions, predict_folder

    predictor = our_predictor(105, spacing, False, 2, (128, 128, 128))
    import torch

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with torch.inference_mode():
        predictor.engine.networks[0](torch.zeros(1, 1, 128, 128, 128))
    network = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    start = time.perf_counter()
    predict_folder(predictor, folder / "large", folder / "ours_large", FolderOptions(overwrite=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": time.perf_counter() - start, "imports": before, "network": network, "peak": peak}


def ours_by_engine(folder: Path, engine: str, folds: int, threads: int) -> dict[str, float]:
    """Predict 105 classes by a network of one convolution, so many times averaged; the peak and what imports took."""
    from dataclasses import replace

    from nnunet_rs.predict.folder import FolderOptions, predict_folder

    tile = (128, 128, 128)
    predictor = our_predictor(105, COARSE, False, threads, tile)
    network = predictor.engine.networks[0]
    if engine == "openvino":
        made = compiled(network, tile, folds, threads)
    else:
        made = replace(predictor.engine, networks=(network,) * folds)
    predictor = replace(predictor, engine=made, all_metadata=predictor.all_metadata * folds)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    start = time.perf_counter()
    predict_folder(predictor, folder / "images", folder / f"by_{engine}", FolderOptions(overwrite=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": time.perf_counter() - start, "imports": before, "peak": peak}


def compiled(network: Any, tile: tuple[int, ...], folds: int, threads: int) -> Any:
    """The same convolution by OpenVINO, once for each fold."""
    import openvino
    from nnunet_rs.predict.engines.openvino_engine import MOST_CHANNELS, compile_graphs

    graphs = []
    for _ in range(folds):
        op = openvino.opset13
        window = op.parameter(openvino.Shape([1, 1, *tile]), np.float32)
        weight, bias = network.weight.detach().numpy(), network.bias.detach().numpy().reshape(1, -1, 1, 1, 1)
        scores = []
        for part in (slice(k, k + MOST_CHANNELS) for k in range(0, len(weight), MOST_CHANNELS)):
            x = op.convolution(window, op.constant(weight[part]), [1] * 3, [0] * 3, [0] * 3, [1] * 3)
            scores.append(op.add(x, op.constant(bias[:, part])))
        graphs.append(openvino.Model(scores, [window], "one convolution"))
    return compile_graphs(graphs, "float32", threads)


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
            network = predictor.engine.networks[0].seconds
            start = time.perf_counter()
            predictor.predict_prepared(prepared)
            times.append(time.perf_counter() - start - (predictor.engine.networks[0].seconds - network))
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


def _answer(seconds: float, network: float) -> dict[str, float]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "network": network, "around": seconds - network, "peak": peak}


# The measurement.


CALLS: dict[str, Callable[..., dict[str, float]]] = {
    "ours_around": lambda folder, mirror, threads: ours_around(Path(folder), mirror == "True", int(threads)),
    "theirs_around": lambda folder, mirror, threads: theirs_around(Path(folder), mirror == "True", int(threads)),
    "ours_memory": lambda folder, spacing: ours_memory(Path(folder), float(spacing)),
    "ours_by_engine": lambda folder, engine, folds, threads: ours_by_engine(
        Path(folder), engine, int(folds), int(threads)
    ),
    "ours_classes": lambda folder, threads: ours_classes(Path(folder), int(threads)),
}


def around(folder: Path, peers: str, threads: int, mirror: bool = False) -> None:
    """Everything outside the network's forward passes."""
    import nibabel

    save_scan(folder / "images" / "scan_0000.nii.gz", (200, 512, 512), FINE)
    runs = [alone(sys.executable, __file__, "ours_around", threads, folder, mirror, threads) for _ in range(2)]
    ours = min(runs, key=lambda answer: answer["around"])
    theirs = alone(peers, __file__, "theirs_around", threads, folder, mirror, threads)
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
        found = alone(sys.executable, __file__, "ours_memory", threads, folder, spacing)
        own = found["network"] - found["imports"]
        print(
            f"| 105 classes, 512×512×800, model at {spacing} mm | {(found['peak'] - own) / 1e9:.2f} GB | "
            f"{105 * 512 * 512 * 800 * 4 / 1e9:.0f} GB for the logits alone | | peak {found['peak'] / 1e9:.2f} GB, of "
            f"which the network's own {own / 1e9:.2f} GB; {found['seconds']:.0f} s |",
            flush=True,
        )


def engines(folder: Path, _: str, threads: int) -> None:
    """Peak memory of 105 classes by each engine, of one network and of three.

    More slices add the scan itself: the sums of windows reach over as many planes as windows do.
    """
    save_scan(folder / "images" / "scan_0000.nii.gz", (200, 512, 512), FINE)
    for engine in ("torch", "openvino"):
        for folds in (1, 3):
            found = alone(sys.executable, __file__, "ours_by_engine", threads, folder, engine, folds, threads)
            print(
                f"| 105 classes, {engine}, folds: {folds} | peak {found['peak'] / 1e9:.2f} GB | | | imports "
                f"{found['imports'] / 1e9:.2f} GB; {found['seconds']:.0f} s |",
                flush=True,
            )


def classes(folder: Path, _: str, threads: int) -> None:
    """Sums and export of 118 classes against 3."""
    save_scan(folder / "images" / "scan_0000.nii.gz", (200, 512, 512), FINE)
    found = alone(sys.executable, __file__, "ours_classes", threads, folder, threads)
    few, many = found["3"] / 3, found["118"] / 118
    print(
        f"| export of 118 classes against 3, a class | {many * 1e3:.1f} ms | {few * 1e3:.1f} ms (3 classes) | "
        f"{few / many:.1f}× | {found['118']:.2f} s and {found['3']:.2f} s in all |"
    )


MEASUREMENTS = {"around": around, "mirrored": mirrored, "memory": memory, "engines": engines, "classes": classes}


def main() -> None:
    """Measure what was asked for."""
    if sys.argv[1:2] == ["--call"]:
        print(json.dumps(CALLS[sys.argv[2]](*json.loads(sys.argv[3]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", metavar="PYTHON", help="interpreter of the peers' environment")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=["around", "memory", "classes"])
    parser.add_argument("--folder", type=Path, help="where the scans go (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for name in arguments.only:
            MEASUREMENTS[name](folder, arguments.peers, arguments.threads)


if __name__ == "__main__":
    main()
