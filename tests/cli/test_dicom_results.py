"""What users do with predictions made from DICOM: statistics, reports, scores, the viewer; of folders and of zips."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

pytest.importorskip("pydicom")

from dicom_files import picture, write_series
from nnunet_rs.cli import main
from nnunet_rs.core.dicom.folders import series_paths
from nnunet_rs.report.predictions import Given, read_predictions
from nnunet_rs.report.viewer.cases import of_image, of_predictions

SHAPE = (8, 24, 20)


@pytest.fixture
def work(make_work: Callable[..., Path]) -> Path:
    return make_work({"3d_fullres": (0,)})


@pytest.fixture(params=["folder", "mixed", "zip", "one"])
def images(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Two series in folders, among each other in one folder, in a zip; or one."""
    root = tmp_path / "exports"
    for number in (1, 2):
        write_series(root / f"s{number}", picture(SHAPE, number), series=str(number), Modality="MR")
    if request.param == "one":
        return root / "s1"
    if request.param == "mixed":
        for file in sorted(root.rglob("*.dcm")):
            file.rename(root / f"{file.parent.name}{file.name}")
    if request.param == "zip":
        with zipfile.ZipFile(tmp_path / "exports.zip", "w") as archive:
            for file in sorted(root.rglob("*.dcm")):
                archive.write(file, file.relative_to(root))
        return tmp_path / "exports.zip"
    return root


@pytest.fixture
def predictions(work: Path, images: Path, tmp_path: Path) -> Path:
    out = tmp_path / "out"
    more = ("--dicom-seg", "--rtstruct", "-q")
    assert main(["predict", str(work), "-i", str(images), "-o", str(out), "--no-mirror", *more]) == 0
    return out


@pytest.mark.parametrize("named", [False, True])
def test_statistics_have_the_images_intensities(
    predictions: Path, images: Path, named: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["-i", str(images)] if named else []
    assert main(["statistics", str(predictions), *options]) == 0
    assert "remark" not in capsys.readouterr().err
    content = json.loads((predictions / "statistics.json").read_text())
    paths = series_paths(images)
    assert len(content["cases"]) == len(paths)
    for name in paths:
        labels = np.asarray(nibabel.load(predictions / f"{name}.nii.gz").dataobj).transpose(2, 1, 0)
        seed = next(n for n in (1, 2) if len(paths) == 1 or np.array_equal(stored(images, name), picture(SHAPE, n)))
        for structure in content["cases"][name].values():
            inside = picture(SHAPE, seed)[np.isin(labels, structure["values"])]
            if inside.size:
                assert structure["intensities"]["channel_0"]["mean"] == pytest.approx(inside.mean(), rel=1e-4)


def stored(images: Path, name: str) -> np.ndarray:
    from nnunet_rs.core.io import read_scan

    return read_scan(series_paths(images)[name]).voxels[0]


def test_a_report_shows_the_images(predictions: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(predictions)]) == 0
    shown = capsys.readouterr()
    assert "remark" not in shown.out + shown.err
    assert "The image is left out" not in (predictions / "report.html").read_text()
    assert str(images) in (predictions / "report.html").read_text()


def test_a_report_and_scores_by_seg_references(
    predictions: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    references = tmp_path / "references"
    shutil.copytree(predictions / "seg", references)
    assert main(["report", str(predictions), "--references", str(references), "--json"]) == 0
    assert "left out" not in capsys.readouterr().out
    assert "is left out" not in (predictions / "report.html").read_text()
    for kind in ("seg", "rtstruct"):
        assert main(["evaluate", str(predictions), str(predictions / kind), "--json"]) == 0
        scored = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert scored["foreground_mean"]["Dice"] == 1
    assert main(["evaluate", str(predictions / "seg"), str(predictions), "--json"]) == 0


def test_the_viewer_shows_images_and_dicom_labels(predictions: Path, images: Path) -> None:
    found = read_predictions(predictions, Given(references=predictions / "rtstruct"))
    assert found.remarks == ()
    for case in of_predictions(found, found.labels):
        layers = {layer.key: layer.read() for layer in case.layers()}
        assert set(layers) == {"image0", "reference", "prediction", "difference"}
        assert layers["image0"].data.shape == SHAPE
        np.testing.assert_array_equal(layers["reference"].data, layers["prediction"].data)
        assert not layers["difference"].data.any()
    name, path = next(iter(series_paths(images).items()))
    (shown,) = of_image((path,), predictions / "seg" / f"{name}.dcm", None)
    layers = {layer.key: layer.read() for layer in shown.layers()}
    expected = np.asarray(nibabel.load(predictions / f"{name}.nii.gz").dataobj).transpose(2, 1, 0)
    np.testing.assert_array_equal(layers["prediction"].data, expected)


def test_images_that_moved_are_told_and_found_by_option(
    predictions: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = images.rename(images.with_name("moved" + images.suffix))
    assert main(["statistics", str(predictions)]) == 0
    assert "images are no longer where they were predicted from" in capsys.readouterr().err
    if images.name != "s1":  # a series alone is named after its folder
        assert main(["statistics", str(predictions), "-i", str(moved)]) == 0
        assert "remark" not in capsys.readouterr().err
