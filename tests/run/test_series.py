"""The order of models, what a failure does to others, and what is not done again; trainings themselves are made up."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up import ALL, ANEW, EMPTY, MadeUp, models, planned, states
from nnunet_rs.core.errors import CheckpointError, DatasetError, TrainingError
from nnunet_rs.core.locks import HeldError
from nnunet_rs.evaluate.scores import METRICS, Score, Target
from nnunet_rs.evaluate.summary import CaseScores, Summary
from nnunet_rs.model.history import History
from nnunet_rs.model.options import Model, TrainOptions, TrainResult
from nnunet_rs.run import queue, series
from nnunet_rs.run.jobs import jobs_of
from nnunet_rs.run.one_model import ModelOptions, Trained
from nnunet_rs.run.queue import ModelOutcome
from nnunet_rs.run.series import every_model, outcomes_table, train_series


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return planned(tmp_path)


def test_first_stages_first_second_stages_last(work: Path) -> None:
    assert every_model(work) == ALL
    assert every_model(work, "3d_fullres") == models("f0", "f1")
    (work / "prepared" / "3d_lowres" / "a.zip").unlink()
    with pytest.raises(DatasetError, match="3d_lowres has not been prepared; run nnunet-rs preprocess"):
        every_model(work)


def run(
    work: Path, monkeypatch: pytest.MonkeyPatch, failing: dict[Model, Any]
) -> tuple[tuple[ModelOutcome, ...], MadeUp]:
    made_up = MadeUp(failing)
    monkeypatch.setattr(series, "train_model", made_up)
    return train_series(work, ALL, ANEW, ("cpu",)), made_up


def test_one_after_another(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes, made_up = run(work, monkeypatch, {})
    assert made_up.calls == [(model, "cpu") for model in ALL]
    assert set(states(outcomes).values()) == {"trained"}


def test_others_go_on_but_not_what_builds_on_a_failure(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = models("l1", "f0")
    failing = {lost[0]: TrainingError("the loss is nan"), lost[1]: ZeroDivisionError("a bug")}
    outcomes, made_up = run(work, monkeypatch, failing)
    assert [model for model, _ in made_up.calls] == list(models("l0", "l1", "f0", "f1"))
    found = {outcome.model: (outcome.state, outcome.reason) for outcome in outcomes}
    assert found == {
        **dict.fromkeys(models("l0", "f1"), ("trained", "")),
        lost[0]: ("failed", "the loss is nan"),
        lost[1]: ("failed", "ZeroDivisionError: a bug"),
        **dict.fromkeys(models("c0", "c1"), ("skipped", "needs 3d_lowres, fold 1")),
    }
    table = "\n".join(outcomes_table(outcomes).lines())
    assert table.count("failed") == table.count("not begun") == 2


def test_the_mean_of_a_configuration_is_over_all_cases() -> None:
    """Three cases of one fold and one of another: not the mean of two means."""
    target, score = Target("1", "large", (1,)), Score(**dict.fromkeys(METRICS, 0))
    folds = [Summary((target,), tuple(CaseScores(str(d), "", "", (replace(score, dice=d),)) for d in each), None)
             for each in ((0.9, 0.9, 0.9), (0.1,))]  # fmt: skip
    outcomes = [ModelOutcome(Model("2d", fold), "trained", summary) for fold, summary in enumerate(folds)]
    assert outcomes_table(outcomes).rows[-1][:2] == ("2d, mean", "0.700")


def test_a_signal_ends_the_series(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes, _ = run(work, monkeypatch, {ALL[1]: signal.SIGTERM})
    assert [outcome.state for outcome in outcomes] == ["trained", "stopped", *["skipped"] * 4]


def test_what_is_trained_and_scored_is_not_done_again(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = work / "models" / "3d_lowres" / "fold_0"
    EMPTY.write(folder / "validation" / "summary.json")
    (folder / "model.json").touch()
    os.utime(folder / "model.json", (0, 0))
    monkeypatch.setattr(queue, "require_same_training", lambda *_: None)
    made_up = MadeUp({})
    monkeypatch.setattr(series, "train_model", made_up)
    resuming = ModelOptions(TrainOptions(resume=True))
    assert [outcome.state for outcome in train_series(work, ALL[:2], resuming)] == ["done", "trained"]
    os.utime(folder / "model.json")
    later = time.time() + 10
    os.utime(folder / "model.json", (later, later))  # trained again, not yet scored
    assert [outcome.state for outcome in train_series(work, ALL[:2], resuming)] == ["trained", "trained"]
    with pytest.raises(CheckpointError, match=r"fold_0: is trained already; --resume keeps .* --fresh trains all anew"):
        train_series(work, ALL[:2], ANEW)
    fresh = ModelOptions(TrainOptions(fresh=True))
    assert [outcome.state for outcome in train_series(work, ALL[:2], fresh)] == ["trained", "trained"]


def test_how_many_epochs_are_planned_is_noted_of_what_is_not_begun(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = work / "models" / "3d_lowres" / "fold_0"
    EMPTY.write(folder / "validation" / "summary.json")
    (folder / "model.json").touch()
    os.utime(folder / "model.json", (0, 0))
    monkeypatch.setattr(queue, "require_same_training", lambda *_: None)
    monkeypatch.setattr(series, "train_model", MadeUp({}))
    train_series(work, ALL[:2], ModelOptions(TrainOptions(resume=True, epochs=5)))
    train_series(work, ALL[:2], ModelOptions(TrainOptions(resume=True, oversample_foreground=2)))  # is refused
    assert [(job.name, job.epochs) for job in jobs_of(work / "jobs")] == [(str(ALL[1]), 5)]


def test_a_model_of_other_options_is_told(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unlike(*_: object) -> None:
        raise CheckpointError("was trained with --recipe fast (now v2)")

    monkeypatch.setattr(queue, "_finished", lambda _, model: EMPTY if model == ALL[0] else None)
    monkeypatch.setattr(queue, "require_same_training", unlike)
    monkeypatch.setattr(series, "train_model", MadeUp({}))
    outcomes = train_series(work, ALL[:2], ModelOptions(TrainOptions(resume=True)))
    assert [(o.state, o.reason) for o in outcomes] == [
        ("failed", "was trained with --recipe fast (now v2)"), ("trained", ""),
    ]  # fmt: skip


class Busy(MadeUp):
    """The first model is trained by another process, which leaves it after a number of looks."""

    def __init__(self, folder: Path, looks: int, finished: bool) -> None:
        super().__init__({})
        self.folder, self.looks, self.finished = folder, looks, finished

    def __call__(self, work: Path, model: Model, options: ModelOptions, *more: object) -> Trained:
        if model == ALL[0] and self.looks:
            raise HeldError("training (process 7 on there) is at work there")
        return super().__call__(work, model, options, *more)

    def is_held(self, _folder: Path) -> bool:
        self.looks -= 1
        if not self.looks and self.finished:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "model.json").touch()
        return self.looks > 0


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("resume", [True, False])
def test_what_another_process_trains_is_left_to_it(
    work: Path, monkeypatch: pytest.MonkeyPatch, finished: bool, resume: bool
) -> None:
    """Others come first; then it is there, or taken over; what builds on it waits."""
    folder = work / "models" / "3d_lowres" / "fold_0"
    busy = Busy(folder, 3, finished)
    monkeypatch.setattr(series, "train_model", busy)
    monkeypatch.setattr(series, "PATIENCE", 0.0)
    monkeypatch.setattr(queue, "LOOK", 0.0)
    monkeypatch.setattr(queue, "is_held", busy.is_held)
    monkeypatch.setattr(queue, "require_same_training", lambda *_: None)
    monkeypatch.setattr(
        queue,
        "_finished",
        lambda _, model: EMPTY if model == ALL[0] and (folder / "model.json").exists() else None,
    )
    outcomes = train_series(work, ALL, ModelOptions(TrainOptions(resume=resume)), ("cpu",))
    first = [] if finished else [ALL[0]]
    assert [model for model, _ in busy.calls] == [*ALL[1:4], *first, *ALL[4:]]
    assert outcomes[0].state == ("done" if finished else "trained")
    assert {outcome.state for outcome in outcomes[1:]} == {"trained"}


def test_going_on_is_asked_for_only_where_something_began(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def train(_work: Path, model: Model, options: ModelOptions, *_: object) -> Trained:
        asked[model] = options.training.resume
        return Trained(TrainResult(work, History(("large",)), 1.0, True, None), EMPTY)

    monkeypatch.setattr(series, "train_model", train)
    for model, file in zip(ALL[:2], ("resume.safetensors", "model.json"), strict=True):
        folder = work / "models" / model.configuration / f"fold_{model.fold}"
        folder.mkdir(parents=True)
        (folder / file).touch()
    train_series(work, ALL[:3], ModelOptions(TrainOptions(resume=True)))
    assert asked == dict(zip(ALL, (True, True, False), strict=False))
