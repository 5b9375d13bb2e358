"""More epochs on top of a finished model, which stays until they are done; the best epoch beside the last one."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunet_rs.core.errors import CheckpointError, PlanError
from nnunet_rs.core.workspace import ModelFolder, WorkFolder
from nnunet_rs.model.history import History
from nnunet_rs.model.metadata import read_metadata
from nnunet_rs.model.nnunet_models import BEST, NnunetChoice
from nnunet_rs.model.options import TrainOptions, TrainResult
from nnunet_rs.model.previous_models import take_next_cycle
from nnunet_rs.model.train import train_fold
from nnunet_rs.model.trained_models import find_models
from trainings import SHORT, weights

NAME = "3d_fullres"
CLASSES = ("large", "small")


def train(work: Path, fold: int = 0, stop_after: int = 0, **options: Any) -> TrainResult:
    def stop(history: History) -> None:
        if len(history.epochs) == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    return train_fold(work, NAME, fold, replace(SHORT, **options), on_epoch=stop)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def fold(work: Path) -> ModelFolder:
    """A finished model."""
    train(work)
    return WorkFolder(work).model(NAME, 0)


def test_a_new_cycle_begins_with_the_weights_and_the_whole_rate(work: Path, fold: ModelFolder) -> None:
    first = weights(fold.path)
    seen: list[bool] = []

    def look(history: History) -> None:  # while it is under way the finished model is there, untouched
        seen.append(fold.is_finished() and not fold.has_checkpoint() and same(weights(fold.path), first))
        assert len(History.read(fold.metrics_file, CLASSES).epochs) == 2

    options = replace(SHORT, recipe=None, epochs=3, batches=None, new_cycle=True, seed=None)
    result = train_fold(work, NAME, 0, options, on_epoch=look)
    assert seen == [True, True, True]
    assert result.finished
    assert result.folder == fold.path
    metadata = read_metadata(fold.path)
    assert metadata.config.iterations_before == 8  # augmentation goes by all of them
    assert (metadata.config.cycle, metadata.config.epochs, metadata.config.batches) == (2, 3, 4)
    assert metadata.iterations == 12
    assert len(History.read(fold.metrics_file, CLASSES).epochs) == 3
    assert result.history.epochs[0].learning_rate > 0.001  # a cycle of its own
    assert not same(weights(fold.path), first)
    assert same(weights(fold.path / "previous_1"), first)
    assert read_metadata(fold.path / "previous_1").config.cycle == 1
    assert not fold.next_cycle.path.exists()


def test_the_first_iteration_continues_where_the_model_is(work: Path, fold: ModelFolder) -> None:
    """With a rate of almost nothing the new model is the old one."""
    first = weights(fold.path)
    train(work, new_cycle=True, learning_rate=1e-12, epochs=1, recipe=None)
    for name, value in weights(fold.path).items():
        torch.testing.assert_close(value, first[name], atol=1e-6, rtol=1e-5)


def test_an_interrupted_cycle_resumes(work: Path, fold: ModelFolder) -> None:
    first = weights(fold.path)
    stopped = train(work, new_cycle=True, epochs=3, stop_after=1)
    assert not stopped.finished
    assert same(weights(fold.path), first)
    with pytest.raises(CheckpointError, match="next: a new cycle is under way; --resume goes on with it"):
        train(work, new_cycle=True)
    resumed = train_fold(work, NAME, 0, replace(TrainOptions(device="cpu", threads=1), resume=True))
    assert resumed.finished
    assert len(resumed.history.epochs) == 3
    last = weights(fold.path)

    other = WorkFolder(work).model(NAME, 1)  # undisturbed, in another fold with the same cases and seed
    folds = json.loads((work / "splits.json").read_text())
    (work / "splits.json").write_text(json.dumps([folds[0], folds[0], folds[2]]))
    train(work, 1)
    train(work, 1, new_cycle=True, epochs=3)
    assert same(weights(other.path), last)


def test_a_cycle_that_was_there_is_not_added_again_on_resume(work: Path, fold: ModelFolder) -> None:
    train(work, new_cycle=True, epochs=3)
    stamp = fold.weights_file.stat().st_mtime_ns
    train(work, new_cycle=True, epochs=3, resume=True)
    assert fold.weights_file.stat().st_mtime_ns == stamp
    train(work, new_cycle=True, epochs=3)  # asked for anew
    assert read_metadata(fold.path).config.cycle == 3
    assert (fold.path / "previous_2").is_dir()


@pytest.mark.parametrize("moves", range(10))  # four files aside, their folder, the new one's folder, its four files
def test_a_kill_while_the_models_change_places_is_made_good(
    work: Path, fold: ModelFolder, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    first, rename, done = weights(fold.path), Path.rename, []

    def killed(self: Path, target: Path) -> Path:
        if len(done) == moves:
            raise KeyboardInterrupt
        done.append(self)
        return rename(self, target)

    def dying(model: ModelFolder) -> Path | None:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", killed)
            return take_next_cycle(model)

    with monkeypatch.context() as patch:
        patch.setattr("nnunet_rs.model.train.take_next_cycle", dying)
        with pytest.raises(KeyboardInterrupt):
            train(work, new_cycle=True, epochs=1)
    assert train_fold(work, NAME, 0, TrainOptions(resume=True)).finished
    assert read_metadata(fold.path).config.cycle == 2
    assert same(weights(fold.path / "previous_1"), first)
    assert sorted(path.name for path in fold.path.iterdir()) == [
        ".lock", "metrics.jsonl", "model.json", "patch.npz", "previous_1", "weights.safetensors",
    ]  # fmt: skip


def test_what_cannot_be_trained_further(work: Path, fold: ModelFolder) -> None:
    with pytest.raises(CheckpointError, match="fold_1: holds no finished model to train further; train it first"):
        train(work, 1, new_cycle=True)
    with pytest.raises(CheckpointError, match="new_cycle trains what is there further, fresh anew"):
        train(work, new_cycle=True, fresh=True)
    with pytest.raises(CheckpointError, match=r"--augmentation none \(now light\)"):
        train(work, new_cycle=True, augmentation="light")
    folds = json.loads((work / "splits.json").read_text())
    (work / "splits.json").write_text(json.dumps([folds[1], folds[0], folds[2]]))
    with pytest.raises(CheckpointError, match=r"was trained on other cases than splits.json says now"):
        train(work, new_cycle=True)
    assert not fold.next_cycle.has_checkpoint()


# ---- the best epoch --------------------------------------------------------------------------------------------------


def test_the_best_epoch_is_kept_beside_the_last(work: Path) -> None:
    result = train(work, keep_best=True, epochs=6, learning_rate=0.05, batches=20)
    fold = WorkFolder(work).model(NAME, 0)
    best = result.history.best
    assert best is not None
    kept = read_metadata(fold.best.path)
    assert (kept.end, kept.iterations) == (best, best.iterations)
    assert fold.best.fold == 0
    assert fold.best.configuration == NAME
    assert fold.best.work == WorkFolder(work)
    assert same(weights(fold.best.path), weights(fold.path)) is (best == result.history.epochs[-1])
    assert find_models(work, NAME, [0], NnunetChoice(checkpoint=BEST)) == (fold.best.path,)
    assert find_models(fold.path, choice=NnunetChoice(checkpoint=BEST)) == (fold.best.path,)
    assert find_models(work, NAME) == (fold.path,)


def test_the_best_epoch_is_that_of_the_undisturbed_training(work: Path) -> None:
    whole = train(work, keep_best=True, epochs=4)
    before = weights(whole.folder / "best")
    train(work, keep_best=True, epochs=4, fresh=True, stop_after=2)
    resumed = train(work, resume=True, epochs=4)  # follows the checkpoint: the best is still kept
    assert resumed.history.best is not None
    assert same(weights(resumed.folder / "best"), before)
    assert read_metadata(resumed.folder / "best").config.keep_best


def test_where_there_is_no_best(work: Path, fold: ModelFolder) -> None:
    with pytest.raises(CheckpointError, match="fold_0: the best checkpoint was not kept; train with --keep-best"):
        find_models(work, NAME, choice=NnunetChoice(checkpoint=BEST))
    with pytest.raises(CheckpointError, match=r"checkpoint 'checkpoint_latest.pth' is of models of nnU-Net's"):
        find_models(work, NAME, choice=NnunetChoice(checkpoint="checkpoint_latest.pth"))
    with pytest.raises(PlanError, match="keep best: there are no validation batches"):
        train_fold(work, NAME, "all", replace(SHORT, keep_best=True))
