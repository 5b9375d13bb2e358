"""Work folders at every stage, made without training: models' files are written as training writes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.io import read_labels, write_labels
from nnunet_rs.core.types import Case, Dataset
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.data.pipeline import PrepareOptions, plan_dataset, prepare_dataset
from nnunet_rs.evaluate.folders import evaluate_pairs
from nnunet_rs.model.checkpoint import save_model
from nnunet_rs.model.config import usual_config
from nnunet_rs.model.history import Epoch, History
from nnunet_rs.model.metadata import ModelMetadata
from nnunet_rs.model.recipe import FAST
from nnunet_rs.plan.files import read_plan
from nnunet_rs.plan.planner import PlanOverrides
from nnunet_rs.select.cross_validation import pairs_of, validation_cases

OVERRIDES = PlanOverrides(0.02, features=4)


@dataclass(frozen=True)
class Maker:
    """Makes a work folder stage by stage."""

    dataset: Dataset
    work: Path

    def planned(self) -> Path:
        plan_dataset(self.dataset, self.work, PrepareOptions(overrides=OVERRIDES))
        return self.work

    def prepared(self) -> Path:
        prepare_dataset(self.dataset, self.work, PrepareOptions(overrides=OVERRIDES, threads=1))
        return self.work

    def training(self, configuration: str, fold: int, *, epochs: int = 4, finished: bool = True) -> Path:
        """Write what a training leaves: its history and, if it finished, its model."""
        folder = self.work / "models" / configuration / f"fold_{fold}"
        plan = read_plan(self.work / "plan.json")
        history = History(plan.labels.names[1:], tuple(epoch(number) for number in range(epochs)))
        history.write(folder / "metrics.jsonl")
        if finished:
            metadata = ModelMetadata(
                plan=plan,
                configuration=configuration,
                fold=fold,
                config=replace(usual_config(plan.recipe, plan.configurations[configuration], FAST), seed=7),
                iterations=10 * epochs,
                end=history.epochs[-1],
                best=history.best,
            )
            save_model(folder, {"weight": torch.full((2,), float(fold))}, metadata)
        return folder

    def validation(self, configuration: str, fold: int) -> Path:
        """Write predictions that are the reference, eroded the more the later the case, and their scores."""
        folder, dataset = WorkFolder(self.work).model(configuration, fold).validation_folder, read_dataset(self.work)
        cases = validation_cases(self.work, dataset, fold)
        for case in cases:
            self.predict(case, folder)
        evaluate_pairs(pairs_of(cases, folder), dataset.labels).write(folder / "summary.json")
        return folder

    def predict(self, case: Case, folder: Path) -> None:
        assert case.label is not None
        truth = read_labels(case.label)
        found = truth.data.copy()
        found[:, :, : 6 + 2 * int(case.name[-1])] = 0
        write_labels(folder / f"{case.name}.nii.gz", found, truth.header)

    def trained(self, configuration: str = "3d_fullres", folds: tuple[int, ...] = (0, 1)) -> Path:
        self.prepared()
        for fold in folds:
            self.training(configuration, fold)
            self.validation(configuration, fold)
        return self.work


def epoch(number: int) -> Epoch:
    dice = (0.5 + 0.1 * number, None if number == 0 else 0.4)
    return Epoch(number, 10 * (number + 1), 1 / (number + 1), 1.1 / (number + 1), dice, 0.01, 60.0, 6.0, 50.0, 4.0)


@pytest.fixture
def maker(write_raw: Callable[..., Path], tmp_path: Path) -> Callable[..., Maker]:
    """`maker(cases=5, ...)`: a work folder in the making, of a made-up data set; arguments as `raw_dataset`."""
    return partial(_make, write_raw, tmp_path)


@pytest.fixture(scope="module")
def module_maker(write_raw: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Maker]:
    """The same, for a folder that a whole module reads."""
    return partial(_make, write_raw, tmp_path_factory.mktemp("made"))


def _make(write_raw: Callable[..., Path], folder: Path, cases: int = 5, **arguments: Any) -> Maker:
    root = write_raw(folder / "Dataset001_Made", cases=cases, **arguments)
    return Maker(read_dataset(root), folder / "work")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
