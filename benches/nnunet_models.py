"""Whole commands beside nnU-Net's own: `predict` with models that nnU-Net v2 trained, and `import`.

.venv/bin/python benches/nnunet_models.py PEER_BIN SHARED [-r REPEATS] [-w ROW ...] [-n SCANS]

PEER_BIN holds nnUNetv2_predict_from_modelfolder; SHARED is the folder with `oracles/models`, `peers` and `data`. Each
command is a new process (cold start included); all sides take turns, and the table shows medians. Memory is the largest
sum of the proportional set sizes (PSS) of a command's processes, read ten times a second: nnU-Net works in several.
Processor time is that of all of them. Python's compiled files are kept between runs, as an installed package has them.
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
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from nnunet_rs.plan.schema import Plan


class Run(NamedTuple):
    """One command that ended well."""

    seconds: float
    processor: float  # seconds of all its threads and processes
    memory: float  # MB, of all its processes


def run(command: list[str], env: dict[str, str]) -> Run:
    """Run a command to its end; stops everything where it fails."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, env=env, stdout=said, stderr=said)
        most, ended = [0], threading.Event()
        watching = threading.Thread(target=watch, args=(process.pid, most, ended))
        watching.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        ended.set()
        watching.join()
        if status:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{said.read()[-2000:].decode()}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, most[0] / 1024)


def watch(pid: int, most: list[int], ended: threading.Event) -> None:
    """Note the largest sum of proportional set sizes, kB, of a process and all that it started."""
    while not ended.wait(0.1):
        most[0] = max(most[0], sum(map(proportional_set_size, tree(pid))))


def tree(pid: int) -> list[int]:
    """List a process and its descendants."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def proportional_set_size(pid: int) -> int:
    """Return a process's memory, kB, in which what several share is divided among them; 0 once it has ended."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return 0


def median(runs: list[Run]) -> Run:
    """Medians of each."""
    return Run(*(statistics.median(values) for values in zip(*runs, strict=True)))


def images(shared: Path, kind: str, folder: Path, scans: int) -> Path:
    """Collect the images of a row."""
    raw, peers = shared / "data" / "Dataset027_ACDC" / "imagesTr", shared / "oracles" / "models" / "05_resencm_3d"
    found = sorted(raw.iterdir())[:scans] if kind == "acdc" else sorted((peers / "images").iterdir())[:1]
    (folder / kind).mkdir()
    for path in found:
        shutil.copy(path, folder / kind)
    return folder / kind


SIDES = (  # what is compared: engine and precision
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
    ("torch", "float32"),
    ("torch", "bfloat16"),
)


def predicted(arguments: argparse.Namespace, folder: Path) -> None:
    """Print the rows of every model."""
    shared, repeats, scans = arguments.shared, arguments.repeats, arguments.scans
    models = shared / "oracles" / "models"
    rows = (
        ("one hippocampus, residual encoder M", models / "05_resencm_3d", "hippocampus", ("0",)),
        ("one hippocampus, plain, 16 features", shared / "peers" / "nnunetv2_hippocampus", "hippocampus", ("0",)),
        (f"{scans} ACDC scans, two folds, 8 features", models / "02_acdc_3d_fullres", "acdc", ("0", "1")),
        (f"{scans} ACDC scans, two folds, 32 features", None, "acdc", ("0", "1")),
    )
    print("| `predict`, mirrored | by | time | nnU-Net is | processor time | memory | of nnU-Net's |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for number, (name, model, kind, folds) in enumerate(rows):
        if number not in arguments.rows:
            continue
        model = model or of_default_features(shared / "data" / "Dataset027_ACDC", folder)
        source = folder / kind if (folder / kind).exists() else images(shared, kind, folder, scans)
        commands = list(sides(model, source, folder, folds, arguments))
        measured: list[list[Run]] = [[] for _ in commands]
        for repeat in range(-1, repeats):  # the first warms up: files in memory, compiled modules and networks kept
            for side, (_, command, env) in enumerate(commands):
                if repeat >= 0 or (kind == "hippocampus" and side < 2):
                    measured[side].append(run(command, env))
                    shutil.rmtree(folder / "out")
        measured = [runs[-repeats:] for runs in measured]
        results = list(map(median, measured))
        peer = results[-1]
        for (by, _, _), result in zip(commands, results, strict=True):
            times = f"{result.seconds:.2f} s | {peer.seconds / result.seconds:.1f}× | {result.processor:.1f} s"
            held = f"{result.memory:.0f} MB | {result.memory / peer.memory:.2f}"
            print(f"| {name} | {by} | {times} | {held} |", flush=True)


def sides(
    model: Path, source: Path, folder: Path, folds: tuple[str, ...], arguments: argparse.Namespace
) -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """Yield names, commands and environments; nnU-Net's last."""
    kept = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "modules")}
    ours = {**os.environ, **kept, "XDG_CACHE_HOME": str(folder / "cache")}
    for engine, precision in SIDES:
        if engine not in arguments.engines:
            continue
        words = ["predict", model, "-i", source, "-o", folder / "out", "-f", *folds, "--device", "cpu", "-q"]
        words += ["--engine", engine, "--precision", precision]
        yield f"{engine}, {precision}", [sys.executable, "-m", "nnunet_rs", *map(str, words)], ours
    theirs = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | kept
    theirs |= {f"nnUNet_{name}": tempfile.gettempdir() for name in ("raw", "preprocessed", "results")}
    peer = [arguments.peer_bin / "nnUNetv2_predict_from_modelfolder", "-i", source, "-o", folder / "out", "-m", model]
    yield "nnU-Net, float32", list(map(str, (*peer, "-f", *folds, "-device", "cpu", "--disable_progress_bar"))), theirs


def imported(repeats: int, folder: Path) -> None:
    """Print how long the import of a checkpoint of the usual size takes."""
    from nnunet_rs.core.types import ChannelStats, Dataset, LabelSet
    from nnunet_rs.plan.planner import make_plan
    from nnunet_rs.plan.schema import CasePrint, Fingerprint

    dataset = Dataset("Made", Path("made"), "nnunet", ("MRI",), LabelSet(("background", "a"), (0, 1)), ())
    print_ = CasePrint("a", (128, 128, 128), (128, 128, 128), (1.0, 1.0, 1.0))
    plan = make_plan(dataset, Fingerprint((print_,) * 30, (ChannelStats(5, 1, 5, 0, 9, 1, 8),), 1.0), "v2")
    home = untrained(plan, 1, folder)
    size = (home / "fold_0" / "checkpoint_final.pth").stat().st_size / 1e6
    runs = []
    for number in range(repeats):
        words = ("import", home, "-o", folder / f"imported_{number}", "-q")
        runs.append(run([sys.executable, "-m", "nnunet_rs", *map(str, words)], dict(os.environ)))
    done = median(runs)
    used = f"{done.seconds:.2f} s ({done.processor:.2f} s of the processor), {done.memory:.0f} MB"
    print(f"\n`import` of a checkpoint of {size:.0f} MB: {used}.")


def of_default_features(raw: Path, folder: Path) -> Path:
    """Return a model of two folds, 3d_fullres, with as many features as the planner of nnU-Net v2 gives, untrained."""
    from nnunet_rs.plan.files import read_plan

    words = [sys.executable, "-m", "nnunet_rs", "plan", str(raw), "-o", str(folder / "work"), "--planner", "v2", "-q"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return untrained(read_plan(folder / "work" / "plan.json"), 2, folder)


def untrained(plan: Plan, folds: int, folder: Path) -> Path:
    """Return a model folder of nnU-Net's layout with random weights."""
    import torch
    from nnunet_rs.exchange.export_nnunet import export_nnunet
    from nnunet_rs.model.checkpoint import save_model
    from nnunet_rs.model.config import usual_config
    from nnunet_rs.model.metadata import ModelMetadata
    from nnunet_rs.model.network_options import NetworkOptions, network_channels
    from nnunet_rs.model.recipe import V2
    from nnunet_rs.model.unet import build_unet

    settings, network = plan.configurations["3d_fullres"], NetworkOptions(deep_supervision=True)
    config = replace(usual_config(plan.recipe, settings, V2), **asdict(network))
    homes = [folder / "untrained" / f"fold_{fold}" for fold in range(folds)]
    for fold, home in enumerate(homes):
        torch.manual_seed(fold)
        built = build_unet(settings, *network_channels(plan, settings), network)
        metadata = ModelMetadata(plan, "3d_fullres", fold, config, 0, None, None, mirror_axes=(0, 1, 2))
        save_model(home, built.state_dict(), metadata)
    (exported,) = export_nnunet(homes, folder / "results")
    return exported


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer_bin", type=Path, metavar="PEER_BIN")
    parser.add_argument("shared", type=Path, metavar="SHARED")
    parser.add_argument("-r", "--repeats", type=int, default=3)
    parser.add_argument("-w", "--rows", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="0 to 3: predict; 4: import")
    parser.add_argument("-e", "--engines", nargs="+", default=["openvino", "torch"], help="ours, beside nnU-Net")
    parser.add_argument("-n", "--scans", type=int, default=8, help="of ACDC; nnU-Net takes minutes for each")
    arguments = parser.parse_args()
    print(f"{processor_name()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory() as folder:
        predicted(arguments, Path(folder))
        if 4 in arguments.rows:
            imported(arguments.repeats, Path(folder))


def processor_name() -> str:
    """Name the processor and what of its instructions decides."""
    from nnunet_rs.core.resources import processor

    found = processor()
    known = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in found.instructions]
    return f"{found.name} ({', '.join(known)}), {platform.platform()}"


if __name__ == "__main__":
    main()
