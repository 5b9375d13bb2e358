"""One model with what comes before and after its training; trainings are as short as can be."""

from __future__ import annotations

import json
import shutil
from dataclasses import astuple, replace
from pathlib import Path

import pytest
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.locks import HeldError, exclusive
from nnunet_rs.core.progress import Silent
from nnunet_rs.core.workspace import ModelFolder, WorkFolder
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


def test_scoring_may_come_later(made: tuple[Path, Path]) -> None:
    """Without scores nothing is predicted, the scans need not be there, and no time is kept for it."""
    root, work = made
    told: list[str] = []
    told_to = SimpleProgress(told)
    shutil.move(root, root.with_name("elsewhere"))
    timed = replace(BRIEF, training=replace(BRIEF.training, time_budget=60.0), score=False)
    done = train_model(work, MODEL, timed, told_to)
    folder = WorkFolder(work).model(*astuple(MODEL))
    assert done.training.finished
    assert done.summary is None
    assert folder.is_finished()
    assert not folder.validation_folder.exists()
    assert "the held-out cases are not scored, as asked for; train --resume scores them" in told
    assert not any("predicting and scoring" in line for line in told)
    shutil.move(root.with_name("elsewhere"), root)
    weights = folder.weights_file.read_bytes()
    scored = train_model(work, MODEL, replace(BRIEF, training=replace(BRIEF.training, resume=True)), told_to)
    assert scored.summary is not None
    assert [case.name for case in scored.summary.cases] == [path.name[:6] for path in _segmentations(folder)]
    assert folder.weights_file.read_bytes() == weights


def test_classes_that_a_case_is_not_annotated_for_are_not_scored(raw_dataset, tmp_path: Path) -> None:
    root = raw_dataset(cases=5)
    held_out = "case_4"
    import nibabel
    import numpy as np

    path = root / "labelsTr" / f"{held_out}.nii.gz"
    image = nibabel.load(path)
    data = np.asarray(image.dataobj)
    nibabel.save(nibabel.Nifti1Image(np.where(data == 2, 1, data).astype(np.uint8), image.affine), path)
    content = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**content, "annotated_labels": {held_out: ["large"]}}))
    work = tmp_path / "work"
    prepare_dataset(read_dataset(root), work, SMALL)
    (work / "splits.json").write_text(json.dumps([{"train": ["case_0", "case_1"], "val": ["case_3", held_out]}]))
    summary = train_model(work, MODEL, BRIEF).summary
    assert summary is not None
    assert np.isnan(summary.values("dice")).tolist() == [[False, False], [False, True]]
    assert summary.known("dice").tolist() == [2, 1]


class SimpleProgress(Silent):
    """Remembers what is said."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def say(self, text: str) -> None:
        self.lines.append(text)


def _segmentations(folder: ModelFolder) -> list[Path]:
    return sorted(folder.validation_folder.glob("*.nii.gz"))
