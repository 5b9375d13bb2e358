"""Work folders of earlier versions, with finished and half-trained models, go on with this one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from nnunet_rs.cli import main
from nnunet_rs.core.io import read_labels
from nnunet_rs.model.metadata import read_metadata

FIXTURES = Path(__file__).parents[1] / "fixtures"
ARCHIVE = FIXTURES / "work_0_1.tar.xz"
NESTED = FIXTURES / "work_model_2.tar.xz"  # model.json of version 2, a checkpoint of version 1: the recipe is a table


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


@pytest.fixture
def nested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.unpack_archive(NESTED, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # own.py holds the loss
    return tmp_path


def test_a_model_with_its_recipe_as_a_table_predicts_the_same_and_is_known(nested: Path) -> None:
    run("predict work -i Dataset001_Made/imagesTr -o again --no-mirror --device cpu")
    for file in sorted((nested / "predictions").glob("*.nii.gz")):
        again, before = read_labels(nested / "again" / file.name).data, read_labels(file).data
        assert np.mean(again != before) < 0.01  # other processors compute in another precision
    metadata = read_metadata(nested / "work" / "models" / "2d" / "fold_0")
    config = metadata.config
    assert (config.recipe, config.learning_rate, config.loss, config.seed) == ("fast", 0.01, "dice", 7)
    assert (config.epochs, config.batches, config.features, config.batch_size) == (2, 4, 4, 2)
    assert (config.mirror_axes, metadata.mirror_axes) == ((2,), (1,))
    assert (config.optimiser, config.ema_decay, config.decoder_kernels) == ("muon", 0.999, "below")
    assert config.unknown == ()


def test_a_training_with_its_recipe_as_a_table_goes_on_as_it_would_have(
    nested: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The losses are those that the version before made of the same checkpoint, but for Muon's steps: it took five."""
    run("preprocess Dataset001_Made -o work -c 2d")  # the scans have moved since
    assert main(["train", "work", "-c", "2d", "-f", "1", "--resume", "-q"]) == 1
    assert "was begun with --loss own:loss, and nothing is imported by a name" in capsys.readouterr().err
    run("train work -c 2d -f 1 --resume --loss own:loss --device cpu -j 1")
    folder = nested / "work" / "models" / "2d" / "fold_1"
    lines = [path.read_text().splitlines() for path in (folder / "metrics.jsonl", nested / "resumed_metrics.jsonl")]
    found, expected = ([json.loads(line) for line in some] for some in lines)
    for name in ("epoch", "iterations", "learning_rate"):
        assert [epoch[name] for epoch in found] == pytest.approx([epoch[name] for epoch in expected])
    for name in ("loss", "validation_loss"):
        assert [epoch[name] for epoch in found] == pytest.approx([epoch[name] for epoch in expected], rel=1e-2)
    config = read_metadata(folder).config
    assert (config.loss, config.norm, config.epochs) == ("own:loss", "batch", 3)


def test_a_model_of_version_0_1_says_what_it_does_not_know(earlier: Path) -> None:
    config = read_metadata(earlier / "work" / "models" / "2d" / "fold_0").config
    assert config.recipe == "fast"
    assert {"epochs", "learning_rate", "momentum"} <= set(config.unknown)
    assert not {"recipe", "features", "batch_size", "norm", "seed"} & set(config.unknown)
