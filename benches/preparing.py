"""Whole commands, from a folder of scans to data that training reads: `nnunet-rs preprocess` beside nnU-Net v2.

    python benches/preparing.py PEER [DATASET ...] [--ct N] [--ct-varied N] [--default-workers] [--memory 8G]
                                [--work FOLDER]

PEER is the `bin` folder of an environment that has nnunetv2, DATASET a folder in either layout whose images have one
channel a file. `--ct N` adds N made-up CT scans of 512 x 512 x 160 voxels with 15 labels, all of 0.7 x 0.7 x 1.5 mm
(nothing is resampled), `--ct-varied N` others of spacings around it (everything is). Both sides check, fingerprint,
plan and prepare 2d and 3d_fullres; wall times include the start of the interpreters. nnU-Net runs with `-np 2 2`, and
with `--default-workers` once more with as many as it takes by itself, for the memory. Memory is that of all processes
of a side together: RSS added up, and PSS, which counts pages that processes share once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import sides
from isal import igzip

CONFIGURATIONS = ("2d", "3d_fullres")
SHAPE, SPACING = (160, 512, 512), (1.5, 0.7, 0.7)  # z, y, x
ORGANS = 15
FLOOR = 1 << 30  # bytes the machine must be able to spare: below, a run is ended before the system ends others
LABELS = {"background": 0} | {f"organ {number}": number for number in range(1, ORGANS + 1)}


@dataclass(frozen=True)
class Run:
    """What one command took."""

    seconds: float
    rss: int  # bytes, the greatest sum over the processes that lived at the same time
    pss: int  # the same, with shared pages counted once
    ended: str  # "", or why the run has no result

    def cells(self) -> str:
        """Give seconds and gigabytes as cells of a table."""
        took = f"{self.seconds:.1f} s" if not self.ended else f"{self.ended} after {self.seconds:.0f} s"
        return f"{took} | {self.rss / 1e9:.2f} ({self.pss / 1e9:.2f}) GB"


# ---- running and watching --------------------------------------------------------------------------------------------


def watched(command: list[str], environment: dict[str, str], log: Path) -> Run:
    """Run a command and watch the memory of its process and all that descend from it."""
    begun, rss, pss, looked, ended = time.perf_counter(), 0, 0, 0.0, ""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
        while process.poll() is None:
            family = descendants(process.pid)
            rss = max(rss, sum(map(resident, family)))
            if time.perf_counter() - looked > 0.5:
                pss, looked = max(pss, sum(map(proportional, family))), time.perf_counter()
                if spare() < FLOOR:
                    ended = "ended for lack of memory"
                    os.killpg(process.pid, signal.SIGKILL)
            time.sleep(min(0.25, max(0.02, (time.perf_counter() - begun) / 50)))
    code = process.wait()
    seconds = time.perf_counter() - begun
    return Run(seconds, rss, pss, ended or (f"failed ({code})" if code else ""))


def descendants(root: int) -> list[int]:
    """List a process and all processes below it."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                parent = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[1]
                children.setdefault(int(parent), []).append(int(entry.name))
    family = [root]
    for process in family:  # grows while it is walked
        family += children.get(process, [])
    return family


def resident(process: int) -> int:
    """Bytes in memory; 0 for a process that has gone."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def proportional(process: int) -> int:
    """Bytes in memory, each page divided by the processes that share it; 0 for a process that has gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def spare() -> int:
    """Bytes that the machine can spare."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


# ---- the two sides ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """Where everything is."""

    peer: Path
    work: Path
    memory: str

    def ours(self, dataset: Path) -> Run:
        """Check, fingerprint, plan and prepare by nnunet_rs."""
        options = ["--recipe", "v2", "--quiet", "-c", *CONFIGURATIONS]
        if self.memory:
            options += ["--memory", self.memory]
        output = self.fresh("ours")
        command = [str(Path(sys.executable).with_name("nnunet-rs")), "preprocess", str(dataset), "-o", str(output)]
        return watched([*command, *options], dict(os.environ), self.work / "ours.log")

    def theirs(self, raw: Path, *options: str) -> Run:
        """Check, fingerprint, plan and prepare by nnU-Net v2."""
        environment = os.environ | {
            "nnUNet_raw": str(raw.parent),
            "nnUNet_preprocessed": str(self.fresh("theirs")),
            "nnUNet_results": str(self.fresh("results")),
        }
        number = raw.name[len("Dataset") :].partition("_")[0]
        command = [str(self.peer / "nnUNetv2_plan_and_preprocess"), "-d", number, "--verify_dataset_integrity"]
        return watched([*command, "-c", *CONFIGURATIONS, *options], environment, self.work / "theirs.log")

    def fresh(self, name: str) -> Path:
        """Give an empty folder."""
        folder = self.work / name
        subprocess.run(["rm", "-rf", str(folder)], check=True)
        folder.mkdir(parents=True)
        return folder


# ---- made-up scans ---------------------------------------------------------------------------------------------------


def made_up_cts(root: Path, count: int, vary: float) -> Path:
    """Write CT scans: a body of soft tissue with bones and organs in air, noise everywhere, nothing cropped away."""
    chance = np.random.default_rng(7)
    for number in range(count):
        spacing = np.round(np.array(SPACING) * chance.uniform(1 - vary, 1 + vary, 3), 3)
        image, labels = made_up_ct(chance)
        save(root / "imagesTr" / f"ct_{number:02d}_0000.nii.gz", image, spacing)
        save(root / "labelsTr" / f"ct_{number:02d}.nii.gz", labels, spacing)
    described = {
        "channel_names": {"0": "CT"},
        "labels": LABELS,
        "numTraining": count,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(described))
    return root


def made_up_ct(chance: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One scan (z, y, x): Hounsfield units as int16, organs 1 to 15 as uint8."""
    z, y, x = (np.linspace(-1, 1, n, dtype=np.float32).reshape(s) for n, s in zip(SHAPE, AXES, strict=True))
    image = np.full(SHAPE, -1000, np.float32)
    labels = np.zeros(SHAPE, np.uint8)
    body = (y / 0.7) ** 2 + (x / 0.9) ** 2 < 1
    image[:, body[0]] = 40
    for organ in range(1, ORGANS + 1):
        centre, radii = chance.uniform(-0.5, 0.5, 3), chance.uniform(0.1, 0.35, 3)
        far = sum(((axis - c) / r) ** 2 for axis, c, r in zip((z, y, x), centre, radii, strict=True))
        inside = far < 1
        image[inside] = chance.uniform(-50, 300)
        labels[inside] = organ
    image += chance.normal(0, 12, SHAPE).astype(np.float32)
    return image.astype(np.int16), labels


AXES = ((-1, 1, 1), (1, -1, 1), (1, 1, -1))


def save(path: Path, voxels: np.ndarray, spacing: np.ndarray) -> None:
    """Write (z, y, x) voxels as compressed NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(voxels.T, np.diag([*spacing[::-1], 1.0]))
    path.write_bytes(igzip.compress(image.to_bytes(), 2))


# ---- the table -------------------------------------------------------------------------------------------------------


def row(name: str, ours: Run, theirs: Run) -> str:
    """Compare two runs."""
    times = (
        f"{theirs.seconds / ours.seconds:.1f}×, memory 1/{theirs.rss / ours.rss:.1f} (1/{theirs.pss / ours.pss:.1f})"
    )
    return f"| {name} | {ours.cells()} | {theirs.cells()} | {times} |"


HEAD = "| work | nnunet_rs | RSS (PSS) | nnU-Net v2 | RSS (PSS) | ratios |\n|---|---:|---:|---:|---:|---|"


def compare(bench: Bench, dataset: Path, raw: Path, default: bool, say: Callable[[str], None]) -> None:
    """Run both sides on a dataset, the short one first and last: its slower run counts."""
    first = bench.ours(dataset)
    theirs = bench.theirs(raw, "-np", "2", "2")
    ours = max(first, bench.ours(dataset), key=lambda run: run.seconds)
    say(row(f"{dataset.name}, 2 workers", ours, theirs))
    if default:
        say(row(f"{dataset.name}, default workers", ours, bench.theirs(raw)))


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", metavar="PEER", type=Path, help="bin folder of the peer's environment")
    parser.add_argument("datasets", metavar="DATASET", type=Path, nargs="*")
    parser.add_argument("--ct", type=int, default=0, metavar="N", help="made-up CT scans of one spacing")
    parser.add_argument("--ct-varied", type=int, default=0, metavar="N", help="made-up CT scans of many spacings")
    parser.add_argument("--default-workers", action="store_true", help="run the peer with its default workers too")
    parser.add_argument("--memory", default="", metavar="SIZE", help="what nnunet_rs may hold")
    parser.add_argument("--work", type=Path, help="where everything goes (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(options.peer, options.work or Path(temporary), options.memory)
        bench.work.mkdir(parents=True, exist_ok=True)
        made = [("Dataset901_CT", options.ct, 0.0), ("Dataset902_CTvaried", options.ct_varied, 0.2)]
        made = [(name, count, vary) for name, count, vary in made if count]
        print(HEAD, flush=True)
        for number, dataset in enumerate([*options.datasets, *(bench.work / name for name, *_ in made)]):
            for name, count, vary in made:
                if dataset.name == name and not dataset.exists():
                    made_up_cts(dataset, count, vary)
            raw = sides.as_raw(dataset, bench.work, 910 + number)
            compare(bench, dataset, raw, options.default_workers, lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
