from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunet_rs.cli import main
from nnunet_rs.core.errors import CheckpointError, NnunetError
from nnunet_rs.core.io import read_labels
from nnunet_rs.exchange.export_nnunet import export_nnunet
from nnunet_rs.exchange.import_nnunet import ImportOptions, import_nnunet
from nnunet_rs.model.checkpoint import load_model
from nnunet_rs.model.metadata import read_metadata
from nnunet_rs.model.nnunet_models import NnunetChoice
from nnunet_rs.model.torch_file import read_torch_file
from nnunet_rs.predict.predictor import PredictOptions, Predictor

FULL = "nnUNetTrainer__nnUNetPlans__3d_fullres"


def segment(source: Path, image: Any, *folds: Any, **options: Any) -> Any:
    choice = NnunetChoice(**options)
    predictor = Predictor.load(
        source,
        "cpu",
        folds or None,
        configuration="3d_fullres",
        options=PredictOptions(precision="float32", nnunet=choice),
    )
    return predictor(image, (3.0, 1.0, 1.0))


@pytest.mark.parametrize("network", [{}, {"norm": "batch"}, {"activation": "relu", "deep_supervision": True}])
def test_a_model_comes_back_from_nnunets_form(network: dict[str, Any], models, tmp_path: Path, image) -> None:
    ours = models("3d_fullres", **network)
    expected = segment(ours, image)
    folders = [ours / "models" / "3d_fullres" / f"fold_{fold}" for fold in (0, 1)]
    (home,) = export_nnunet(folders, tmp_path / "results")
    assert home == tmp_path / "results" / "Dataset007_Made" / FULL
    np.testing.assert_array_equal(segment(home.parent, image), expected)
    np.testing.assert_array_equal(segment(home, image), expected)
    back = import_nnunet(home.parent, tmp_path / "back")
    assert [path.name for path in back.models] == ["fold_0", "fold_1"]
    np.testing.assert_array_equal(segment(tmp_path / "back", image), expected)
    metadata = read_metadata(back.models[0])
    assert (metadata.mirror_axes, metadata.network.norm) == ((0, 2), network.get("norm", "instance"))
    assert "nnU-Net v2, nnUNetTrainer, checkpoint_final.pth" in metadata.source
    before, _ = load_model(folders[1])
    after, _ = load_model(back.models[1])
    for name, weight in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], weight), name


def test_convolutions_without_biases_have_biases_of_zero(models, tmp_path: Path, image) -> None:
    ours = models("3d_fullres", folds=(0,))
    (home,) = export_nnunet([ours / "models" / "3d_fullres" / "fold_0"], tmp_path / "results")
    file = home / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=True)
    weights = checkpoint["network_weights"]
    biases = [name for name in weights if re.search(r"(conv|all_modules\.0|transpconvs\.\d+)\.bias$", name)]
    assert len(biases) > 20
    assert not any(weights[name].any() for name in biases)  # as a network begins
    expected = segment(home, image)
    for name in biases:
        del weights[name]
    torch.save(checkpoint, file)
    np.testing.assert_array_equal(segment(home, image), expected)


def test_the_images_ending_is_kept(models, write_nnunet_plans, tmp_path: Path) -> None:
    ours = models("3d_fullres", folds=(0,))
    fold = ours / "models" / "3d_fullres" / "fold_0"
    for ending, reader in ((".nii.gz", "SimpleITKIO"), (".nii", "NibabelIO"), (".nrrd", "SimpleITKIO")):
        write_nnunet_plans(folder=ours, file_ending=ending)
        (home,) = export_nnunet([fold], tmp_path / ending)
        assert json.loads((home / "dataset.json").read_text())["file_ending"] == ending
        assert json.loads((home / "plans.json").read_text())["image_reader_writer"] == reader
        back = import_nnunet(home, tmp_path / ending / "back").models
        assert read_metadata(back[0]).ending == ending
        (again,) = export_nnunet(back, tmp_path / ending / "again")
        assert (again / "dataset.json").read_text() == (home / "dataset.json").read_text()


def test_a_cascade_finds_its_first_stage(models, tmp_path: Path, image) -> None:
    ours = models("3d_lowres", "3d_cascade_fullres", folds=(0,))
    folders = [ours / "models" / name / "fold_0" for name in ("3d_lowres", "3d_cascade_fullres")]
    first, _ = export_nnunet(folders, tmp_path / "results")
    options = PredictOptions(precision="float32")
    mine, theirs = (
        Predictor.load(source, "cpu", configuration="3d_cascade_fullres", options=options)
        for source in (ours, first.parent)
    )
    assert theirs.previous is not None
    np.testing.assert_array_equal(theirs(image, (3.0, 1.0, 1.0)), mine(image, (3.0, 1.0, 1.0)))


def test_the_network_of_all_cases(models, tmp_path: Path, image) -> None:
    ours = models("3d_fullres", folds=("all",))
    (home,) = export_nnunet([ours / "models" / "3d_fullres" / "fold_all"], tmp_path / "results")
    assert (home / "fold_all" / "checkpoint_final.pth").is_file()
    np.testing.assert_array_equal(segment(home, image), segment(ours, image, "all"))


def test_a_zip_is_taken_as_it_is(models, tmp_path: Path, image, capsys) -> None:
    ours = models("3d_fullres")
    target = tmp_path / "model.zip"
    assert main(["export", str(ours), "-o", str(target), "--format", "nnunet", "-q"]) == 0
    assert "Dataset007_Made/" + FULL + "/fold_0/checkpoint_final.pth" in zipfile.ZipFile(target).namelist()
    np.testing.assert_array_equal(segment(target, image), segment(ours, image))
    assert main(["export", str(ours), "-o", str(target), "--format", "nnunet", "-q"]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.fixture
def results(models, tmp_path: Path) -> Path:
    """Results of a dataset: 3d_fullres, folds 0 and 1."""
    ours = models("3d_fullres")
    folders = [ours / "models" / "3d_fullres" / f"fold_{fold}" for fold in (0, 1)]
    return export_nnunet(folders, tmp_path / "results")[0].parent


def test_which_of_several(results: Path, image) -> None:
    other = results / "nnUNetTrainer_5epochs__nnUNetPlans__3d_fullres"
    shutil.copytree(results / FULL, other)
    with pytest.raises(
        CheckpointError, match=r"has models of the trainer nnUNetTrainer, nnUNetTrainer_5epochs; name one"
    ):
        segment(results, image)
    segment(results, image, trainer="nnUNetTrainer_5epochs")
    with pytest.raises(CheckpointError, match="there is no model of the trainer Mine; there are nnUNetTrainer, "):
        segment(results, image, trainer="Mine")
    with pytest.raises(CheckpointError, match=r"fold_7/checkpoint_final\.pth is missing; folds with .*: 0, 1"):
        segment(results, image, 7, trainer="nnUNetTrainer")
    with pytest.raises(CheckpointError, match=r"checkpoint_best\.pth is missing"):
        segment(results / FULL, image, checkpoint="checkpoint_best.pth")


def import_fails(source: Path, said: str, **options: Any) -> None:
    target = source.parent / "never"
    with pytest.raises(NnunetError) as caught:
        import_nnunet(source, target, ImportOptions(**options))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not target.exists()


def test_what_is_missing_is_named(results: Path, tmp_path: Path) -> None:
    import_fails(tmp_path / "none", "no such folder or zip")
    import_fails(tmp_path / "plans", "holds no model of nnU-Net v2: expected TRAINER__PLANS__CONFIG")
    import_fails(results, "has no model of 2d; there are 3d_fullres", configurations=["2d"])
    import_fails(results, "no checkpoint_final.pth in fold 4", folds=[4])
    (results / FULL / "dataset.json").unlink()
    import_fails(results, "dataset.json is missing")


def rewritten(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = torch.load(path, weights_only=True)
    edit(content)
    torch.save(content, path)


class Evil:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("made-by-a-checkpoint"),)


def test_damaged_and_dangerous_checkpoints_are_refused(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = results / FULL / "fold_0" / "checkpoint_final.pth"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    import_fails(results, "checkpoint_final.pth: cannot be read as a checkpoint")
    path.write_bytes(whole)
    rewritten(path, lambda content: content["network_weights"].pop("encoder.stages.0.0.convs.0.conv.weight"))
    import_fails(results, "holds the weights of another network than its plans.json describes: there is no encoder.st")
    path.write_bytes(whole)
    rewritten(path, lambda content: content["network_weights"].update(extra=torch.zeros(1)))
    import_fails(results, "holds weights that the network of its plans.json does not have: extra")
    path.write_bytes(whole)
    key = "encoder.stages.0.0.convs.0.conv.weight"
    rewritten(path, lambda content: content["network_weights"].update({key: torch.zeros(2, 1, 1, 3, 3)}))
    import_fails(results, "is of shape [2, 1, 1, 3, 3], the configuration has of shape [4, 1, 1, 3, 3]")
    torch.save({"network_weights": {}, "evil": Evil()}, path)
    import_fails(results, "such a file could run code and is not read")
    assert not Path("made-by-a-checkpoint").exists()
    torch.save([1], path)
    import_fails(results, "it holds a list")
    torch.save({"state_dict": {}}, path)
    import_fails(results, "it holds no init_args, network_weights, trainer_name")


def test_dangerous_zips_are_refused(tmp_path: Path) -> None:
    for name, said in (("../out.txt", "leads out of its folder"), ("/etc/x", "leads out of its folder")):
        path = tmp_path / "evil.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, "x")
        import_fails(path, said)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(1 << 28))
    import_fails(path, "more than such a zip can; not unpacked")
    (tmp_path / "no.zip").write_bytes(b"PK\x03\x04 and then nothing")
    import_fails(tmp_path / "no.zip", "is no zip, or a part of one")
    assert not (tmp_path.parent / "out.txt").exists()


def test_a_finished_model_is_not_replaced(results: Path, tmp_path: Path) -> None:
    import_nnunet(results, tmp_path / "models", ImportOptions(folds=[0]))
    with pytest.raises(NnunetError, match=r"fold_0: holds a model already; import to another folder"):
        import_nnunet(results, tmp_path / "models")
    assert not (tmp_path / "models" / "models" / "3d_fullres" / "fold_1").exists()


def test_what_nnunet_chose_is_followed(results: Path, tmp_path: Path, image) -> None:
    steps = {
        "postprocessing_fns": ["remove_all_but_largest_component_from_segmentation"],
        "postprocessing_kwargs": [{"labels_or_regions": [1, 2]}],
    }
    (results / FULL / "postprocessing.json").write_text(json.dumps(steps))
    done = import_nnunet(results, tmp_path / "models")
    assert (done.chosen, done.postprocessing.keep_largest) == (("3d_fullres",), ((1, 2),))
    assert json.loads((tmp_path / "models" / "best.json").read_text())["configurations"] == ["3d_fullres"]


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"downsampling": "max_pool"}, "it is pooled by max_pool"),
        ({"decoder_kernels": "below"}, "its decoder has the kernels of the level below"),
    ],
)
def test_what_nnunet_cannot_express_is_refused(network: dict[str, Any], said: str, models, tmp_path: Path) -> None:
    ours = models("3d_fullres", folds=(0,), **network)
    with pytest.raises(CheckpointError, match=said):
        export_nnunet([ours / "models" / "3d_fullres" / "fold_0"], tmp_path / "results")
    assert not (tmp_path / "results").exists()


KINDS = (
    ("01_acdc_2d", "2d"),
    ("04_regions_ignore", "3d_fullres"),
    ("05_resencm_3d", "3d_fullres"),
    ("06_ct_nrrd_transposed", "3d_fullres"),
)


@pytest.mark.parametrize(("name", "configuration"), KINDS)
def test_labels_are_nnunets_own(name: str, configuration: str, shared: Path, tmp_path: Path) -> None:
    """Half-precision sums of nnU-Net's decide a few voxels otherwise: counted in its README, 13 at most of these."""
    folder = shared / "oracles" / "models" / name
    line = ["predict", folder, "-i", folder / "images", "-o", tmp_path, "-c", configuration, "--no-mirror", "-q"]
    assert main([*map(str, line), "--device", "cpu"]) == 0
    expected = {path for path in (folder / "predictions_plain").iterdir() if path.suffix in (".gz", ".nrrd")}
    assert expected
    found = {path: read_labels(tmp_path / path.name).data for path in expected}
    assert sum(int((labels != read_labels(path).data).sum()) for path, labels in found.items()) <= 13


def test_a_model_folder_of_another_name_is_read_once(results: Path, image, tmp_path: Path, monkeypatch) -> None:
    """Whatever a user calls it; which configuration it is the checkpoint says."""
    other = tmp_path / "a model of mine"
    shutil.copytree(results / FULL, other)
    read: list[Path] = []

    def reads(path: Path) -> Any:
        read.append(path)
        return read_torch_file(path)

    monkeypatch.setattr("nnunet_rs.model.nnunet_weights.read_torch_file", reads)
    found = Predictor.load(other, "cpu", [0], options=PredictOptions(precision="float32"))(image, (3.0, 1.0, 1.0))
    assert read == [other / "fold_0" / "checkpoint_final.pth"]
    np.testing.assert_array_equal(found, segment(results / FULL, image, 0))
    with pytest.raises(CheckpointError, match="has no model of 2d; there are 3d_fullres"):
        Predictor.load(other, "cpu", configuration="2d")
    np.testing.assert_array_equal(segment(other, image, 0), found)
