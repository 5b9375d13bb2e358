"""Statistics from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nnunet_rs.cli import main

LABELS = np.zeros((2, 3, 4), np.uint8)
LABELS[0, 0, :2] = 1


@pytest.fixture
def folder(tmp_path: Path, save_nifti: Callable[..., Path]) -> Path:
    for name in ("a", "b"):
        save_nifti(tmp_path / "out" / f"{name}.nii.gz", LABELS, (3, 1, 2))
        save_nifti(tmp_path / "images" / f"{name}_0000.nii.gz", LABELS * 10.0, (3, 1, 2))
    return tmp_path / "out"


def test_a_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["statistics", str(folder), "-i", str(tmp_path / "images"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cases"]["b"]["label 1"]["volume_mm3"] == 12
    assert told["cases"]["b"]["label 1"]["intensities"]["channel_0"]["mean"] == 10
    written = json.loads((folder / "statistics.json").read_text())
    assert written["cases"] == told["cases"]
    assert (folder / "statistics.csv").read_text().count("\n") == 3
    assert main(["statistics", str(folder)]) == 0  # without images, and again
    shown = capsys.readouterr()
    assert "label 1    2 of 2     0.012" in shown.out
    assert "2 of 2 cases have no image" in shown.err


def test_one_file_and_a_named_place(folder: Path, tmp_path: Path) -> None:
    assert main(["statistics", str(folder / "a.nii.gz"), "-q"]) == 0
    assert (folder / "a.statistics.csv").is_file()
    assert main(["statistics", str(folder), "-o", str(tmp_path / "n" / "numbers.csv"), "-q"]) == 0
    assert {path.name for path in (tmp_path / "n").glob("n*")} == {"numbers.csv", "numbers.json"}


def test_a_damaged_file_holds_up_no_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.nii.gz").write_bytes(b"no")
    assert main(["statistics", str(folder), "-q"]) == 1
    told = capsys.readouterr().err
    assert "1 of 2 cases could not be measured, the other 1 are in" in told
    assert "a.nii.gz" in told
    assert list(json.loads((folder / "statistics.json").read_text())["cases"]) == ["b"]


def test_foreign_files_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "statistics.csv").write_text("mine")
    assert main(["statistics", str(folder), "-q"]) == 1
    assert "statistics.csv" in capsys.readouterr().err
    assert main(["statistics", str(folder), "-q", "--overwrite"]) == 0
    assert (folder / "previous" / "1" / "statistics.csv").read_text() == "mine"


def test_predict_keeps_some_labels_writes_masks_and_measures(
    make_work: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work, out = make_work({"3d_fullres": (0,)}), tmp_path / "segmented"
    images = next((tmp_path).glob("Dataset*")) / "imagesTr"
    predict = ["predict", str(work), "-i", str(images), "-o", str(out), "--no-mirror", "-q"]
    assert main([*predict, "--labels", "smal"]) == 1
    assert "did you mean small? there are large, small" in capsys.readouterr().err
    assert not out.exists()
    assert main([*predict, "--labels", "small", "--one-file-per-label", "--statistics"]) == 0
    for index in range(5):
        whole = np.asarray(nibabel.load(out / f"case_{index}.nii.gz").dataobj)
        mask = nibabel.load(out / f"case_{index}" / "small.nii.gz")
        assert set(np.unique(whole)) <= {0, 2}
        np.testing.assert_array_equal(np.asarray(mask.dataobj), whole == 2)
        assert not (out / f"case_{index}" / "large.nii.gz").exists()
    document = json.loads((out / "statistics.json").read_text())
    assert list(document["cases"]["case_4"]) == ["small"]
    assert json.loads((out / "prediction.json").read_text())["labels"] == {"background": 0, "small": 2}
    capsys.readouterr()
    assert main([*predict, "--labels", "small", "--one-file-per-label", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["skipped"]) == 5
    assert main([*predict, "--json"]) == 0  # other labels: all is predicted again
    assert len(json.loads(capsys.readouterr().out)["written"]) == 5


def test_one_image_with_statistics_and_masks(make_work: Callable[..., Path], tmp_path: Path) -> None:
    work = make_work({"3d_fullres": (0,)})
    image = next((tmp_path).glob("Dataset*")) / "imagesTr" / "case_0_0000.nii.gz"
    more = ["--one-file-per-label", "--statistics", "-q", "--no-mirror"]
    assert main(["predict", str(work), "-i", str(image), "-o", str(tmp_path / "o" / "x.nii.gz"), *more]) == 0
    assert {path.name for path in (tmp_path / "o" / "x").iterdir()} == {"large.nii.gz", "small.nii.gz"}
    document = json.loads((tmp_path / "o" / "x.statistics.json").read_text())
    assert list(document["cases"]["x"]) == ["large", "small"]
    assert main(["predict", str(work), "-i", str(image), "-o", str(tmp_path / "p"), "--part", "1/2", *more]) == 2


def test_what_is_not_made_for_a_case_that_fails_is_told(
    make_work: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work, out = make_work({"3d_fullres": (0,)}), tmp_path / "segmented"
    images = next(tmp_path.glob("Dataset*")) / "imagesTr"
    (images / "case_0_0000.nii.gz").write_bytes(b"no")
    options = ["--no-mirror", "--statistics", "--report"]
    assert main(["predict", str(work), "-i", str(images), "-o", str(out), *options]) == 1
    told = capsys.readouterr().err
    assert f"`nnunet-rs statistics {out}` makes it" in told
    assert f"`nnunet-rs report {out}` makes it" in told
    assert not (out / "statistics.json").exists()
