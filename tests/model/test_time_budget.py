"""A time budget bounds training, validation and what follows."""

import itertools
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.model.options import Model
from nnunet_rs.model.previous_models import fold_lock
from nnunet_rs.model.recipe import FAST
from nnunet_rs.model.schedule import Overhead
from nnunet_rs.model.train import train_fold, train_locked
from trainings import SHORT, Heard


def test_a_time_budget_bounds_the_training(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()  # a clock that goes on by 10 ms each time it is read
    monkeypatch.setattr("nnunet_rs.model.loop.time", SimpleNamespace(monotonic=lambda: next(ticks) / 100))
    heard = Heard()
    result = train_fold(work, "3d_fullres", 0, replace(SHORT, epochs=None, time_budget=2.0), heard)
    assert result.finished
    assert heard.timed
    assert heard.done == pytest.approx(min(result.seconds, 2.0), abs=0.1)  # validation and saving are time too
    assert 1.8 < result.seconds < 2.2
    last = result.history.epochs[-1]
    assert last.iterations > 8
    assert last.learning_rate < 0.1 * FAST.learning_rate  # the cycle has come to its end


@pytest.mark.parametrize(
    ("passes", "seconds", "said"),
    [
        (20, 0.5, "time budget 8.0 s: about .* of it are kept for predicting"),
        (20, 5.0, "warning: time budget 8.0 s: predicting takes about .*, too much of it: that comes after it"),
        (10**6, 0.0, "warning: time budget 8.0 s: predicting takes about .*, too much of it"),
    ],
)
def test_what_follows_has_its_part_of_the_time_budget(
    work: Path, monkeypatch: pytest.MonkeyPatch, passes: int, seconds: float, said: str
) -> None:
    ticks = itertools.count()  # a clock that goes on by 10 ms each time it is read
    monkeypatch.setattr("nnunet_rs.model.loop.time", SimpleNamespace(monotonic=lambda: next(ticks) / 100))
    heard, overhead = Heard(), Overhead(-1.0, passes, seconds, "predicting")  # a second has gone before
    options = replace(SHORT, epochs=None, time_budget=8.0)
    with fold_lock(WorkFolder(work).model("3d_fullres", 0).path, heard):
        result = train_locked(work, Model("3d_fullres", 0), options, heard, overhead=overhead)
    (line,) = [line for line in heard.lines if "time budget" in line]
    assert re.match(said, line)
    if line.startswith("warning"):
        assert 7.5 < result.seconds < 8.5
    else:
        assert 6.0 < result.seconds < 7.5
    assert result.history.epochs[-1].learning_rate < 0.1 * FAST.learning_rate  # the cycle has come to its end


def test_a_time_budget_that_is_over_at_once_is_told(work: Path) -> None:
    heard, overhead = Heard(), Overhead(time.monotonic() - 9.0, 1, 0.0, "predicting")
    with fold_lock(WorkFolder(work).model("3d_fullres", 0).path, heard):
        result = train_locked(work, Model("3d_fullres", 0), replace(SHORT, time_budget=8.0), heard, overhead=overhead)
    assert result.finished
    assert any("too much of it: that comes after it" in line for line in heard.lines)


def test_validation_on_patches_takes_a_tenth_of_a_time_budget(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr("nnunet_rs.model.loop.time", SimpleNamespace(monotonic=lambda: next(ticks) / 100))
    heard = Heard()
    options = replace(SHORT, epochs=None, time_budget=2.0, validation_batches=10**6)
    result = train_fold(work, "3d_fullres", 0, options, heard)
    assert result.seconds < 2.6
    assert all(epoch.seconds_validation < 0.3 for epoch in result.history.epochs)
    assert any("validation on patches is cut short by the time budget" in line for line in heard.lines)
