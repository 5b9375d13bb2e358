"""Training recipes on several data sets, with several times and seeds, beside nnU-Net v2's own recipe.

    .venv/bin/python benches/recipes.py FOLDER --budgets 4m 12m 25m --seeds 0 1 --hippocampus Task04_Hippocampus \
        --acdc Dataset127_ACDC [--peer PYTHON] [--variant "more foreground=--recipe fast --oversample-foreground 0.66"]

Every run is one line of FOLDER/runs.jsonl, written when it has ended. Started again, the table goes on: runs that are
there are not repeated, and a training that was interrupted resumes. FOLDER/dice.png and dice.svg show Dice against
processor time; `--plot` draws what is there and runs nothing. PYTHON is an interpreter whose environment has nnunetv2.

Data sets: `hippocampus` and `acdc_2d`, `acdc_3d` (folds by patient) where their folders are named, and made-up ones,
hard in one way each (`recipe_data.py`). The first fold is trained; its held-out cases are predicted in full. Schedules
end with the time that is given.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import recipe_data
import sides
from nnunet_rs.cli import values

NUMBERS = {"hippocampus": 4, "acdc_2d": 127, "acdc_3d": 127}  # of nnU-Net's datasets
RECIPES = {"fast": ("--recipe", "fast"), "v2": ("--recipe", "v2"), "paper": ("--recipe", "paper")}
PEER = "nnU-Net v2"


@dataclass(frozen=True)
class Run:
    """One cell of the table."""

    dataset: str
    recipe: str
    budget: float  # seconds
    seed: int

    @property
    def key(self) -> str:
        """Name its folder."""
        return f"{self.dataset}-{self.recipe}-{self.budget:g}s-{self.seed}".replace(" ", "_").replace("/", "_")


@dataclass(frozen=True)
class Bench:
    """Where everything lies, and how it runs."""

    folder: Path
    options: argparse.Namespace
    variants: dict[str, tuple[str, ...]]

    @property
    def results(self) -> Path:
        return self.folder / "runs.jsonl"

    def configuration(self, dataset: str) -> str:
        return "2d" if dataset.endswith("_2d") else "3d_fullres"

    def mirror(self, dataset: str) -> str:
        return recipe_data.MADE_UP[dataset].mirror if dataset in recipe_data.MADE_UP else "all"

    def raw(self, dataset: str) -> Path:
        """Return the dataset in nnU-Net's raw layout; a made-up one is made."""
        if dataset == "hippocampus":
            return sides.as_raw(self.options.hippocampus.resolve(), self.folder / "raw", NUMBERS[dataset])
        if dataset.startswith("acdc"):
            return Path(self.options.acdc.resolve())
        number = 900 + list(recipe_data.MADE_UP).index(dataset)
        root = self.folder / "raw" / f"Dataset{number}_{dataset}"
        if not (root / "splits.json").is_file():
            fold = recipe_data.write(dataset, root, self.options.cases, max(1, self.options.cases // 5))
            (root / "splits.json").write_text(json.dumps(fold))
        return root

    def work(self, dataset: str) -> Path:
        """Return the prepared work folder of a dataset."""
        work, raw = self.folder / "work" / dataset, self.raw(dataset)
        if not (work / "splits.json").is_file():
            words = ["preprocess", raw, "-o", work, "--planner", "v2", "-c", self.configuration(dataset)]
            words += ["--features", self.options.features]
            words += ["--groups", "^patient[0-9]+"] if dataset.startswith("acdc") else []
            self.call(words)
            if (raw / "splits.json").is_file():
                (work / "splits.json").write_bytes((raw / "splits.json").read_bytes())
        return work

    def call(self, words: Sequence[Any]) -> dict[str, Any]:
        """Run a command of nnunet_rs; returns its JSON."""
        command = [sys.executable, "-m", "nnunet_rs", *map(str, words), "--json"]
        done = subprocess.run(
            command, env=sides.environment(self.options.threads), stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{shlex.join(command)} ended with {done.returncode}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def run(self, run: Run) -> dict[str, Any]:
        """Do one run, or go on with it."""
        home = self.folder / "runs" / run.key
        attempts = home / "attempts"
        home.mkdir(parents=True, exist_ok=True)
        attempts.write_text(f"{int(attempts.read_text()) + 1 if attempts.is_file() else 1}\n")
        before, begun = _processor(), time.time()
        found = self.peer(run, home) if run.recipe == PEER else self.ours(run, home)
        first = attempts.read_text().strip() == "1"
        return {
            "dataset": run.dataset,
            "configuration": self.configuration(run.dataset),
            "recipe": run.recipe,
            "options": " ".join(self.words(run)) if run.recipe != PEER else "",
            "budget": run.budget,
            "seed": run.seed,
            **found,
            "wall_seconds": time.time() - begun if first else None,
            # What a killed attempt took is not known: then None, and `training_seconds` counts all attempts.
            "processor_seconds": _processor() - before if first else None,
            "threads": self.options.threads,
            "features": self.options.features,
            "machine": platform.processor() or platform.machine(),
            "date": time.strftime("%Y-%m-%d"),
        }

    def words(self, run: Run) -> list[str]:
        """Return the options of `train`."""
        words = list(self.variants[run.recipe])
        mirror = "all" if "fast" in words else self.mirror(run.dataset)  # which fast does not unless it is told to
        return words if mirror == "all" else [*words, "--mirror-axes", mirror]

    def ours(self, run: Run, home: Path) -> dict[str, Any]:
        """Train in a work folder of the run's own, which shares the prepared cases."""
        work, configuration = self.work(run.dataset), self.configuration(run.dataset)
        for file in work.glob("*.json"):
            (home / file.name).write_bytes(file.read_bytes())
        if not (home / "prepared").is_symlink():
            (home / "prepared").symlink_to(work / "prepared", target_is_directory=True)
        words = [
            "train",
            home,
            "-c",
            configuration,
            "-f",
            "0",
            "--resume",
            "--device",
            "cpu",
            "-j",
            self.options.threads,
        ]
        words += [*self.words(run), "--time-budget", f"{run.budget:g}s", "--seed", run.seed]
        told = self.call([*words, "--batches", self.options.batches] if self.options.batches else words)
        (fold,) = told["folds"]
        predictions = home / "models" / configuration / "fold_0" / "validation"
        metrics = (predictions.parent / "metrics.jsonl").read_text().splitlines()
        if not metrics:
            raise RuntimeError(f"no iteration within {run.budget:g} s: give a longer budget")
        seconds = sum(json.loads(line)["seconds"] for line in metrics)
        return {
            "iterations": json.loads(metrics[-1])["iterations"],
            "training_seconds": seconds,
            **self.scores(run.dataset, predictions),
            "dice_on_patches": json.loads(metrics[-1])["mean_dice"],
            "epochs": fold["epochs"],
        }

    def peer(self, run: Run, home: Path) -> dict[str, Any]:
        """Train by nnU-Net, with the same plan and fold."""
        nnunet, configuration = self.folder / "nnunet" / run.dataset, self.configuration(run.dataset)
        self.prepare_peer(run.dataset, nnunet)
        place = home / "nnunet"
        for name in ("raw", "preprocessed"):
            if not (place / name).exists():
                place.mkdir(exist_ok=True)
                (place / name).symlink_to(nnunet / name, target_is_directory=True)
        script = str(Path(__file__).with_name("recipe_peer.py"))
        arguments = (place, configuration, run.budget / 60, run.seed, self.mirror(run.dataset), 0)
        answer = _last_json([self.options.peer, script, *map(str, arguments)], self.options.threads)
        predictions = Path(answer.pop("predictions"))
        return {**answer, **self.scores(run.dataset, predictions)}

    def prepare_peer(self, dataset: str, home: Path) -> None:
        """Let nnU-Net prepare a dataset by our plan."""
        if (home / "done").is_file():
            return
        work, raw, number = self.work(dataset), self.raw(dataset), _number(self.raw(dataset))
        prepared = home / "preprocessed" / raw.name
        prepared.mkdir(parents=True, exist_ok=True)
        (home / "raw").mkdir(exist_ok=True)
        if not (home / "raw" / raw.name).exists():
            (home / "raw" / raw.name).symlink_to(raw, target_is_directory=True)
        self.call(["plan", raw, "-o", work, "--as-nnunet", prepared / "nnUNetPlans.json", "--overwrite"])
        for source, target in ((raw / "dataset.json", "dataset.json"), (work / "splits.json", "splits_final.json")):
            (prepared / target).write_bytes(source.read_bytes())
        environment = sides.environment(self.options.threads) | {
            f"nnUNet_{name}": str(home / name) for name in ("raw", "preprocessed", "results")
        }
        tools = Path(self.options.peer).parent
        for tool, more in (("extract_fingerprint", ()), ("preprocess", ("-c", self.configuration(dataset)))):
            words = [tools / f"nnUNetv2_{tool}", "-d", number, *more, "-np", "2"]
            subprocess.run([*map(str, words)], env=environment, check=True, stdout=subprocess.DEVNULL)
        (home / "done").write_text("")

    def scores(self, dataset: str, predictions: Path) -> dict[str, Any]:
        """Score the held-out cases of either side by the same scorer."""
        raw = self.raw(dataset)
        words = ["evaluate", predictions, raw / "labelsTr", "--partial", "--no-distances"]
        told = self.call([*words, "-djfile", raw / "dataset.json"])
        names = {key: entry["name"] for key, entry in told["classes"].items()}
        found: dict[str, Any] = {
            "dice": told["foreground_mean"]["Dice"],
            "dice_per_class": {names[key]: mean["Dice"] for key, mean in told["mean"].items()},
            "cases": len(told["metric_per_case"]),
        }
        if dataset in recipe_data.MADE_UP and recipe_data.MADE_UP[dataset].lesions:
            pairs = ((path, raw / "labelsTr" / path.name) for path in sorted(predictions.glob("*.nii.gz")))
            found["detection"] = recipe_data.detection(pairs)
        return found


def _number(raw: Path) -> str:
    return raw.name.removeprefix("Dataset").partition("_")[0]


def _processor() -> float:
    """Seconds of processor time of all commands that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _last_json(command: list[str], threads: int) -> dict[str, Any]:
    done = subprocess.run(command, env=os.environ | sides.environment(threads), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def read(results: Path) -> list[dict[str, Any]]:
    """Read the runs so far; a line that a kill cut short is left out."""
    if not results.is_file():
        return []
    lines = []
    for text in results.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def table(options: argparse.Namespace, variants: dict[str, tuple[str, ...]]) -> Iterator[Run]:
    """List all runs: short ones first, and those of a dataset together, so that a table cut short is of use."""
    recipes = [*(options.recipes or variants), *([PEER] if options.peer else [])]
    budgets = sorted(values.duration(text) for text in options.budgets)
    for budget, dataset, seed, recipe in product(budgets, options.datasets, options.seeds, recipes):
        yield Run(dataset, recipe, budget, seed)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="default: all whose data are there")
    parser.add_argument("--recipes", nargs="+", metavar="NAME", help="default: fast, v2 and every variant")
    parser.add_argument("--variant", action="append", default=[], metavar="NAME=OPTIONS", help="options of train")
    parser.add_argument("--budgets", nargs="+", default=["4m"], metavar="TIME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N")
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, help="an epoch's, to try the table with tiny budgets")
    parser.add_argument("--cases", type=int, default=recipe_data.CASES, help="of a made-up dataset")
    parser.add_argument("--hippocampus", type=Path, metavar="DIR", help="Task04_Hippocampus")
    parser.add_argument("--acdc", type=Path, metavar="DIR", help="DatasetNNN_ACDC")
    parser.add_argument("--peer", metavar="PYTHON", help="also nnU-Net v2's own recipe, by this interpreter")
    parser.add_argument("--plot", action="store_true", help="draw what is there, and run nothing")
    options = parser.parse_args()
    real = [*(["hippocampus"] if options.hippocampus else []), *(["acdc_2d", "acdc_3d"] if options.acdc else [])]
    known = [*real, *recipe_data.MADE_UP]
    options.datasets = options.datasets or known
    unknown = sorted(set(options.datasets) - set(known))
    if unknown:
        parser.error(f"--datasets {unknown[0]}: there are {', '.join(known)} (real ones where their folder is named)")
    options.folder = options.folder.resolve()
    return options


def main() -> int:
    """Do the runs that are not there, then draw."""
    from recipe_plots import draw

    options = arguments()
    given = dict(text.split("=", 1) for text in options.variant)
    variants = {name: RECIPES[name] for name in ("fast", "v2")} | {n: tuple(shlex.split(o)) for n, o in given.items()}
    variants |= {name: RECIPES[name] for name in options.recipes or () if name in RECIPES}
    bench, failed = Bench(options.folder, options, variants), 0
    bench.folder.mkdir(parents=True, exist_ok=True)
    if not options.plot:
        done = {Run(line["dataset"], line["recipe"], line["budget"], line["seed"]) for line in read(bench.results)}
        wanted = [run for run in table(options, variants) if run not in done]
        for number, run in enumerate(wanted, 1):
            print(f"{run.key} ({number} of {len(wanted)})", flush=True)
            try:
                line = bench.run(run)
            except (RuntimeError, subprocess.CalledProcessError) as error:
                failed += 1
                print(f"failed: {error}", flush=True)
                continue
            with bench.results.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"Dice {line['dice']:.4f}, {line['iterations']} iterations", flush=True)
    draw(read(bench.results), bench.folder)
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
