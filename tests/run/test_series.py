"""The order of models, what a failure does to others, and what is not done again; trainings themselves are made up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.errors import CheckpointError, DatasetError, NnunetError, TrainingError
from nnunet_rs.core.locks import HeldError, exclusive
from nnunet_rs.core.progress import Silent
from nnunet_rs.core.types import LabelSet
from nnunet_rs.core.worker import LostError, Result, Said
from nnunet_rs.data.pipeline import PrepareOptions, prepare_dataset
from nnunet_rs.evaluate.scores import METRICS, Score, Target
from nnunet_rs.evaluate.summary import CaseScores, Summary
from nnunet_rs.model.history import History
from nnunet_rs.model.options import Model, TrainOptions, TrainResult
from nnunet_rs.model.recipe import FAST
from nnunet_rs.plan.files import write_plan
from nnunet_rs.plan.planner import PlanOverrides
from nnunet_rs.plan.schema import Configuration, Normalization, Plan
from nnunet_rs.run import local, queue, series
from nnunet_rs.run.executor import Done, Event, Handle, Job, Lost, Resources
from nnunet_rs.run.one_model import ModelOptions, Trained
from nnunet_rs.run.queue import Outcome
from nnunet_rs.run.series import every_model, outcomes_table, train_series

ANEW = ModelOptions(TrainOptions())
EMPTY = Summary((Target("1", "large", (1,)),), (), None)


@pytest.fixture
def work(tmp_path: Path) -> Path:
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
        tmp_path / "plan.json",
        Plan("made up", "paper", (0, 1, 2), ("MR",), labels, rule, {c.name: c for c in configurations}),
    )
    (tmp_path / "splits.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}]))
    for name in ("3d_fullres", "3d_lowres"):
        (tmp_path / "prepared" / name).mkdir(parents=True)
        (tmp_path / "prepared" / name / "a.zip").touch()
    return tmp_path


def models(*short: str) -> tuple[Model, ...]:
    names = {"l": "3d_lowres", "f": "3d_fullres", "c": "3d_cascade_fullres"}
    return tuple(Model(names[text[0]], int(text[1])) for text in short)


ALL = models("l0", "l1", "f0", "f1", "c0", "c1")


def test_first_stages_first_second_stages_last(work: Path) -> None:
    assert every_model(work) == ALL
    assert every_model(work, "3d_fullres") == models("f0", "f1")
    (work / "prepared" / "3d_lowres" / "a.zip").unlink()
    with pytest.raises(DatasetError, match="3d_lowres has not been prepared; run nnunet-rs preprocess"):
        every_model(work)


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


def states(outcomes: tuple[Outcome, ...]) -> dict[Model, str]:
    return {outcome.model: outcome.state for outcome in outcomes}


def run(work: Path, monkeypatch: pytest.MonkeyPatch, failing: dict[Model, Any]) -> tuple[tuple[Outcome, ...], MadeUp]:
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
    outcomes = [Outcome(Model("2d", fold), "trained", summary) for fold, summary in enumerate(folds)]
    assert outcomes_table(outcomes).rows[-1][:2] == ("2d, mean", "0.700")


def test_a_signal_ends_the_series(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes, _ = run(work, monkeypatch, {ALL[1]: signal.SIGTERM})
    assert [outcome.state for outcome in outcomes] == ["trained", "stopped", *["skipped"] * 4]


def test_what_is_trained_and_scored_is_not_done_again(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = work / "models" / "3d_lowres" / "fold_0"
    EMPTY.write(folder / "validation" / "summary.json")
    (folder / "model.json").touch()
    os.utime(folder / "model.json", (0, 0))
    monkeypatch.setattr(queue, "tell_unlike", lambda *_: None)
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


def test_a_model_of_other_options_is_told(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unlike(*_: object) -> None:
        raise CheckpointError("was trained with --recipe fast (now v2)")

    monkeypatch.setattr(queue, "_finished", lambda _, model: EMPTY if model == ALL[0] else None)
    monkeypatch.setattr(queue, "tell_unlike", unlike)
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
    monkeypatch.setattr(queue, "_is_held", busy.is_held)
    monkeypatch.setattr(queue, "tell_unlike", lambda *_: None)
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


def test_who_holds_a_folder_is_seen(tmp_path: Path) -> None:
    with exclusive(tmp_path / "fold_0", "training"):
        assert queue._is_held(tmp_path / "fold_0")
    assert not queue._is_held(tmp_path / "fold_0")


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


def test_no_process_is_begun_for_what_is_there(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "Worker", Hands)
    monkeypatch.setattr(queue, "_finished", lambda work, model: EMPTY if model in ALL[:-1] else None)
    monkeypatch.setattr(queue, "tell_unlike", lambda *_: None)
    Hands.log, Hands.failing = [], {}
    outcomes = train_series(work, ALL, ModelOptions(TrainOptions(resume=True)), ("cpu", "cpu"))
    assert [outcome.state for outcome in outcomes] == ["done"] * 5 + ["trained"]
    assert [model for model, *_ in Hands.log] == [ALL[-1]]


class Hands:
    """In place of `Worker`: processes that need no time; what they train is written down."""

    log: list[tuple[Model, str, int | None]] = []  # noqa: RUF012
    failing: dict[Model, str] = {}  # noqa: RUF012
    together: set[int] = set()  # noqa: RUF012

    def __init__(self, model: Model) -> None:
        self.model, self.messages = model, [Said("a line"), Result(Outcome(model, "trained", EMPTY))]

    @classmethod
    def start(cls, function: Any, work: Path, model: Model, options: ModelOptions, resources: Resources) -> Hands:
        cls.log.append((model, resources.device, resources.threads))
        return cls(model)

    @staticmethod
    def audible(workers: Any, seconds: float) -> tuple[Hands, ...]:
        Hands.together.add(len(workers))
        return tuple(workers)[-1:]

    def receive(self) -> Said | Result:
        if self.model in self.failing:
            raise LostError(self.failing[self.model])
        return self.messages.pop(0)

    def kill(self) -> None:
        raise AssertionError("nothing should be left")


def test_every_device_is_kept_busy(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "Worker", Hands)
    monkeypatch.setattr(local, "processors", lambda: 8)
    Hands.log, Hands.together, Hands.failing = [], set(), {ALL[3]: "its process was ended by SIGKILL"}
    devices = ("cuda:0", "cuda:1", "cuda:2")
    outcomes = train_series(work, ALL, ANEW, devices)
    assert Hands.together == {1, 2, 3}
    assert [entry[:2] for entry in Hands.log[:3]] == list(zip(ALL[:3], devices, strict=True))
    assert {threads for *_, threads in Hands.log} == {2}
    # Second stages wait until both first stages are there.
    assert [model for model, *_ in Hands.log[-2:]] == list(ALL[-2:])
    assert [outcome.state for outcome in outcomes] == ["trained"] * 3 + ["failed"] + ["trained"] * 2
    assert outcomes[3].reason == "its process was ended by SIGKILL"


class Cluster:
    """An executor of another kind: it takes all that can begin, and runs it in a thread, the last one first."""

    in_process = False
    free = 100

    def __init__(self, lost: str = "", retries: int = 0, outlives: bool = False) -> None:
        self.retries, self.outlives = retries, outlives
        self.lost, self.pool, self.futures = lost, ThreadPoolExecutor(1), {}
        self.cancelled: list[str] = []
        self.closed = False

    @property
    def handles(self) -> tuple[Handle, ...]:
        return tuple(self.futures)

    def submit(self, job: Job) -> Handle:
        handle = Handle(job, f"job {len(self.futures)}")
        self.futures[handle] = None
        return handle

    def wait(self, seconds: float) -> tuple[Event, ...]:
        handle, _ = self.futures.popitem()
        if handle.job.name == self.lost:
            return (Lost(handle, "its node is gone"),)
        job = handle.job
        return (Done(handle, self.pool.submit(job.function, *job.arguments, Resources("cpu", 1), Silent()).result()),)

    def cancel(self, handle: Handle) -> None:
        self.cancelled.append(handle.job.name)

    def close(self) -> None:
        self.closed = True
        self.pool.shutdown()


def test_an_executor_of_ones_own_trains_a_series(small: Path) -> None:
    """Nothing but the executor itself is written for it: real models are trained by it."""
    options = ModelOptions(TrainOptions(recipe=FAST, epochs=1, batches=1))
    cluster, console = Cluster(lost="3d_fullres, fold 0"), Lines()
    outcomes = train_series(
        small, [Model("3d_fullres", fold) for fold in (0, 1)], options, progress=console, executor=cluster
    )
    assert [(outcome.state, outcome.reason) for outcome in outcomes] == [
        ("failed", "its node is gone"),
        ("trained", ""),
    ]
    assert (small / "models" / "3d_fullres" / "fold_1" / "model.json").is_file()
    assert outcomes[1].summary is not None
    assert "3d_fullres, fold 1 (2 of 2), on job 1" in console.said
    assert cluster.closed


def test_a_job_that_is_lost_is_begun_again_as_often_as_the_executor_says(small: Path) -> None:
    class Flaky(Cluster):
        def wait(self, seconds: float) -> tuple[Event, ...]:
            events = super().wait(seconds)
            self.lost = ""  # the second try goes well
            return events

    options = ModelOptions(TrainOptions(recipe=FAST, epochs=1, batches=1))
    console, model = Lines(), Model("3d_fullres", 0)
    (outcome,) = train_series(small, [model], options, progress=console, executor=Flaky(lost=str(model), retries=1))
    assert outcome.state == "trained"
    assert f"{model}: its node is gone; begun again, from its last checkpoint" in console.said
    (outcome,) = train_series(
        small, [Model("3d_fullres", 1)], options, executor=Cluster(lost="3d_fullres, fold 1", retries=2)
    )
    assert (outcome.state, outcome.reason) == ("failed", "its node is gone")


def test_jobs_that_outlive_this_process_are_left_when_it_is_to_stop(small: Path) -> None:
    class Slow(Cluster):
        def wait(self, seconds: float) -> tuple[Event, ...]:
            signal.raise_signal(signal.SIGINT)
            return ()

    cluster, model = Slow(outlives=True), Model("3d_fullres", 0)
    (outcome,) = train_series(small, [model], ANEW, executor=cluster)
    assert (outcome.state, outcome.reason) == ("held", "it goes on as job 0")
    assert (cluster.cancelled, cluster.closed) == ([], True)


def test_what_cannot_be_submitted_ends_the_series_and_closes_the_executor(work: Path) -> None:
    class Full(Cluster):
        def submit(self, job: Job) -> Handle:
            raise NnunetError("there is no partition gpu")

    cluster = Full()
    with pytest.raises(NnunetError, match="no partition gpu"):
        train_series(work, ALL, ANEW, executor=cluster)
    assert cluster.closed


def test_a_request_to_stop_reaches_every_job(work: Path) -> None:
    """All that run are asked; what has not begun does not begin."""

    class Stopped(Cluster):
        def wait(self, seconds: float) -> tuple[Event, ...]:
            if not self.cancelled:
                signal.raise_signal(signal.SIGTERM)
                return ()
            return (Lost(self.futures.popitem()[0], "SIGTERM"),)

    cluster = Stopped()
    outcomes = train_series(work, ALL, ANEW, executor=cluster)
    assert set(cluster.cancelled) == {str(model) for model in ALL[:4]}
    assert [outcome.state for outcome in outcomes] == ["stopped"] * 4 + ["skipped"] * 2


ALONE = "import sys; from nnunet_rs.cli import main; raise SystemExit(main(sys.argv[1:]))"


def begun(work: Path, *more: str) -> subprocess.Popen[str]:
    """Begin `train --all` in a process of its own."""
    options = ["-c", "3d_fullres", "--recipe", "fast", "--batches", "2", "--device", "cpu", "-j", "1", *more]
    command = [sys.executable, "-c", ALONE, "train", str(work), "--all", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def small(raw_dataset, tmp_path: Path) -> Path:
    """A work folder with one configuration, prepared, and five folds."""
    dataset, made = read_dataset(raw_dataset(cases=5)), tmp_path / "made"
    overrides = PlanOverrides(0.02, features=3)
    prepare_dataset(dataset, made, PrepareOptions(overrides=overrides, configurations=("3d_fullres",), threads=1))
    return made


@pytest.mark.slow
def test_two_processes_share_the_models_of_a_work_folder(small: Path) -> None:
    """Each model is trained once, by one of them."""
    both = [begun(small, "--epochs", "2") for _ in range(2)]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    folders = sorted((small / "models" / "3d_fullres").iterdir())
    assert len(folders) == 5
    for folder in folders:
        title = f"{folder.parent.name}, {folder.name.replace('_', ' ')}"
        assert sum(f"{title} (batches): 4 in" in text for text in said) == 1
        assert (folder / "validation" / "summary.json").is_file()
        assert not [*folder.glob("previous_*"), *folder.glob("resume*"), *folder.glob(".tmp*")]


@pytest.mark.slow
def test_what_a_killed_process_trained_is_taken_over(small: Path) -> None:
    """The other process waits for its model, and goes on with it when the system lets go of the lock."""
    folder = small / "models" / "3d_fullres"
    first, checkpoint = begun(small, "--epochs", "10000"), folder / "fold_0" / "resume.safetensors"
    try:
        while not checkpoint.is_file() and first.poll() is None:
            time.sleep(0.05)
        other = begun(small, "--epochs", "4")
        while not (folder / "fold_1" / ".lock").is_file() and other.poll() is None:
            time.sleep(0.05)
    finally:
        first.kill()
        first.communicate()
    said = other.communicate(timeout=300)[1]
    assert other.returncode == 0, said
    assert "3d_fullres, fold 0: left to another process" in said
    assert "resuming at epoch" in said
    assert sorted(path.parent.name for path in folder.glob("*/model.json")) == [f"fold_{k}" for k in range(5)]
