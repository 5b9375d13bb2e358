from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnunet_rs.cli import main
from nnunet_rs.core.errors import CheckpointError, DatasetError, NnunetError
from nnunet_rs.exchange.export_file import export_file
from nnunet_rs.exchange.import_file import import_file
from nnunet_rs.exchange.import_nnunet import ImportOptions
from nnunet_rs.model.metadata import read_metadata
from nnunet_rs.model.trained_models import find_models
from nnunet_rs.predict.predictor import PredictOptions, Predictor
from nnunet_rs.select.loading import Chosen, load_predictor

EXACT = PredictOptions(precision="float32")


def segment(source: Path, image: Any, configuration: str = "3d_fullres") -> Any:
    predictor = Predictor.load(source, "cpu", configuration=configuration, options=EXACT)
    return predictor(image, (3.0, 1.0, 1.0))


def choose(work: Path, *configurations: str) -> None:
    """Write a best.json as `best` does."""
    models = {
        name: {path.name: read_metadata(path).digest for path in find_models(work, name)} for name in configurations
    }
    content = {
        "configurations": configurations,
        "postprocessing": {"keep_largest": [[1, 2]], "reasons": []},
        "folds": [0, 1],
        "candidates": [{"configurations": configurations, "dice": 0.875, "per_class": {"large": 0.9, "small": None}}],
        "models": models,
        "version": 1,
    }
    (work / "best.json").write_text(json.dumps(content))


@pytest.fixture
def work(models: Callable[..., Path]) -> Path:
    ours = models("3d_fullres")
    choose(ours, "3d_fullres")
    return ours


def packed(work: Path, target: Path, **options: Any) -> Path:
    export_file(work, find_models(work, options.pop("configuration", None)), target, **options)
    return target


def test_everything_goes_along(work: Path, tmp_path: Path, image, capsys) -> None:
    target, licence = tmp_path / "made.zip", tmp_path / "CC-BY.txt"
    licence.write_text("Do as you like.\n")
    line = ["export", work, "-o", target, "--format", "file", "--licence", licence]
    assert main([*map(str, line), "-q"]) == 0
    assert hashlib.sha256(target.read_bytes()).hexdigest() in capsys.readouterr().out
    with zipfile.ZipFile(target) as archive:
        names = set(archive.namelist())
        text = archive.read("MODEL.md").decode()
        assert archive.read("LICENCE.txt") == licence.read_bytes()
        files = json.loads(archive.read("manifest.json"))["files"]
        for name, entry in files.items():
            assert hashlib.sha256(archive.read(name)).hexdigest() == entry["sha256"], name
    folds = {f"models/3d_fullres/fold_{k}/{name}" for k in (0, 1) for name in ("model.json", "weights.safetensors")}
    assert names == folds | {"MODEL.md", "LICENCE.txt", "manifest.json", "plan.json", "best.json"}
    assert set(files) == names - {"manifest.json"}
    for said in ("Dataset007_Made", "| 2 | small |", "| _0000 | MRI |", "3 × 1 × 1", "0.8750", "small not known"):
        assert said in text, said
    assert "Largest component kept of: large + small." in text
    assert f"nnunet-rs predict {target.name} -i IMAGES" in text
    np.testing.assert_array_equal(segment(target, image), segment(work, image))
    chosen = load_predictor(target, "cpu", options=EXACT)
    assert isinstance(chosen, Chosen)
    assert chosen.postprocessing.keep_largest == ((1, 2),)
    assert main([*map(str, line), "-q"]) == 2
    assert "is there already" in capsys.readouterr().err
    before = target.read_bytes()
    assert main([*map(str, line), "-q", "--overwrite"]) == 0
    assert target.read_bytes() == before == (tmp_path / "made.previous.zip").read_bytes()


def test_it_comes_back_as_it_was(work: Path, tmp_path: Path) -> None:
    target = packed(work, tmp_path / "made.zip")
    assert main(["import", str(target), "-o", str(tmp_path / "back"), "-q"]) == 0
    for path in work.rglob("*"):
        if path.is_file():
            assert (tmp_path / "back" / path.relative_to(work)).read_bytes() == path.read_bytes(), path
    with pytest.raises(NnunetError, match="fold_0: holds a model already"):
        import_file(target, tmp_path / "back")
    part = import_file(target, tmp_path / "part", ImportOptions(folds=[1]))
    assert [path.name for path in part.models] == ["fold_1"]
    assert not (tmp_path / "part" / "best.json").exists()
    assert part.chosen == ()
    with pytest.raises(CheckpointError, match=r"has no such model; there are 3d_fullres fold 0, 3d_fullres fold 1"):
        import_file(target, tmp_path / "none", ImportOptions(folds=[7]))


def test_a_cascades_first_stage_goes_along(models, tmp_path: Path, image) -> None:
    ours = models("3d_lowres", "3d_cascade_fullres", folds=(0,))
    target = packed(ours, tmp_path / "cascade.zip", configuration="3d_cascade_fullres")
    name = "3d_cascade_fullres"
    np.testing.assert_array_equal(segment(target, image, name), segment(ours, image, name))


def test_a_choice_about_other_models_stays(work: Path, tmp_path: Path) -> None:
    content = json.loads((work / "best.json").read_text())
    content["models"]["3d_fullres"]["fold_0"] = "0" * 64
    (work / "best.json").write_text(json.dumps(content))
    target = packed(work, tmp_path / "made.zip")
    assert "best.json" not in zipfile.ZipFile(target).namelist()


def rewritten(source: Path, target: Path, edit: Callable[[str, bytes], bytes | None]) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = edit(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def test_damaged_and_changed_files_are_refused(work: Path, tmp_path: Path, image) -> None:
    whole = packed(work, tmp_path / "made.zip")
    bad = tmp_path / "bad.zip"
    weights = "models/3d_fullres/fold_1/weights.safetensors"

    def refused(said: str) -> None:
        for use in (lambda: segment(bad, image), lambda: import_file(bad, tmp_path / "never")):
            with pytest.raises(NnunetError) as caught:
                use()
            assert said in str(caught.value)
            assert str(bad) in str(caught.value)
            assert len(str(caught.value).splitlines()) == 1
        assert not (tmp_path / "never").exists()

    def changed(name: str, content: bytes) -> bytes:
        return content[:-1] + bytes([content[-1] ^ 1]) if name == weights else content

    rewritten(whole, bad, changed)
    refused(f"was changed, or is damaged: {weights} is not as it was written")
    rewritten(whole, bad, lambda name, content: None if name == "plan.json" else content)
    refused("plan.json is missing")
    with zipfile.ZipFile(rewritten(whole, bad, lambda _, content: content), "a") as archive:
        archive.writestr("models/3d_fullres/fold_2/model.json", "{}")
    refused("fold_2/model.json is not among the files that manifest.json lists")
    rewritten(whole, bad, lambda name, c: c.replace(b'"version": 1', b'"version": 7') if "manifest" in name else c)
    refused("manifest.json: version is 7, this release reads 1")
    rewritten(whole, bad, lambda name, content: b"[" if name == "manifest.json" else content)
    refused("manifest.json: is not JSON")
    content = whole.read_bytes()
    bad.write_bytes(content[: len(content) // 2])
    refused("is no zip, or a part of one")
    for place in range(100, len(content), len(content) // 7):
        bad.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        refused("")


def test_what_cannot_be_packed(work: Path, tmp_path: Path, capsys) -> None:
    binary = tmp_path / "licence.pdf"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="is not UTF-8 text"):
        packed(work, tmp_path / "made.zip", licence=binary)
    path = work / "models" / "3d_fullres" / "fold_1" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"1234")
    with pytest.raises(CheckpointError, match=r"fold_1.weights.safetensors: is missing or damaged"):
        packed(work, tmp_path / "made.zip")
    assert main(["export", str(work), "-o", str(tmp_path / "model"), "--format", "file", "-q"]) == 2
    assert "a one-file model is a zip: name it so, as model.zip" in capsys.readouterr().err
    assert not list(tmp_path.glob("*made*")) + list(tmp_path.glob(".tmp*"))


def test_nothing_of_others_is_replaced(work: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    theirs = results / "Dataset007_Made" / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_1" / "checkpoint_final.pth"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"weeks of work")
    line = ["export", str(work), "-o", str(results), "--format", "nnunet", "-q"]
    assert main(line) == 1
    assert theirs.read_bytes() == b"weeks of work"
    assert not (theirs.parents[1] / "plans.json").exists()
    assert main([*line, "--overwrite"]) == 0
    assert (results / "previous" / "1" / theirs.relative_to(results)).read_bytes() == b"weeks of work"
    assert main(line) == 0  # ours, unedited
    other = tmp_path / "other"
    other.mkdir()
    (other / "best.json").write_text("{}")
    with pytest.raises(NnunetError, match=r"best\.json: is not known .*, and would be replaced"):
        import_file(packed(work, tmp_path / "made.zip"), other)
    assert not (other / "models").exists()
    begun = tmp_path / "begun" / "models" / "3d_fullres" / "fold_0"
    begun.mkdir(parents=True)
    (begun / "resume.safetensors").write_bytes(b"x")
    with pytest.raises(NnunetError, match="fold_0: holds other files already"):
        import_file(tmp_path / "made.zip", tmp_path / "begun")
