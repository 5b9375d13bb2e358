"""One model with what comes before and after its training; trainings are as short as can be."""

from __future__ import annotations

import shutil
from dataclasses import astuple
from pathlib import Path

import pytest
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.locks import HeldError, exclusive
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.data.pipeline import PrepareOptions, prepare_dataset
from nnunet_rs.model.options import Model, TrainOptions
from nnunet_rs.model.recipe import FAST
from nnunet_rs.plan.planner import PlanOverrides
from nnunet_rs.run.one_model import ModelOptions, train_model

MODEL = Model("3d_fullres", 0)
SMALL = PrepareOptions(overrides=PlanOverrides(0.02, features=3), configurations=(MODEL.configuration,))
BRIEF = ModelOptions(TrainOptions(FAST, epochs=1, batches=1, validation_batches=1, device="cpu", threads=1))


@pytest.fixture
def made(raw_dataset, tmp_path: Path) -> tuple[Path, Path]:
    """A dataset and its work folder, prepared."""
    root = raw_dataset(cases=5)
    prepare_dataset(read_dataset(root), tmp_path / "work", SMALL)
    return root, tmp_path / "work"


def test_scans_that_have_been_moved_are_told_before_the_training(made: tuple[Path, Path]) -> None:
    root, work = made
    shutil.move(root, root.with_name("elsewhere"))
    with pytest.raises(
        DatasetError, match=rf"{root}/imagesTr/case_\d_0000.nii.gz: there is no such file.*preprocess D"
    ):
        train_model(work, MODEL, BRIEF)
    folder = WorkFolder(work).model(*astuple(MODEL)).path
    assert [path.name for path in folder.iterdir()] == [".lock"]  # nothing was trained
    prepare_dataset(read_dataset(root.with_name("elsewhere")), work, SMALL)  # the way on that the message names
    assert train_model(work, MODEL, BRIEF).summary is not None


def test_a_reference_that_is_gone_is_told_as_well(made: tuple[Path, Path]) -> None:
    root, work = made
    for path in (root / "labelsTr").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r"labelsTr/case_\d.nii.gz: there is no such file"):
        train_model(work, MODEL, BRIEF)


def test_the_fold_is_locked_from_the_beginning(made: tuple[Path, Path]) -> None:
    _, work = made
    folder = WorkFolder(work).model(*astuple(MODEL)).path
    with exclusive(folder, "another job"), pytest.raises(HeldError, match="another job"):
        train_model(work, MODEL, BRIEF)
