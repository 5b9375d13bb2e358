"""How far cohorts are, from their files."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from nnunet_rs.cli import main
from nnunet_rs.core.workspace import jobs_beside
from nnunet_rs.run.cohort.board import LEASE
from nnunet_rs.run.cohort.claims import Claims, cancel
from nnunet_rs.run.cohort.files import Cohort, CohortFolder, create, this_process
from nnunet_rs.run.cohort.status import FailedCase, cohort_statuses


@pytest.fixture
def cohort(tmp_path: Path) -> tuple[CohortFolder, Cohort]:
    cases = [[f"case_{number}"] for number in range(10)]
    return create(jobs_beside(tmp_path), Cohort("predict", str(tmp_path), "", (), (), ""), {"": cases}, 1)


def test_cases_are_counted_and_the_rest_foretold(cohort: tuple[CohortFolder, Cohort], tmp_path: Path) -> None:
    (before,) = cohort_statuses(tmp_path)
    assert (before.state, before.count, before.waiting, before.rate) == ("stopped", 10, 10, None)
    now = [0.0]
    claims = Claims(
        cohort[0].path, cohort[1].sizes, cohort[1].groups, this_process("x"), clock=lambda: now[0], alive=False
    )
    while claims.take():
        pass
    for case in range(4):
        claims.begin(case)
        now[0] += 2
        claims.done(case)
    claims.begin(4)
    claims.fail(4, "is damaged", final=True)
    claims.begin(5)
    (found,) = cohort_statuses(tmp_path)
    assert (found.state, found.done, found.failed, found.running, found.waiting) == ("running", 4, 1, 1, 4)
    assert found.rate == pytest.approx(0.5)
    assert found.seconds_left == pytest.approx(10)
    assert found.failures == (FailedCase("case_4", "is damaged"),)
    (worker,) = found.workers
    assert worker.cases == ("case_5",)
    assert f"process {os.getpid()}" in worker.where
    assert worker.note == ""
    past = time.time() - LEASE - 100
    os.utime(claims.journal.path, (past, past))
    (silent,) = cohort_statuses(tmp_path)
    assert (silent.state, silent.running) == ("stopped", 0)
    assert silent.workers[0].note.startswith("no sign of life for 1")
    for case in range(5, 10):
        claims.done(case)
    claims.close()
    (done,) = cohort_statuses(tmp_path)
    assert (done.state, done.done, done.failed, done.workers, done.seconds_left) == ("done", 9, 1, (), None)


def test_one_that_is_cancelled_says_so(cohort: tuple[CohortFolder, Cohort], tmp_path: Path) -> None:
    cancel(cohort[0].path)
    assert [each.state for each in cohort_statuses(tmp_path)] == ["cancelled"]


def test_commands(cohort: tuple[CohortFolder, Cohort], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path), "-q"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"predict {tmp_path}: stopped; 0 of 10 cases done, 10 waiting" in shown
    assert main(["cancel", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cohorts"] == [str(cohort[0].path)]
    assert main(["status", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["models"], told["cohorts"][0]["state"]) == ([], "cancelled")
