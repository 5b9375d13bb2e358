"""Predicting from DICOM: what is found, what is written, and what is kept out of it."""

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

from dicom_files import picture, save, slice_file, write_series
from nnunet_rs.cli import main
from nnunet_rs.core.dataset_json import read_declared_labels
from nnunet_rs.core.dicom.reader import only_series
from nnunet_rs.core.dicom.references import read_labels_on

SHAPE = (8, 24, 20)


@pytest.fixture
def work(make_work: Callable[..., Path]) -> Path:
    return make_work({"3d_fullres": (0,)})


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two series, a scout among one, a report."""
    write_series(tmp_path / "scans" / "st" / "axial", picture(SHAPE), Modality="MR")
    write_series(tmp_path / "scans" / "st" / "sagittal", picture(SHAPE, 1), "sagittal", series="2", Modality="MR")
    scout = slice_file(picture()[0], (0, 0, 0), 30, ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(scout, tmp_path / "scans" / "st" / "axial" / "scout")
    (tmp_path / "scans" / "report.txt").write_text("text")
    return tmp_path / "scans"


def predict(work: Path, images: Path, out: Path, *options: str) -> int:
    return main(["predict", str(work), "-i", str(images), "-o", str(out), "--no-mirror", *options])


def test_series_are_segmented_and_written_as_dicom(
    work: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pydicom

    dataset = next(tmp_path.glob("Dataset*")) / "dataset.json"
    declared = json.loads(dataset.read_text()) | {"codes": {"large": ["SCT", "10200004", "Liver"]}}
    dataset.write_text(json.dumps(declared))
    out = tmp_path / "out"
    told = ("--dicom-seg", "--rtstruct", "--dataset-json", str(dataset))
    assert predict(work, scans, out, *told) == 0
    said = capsys.readouterr()
    assert "localizer: 1 left out (scout)" in said.err
    assert "not-dicom: 1 left out (report.txt)" in said.err
    assert "4 DICOM files written" in said.out
    assert "Roe" not in said.err + said.out
    labels = read_declared_labels(dataset)
    for name in ("axial", "sagittal"):
        written = nibabel.load(out / f"{name}.nii.gz")
        voxels = np.asarray(written.dataobj).transpose(2, 1, 0)
        series = only_series(scans / "st" / name, scans)
        np.testing.assert_allclose(written.affine, series.stack.header.affine, atol=1e-4)
        grid = written_grid(out / f"{name}.nii.gz")
        for kind in ("seg", "rtstruct"):
            found = read_labels_on(out / kind / f"{name}.dcm", grid, labels)
            np.testing.assert_array_equal(found.labels(), voxels)
    seg = pydicom.dcmread(out / "seg" / "axial.dcm")
    assert seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    first = {path: path.read_bytes() for path in out.rglob("*.dcm")}
    assert predict(work, scans, out, *told, "-q") == 0  # nothing is predicted again, the same is written
    assert {path: path.read_bytes() for path in out.rglob("*.dcm")} == first


def written_grid(path: Path):
    from nnunet_rs.core.io import read_scan

    return read_scan(path).grid


def test_forms_of_a_seg_and_a_zip(work: Path, scans: Path, tmp_path: Path) -> None:
    import pydicom

    (scans / "st" / "axial" / "scout").unlink()
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in (scans / "st" / "axial").iterdir():
            archive.write(file, file.name)
    kinds = {}
    for form in ("labelmap", "fractional"):
        assert predict(work, tmp_path / "all.zip", tmp_path / form, "--dicom-seg", form, "-q") == 0
        (written,) = (tmp_path / form / "seg").iterdir()
        kinds[form] = pydicom.dcmread(written)
    assert [file.SegmentationType for file in kinds.values()] == ["LABELMAP", "FRACTIONAL"]
    assert len(list((tmp_path / "fractional").glob("*.b2nd"))) == 1


def test_one_series_into_one_file(work: Path, scans: Path, tmp_path: Path) -> None:
    (scans / "st" / "axial" / "scout").unlink()
    assert predict(work, scans / "st" / "axial", tmp_path / "o" / "mine.nii.gz", "--rtstruct", "-q") == 0
    assert {path.name for path in (tmp_path / "o").rglob("mine*")} == {"mine.nii.gz", "mine.dcm"}


def test_a_series_that_is_refused_holds_up_no_other(
    work: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scans / "st" / "sagittal" / "0004.dcm").unlink()
    assert predict(work, scans, tmp_path / "out", "-q") == 1
    told = capsys.readouterr().err
    assert "sagittal: missing-slice: 1 missing" in told
    assert "nnunet-rs-" not in told
    assert (tmp_path / "out" / "axial.nii.gz").is_file()


def test_a_foreign_file_is_not_replaced(
    work: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "seg").mkdir(parents=True)
    (tmp_path / "out" / "seg" / "axial.dcm").write_text("mine")
    assert predict(work, scans, tmp_path / "out", "--dicom-seg", "-q") == 1
    assert "would be replaced" in capsys.readouterr().err
    assert not (tmp_path / "out" / "axial.nii.gz").exists()
    assert (tmp_path / "out" / "seg" / "axial.dcm").read_text() == "mine"


def test_dicom_outputs_need_dicom(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = next(tmp_path.glob("Dataset*")) / "imagesTr"
    assert predict(work, images, tmp_path / "out", "--dicom-seg", "-q") == 2
    assert "need images that are DICOM" in capsys.readouterr().err


def test_a_folder_without_an_image_is_told(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scout = slice_file(picture()[0], (0, 0, 0), 30, ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    (tmp_path / "one").mkdir()
    save(scout, tmp_path / "one" / "scout")
    assert predict(work, tmp_path / "one", tmp_path / "out", "-q") == 1
    assert "holds no series of DICOM images (1 files of DICOM left out" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["", ".dcm"])
def test_a_dataset_whose_cases_are_folders(tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Images are folders of slices, labels SEG files or folders that hold one; check and preprocess read them."""
    from nnunet_rs.core.types import LabelSet
    from nnunet_rs.exchange.dicom.seg import write_seg
    from nnunet_rs.exchange.dicom.source import Source
    from nnunet_rs.exchange.dicom.structures import structures_of

    root = tmp_path / "Dataset003_Dicom"
    labels = LabelSet(("background", "liver"), (0, 1))
    for number in range(5):
        folder = write_series(root / "imagesTr" / f"case_{number}_0000{ending}", picture(SHAPE, number), Modality="MR")
        voxels = np.zeros(SHAPE, np.uint8)
        voxels[2:6, 5:15, 5:15] = 1
        target = root / "labelsTr" / f"case_{number}.dcm"
        target.parent.mkdir(exist_ok=True)
        write_seg(target, voxels, Source(only_series(folder, folder)), structures_of(labels))
    content = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "liver": 1}, "numTraining": 5}
    (root / "dataset.json").write_text(json.dumps({**content, "file_ending": ".dcm"}))
    assert main(["check", str(root)]) == 0, capsys.readouterr().out
    assert main(["preprocess", str(root), "-o", str(tmp_path / "work"), "--features", "4", "--vram", "0.02", "-q"]) == 0
    shutil.move(root / "imagesTr" / f"case_3_0000{ending}" / "0004.dcm", tmp_path / "gone.dcm")
    assert main(["check", str(root), "--json"]) == 1
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [(found["case"], found["rule"]) for found in told["faults"]] == [("case_3", "missing-slice")]
