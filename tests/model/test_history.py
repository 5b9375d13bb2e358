import json
from pathlib import Path

import pytest
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.model.history import Epoch, History, describe, known_or_none

FIRST = Epoch(0, 10, 0.5, 0.4, (0.2, None), 1e-3, 6.0, 1.0, 4.0, 1.0)
SECOND = Epoch(1, 20, 0.1, None, (0.3, 0.5), 1e-4, 6.0, 0.0, 6.0, 0.0)


def test_lines_of_json_there_and_back(tmp_path: Path) -> None:
    history = History(("a", "b")).with_epoch(FIRST).with_epoch(SECOND)
    history.write(tmp_path / "metrics.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1]
    assert rows[0]["dice"] == [0.2, None]
    assert rows[1]["mean_dice"] == pytest.approx(0.4)
    assert History.read(tmp_path / "metrics.jsonl", ("a", "b")) == history


def test_the_best_epoch_and_means() -> None:
    assert History(("a", "b")).best is None
    assert History(("a", "b"), (FIRST, SECOND)).best is SECOND
    assert FIRST.mean_dice == pytest.approx(0.2)
    assert known_or_none((0.5, float("nan"))) == (0.5, None)


def test_an_epoch_in_a_line() -> None:
    line = describe(FIRST, ("a", "b"), 5)
    assert line.startswith("epoch 1/5 · loss 0.5000 · validation 0.4000 · Dice a 0.200, b - · rate 1.00e-03 · 6.0 s")
    assert "waiting for data 1.0, training 4.0, validation 1.0" in line


def test_damaged_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(CheckpointError, match="cannot be read"):
        History.read(path, ())
    path.write_text("{")
    with pytest.raises(CheckpointError, match="is not JSON"):
        History.read(path, ())
    path.write_text('{"epoch": 1}\n')
    with pytest.raises(CheckpointError, match="line 1: the key iterations is missing"):
        History.read(path, ())
