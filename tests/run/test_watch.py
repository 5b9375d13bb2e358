"""The page of running trainings: when it is written again, and what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nnunet_rs.cli import main
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.run import watch
from nnunet_rs.run.status import ModelStatus
from nnunet_rs.run.watch import changes, live_section


def model(**changed: object) -> ModelStatus:
    return ModelStatus(**{"configuration": "2d", "fold": 0, "state": "waiting", **changed})  # type: ignore[arg-type]


def test_running_models_come_first_with_the_time_that_is_left() -> None:
    running = model(fold=1, state="running", epochs=3, of=10, seconds_left=120.0, dice=0.5, where="here")
    section = live_section((model(state="done", dice=0.9), running))
    text, table = section.blocks
    assert text.text == "1 of 2 models is being trained; 2:00 are left to the one that takes longest."  # type: ignore[union-attr]
    assert [row[:5] for row in table.rows] == [  # type: ignore[union-attr]
        ("2d, fold 1", "running", "3 of 10", "2:00", "0.500"),
        ("2d, fold 0", "done", "–", "–", "0.900"),
    ]
    assert live_section((model(),)).blocks[0].text == "No training is running."  # type: ignore[union-attr]


def test_nothing_is_told_while_nothing_changes(make_work: Callable[..., Path]) -> None:
    work = make_work({"3d_fullres": (0,)})
    metrics, slept = WorkFolder(work).model("3d_fullres", 0).metrics_file, []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            metrics.write_text("")
        if len(slept) == 6:
            raise KeyboardInterrupt

    told = changes(work, 7.0, sleep)
    assert "3d_fullres" in {model.configuration for model in next(told)}
    next(told)
    assert slept == [7.0] * 3
    with pytest.raises(KeyboardInterrupt):
        next(told)


def test_the_command_writes_until_it_is_interrupted(
    make_work: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = make_work({"3d_fullres": (0,)})
    page, seen = work / "report.html", []

    def once(folder: Path, every: float) -> object:
        yield watch.work_status(folder)
        seen.append(page.read_text())
        raise KeyboardInterrupt

    monkeypatch.setattr(watch, "changes", once)
    assert main(["report", str(work), "--watch", "--every", "9s"]) == 0
    assert '<body data-refresh="9">' in seen[0]
    assert "No training is running." in seen[0]
    assert re.search(r"<body>", page.read_text())
    assert "could still be made" in capsys.readouterr().out


def test_predictions_are_not_watched(
    tmp_path: Path, save_nifti: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    save_nifti(tmp_path / "a.nii.gz", np.zeros((2, 3, 4), np.uint8))
    assert main(["report", str(tmp_path), "--watch", "-q"]) == 2
    assert "--watch is for work folders" in capsys.readouterr().err
