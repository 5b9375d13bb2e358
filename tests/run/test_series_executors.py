"""A series of models on several devices, on executors of other kinds, and in several processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from made_up import ALL, ANEW, EMPTY, Lines, planned, prepared
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.progress import Silent
from nnunet_rs.core.worker import LostError, Message, Result
from nnunet_rs.model.options import Model, TrainOptions
from nnunet_rs.model.recipe import FAST
from nnunet_rs.run import local, queue
from nnunet_rs.run.executor import Done, Event, Handle, Job, Lost, Resources
from nnunet_rs.run.one_model import ModelOptions
from nnunet_rs.run.queue import ModelOutcome
from nnunet_rs.run.series import train_series


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return planned(tmp_path)


@pytest.fixture
def small(raw_dataset, tmp_path: Path) -> Path:
    return prepared(raw_dataset(cases=5), tmp_path)


class Hands:
    """In place of `Worker`: processes that need no time; what they train is written down."""

    log: list[tuple[Model, str, int | None]] = []  # noqa: RUF012
    failing: dict[Model, str] = {}  # noqa: RUF012
    together: set[int] = set()  # noqa: RUF012

    def __init__(self, model: Model) -> None:
        self.model, self.messages = model, [Message("a line"), Result(ModelOutcome(model, "trained", EMPTY))]

    @classmethod
    def start(cls, function: Any, work: Path, model: Model, options: ModelOptions, resources: Resources) -> Hands:
        cls.log.append((model, resources.device, resources.threads))
        return cls(model)

    @staticmethod
    def audible(workers: Any, seconds: float) -> tuple[Hands, ...]:
        Hands.together.add(len(workers))
        return tuple(workers)[-1:]

    def receive(self) -> Message | Result:
        if self.model in self.failing:
            raise LostError(self.failing[self.model])
        return self.messages.pop(0)

    def kill(self) -> None:
        raise AssertionError("nothing should be left")


def test_no_process_is_begun_for_what_is_there(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "Worker", Hands)
    monkeypatch.setattr(queue, "_finished", lambda work, model: EMPTY if model in ALL[:-1] else None)
    monkeypatch.setattr(queue, "require_same_training", lambda *_: None)
    Hands.log, Hands.failing = [], {}
    outcomes = train_series(work, ALL, ModelOptions(TrainOptions(resume=True)), ("cpu", "cpu"))
    assert [outcome.state for outcome in outcomes] == ["done"] * 5 + ["trained"]
    assert [model for model, *_ in Hands.log] == [ALL[-1]]


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
        assert sum(f"{title} (planned batches): 3 in" in text for text in said) == 1  # two, and two of half the voxels
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
