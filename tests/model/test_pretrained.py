from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.exchange.export_nnunet import export_nnunet
from nnunet_rs.model.checkpoint import load_model, save_model
from nnunet_rs.model.config import usual_config
from nnunet_rs.model.metadata import ModelMetadata, read_metadata
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.pretrained import take_pretrained
from nnunet_rs.model.recipe import FAST, V2
from nnunet_rs.model.train import train_fold
from nnunet_rs.model.unet import build_unet
from nnunet_rs.plan.files import read_plan
from nnunet_rs.plan.schema import Configuration, Plan
from trainings import Heard

SHORT = TrainOptions(
    recipe=FAST, epochs=1, batches=2, validation_batches=1, augmentation="none", device="cpu", precision="float32",
    threads=1,
)  # fmt: skip


@pytest.fixture
def source(small_plan: Plan, small3d: Configuration, tmp_path: Path) -> Path:
    """A work folder with a model of 3d_fullres, fold 0: one channel, three classes."""
    torch.manual_seed(1)
    network = build_unet(small3d, 1, 3)
    metadata = ModelMetadata(
        small_plan,
        "3d_fullres",
        0,
        usual_config(small_plan.recipe, small_plan.configurations["3d_fullres"], V2),
        0,
        None,
        None,
    )
    save_model(tmp_path / "source" / "models" / "3d_fullres" / "fold_0", network.state_dict(), metadata)
    return tmp_path / "source"


def taken(source: Path, configuration: Configuration, channels: int = 1, classes: int = 3) -> tuple[Any, Any, str]:
    torch.manual_seed(2)
    network, heard = build_unet(configuration, channels, classes), Heard()
    drawn = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    take_pretrained(network, str(source), configuration, 3, heard)  # type: ignore[arg-type]
    return network.state_dict(), drawn, heard.lines[0]


@pytest.mark.parametrize("place", ["", "models/3d_fullres", "models/3d_fullres/fold_0"])
def test_all_weights_of_the_same_network(place: str, source: Path, small3d: Configuration) -> None:
    found, _, said = taken(source / place, small3d)
    there, _ = load_model(source / "models" / "3d_fullres" / "fold_0")
    assert all(torch.equal(found[name], tensor) for name, tensor in there.state_dict().items())
    assert said == f"pretrained by {source / place}: {len(found)} of {len(found)} weights taken"


def test_heads_of_other_classes_and_first_layers_of_other_channels_begin_anew(
    source: Path, small3d: Configuration
) -> None:
    found, drawn, said = taken(source, small3d, channels=2, classes=5)
    there = load_model(source / "models" / "3d_fullres" / "fold_0")[0].state_dict()
    for name in found:
        anew = name.startswith("heads.") or name == "encoder.0.0.0.conv.weight"
        assert torch.equal(found[name], drawn[name] if anew else there[name]), name
    assert "; beginning anew: encoder.0.0.0.conv, heads.0" in said


def test_weights_of_nnunet(source: Path, small3d: Configuration, tmp_path: Path) -> None:
    export_nnunet([source / "models" / "3d_fullres" / "fold_0"], tmp_path / "results")
    found, _, said = taken(next((tmp_path / "results").iterdir()), small3d)
    there, _ = load_model(source / "models" / "3d_fullres" / "fold_0")
    assert all(torch.equal(found[name], tensor) for name, tensor in there.state_dict().items())
    assert "weights taken" in said


def test_a_network_that_fits_nowhere_is_refused(source: Path, small3d: Configuration, tmp_path: Path) -> None:
    wider = replace(small3d, features=(5, 7, 9))
    with pytest.raises(
        CheckpointError, match=r"its weights fit nowhere in the encoder \(encoder\.0\.0\.0\.conv\.weight"
    ):
        taken(source, wider)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no model"):
        taken(tmp_path / "empty", small3d)
    with pytest.raises(CheckpointError, match="no such folder or zip"):
        taken(tmp_path / "none", small3d)


def test_a_training_begins_with_them_and_says_so(source: Path, work: Path) -> None:
    options = replace(SHORT, pretrained=str(source), epochs=1, batches=1, learning_rate=1e-30)
    train_fold(work, "3d_fullres", 0, options)
    there, _ = load_model(source / "models" / "3d_fullres" / "fold_0")
    mine, metadata = load_model(work / "models" / "3d_fullres" / "fold_0")
    assert metadata.config.pretrained == str(source)
    for name, tensor in there.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[name], tensor, atol=1e-6, rtol=1e-6)


def test_one_network_of_every_case(work: Path) -> None:
    result = train_fold(work, "3d_fullres", "all", SHORT)
    metadata = read_metadata(work / "models" / "3d_fullres" / "fold_all")
    names = {name for fold in json.loads((work / "splits.json").read_text()) for name in fold["val"]}
    assert result.finished
    assert metadata.fold == "all"
    assert metadata.cases is not None
    assert (set(metadata.cases.train), metadata.cases.validation) == (names, ())
    assert [epoch.validation_loss for epoch in result.history.epochs] == [None]
    assert read_plan(work / "plan.json").configurations


def test_folds_may_hold_nothing_out(work: Path) -> None:
    splits = json.loads((work / "splits.json").read_text())
    splits[0] = {"train": [*splits[0]["train"], *splits[0]["val"]], "val": []}
    (work / "splits.json").write_text(json.dumps(splits))
    result = train_fold(work, "3d_fullres", 0, SHORT)
    assert result.finished
    assert result.history.epochs[0].validation_loss is None
