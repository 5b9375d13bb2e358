"""What measurements beside a peer share: two sides, each in an interpreter of its own, and a table of their medians.

Needs the standard library alone, for the peers' interpreter imports it too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

Work = Callable[[], float]  # does the work once, or often; returns seconds for one
HEAD = ("| work | nnunet_rs | against | needs | ratio |", "|---|---:|---|---:|---:|")


@dataclass(frozen=True)
class Case:
    """One row of a table: the same work by both sides."""

    name: str
    ours: str  # function of the script, run in this environment
    theirs: str  # function of the script, run in the peers'
    argument: str = ""
    peer: str = "nnU-Net v2"
    threads: int = 0  # 0: as many as the whole table
    rests: bool = False  # the peer does nothing between its runs, so that the sides can take turns


# What runs.


def environment(threads: int) -> dict[str, str]:
    """Variables of a process that computes on so many threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return os.environ | dict.fromkeys(names, str(threads))


def alone(python: str, script: str, function: str, threads: int, *arguments: object) -> dict[str, float]:
    """Call a script's function in an interpreter of its own, started with `--call`; its last line is the answer."""
    command = [python, script, "--call", function, json.dumps([str(argument) for argument in arguments])]
    run = subprocess.run(command, env=quiet(threads), capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{function} failed:\n{run.stderr[-3000:]}")
    answer: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return answer


def quiet(threads: int) -> dict[str, str]:
    """The same variables, and those without which nnU-Net complains."""
    names = (f"nnUNet_{name}" for name in ("raw", "preprocessed", "results"))
    return environment(threads) | dict.fromkeys(names, tempfile.gettempdir())


class Side:
    """One side of a case: a script that was started with `--serve FUNCTION THREADS ARGUMENT`, and waits."""

    def __init__(self, python: str, script: str, function: str, threads: int, argument: str) -> None:
        command = [python, script, "--serve", function, str(threads), argument]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(threads)
        )
        self.answer()

    def answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"{self.process.args} gave no answer")
        return line

    def run(self) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.answer())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve(prepare: Callable[[], Work]) -> None:
    """Prepare the work, then run it at every line of the input and print the seconds."""
    answers = sys.stdout
    with redirect_stdout(sys.stderr):  # nnU-Net says much
        work = prepare()
        print("ready", file=answers, flush=True)
        for _ in sys.stdin:
            print(work(), file=answers, flush=True)


# What is told.


def parser(text: str | None) -> argparse.ArgumentParser:
    """What every table can be asked for."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", metavar="PYTHON", help="interpreter of the peers' environment")
    parser.add_argument("-o", "--output", type=Path, help="also write the table there")
    parser.add_argument("--runs", type=int, default=3, help="runs of each peer; ours runs more often")
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    return parser


def tabulate(
    cases: Sequence[Case], measure: Callable[[Case], tuple[list[float], list[float]]], note: str, output: Path | None
) -> None:
    """Measure both sides of each case and print a row; the table also goes to a file, if one is named."""
    rows = [*HEAD]
    print(*rows, sep="\n", flush=True)
    for case in cases:
        ours, theirs = (statistics.median(seconds) for seconds in measure(case))
        rows.append(f"| {case.name} | {shown(ours)} | {case.peer} | {shown(theirs)} | {times(theirs / ours)} |")
        print(rows[-1], flush=True)
    print(f"\n{note}")
    if output:
        write(output, "\n".join([*rows, "", note, ""]))


def shown(seconds: float) -> str:
    """Three digits of milliseconds, or all before the point."""
    milliseconds = 1e3 * seconds
    return f"{milliseconds:,.{2 if milliseconds < 10 else 1 if milliseconds < 100 else 0}f} ms"


def times(ratio: float) -> str:
    """How many times as long."""
    return f"{ratio:,.{1 if ratio < 10 else 0}f}×"


VERSIONS = """
import importlib.metadata as m, json, platform
names = ("nnunetv2", "batchgenerators", "batchgeneratorsv2", "torch", "scipy", "scikit-image", "numpy")
print(json.dumps({"Python": platform.python_version(), **{n: m.version(n) for n in names}}))
"""


def versions(python: str) -> str:
    """What the peers' environment holds, in words."""
    found = json.loads(subprocess.run([python, "-c", VERSIONS], check=True, capture_output=True, text=True).stdout)
    return ", ".join(f"{name} {version}" for name, version in found.items())


def machine() -> str:
    """The processor's name, where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def write(path: Path, text: str) -> None:
    """Write beside the place and rename."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


# The peers' layout of data.


def as_raw(dataset: Path, folder: Path, number: int) -> Path:
    """Give a dataset in nnU-Net's raw layout: itself, or links in FOLDER to the files of the Decathlon's layout."""
    declared = json.loads((dataset / "dataset.json").read_text())
    if "channel_names" in declared:
        return dataset
    raw = folder / f"Dataset{number:03d}_{dataset.name.partition('_')[2] or dataset.name}"
    for entry in declared["training"]:
        image, label = (dataset / entry[key] for key in ("image", "label"))
        link(image, raw / "imagesTr" / image.name.replace(".nii.gz", "_0000.nii.gz"))
        link(label, raw / "labelsTr" / label.name)
    described = {
        "channel_names": declared["modality"],
        "labels": {name: int(value) for value, name in declared["labels"].items()},
        "numTraining": len(declared["training"]),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(described))
    return raw


def link(file: Path, place: Path) -> None:
    """Make `place` another name of `file`."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(file.resolve())
