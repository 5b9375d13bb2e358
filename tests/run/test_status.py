"""How far models are, by their files."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from nnunet_rs.core.locks import exclusive
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.run import status
from nnunet_rs.run.jobs import JobRecord, add_job, note_planned
from nnunet_rs.run.status import ModelStatus, work_status
from nnunet_rs.run.watch import changes


def epoch(number: int) -> dict[str, Any]:
    return {
        "epoch": number,
        "iterations": 2 * number + 2,
        "loss": 1.0,
        "validation_loss": 1.0,
        "dice": [0.5, 0.25],
        "learning_rate": 0.01,
        "seconds": 10.0,
        "seconds_waiting": 0.0,
        "seconds_training": 1.0,
        "seconds_validation": 1.0,
    }


def test_every_state(make_work: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    work = make_work({"3d_fullres": (0,)})
    folder = WorkFolder(work)
    second, third, fourth = (folder.model("3d_fullres", fold) for fold in (1, 2, 3))
    for each in (second, third):
        each.path.mkdir(parents=True)
        each.metrics_file.write_text("".join(json.dumps(epoch(number)) + "\n" for number in range(3)))
    third.checkpoint_file.write_bytes(b"")
    log = tmp_path / "7_0_log.out"
    log.write_text("epoch 1\n")
    log.with_name("7_0_log.err").write_text("slurmstepd: error: Detected 1 oom_kill event\n\n")
    add_job(folder.jobs_folder, JobRecord("3d_fullres, fold 3", "slurm", "7", str(log)))
    add_job(folder.jobs_folder, JobRecord("3d_fullres, fold 4", "slurm", "8", ""))
    monkeypatch.setattr(status, "queued_states", lambda _: {"8": "PENDING Priority"})
    with exclusive(second.path, "training"):
        found = {each.fold: each for each in work_status(work)}
        past = time.time() - 1000
        os.utime(second.path / ".lock", (past, past))
        silent = {each.fold: each for each in work_status(work)}[1]
    assert [found[fold].state for fold in range(5)] == ["unscored", "running", "interrupted", "failed", "queued"]
    assert (found[1].epochs, found[1].dice, found[1].note) == (3, 0.375, "")
    assert f"process {os.getpid()}" in found[1].where
    assert silent.note.startswith("no sign of life for 1")
    assert found[3].note == "slurmstepd: error: Detected 1 oom_kill event"
    assert (found[4].where, found[4].note) == ("SLURM job 8", "PENDING Priority")
    assert fourth.path.exists() is False


def test_what_waits_says_how_many_epochs_it_is_to_have(make_work: Any) -> None:
    work = make_work({})
    for _ in range(2):
        note_planned(WorkFolder(work).jobs_folder, {"3d_fullres, fold 2": 30, "3d_fullres, fold 3": None})
    found = {each.fold: each for each in work_status(work)}
    assert [(found[fold].state, found[fold].of) for fold in (1, 2, 3)] == [
        ("waiting", None),
        ("waiting", 30),
        ("waiting", None),
    ]
    assert len((WorkFolder(work).jobs_folder / "jobs.jsonl").read_text().splitlines()) == 1


def test_a_new_cycle_on_top_of_a_finished_model(make_work: Any) -> None:
    work = make_work({"3d_fullres": (0,)})
    model = WorkFolder(work).model("3d_fullres", 0)

    def status_now() -> ModelStatus:
        return next(each for each in work_status(work) if (each.configuration, each.fold) == ("3d_fullres", 0))

    assert (status_now().state, status_now().name) == ("unscored", "3d_fullres, fold 0")
    with exclusive(model.path, "training"):  # its held-out cases are scored
        assert status_now().state == "unscored"
    model.next_cycle.path.mkdir()
    with exclusive(model.path, "training"):
        begun = status_now()
        model.next_cycle.metrics_file.write_text("".join(json.dumps(epoch(number)) + "\n" for number in range(3)))
        later = status_now()
    assert [(each.state, each.name) for each in (begun, later)] == [("running", "3d_fullres, fold 0, cycle 2")] * 2
    assert (begun.epochs, later.epochs, later.dice) == (0, 3, 0.375)
    assert (later.note, f"process {os.getpid()}" in later.where) == ("the finished model serves until then", True)
    model.next_cycle.checkpoint_file.write_bytes(b"")
    left = status_now()
    assert (left.state, left.epochs, left.cycle, left.where) == ("interrupted", 3, 2, "")


def test_the_page_is_written_again_for_a_new_cycles_epochs(make_work: Any) -> None:
    work = make_work({"3d_fullres": (0,)})
    following = WorkFolder(work).model("3d_fullres", 0).next_cycle
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            following.path.mkdir()
            following.metrics_file.write_text(json.dumps(epoch(0)) + "\n")

    told = changes(work, 7.0, sleep)
    next(told)
    next(told)
    assert len(slept) == 3
