"""A network and a loss of one's own, from a file, through every command that builds the network again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from nnunet_rs.cli import main
from nnunet_rs.model.metadata import read_metadata
from nnunet_rs.model.plugins import plain_name

MINE = """
from torch import nn


def net(configuration, inputs, outputs, options, context):
    assert context.outputs == ("background", "large", "small")
    return nn.Conv3d(inputs, outputs, 3, padding=1)


def loss(logits, target, context):
    dice = context.build_loss("dice")
    return dice(logits, target) + nn.functional.cross_entropy(logits.float(), target.long())


def wide(configuration, inputs, outputs, options):
    return nn.Conv3d(inputs, outputs, 5, padding=2)
"""


@pytest.fixture
def work(raw_dataset: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    work = tmp_path / "work"
    words = ("preprocess", raw_dataset(), "-o", work, "-c", "3d_fullres", "--features", 4, "--vram", 0.02, "-q")
    assert main([*map(str, words)]) == 0
    names = [f"case_{index}" for index in range(4)]
    folds = [{"train": names[2:], "val": names[:2]}, {"train": names[:2], "val": names[2:]}]
    (work / "splits.json").write_text(json.dumps(folds))
    return work


def run(*words: object) -> int:
    return main([*map(str, words), "-q"])


def test_several_devices_best_and_predict(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ("--network", "mine.py:net", "--loss", "mine.py:loss")
    short = ("--recipe", "fast", "--epochs", 1, "--batches", 2, "-j", 1, "--device", "cpu,cpu")
    assert run("train", work, "--all", "-c", "3d_fullres", *short, *own) == 0
    metadata = read_metadata(work / "models/3d_fullres/fold_1")
    assert [plain_name(name or "") for name in (metadata.config.network, metadata.config.loss)] == [
        "mine:net",
        "mine:loss",
    ]
    capsys.readouterr()

    assert run("best", work, "--device", "cpu") == 1
    assert "--network mine:net, or --network FILE.py:net" in capsys.readouterr().err
    assert run("best", work, "--device", "cpu", "--network", "mine.py:wide") == 1
    assert "holds the weights of another network" in capsys.readouterr().err
    assert run("best", work, "--device", "cpu", "--network", "mine.py:net") == 0
    out = tmp_path / "out"
    words = ("predict", work, "-i", tmp_path / "Dataset001_Made/imagesTr", "-o", out, "--device", "cpu")
    assert run(*words, "--network", "mine.py:net") == 0
    assert len(list(out.glob("*.nii.gz"))) == 4


def test_a_network_that_fails_when_it_predicts_is_told_as_the_users(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ("--recipe", "fast", "--epochs", 1, "--batches", 2, "-j", 1, "--device", "cpu")
    assert run("train", work, "-c", "3d_fullres", "-f", 0, *short, "--network", "mine.py:net") == 0
    Path("late.py").write_text(
        "from torch import nn\nclass Late(nn.Conv3d):\n    def forward(self, x):\n        raise KeyError('late')\n"
        "def net(configuration, inputs, outputs, options):\n    return Late(inputs, outputs, 3, padding=1)\n"
    )
    capsys.readouterr()
    words = ("predict", work, "-i", tmp_path / "Dataset001_Made/imagesTr", "-o", tmp_path / "out", "--device", "cpu")
    assert run(*words, "--network", "late.py:net") == 1
    said = capsys.readouterr().err
    assert "--network late.py:net" in said
    assert "KeyError" in said
    assert "late.py, line 4, in forward" in said
    assert len(said.splitlines()) == 1
