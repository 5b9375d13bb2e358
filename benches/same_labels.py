"""Segmentations by each engine and number type beside PyTorch's in float32: Dice, and the voxels that differ.

    python benches/same_labels.py MODEL DATASET [-n CASES]

MODEL is any that `predict` takes, DATASET a dataset with labels; predicted are the cases that the first of five folds
holds out. A tie is a voxel whose two best classes are less than 1e-4 apart, by the probabilities of PyTorch in float32.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from nnunet_models import processor_name
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.io import read_labels, read_volume
from nnunet_rs.data.folds import make_folds
from nnunet_rs.predict.predictor import PredictOptions, Predictor
from nnunet_rs.predict.probabilities import probabilities_of

TIE = 1e-4
SIDES = (("torch", "float32"), ("torch", "bfloat16"), ("openvino", "float32"), ("openvino", "bfloat16"))


@dataclass
class Found:
    """What one engine makes of all cases."""

    predictor: Predictor
    dice: list[list[float]] = field(default_factory=list)  # a case, a class
    voxels: int = 0
    differing: int = 0
    clear: int = 0  # that differ and are no ties
    seconds: float = 0.0

    def add(self, volume: Any, truth: Any, usual: Any, ties: Any) -> Any:
        """Predict a case and compare it; returns the labels."""
        begun = time.perf_counter()
        labels = self.predictor.predict_volume(volume).data
        self.seconds += time.perf_counter() - begun
        classes = self.predictor.plan.labels.values[1:]
        self.dice.append([dice(labels == value, truth == value) for value in classes])
        other = labels != (labels if usual is None else usual)
        self.voxels += other.size
        self.differing += int(other.sum())
        self.clear += int((other & ~ties).sum())
        return labels


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("dataset", type=Path, metavar="DATASET")
    parser.add_argument("-n", "--cases", type=int, default=1000, help="at most so many")
    arguments = parser.parse_args()
    print(f"{processor_name()}\n", flush=True)
    found = {side: Found(loaded(arguments.model, *side)) for side in SIDES}
    for volume, truth in held_out(arguments.dataset, arguments.cases):
        best = np.sort(probabilities_of(found[SIDES[0]].predictor, volume), axis=0)
        ties = best[-1] - best[-2] < TIE
        usual = None
        for each in found.values():
            labels = each.add(volume, truth, usual, ties)
            usual = labels if usual is None else usual
    tell(found)


def tell(found: dict[tuple[str, str], Found]) -> None:
    """Print a row for each engine and number type."""
    usual = np.array(found[SIDES[0]].dice)
    print(f"{len(usual)} cases, {found[SIDES[0]].voxels} voxels\n")
    print("| by | mean Dice | per class | its greatest change in a case | voxels that differ | no ties | time |")
    print("|---|---:|---|---:|---:|---:|---:|")
    for (engine, kind), each in found.items():
        scores = np.array(each.dice)
        means = ", ".join(f"{mean:.5f}" for mean in np.nanmean(scores, axis=0))
        change = np.nanmax(np.abs(scores - usual))
        told = f"{np.nanmean(scores):.5f} | {means} | {change:.5f} | {each.differing} | {each.clear}"
        print(f"| {engine}, {kind} | {told} | {each.seconds:.1f} s |")


def loaded(model: Path, engine: Any, precision: Any) -> Predictor:
    """The model, computed so."""
    return Predictor.load(model, "cpu", options=PredictOptions(engine=engine, precision=precision))


def held_out(dataset: Path, most: int) -> Iterator[tuple[Any, Any]]:
    """Yield images and labels of the cases that the first fold holds out."""
    cases = {case.name: case for case in read_dataset(dataset).training}
    for name in make_folds(sorted(cases))[0].validation[:most]:
        case = cases[name]
        yield read_volume(case.images, name), read_labels(case.label).data


def dice(a: Any, b: Any) -> float:
    """Overlap of two masks; NaN where both are empty."""
    together = a.sum() + b.sum()
    return float(2 * (a & b).sum() / together) if together else float("nan")


if __name__ == "__main__":
    main()
