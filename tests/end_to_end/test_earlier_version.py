"""A work folder that version 0.1 made, with finished and half-trained models, goes on with this one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from nnunet_rs.cli import main
from nnunet_rs.core.io import read_labels

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "work_0_1.tar.xz"


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.unpack_archive(ARCHIVE, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str) -> None:
    assert main([*line.split(), "-q"]) == 0, line


def test_models_predict_the_same(earlier: Path) -> None:
    run("predict work -i Dataset001_Made/imagesTr -o again --no-mirror --device cpu")
    files = sorted((earlier / "predictions").glob("*.nii.gz"))
    assert len(files) == 5
    for file in files:
        again, before = read_labels(earlier / "again" / file.name).data, read_labels(file).data
        assert np.mean(again != before) < 0.01  # other processors compute in another precision


def test_its_work_goes_on(earlier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("preprocess Dataset001_Made -o work")  # the scans have moved since
    run("train work -c 2d -f 1 --resume --recipe fast --epochs 23 --batches 4 --device cpu")
    folder = earlier / "work" / "models" / "2d" / "fold_1"
    epochs = [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(23))
    run("best work --no-mirror --device cpu")
    run("report work")
    assert main(["train", "work", "-c", "2d", "-f", "0", "-q"]) == 1
    assert "is trained already" in capsys.readouterr().err


def test_it_is_not_touched_by_reading_it(earlier: Path) -> None:
    before = {path: path.read_bytes() for path in (earlier / "work").rglob("*") if path.is_file()}
    run("predict work -i Dataset001_Made/imagesTr -o again --no-mirror --device cpu")
    shutil.rmtree(earlier / "again")
    assert {path: path.read_bytes() for path in (earlier / "work").rglob("*") if path.is_file()} == before
