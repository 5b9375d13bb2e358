"""A cascade by the commands: planned, trained fold by fold, chosen among others, used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nnunet_rs.cli import main
from nnunet_rs.core.io import read_volume
from nnunet_rs.predict.predictor import Predictor
from nnunet_rs.run import one_model

SMALL = ("--features", 4, "--patch-size", "8,12,12", "--batch-size", 2)
SHORT = ("--recipe", "fast", "--epochs", 1, "--batches", 2, "--augmentation", "light", "-j", 1)
NAME, FIRST = "3d_cascade_fullres", "3d_lowres"


def answer(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    assert main([*map(str, arguments), "--json", "--quiet"]) == code, capsys.readouterr().err
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.fixture
def work(raw_dataset: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Prepared for a cascade; two folds, and the cascade's configurations alone, to be short."""
    root = raw_dataset(cases=4, shape=(12, 28, 28), spacing=(1, 1, 1))
    work = tmp_path / "work"
    plan = answer(capsys, "plan", root, "-o", work, *SMALL)["plan"]
    assert set(plan["configurations"]) == {"2d", FIRST, "3d_fullres", NAME}
    content = json.loads((work / "plan.json").read_text())
    del content["configurations"]["2d"], content["configurations"]["3d_fullres"]
    (work / "plan.json").write_text(json.dumps(content))
    answer(capsys, "preprocess", root, "-o", work)
    names = [f"case_{k}" for k in range(4)]
    halves = [{"train": names[:2], "val": names[2:]}, {"train": names[2:], "val": names[:2]}]
    (work / "splits.json").write_text(json.dumps(halves))
    return work


@pytest.fixture
def no_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the time of so short a training."""
    monkeypatch.setattr(one_model, "picture_ranked", lambda *_: ())
    monkeypatch.setattr(one_model, "training_curves", lambda *_: None)
    monkeypatch.setattr(one_model, "curves_on_the_way", lambda *_: lambda _: None)


def states(result: dict[str, Any]) -> dict[tuple[str, int], str]:
    return {(entry["configuration"], entry["fold"]): entry["state"] for entry in result["folds"]}


@pytest.mark.slow
@pytest.mark.usefixtures("no_drawings")
def test_everything_in_order_and_used(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(work), "-c", NAME, "-f", "0", *map(str, SHORT)]) == 1
    said = capsys.readouterr().err
    assert f"folds 0, 1 are not trained, and {NAME} learns" in said
    assert f"nnunet-rs train {work} -c {FIRST} --folds all" in said

    answer(capsys, "train", work, "-c", FIRST, "-f", 0, "--device", "cpu", *SHORT)
    assert len(list((work / "previous" / NAME).iterdir())) == 2
    answer(capsys, "train", work, "-c", FIRST, "--all", "--device", "cpu", *SHORT)
    answer(capsys, "train", work, "-c", NAME, "-f", 0, "--device", "cpu", *SHORT)
    done = answer(capsys, "train", work, "--all", "--device", "cpu,cpu", *SHORT)  # the last one in its own process
    assert states(done) == {(FIRST, 0): "done", (FIRST, 1): "done", (NAME, 0): "done", (NAME, 1): "trained"}
    assert len(list((work / "previous" / NAME).iterdir())) == 4
    again = answer(capsys, "train", work, "--all", "--device", "cpu", *SHORT)
    assert set(states(again).values()) == {"done"}
    assert [entry["dice"] for entry in again["folds"]] == [entry["dice"] for entry in done["folds"]]

    scans, out, pair = tmp_path / "scans", tmp_path / "out", tmp_path / "pair"
    scans.mkdir()
    shutil.copy(tmp_path / "Dataset001_Made" / "imagesTr" / "case_0_0000.nii.gz", scans)
    answer(capsys, "predict", work, "-c", NAME, "-i", scans, "-o", out, "--no-mirror", "--device", "cpu")
    made_with = json.loads((out / "prediction.json").read_text())
    assert made_with["previous"]["models"].keys() == made_with["models"].keys() == {"fold_0", "fold_1"}
    choice = answer(capsys, "best", work, "--no-mirror", "--device", "cpu")
    assert {tuple(c["configurations"]) for c in choice["candidates"]} == {(NAME,), (FIRST,), (NAME, FIRST)}
    best = json.loads((work / "best.json").read_text())
    best["configurations"] = [NAME, FIRST]
    (work / "best.json").write_text(json.dumps(best))
    answer(capsys, "predict", work, "-i", scans, "-o", pair, "--no-mirror", "--device", "cpu")

    volume = read_volume((scans / "case_0_0000.nii.gz",))
    loaded = Predictor.load(work, "cpu", configuration=NAME)
    written = nibabel.load(out / "case_0.nii.gz")
    assert written.shape == volume.data.shape[:0:-1]
    assert loaded.previous is not None
    assert len(loaded.previous.engine.networks) == 2
    assert np.asarray(nibabel.load(pair / "case_0.nii.gz").dataobj).shape == written.shape
