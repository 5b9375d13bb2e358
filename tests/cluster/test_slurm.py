"""Trainings through a real SLURM: what is killed, cancelled or over its time limit ends trained, as if undisturbed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up import Lines
from nnunet_rs.cli import main
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.model.options import Model, TrainOptions
from nnunet_rs.model.recipe import V2
from nnunet_rs.run.cluster import ClusterOptions
from nnunet_rs.run.jobs import jobs_of
from nnunet_rs.run.one_model import ModelOptions
from nnunet_rs.run.queue import ModelOutcome
from nnunet_rs.run.series import train_series
from nnunet_rs.run.slurm import Slurm
from nnunet_rs.run.status import work_status

JOB = ClusterOptions(cpus=1, mem="900M")
NAME = "3d_fullres"


def options(epochs: int, batches: int) -> ModelOptions:
    return ModelOptions(TrainOptions(recipe=V2, epochs=epochs, batches=batches, precision="float32", threads=1))


def weights(work: Path, fold: int) -> bytes:
    return WorkFolder(work).model(NAME, fold).weights_file.read_bytes()


def waited_for(what: Callable[[], Any], seconds: float = 120) -> Any:
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.3)
    return found


def squeue(*words: str) -> list[str]:
    return subprocess.run(["squeue", "-h", *words], capture_output=True, text=True, check=True).stdout.split()


def process_of(work: Path, fold: int) -> int:
    """The process that trains a fold, once an epoch is done."""
    model = WorkFolder(work).model(NAME, fold)
    waited_for(model.metrics_file.is_file)
    return int(json.loads((model.path / ".lock").read_text())["process"])


def start_queued_jobs_at_once(done: threading.Event) -> None:
    """SLURM lets a job that was requeued wait for minutes."""
    while not done.wait(2):
        for job in squeue("-t", "PD", "-o", "%i"):
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=False, capture_output=True)


def submitted(work: Path) -> dict[str, str]:
    """Names of SLURM's jobs; trainings that are only planned have none."""
    return {job.id: job.name for job in jobs_of(WorkFolder(work).jobs_folder) if job.id}


@pytest.mark.slow
def test_what_is_killed_or_cancelled_is_begun_again(slurm: Path, work: Path, tmp_path: Path) -> None:
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(work, undisturbed)
    models, console = [Model(NAME, fold) for fold in range(3)], Lines()
    train_series(undisturbed, models, options(3, 30), ("cpu",))
    outcomes: list[ModelOutcome] = []
    executor = Slurm(WorkFolder(work).jobs_folder, JOB)
    series = threading.Thread(
        target=lambda: outcomes.extend(train_series(work, models, options(3, 30), progress=console, executor=executor))
    )
    series.start()
    os.kill(process_of(work, 0), signal.SIGKILL)
    process_of(work, 1)
    (job,) = (job for job, name in submitted(work).items() if name == f"{NAME}, fold 1")
    subprocess.run(["scancel", job], check=True)
    series.join(300)
    assert [outcome.state for outcome in outcomes] == ["trained"] * 3
    assert sum("begun again, from its last checkpoint" in line for line in console.said) == 2
    assert all(weights(work, fold) == weights(undisturbed, fold) for fold in range(3))
    states = {each.fold: each.state for each in work_status(work) if each.configuration == NAME}
    assert [states[fold] for fold in range(3)] == ["done"] * 3
    done = submitted(work)
    again = ModelOptions(TrainOptions(resume=True))
    assert {o.state for o in train_series(work, models, again, executor=Slurm(WorkFolder(work).jobs_folder, JOB))} == {
        "done"
    }
    assert submitted(work) == done  # nothing is submitted for what is trained


def warn(work: Path) -> None:
    """Send a training what SLURM sends before a time limit."""
    process_of(work, 0)
    (job,) = squeue("-t", "R", "-o", "%i")
    subprocess.run(["scancel", "--signal=USR2", job], check=True)


@pytest.mark.slow
def test_a_time_limit_is_a_pause(slurm: Path, work: Path, tmp_path: Path) -> None:
    undisturbed, console = tmp_path / "undisturbed", Lines()
    shutil.copytree(work, undisturbed)
    model, long = Model(NAME, 0), options(3, 30)
    train_series(undisturbed, [model], long, ("cpu",))
    done = threading.Event()
    hurry = threading.Thread(target=start_queued_jobs_at_once, args=(done,))
    warning = threading.Thread(target=warn, args=(work,))
    hurry.start()
    warning.start()
    try:
        executor = Slurm(WorkFolder(work).jobs_folder, JOB)
        (outcome,) = train_series(work, [model], long, progress=console, executor=executor)
    finally:
        done.set()
        hurry.join()
        warning.join()
    assert outcome.state == "trained"
    assert weights(work, 0) == weights(undisturbed, 0)
    assert any("the time limit is near: saved; queued again to resume" in line for line in console.said)
    assert any("resuming at epoch" in line for line in console.said)


@pytest.mark.slow
def test_commands(slurm: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", str(work), "-c", NAME, "--folds", "0", "--epochs", "400", "--on", "slurm", "--cpus", "1"]
    assert main([*words, "--dry-run"]) == 0
    assert "#SBATCH --cpus-per-task=1" in capsys.readouterr().out
    codes: list[int] = []
    series = threading.Thread(target=lambda: codes.append(main([*words, "-q"])))
    series.start()
    process_of(work, 0)
    assert main(["status", str(work), "--json"]) == 0
    (entry,) = (
        e for e in json.loads(capsys.readouterr().out)["models"] if (e["configuration"], e["fold"]) == (NAME, 0)
    )
    assert entry["state"] == "running"
    assert entry["of"] in (400, None)  # None: its first checkpoint is not written yet
    assert "SLURM job" in entry["where"]
    assert main(["cancel", str(work)]) == 0
    series.join(120)
    assert codes == [1]
    assert "was cancelled" in capsys.readouterr().out
    waited_for(lambda: not squeue())


@pytest.mark.slow
def test_what_slurm_refuses_is_told(slurm: Path, work: Path) -> None:
    executor = Slurm(WorkFolder(work).jobs_folder, ClusterOptions(partition="gpu"))
    with pytest.raises(NnunetError, match=r"SLURM refuses the job of 3d_fullres, fold 0: .*Invalid partition"):
        train_series(work, [Model(NAME, 0)], options(1, 1), executor=executor)
