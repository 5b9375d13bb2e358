"""Whole commands beside nnU-Net's own: `predict` with models that nnU-Net v2 trained, and `import`.

.venv/bin/python benches/nnunet_models.py PEER_BIN SHARED [-r REPEATS]

PEER_BIN holds nnUNetv2_predict_from_modelfolder; SHARED is the folder with `oracles/models`, `peers` and `data`. Each
command is a new process (cold start included); both sides take turns. The table shows medians, and the largest resident
memory of any one process: nnU-Net's workers beside it do not count. Processor time is that of all of them.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple


class Run(NamedTuple):
    """One command that ended well."""

    seconds: float
    processor: float  # seconds of all its threads and processes
    memory: float  # MB


def run(command: list[str], env: dict[str, str]) -> Run:
    """Run a command to its end; stops everything where it fails."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, env=env, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{said.read()[-2000:].decode()}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def median(runs: list[Run]) -> Run:
    """Medians of each."""
    return Run(*(statistics.median(values) for values in zip(*runs, strict=True)))


def images(shared: Path, kind: str, folder: Path) -> Path:
    """Collect the images of a row."""
    raw, peers = shared / "data" / "Dataset027_ACDC" / "imagesTr", shared / "oracles" / "models" / "05_resencm_3d"
    found = sorted(raw.iterdir())[:8] if kind == "acdc" else sorted((peers / "images").iterdir())[:1]
    (folder / kind).mkdir()
    for path in found:
        shutil.copy(path, folder / kind)
    return folder / kind


def predicted(shared: Path, peer_bin: Path, repeats: int, folder: Path) -> None:
    """Print a row for every model."""
    ours = dict(os.environ)
    theirs = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    theirs |= {f"nnUNet_{name}": tempfile.gettempdir() for name in ("raw", "preprocessed", "results")}
    models = shared / "oracles" / "models"
    rows = (
        ("one hippocampus, residual encoder M", models / "05_resencm_3d", "hippocampus", ("0",)),
        ("one hippocampus, plain, 16 features", shared / "peers" / "nnunetv2_hippocampus", "hippocampus", ("0",)),
        ("eight ACDC scans, two folds", models / "02_acdc_3d_fullres", "acdc", ("0", "1")),
    )
    print("| `predict`, mirrored | nnunet_rs | nnU-Net | ratio | processor time | bfloat16 | memory |")
    print("|---|---:|---:|---:|---|---:|---|")
    for name, model, kind, folds in rows:
        source = folder / kind if (folder / kind).exists() else images(shared, kind, folder)
        out = folder / "out"
        mine = [sys.executable, "-m", "nnunet_rs", "predict", model, "-i", source, "-o", out, "-f", *folds]
        mine += ["--device", "cpu", "-q"]
        peer = [peer_bin / "nnUNetv2_predict_from_modelfolder", "-i", source, "-o", out, "-m", model, "-f", *folds]
        peer += ["-device", "cpu", "--disable_progress_bar"]
        sides: list[list[Run]] = [[], [], []]
        for _ in range(repeats):
            for side, (command, env) in enumerate(
                ((mine, ours), ([*mine, "--precision", "bfloat16"], ours), (peer, theirs))
            ):
                sides[side].append(run([str(word) for word in command], env))
                shutil.rmtree(out)
        own, half, other = map(median, sides)
        ratio = f"{other.seconds / own.seconds:.1f}×"
        used = f"{own.processor:.1f} against {other.processor:.1f} s, {other.processor / own.processor:.1f}×"
        held = f"{own.memory:.0f} against {other.memory:.0f} MB, {other.memory / own.memory:.1f}×"
        times = f"{own.seconds:.2f} s | {other.seconds:.2f} s | {ratio} | {used} | {half.seconds:.2f} s"
        print(f"| {name} | {times} | {held} |", flush=True)


def imported(repeats: int, folder: Path) -> None:
    """Print how long the import of a checkpoint of the usual size takes."""
    import torch
    from nnunet_rs.core.types import ChannelStats, Dataset, LabelSet
    from nnunet_rs.exchange.export_nnunet import export_nnunet
    from nnunet_rs.model.checkpoint import save_model
    from nnunet_rs.model.metadata import ModelMetadata
    from nnunet_rs.model.network_options import NetworkOptions, network_channels
    from nnunet_rs.model.unet import build_unet
    from nnunet_rs.plan.planner import make_plan
    from nnunet_rs.plan.schema import CasePrint, Fingerprint

    torch.manual_seed(0)
    dataset = Dataset("Made", Path("made"), "nnunet", ("MRI",), LabelSet(("background", "a"), (0, 1)), ())
    print_ = CasePrint("a", (128, 128, 128), (128, 128, 128), (1.0, 1.0, 1.0))
    plan = make_plan(dataset, Fingerprint((print_,) * 30, (ChannelStats(5, 1, 5, 0, 9, 1, 8),), 1.0), "v2")
    settings, network = plan.configurations["3d_fullres"], NetworkOptions(deep_supervision=True)
    built = build_unet(settings, *network_channels(plan, settings), network)
    metadata = ModelMetadata(plan, "3d_fullres", network, 0, "v2", 0, 0, None, None, mirror_axes=(0, 1, 2))
    save_model(folder / "fold_0", built.state_dict(), metadata)
    (home,) = export_nnunet([folder / "fold_0"], folder / "results")
    size = (home / "fold_0" / "checkpoint_final.pth").stat().st_size / 1e6
    runs = []
    for number in range(repeats):
        words = ("import", home, "-o", folder / f"imported_{number}", "-q")
        runs.append(run([sys.executable, "-m", "nnunet_rs", *map(str, words)], dict(os.environ)))
    done = median(runs)
    used = f"{done.seconds:.2f} s ({done.processor:.2f} s of the processor), {done.memory:.0f} MB"
    print(f"\n`import` of a checkpoint of {size:.0f} MB: {used}.")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer_bin", type=Path, metavar="PEER_BIN")
    parser.add_argument("shared", type=Path, metavar="SHARED")
    parser.add_argument("-r", "--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory() as folder:
        predicted(arguments.shared, arguments.peer_bin, arguments.repeats, Path(folder))
        imported(arguments.repeats, Path(folder))


if __name__ == "__main__":
    main()
