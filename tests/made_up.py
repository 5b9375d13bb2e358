"""Trainings that are made up, and the models of a plan with a cascade: nothing is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.progress import Silent
from nnunet_rs.core.types import LabelSet
from nnunet_rs.data.pipeline import PrepareOptions, prepare_dataset
from nnunet_rs.evaluate.scores import Target
from nnunet_rs.evaluate.summary import Summary
from nnunet_rs.model.history import History
from nnunet_rs.model.options import Model, TrainOptions, TrainResult
from nnunet_rs.plan.files import write_plan
from nnunet_rs.plan.planner import PlanOverrides
from nnunet_rs.plan.schema import Configuration, Normalization, Plan
from nnunet_rs.run.one_model import ModelOptions, Trained
from nnunet_rs.run.queue import ModelOutcome

ANEW = ModelOptions(TrainOptions())
EMPTY = Summary((Target("1", "large", (1,)),), (), None)


def models(*short: str) -> tuple[Model, ...]:
    names = {"l": "3d_lowres", "f": "3d_fullres", "c": "3d_cascade_fullres"}
    return tuple(Model(names[text[0]], int(text[1])) for text in short)


ALL = models("l0", "l1", "f0", "f1", "c0", "c1")


class MadeUp:
    """In place of `train_model`."""

    def __init__(self, failing: dict[Model, Exception | int]) -> None:
        self.failing, self.calls = failing, []

    def __call__(self, work: Path, model: Model, options: ModelOptions, *_: object) -> Trained:
        self.calls.append((model, options.training.device))
        what = self.failing.get(model)
        if isinstance(what, Exception):
            raise what
        result = TrainResult(work, History(("large",)), 1.0, what is None, what)
        return Trained(result, EMPTY if what is None else None)


class Lines(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def states(outcomes: tuple[ModelOutcome, ...]) -> dict[Model, str]:
    return {outcome.model: outcome.state for outcome in outcomes}


def planned(folder: Path) -> Path:
    """A plan with a cascade, two folds, and something prepared for each configuration."""
    ones = ((1, 1, 1),)
    full = Configuration(
        "3d_fullres", (1.0,) * 3, (4,) * 3, 2, (4,) * 3, ones, ones, (4,), (2,), (), False, False, False,
        memory_estimate=1,
    )  # fmt: skip
    low = replace(full, name="3d_lowres", spacing=(2.0,) * 3)
    configurations = (replace(full, name="3d_cascade_fullres", previous="3d_lowres"), full, low)
    labels, rule = LabelSet(("background", "large"), (0, 1)), (Normalization("zscore", False, None),)
    write_plan(
        folder / "plan.json",
        Plan("made up", "paper", (0, 1, 2), ("MR",), labels, rule, {c.name: c for c in configurations}),
    )
    (folder / "splits.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}]))
    for name in ("3d_fullres", "3d_lowres"):
        (folder / "prepared" / name).mkdir(parents=True)
        (folder / "prepared" / name / "a.zip").touch()
    return folder


def prepared(root: Path, folder: Path) -> Path:
    """A work folder with one configuration, prepared, and five folds."""
    dataset, made = read_dataset(root), folder / "made"
    overrides = PlanOverrides(0.02, features=3)
    prepare_dataset(dataset, made, PrepareOptions(overrides=overrides, configurations=("3d_fullres",), threads=1))
    return made
