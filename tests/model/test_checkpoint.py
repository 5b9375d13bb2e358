import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.model.checkpoint import load_model, save_model
from nnunet_rs.model.config import usual_config
from nnunet_rs.model.history import Epoch
from nnunet_rs.model.metadata import ModelMetadata, common_mirror_axes, read_metadata
from nnunet_rs.model.recipe import FAST
from nnunet_rs.model.unet import build_unet
from nnunet_rs.plan.schema import Plan
from torch import nn

END = Epoch(4, 50, -0.5, -0.4, (0.8, None), 1e-5, 3.0, 0.5, 2.0, 0.5)


@pytest.fixture
def metadata(small_plan: Plan) -> ModelMetadata:
    config = usual_config(small_plan.recipe, small_plan.configurations["3d_fullres"], FAST)
    return ModelMetadata(small_plan, "3d_fullres", 2, replace(config, activation="relu", seed=7), 50, END, END)


@pytest.fixture
def model(tmp_path: Path, metadata: ModelMetadata) -> tuple[Path, nn.Module]:
    network = build_unet(metadata.plan_configuration, *metadata.channels, metadata.network)
    save_model(tmp_path / "fold_2", network.state_dict(), metadata)
    return tmp_path / "fold_2", network


def test_comes_back_whole(model: tuple[Path, nn.Module], metadata: ModelMetadata) -> None:
    folder, network = model
    loaded, read = load_model(folder)
    assert replace(read, library="", digest="") == metadata
    assert len(read.digest) == 64
    x = torch.randn(1, 1, 4, 8, 8)
    assert torch.equal(loaded(x), network.eval()(x))
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_the_card_is_json_to_read(model: tuple[Path, nn.Module]) -> None:
    document = json.loads((model[0] / "model.json").read_text())
    assert document["format"] == "nnunet_rs model"
    assert document["version"] == 3
    assert document["config"]["activation"] == "relu"
    assert document["plan"]["labels"]["names"] == ["background", "large", "small"]
    assert document["end"]["dice"] == [0.8, None]


def changed(path: Path, edit: Callable[[dict], object]) -> None:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda d: d.update(version=99), "version is 99, this release reads 1 to 3"),
        (lambda d: d.update(format="other"), "is no model of nnunet_rs"),
        (lambda d: d.update(configuration="3d_lowres"), 'configuration is "3d_lowres": must be one of'),
        (lambda d: d.update(fold="two"), 'fold is "two": must be one of all or a whole number'),
        (lambda d: d.pop("config"), "the key config is missing"),
        (lambda d: d["plan"].update(transpose=[0, 0, 1]), "transpose is"),
        (lambda d: d["config"].update(norm="layer"), 'config.norm is "layer"'),
        (lambda d: d["plan"]["configurations"]["3d_fullres"].update(features=[4, 6, 9]), "of another network"),
        (lambda d: d["config"].update(network="mine:net"), "the network is mine:net"),
    ],
)
def test_a_card_that_does_not_fit(model: tuple[Path, nn.Module], edit: Callable[[dict], object], said: str) -> None:
    changed(model[0] / "model.json", edit)
    with pytest.raises(CheckpointError, match=said) as caught:
        load_model(model[0])
    assert str(model[0]) in str(caught.value)


def test_missing_and_unfinished(tmp_path: Path, model: tuple[Path, nn.Module]) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        read_metadata(tmp_path / "fold_9")
    (model[0] / "model.json").unlink()
    with pytest.raises(CheckpointError, match="holds no model"):
        read_metadata(model[0])
    (model[0] / "resume.safetensors").touch()
    with pytest.raises(CheckpointError, match="train --resume"):
        load_model(model[0])


def test_weights_missing_cut_or_changed(model: tuple[Path, nn.Module]) -> None:
    weights = model[0] / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-10])
    with pytest.raises(CheckpointError, match="is damaged"):
        load_model(model[0])
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_model(model[0])
    weights.unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        load_model(model[0])


def test_a_network_of_the_users_own(tmp_path: Path, metadata: ModelMetadata) -> None:
    def build(configuration, inputs, outputs, options):
        return nn.Conv3d(inputs, outputs, 1)

    network = build(metadata.plan_configuration, 1, 3, metadata.network)
    save_model(tmp_path, network.state_dict(), replace(metadata, config=replace(metadata.config, network="mine:build")))
    loaded, _ = load_model(tmp_path, network=build)
    assert torch.equal(loaded.weight, network.weight)


@pytest.mark.parametrize(("name", "axes"), [
    ("paper", (0, 1, 2)), ("v2", (0, 1, 2)), ("", (0, 1, 2)), ("none", ()), ("mine:augment", None),
])  # fmt: skip
def test_a_card_of_the_first_version_mirrors_by_its_augmentations_name(model, name, axes) -> None:
    def edit(document: dict) -> None:
        document.update(version=1, augmentation=name)
        del document["mirror_axes"]

    changed(model[0] / "model.json", edit)
    assert read_metadata(model[0]).mirror_axes == axes


@pytest.mark.parametrize("axes", [[3], [1, 0], [-1], [0, 0]])
def test_axes_that_the_patch_does_not_have(model, axes) -> None:
    changed(model[0] / "model.json", lambda document: document.update(mirror_axes=axes))
    with pytest.raises(CheckpointError, match=r"mirror_axes is .*: must be axes of the patch in ascending order"):
        read_metadata(model[0])


@pytest.mark.parametrize("orientations", [{"RA": 1}, {"RAR": 1}, {"ras": 2}, {"RAS": 0}, {"RAS": 2, "": 1}])
def test_orientations_that_no_file_has(model, orientations) -> None:
    changed(model[0] / "model.json", lambda document: document.update(orientations=orientations))
    with pytest.raises(CheckpointError, match=r"orientations has .*: must be a code of three letters"):
        read_metadata(model[0])


def test_orientations_are_kept_and_may_be_missing(model) -> None:
    changed(model[0] / "model.json", lambda document: document.update(orientations={"RAS": 2, "SPL": 1}))
    assert read_metadata(model[0]).orientations == {"RAS": 2, "SPL": 1}
    changed(model[0] / "model.json", lambda document: document.pop("orientations"))
    assert read_metadata(model[0]).orientations is None


def test_models_share_the_axes_that_all_have(metadata: ModelMetadata) -> None:
    all_metadata = [replace(metadata, mirror_axes=axes) for axes in ((0, 1, 2), (1, 2), (0, 2))]
    assert common_mirror_axes(all_metadata) == (2,)
    assert common_mirror_axes(all_metadata[:2]) == (1, 2)
    assert common_mirror_axes([*all_metadata, metadata]) == ()
