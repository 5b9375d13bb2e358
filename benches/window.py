"""One window of a network of the usual size by each engine, number type and memory layout, in turns.

    python benches/window.py [-r ROUNDS] [-t THREADS]

The network is the plain U-Net that nnU-Net plans for large scans: 32 to 320 features, six stages, a window of
64 × 128 × 128 voxels. nnU-Net computes it as the row "torch, float32" does. Beside each time stand the multiplications
and additions of its convolutions a second, and their part of what a product of two large matrices reaches here in the
same number type, measured in the same turns.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from nnunet_models import processor_name

TILE = (64, 128, 128)
FEATURES = (32, 64, 128, 256, 320, 320)
STRIDES = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2))
SIDE = 4096  # of the matrices

Work = Callable[[], object]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("-t", "--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    print(f"{processor_name()}, {arguments.threads} threads, load {os.getloadavg()[0]:.1f}\n", flush=True)
    configuration = usual_configuration()
    network = built(configuration)
    works = {**products(arguments.threads), **windows(configuration, network, arguments.threads)}
    seconds: dict[tuple[str, str], list[float]] = {name: [] for name in works}
    for turn in range(-1, arguments.rounds):  # the first warms up
        for name, work in works.items():
            begun = time.perf_counter()
            work()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - begun)
    tell({name: statistics.median(found) for name, found in seconds.items()}, operations(network))


def tell(seconds: dict[tuple[str, str], float], flop: float) -> None:
    """Print a row for every way to compute the window."""
    print(f"{flop / 1e9:.0f} GFLOP a window\n\n| by | time | GFLOP/s | of a matrix product's | nnU-Net's is |")
    print("|---|---:|---:|---:|---:|")
    usual = seconds["torch", "float32"]
    for (by, kind), took in seconds.items():
        if by == "product":
            continue
        most = 2 * SIDE**3 / seconds["product", kind]
        rate = flop / took
        print(f"| {by}, {kind} | {took:.2f} s | {rate / 1e9:.0f} | {rate / most:.0%} | {usual / took:.2f}× |")


def usual_configuration() -> Any:
    """The configuration of the network."""
    from nnunet_rs.plan.schema import Configuration

    stages = len(FEATURES)
    return Configuration(
        "3d_fullres", (1.0,) * 3, TILE, 2, TILE, STRIDES, ((3, 3, 3),) * stages, FEATURES, (2,) * stages,
        (2,) * (stages - 1), residual=False, batch_dice=False, inplane_augmentation=False, memory_estimate=0,
    )  # fmt: skip


def built(configuration: Any) -> Any:
    """The network with drawn weights."""
    import torch
    from nnunet_rs.model.unet import build_unet

    torch.manual_seed(0)
    return build_unet(configuration, 1, 3).eval().requires_grad_(False)


def operations(network: Any) -> float:
    """Multiplications and additions of all convolutions of one window."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 1, *TILE))
    return float(counter.get_total_flops())


def products(threads: int) -> dict[tuple[str, str], Work]:
    """Products of large matrices: what the processor reaches."""
    import torch

    torch.set_num_threads(threads)
    a, b = torch.randn(2, SIDE, SIDE)
    low = a.bfloat16(), b.bfloat16()
    return {("product", "float32"): lambda: a @ b, ("product", "bfloat16"): lambda: low[0] @ low[1]}


def windows(configuration: Any, network: Any, threads: int) -> dict[tuple[str, str], Work]:
    """Every way to compute a window."""
    import torch
    from nnunet_rs.model.device import choose_compute
    from nnunet_rs.model.network_options import NetworkOptions
    from nnunet_rs.predict.engines.openvino_engine import choose_precision, compile_graphs
    from nnunet_rs.predict.engines.openvino_graph import build_graph
    from nnunet_rs.predict.engines.torch_engine import TorchEngine

    window = np.random.default_rng(0).normal(size=(1, 1, *TILE)).astype(np.float32)
    works: dict[tuple[str, str], Work] = {}
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    kinds = ("float32", "bfloat16") if choose_precision("auto") == "bfloat16" else ("float32",)
    for kind in kinds:
        for last in (False, True):
            compute = choose_compute(torch.device("cpu"), kind, last)
            engine = TorchEngine((compute.to_device(copy.deepcopy(network), 3),), compute)
            works["torch, channels last" if last else "torch", kind] = scored(engine, window)
        graph = build_graph(configuration, 1, NetworkOptions(), weights)
        works["OpenVINO", kind] = scored(compile_graphs([graph], kind, threads), window)
    return works


def scored(engine: Any, window: Any) -> Work:
    """The scores of one window by an engine."""

    def work() -> object:
        with engine.memory():
            return sum(prod(scored.scores.shape) for scored in engine.scores(window, ()))

    return work


if __name__ == "__main__":
    main()
