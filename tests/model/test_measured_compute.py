"""What is fastest is chosen, recorded, and followed by who resumes; nothing else of the training changes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunet_rs.core.progress import Silent
from nnunet_rs.core.workspace import CHECKPOINT
from nnunet_rs.model import measured_compute
from nnunet_rs.model.config import MeasuredCompute
from nnunet_rs.model.device import Compute, choose_compute
from nnunet_rs.model.header import read_config
from nnunet_rs.model.metadata import read_metadata
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.recipe import FAST
from nnunet_rs.model.train import train_fold
from torch import nn
from trainings import weights

CPU = torch.device("cpu")
SHORT = TrainOptions(
    recipe=FAST, epochs=2, batches=3, validation_batches=1, augmentation="none", device="cpu", threads=1, seed=3
)
NAME = "3d_fullres"
NATIVE = str(choose_compute(CPU).dtype).removeprefix("torch.")  # what this processor would take without a measurement


class Lines(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    @property
    def computing(self) -> list[str]:
        return [line for line in self.lines if line.startswith(("computing in", "training on"))]


@pytest.fixture
def any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainings of a few batches be long enough to be measured."""
    monkeypatch.setattr(measured_compute, "SHARE", 1e9)


Seconds = Callable[[Compute], float]


@pytest.fixture
def takes(monkeypatch: pytest.MonkeyPatch, any_length: None) -> Callable[[Seconds], list[Compute]]:
    """Let batches take given seconds; returns a list that fills with what was tried."""

    def let(seconds: Seconds) -> list[Compute]:
        tried: list[Compute] = []

        def iterate(job: Any, state: Any, compute: Compute, batch: Any) -> float:
            tried.append(compute)
            return seconds(compute)

        monkeypatch.setattr(measured_compute, "_iterate", iterate)
        return tried

    return let


def fast_in(precision: str, channels_last: bool) -> Seconds:
    dtype = getattr(torch, precision)
    return lambda compute: 1.0 if (compute.dtype, compute.channels_last) == (dtype, channels_last) else 2.0


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_fastest_is_chosen_and_recorded(work: Path, takes: Any, channels_last: bool) -> None:
    takes(fast_in("float32", channels_last))
    heard = Lines()
    folder = train_fold(work, NAME, 0, SHORT, heard).folder
    said = "float32, channels last" if channels_last else "float32"
    assert heard.computing[0].partition(" (")[0] == f"computing in {said}, by a measurement of one batch"
    assert f"training on cpu, {said}:" in heard.computing[1]
    assert read_metadata(folder).config.measured == MeasuredCompute("float32", channels_last)
    assert read_metadata(folder).config.precision == "auto"  # what was asked for


def test_the_usual_stays_unless_it_is_clearly_slower(work: Path, takes: Any) -> None:
    takes(lambda compute: 1.04 if (compute.arithmetic() == NATIVE) else 1.0)
    folder = train_fold(work, NAME, 0, SHORT).folder
    assert read_metadata(folder).config.measured == MeasuredCompute(NATIVE, False)


def test_what_is_asked_for_is_not_measured(work: Path, takes: Any) -> None:
    tried = takes(fast_in("float32", True))
    train_fold(work, NAME, 0, replace(SHORT, precision="float32"))
    assert {(c.dtype, c.channels_last) for c in tried} == {(torch.float32, False), (torch.float32, True)}
    tried.clear()
    folder = train_fold(work, NAME, 1, replace(SHORT, precision="float32", channels_last=True)).folder
    config = read_metadata(folder).config
    assert not tried
    assert (config.precision, config.channels_last, config.measured) == ("float32", True, None)


def test_measuring_changes_nothing_else(work: Path, any_length: None) -> None:
    """With real measurements: the same weights as where the choice is asked for."""
    found = train_fold(work, NAME, 0, SHORT).folder
    measured = read_metadata(found).config.measured
    assert measured is not None
    asked = replace(SHORT, precision=measured.precision, channels_last=measured.channels_last, fresh=True)
    before = weights(found)
    assert same(before, weights(train_fold(work, NAME, 0, asked).folder))


def test_resuming_follows_what_was_measured(work: Path, takes: Any) -> None:
    """A training that is stopped and resumed ends with the bits of one that is not, and measures once."""
    takes(fast_in("float32", True))
    whole = weights(train_fold(work, NAME, 0, SHORT).folder)
    model = train_fold(work, NAME, 0, replace(SHORT, fresh=True), on_epoch=_stop_once()).folder
    config = read_config(model)
    assert (model / CHECKPOINT).is_file()
    assert config is not None
    assert config.measured == MeasuredCompute("float32", True)
    tried, heard = takes(fast_in("float32", False)), Lines()
    folder = train_fold(work, NAME, 0, TrainOptions(resume=True, device="cpu", threads=1), heard).folder
    assert not tried
    assert "training on cpu, float32, channels last:" in heard.computing[0]
    assert same(whole, weights(folder))


def _stop_once() -> Callable[[Any], None]:
    import os
    import signal

    return lambda history: os.kill(os.getpid(), signal.SIGTERM) if len(history.epochs) == 1 else None


def test_resuming_heeds_what_is_asked_for_now(work: Path, takes: Any) -> None:
    takes(fast_in("float32", True))
    train_fold(work, NAME, 0, SHORT, on_epoch=_stop_once())
    heard = Lines()
    again = TrainOptions(resume=True, device="cpu", threads=1, channels_last=False)
    train_fold(work, NAME, 0, again, heard)
    assert "training on cpu, float32:" in heard.computing[0]


def test_short_trainings_are_not_measured(work: Path) -> None:
    heard = Lines()
    folder = train_fold(work, NAME, 0, SHORT, heard).folder
    assert read_metadata(folder).config.measured is None
    assert len(heard.computing) == 1


def test_a_time_budget_bounds_it(work: Path, takes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured_compute, "SHARE", 0.01)
    tried = takes(lambda compute: 1.0)
    options = replace(SHORT, epochs=None, time_budget=3.0)
    folder = train_fold(work, NAME, 0, options).folder
    assert len(tried) == 1  # from which it is seen that the others would take too long
    assert read_metadata(folder).config.measured is None


def test_memory_bounds_it(work: Path, takes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = takes(lambda compute: 1.0)
    monkeypatch.setattr(measured_compute, "available_memory", lambda: 10)
    held = iter([100, 106])
    monkeypatch.setattr(measured_compute, "resident_memory", lambda: next(held))
    train_fold(work, NAME, 0, SHORT)
    assert len(tried) == 1


class Own(nn.Conv3d):
    def __init__(self, configuration: Any, inputs: int, outputs: int, options: Any) -> None:
        super().__init__(inputs, outputs, 3, padding=1)


def own_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits.view(len(logits), logits.shape[1], -1), target.flatten(1).long())


@pytest.mark.parametrize("own", [{"network": Own}, {"loss": own_loss}])
def test_functions_of_the_users_own_keep_the_usual(work: Path, takes: Any, own: dict[str, Any]) -> None:
    tried = takes(fast_in("float32", True))
    train_fold(work, NAME, 0, replace(SHORT, **own))
    assert not tried
