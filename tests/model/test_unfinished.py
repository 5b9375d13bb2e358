from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.workspace import CHECKPOINT
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.recipe import FAST
from nnunet_rs.model.staleness import staleness
from nnunet_rs.model.train import train_fold
from nnunet_rs.model.unfinished import load_unfinished
from nnunet_rs.plan.files import read_plan, write_plan

SHORT = TrainOptions(
    recipe=FAST, epochs=3, batches=2, validation_batches=1, augmentation="none", device="cpu", precision="float32",
    threads=1, features=6, batch_size=1,
)  # fmt: skip


@pytest.fixture
def begun(work: Path) -> Path:
    """The folder of a training that was stopped, with a checkpoint."""
    with pytest.raises(RuntimeError):
        train_fold(work, "3d_fullres", 0, SHORT, on_epoch=_stop_in_the_second)
    return work / "models" / "3d_fullres" / "fold_0"


def _stop_in_the_second(history: object) -> None:
    if len(history.epochs) == 2:  # type: ignore[attr-defined]
        raise RuntimeError("stopped by the test")


def test_the_last_checkpoint_predicts(begun: Path) -> None:
    network, metadata = load_unfinished(begun)
    assert (metadata.configuration, metadata.fold, metadata.mirror_axes) == ("3d_fullres", 0, ())
    assert metadata.plan_configuration.features[0] == 6
    assert metadata.orientations == {"RAS": 4}
    assert metadata.unfinished == "1 epochs of 3"
    assert network(torch.zeros(1, 1, *metadata.plan_configuration.patch_size)).shape[:2] == (1, 3)


def test_another_plan_or_no_checkpoint_is_refused(begun: Path) -> None:
    path = begun.parents[2] / "plan.json"
    plan = read_plan(path)
    settings = replace(plan.configurations["3d_fullres"], spacing=(3.0, 1.0, 1.0))
    write_plan(path, replace(plan, configurations={**plan.configurations, "3d_fullres": settings}))
    with pytest.raises(CheckpointError, match=r"plan\.json has been edited since this training began"):
        load_unfinished(begun)
    (begun / CHECKPOINT).unlink()
    with pytest.raises(CheckpointError, match="no such file; there is no unfinished training"):
        load_unfinished(begun)


def test_the_plan_is_found_however_the_folder_is_named(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(begun.parent)
    assert load_unfinished(Path("fold_0"))[1].fold == 0
    assert staleness([Path("fold_0")]) == ()


def test_a_copy_outside_of_the_work_folder_is_refused(begun: Path, tmp_path: Path) -> None:
    copy = begun.rename(tmp_path / "fold_0")
    with pytest.raises(CheckpointError, match="lies in no work folder, whose plan it needs"):
        load_unfinished(copy)
