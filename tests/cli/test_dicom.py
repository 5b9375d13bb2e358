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
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
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


def test_a_sagittal_series_is_turned_for_the_network_and_its_seg_lies_as_the_series(work: Path, tmp_path: Path) -> None:
    """The twin: the same volume as NIfTI, its axes stored as those of the training's images, by nibabel."""
    voxels, series = picture(SHAPE, 1), tmp_path / "series" / "a"
    write_series(series, voxels, "sagittal", Modality="MR")
    affine = only_series(series, series).stack.header.affine
    stored = nibabel.Nifti1Image(voxels.T, affine)
    assert nibabel.aff2axcodes(affine) != ("L", "P", "S")
    there = ornt_transform(io_orientation(affine), axcodes2ornt("LPS"))
    back = ornt_transform(axcodes2ornt("LPS"), io_orientation(affine))
    (tmp_path / "twin").mkdir()
    nibabel.save(stored.as_reoriented(there), tmp_path / "twin" / "a_0000.nii.gz")
    labels, segs = read_declared_labels(next(tmp_path.glob("Dataset*/dataset.json"))), {}
    for seen in (None, {"LPS": 3}):
        metadata = work / "models" / "3d_fullres" / "fold_0" / "model.json"
        metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"orientations": seen}))
        out = tmp_path / ("turned" if seen else "as_stored")
        assert predict(work, series.parent, out, "--dicom-seg", "-q") == 0
        grid = written_grid(out / "a.nii.gz")
        segs[seen is not None] = read_labels_on(out / "seg" / "a.dcm", grid, labels).labels()
    assert predict(work, tmp_path / "twin", tmp_path / "of_twin", "-q") == 0
    twin = nibabel.load(tmp_path / "of_twin" / "a.nii.gz").as_reoriented(back)
    np.testing.assert_array_equal(segs[True], np.asarray(twin.dataobj).T)
    assert len(np.unique(segs[True])) > 1
    assert not np.array_equal(segs[False], segs[True])


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
    assert predict(work, scans, tmp_path / "out", "--dicom-seg", "--rtstruct") == 1
    told = capsys.readouterr().err
    assert "sagittal: missing-slice: 1 missing" in told
    assert "2 DICOM files written to" in told
    assert "nnunet-rs-" not in told
    assert (tmp_path / "out" / "axial.nii.gz").is_file()
    assert {path.as_posix() for path in (tmp_path / "out").rglob("*.dcm")} == {
        (tmp_path / "out" / kind / "axial.dcm").as_posix() for kind in ("seg", "rtstruct")
    }


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


# ---- lists and datasets ----------------------------------------------------------------------------------------------


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Three CTs, of which one has a SEG and one an RTSTRUCT file; an MR; a CT without a slice."""
    from nnunet_rs.core.types import LabelSet
    from nnunet_rs.exchange.dicom.rtstruct import write_rtstruct
    from nnunet_rs.exchange.dicom.seg import write_seg
    from nnunet_rs.exchange.dicom.source import Source
    from nnunet_rs.exchange.dicom.structures import structures_of

    root, voxels = tmp_path / "exports", np.zeros(SHAPE, np.uint8)
    voxels[2:6, 5:15, 5:15], voxels[3, 7, 7:9] = 2, 1
    known = structures_of(LabelSet(("background", "tumour", "liver"), (0, 1, 2)))
    for number, name in enumerate(("a", "b", "c")):
        values = {"RescaleIntercept": "-1024"} if name == "b" else {}
        folder = write_series(root / name, picture(SHAPE, number), series=str(number + 1), **values)
        (root / "labels").mkdir(exist_ok=True)
        source = Source(only_series(folder, folder))
        if name == "a":
            write_seg(root / "labels" / "1", voxels, source, known)
        elif name == "b":
            write_rtstruct(root / "labels" / "2", voxels, source, known)
    write_series(root / "d", picture(SHAPE), series="4", Modality="MR")
    broken = write_series(root / "e", picture(SHAPE), series="5")
    (broken / "0004.dcm").unlink()
    return root


def test_series_are_listed(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dicom", str(labelled)]) == 0
    shown = capsys.readouterr().out
    assert "5 images" in shown
    assert "refused: missing-slice: 1 missing" in shown
    assert main(["dicom", str(labelled), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    found = {one["case"]: one for one in told["series"]}
    assert list(found) == ["a", "b", "c", "d", "e"]
    assert found["a"]["labels"] == [str(labelled / "labels" / "1")]
    assert found["b"]["labels"] == [str(labelled / "labels" / "2")]
    assert (found["c"]["shape"], found["c"]["spacing"]) == ([8, 24, 20], [2.5, 0.8, 0.7])
    assert [issue["rule"] for issue in found["e"]["refused"]] == ["missing-slice"]
    assert "Roe" not in json.dumps(told)
    assert "JR0815" not in json.dumps(told)


def test_check_of_a_folder_of_dicom_says_what_lists_it(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(labelled)]) == 1
    assert f"holds DICOM and no dataset.json; `nnunet-rs dicom {labelled}` lists its series" in capsys.readouterr().err


def test_a_dataset_is_made(labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "Dataset042_Liver"
    assert main(["dicom", str(labelled), "-o", str(target), "-q"]) == 1
    assert "series of CT, MR make no dataset" in capsys.readouterr().err
    assert main(["dicom", str(labelled), "-o", str(target), "--modality", "CT", "-q"]) == 1  # one is refused
    assert "missing-slice" in capsys.readouterr().out
    assert sorted(path.relative_to(target).as_posix() for path in target.rglob("*.nii.gz")) == [
        "imagesTr/a_0000.nii.gz",
        "imagesTr/b_0000.nii.gz",
        "imagesTs/c_0000.nii.gz",
        "labelsTr/a.nii.gz",
        "labelsTr/b.nii.gz",
    ]
    content = json.loads((target / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "tumour": 1, "liver": 2}
    assert content["channel_names"] == {"0": "CT"}
    assert content["codes"]["liver"] == ["SCT", "10200004", "Liver"]
    image = nibabel.load(target / "imagesTr" / "b_0000.nii.gz")
    assert image.get_data_dtype() == np.int16
    np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), picture(SHAPE, 1) - 1024)
    for name in ("a", "b"):
        label = np.asarray(nibabel.load(target / "labelsTr" / f"{name}.nii.gz").dataobj)
        assert [int((label == value).sum()) for value in (1, 2)] == [2, 398]
    assert main(["check", str(target)]) == 0


def test_some_structures_only(labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "Dataset001_X"
    shutil.rmtree(labelled / "e")
    command = ["dicom", str(labelled), "-o", str(target), "--modality", "CT", "-q"]
    assert main([*command, "--labels", "lung"]) == 1
    assert "no file of labels has lung; there are liver, tumour" in capsys.readouterr().err
    assert main([*command, "--labels", "liver"]) == 0
    assert json.loads((target / "dataset.json").read_text())["labels"] == {"background": 0, "liver": 2}


def test_references_are_seg_and_rtstruct_files(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Predictions as NIfTI, as SEG; references as SEG, as RTSTRUCT: all are the same labels."""
    target = tmp_path / "Dataset042_Liver"
    main(["dicom", str(labelled), "-o", str(target), "--modality", "CT", "-q"])
    capsys.readouterr()
    references = tmp_path / "references"
    references.mkdir()
    shutil.copy(labelled / "labels" / "1", references / "a.dcm")
    shutil.copy(labelled / "labels" / "2", references / "b.dcm")
    declared = ["--dataset-json", str(target / "dataset.json")]
    for predictions, options in ((target / "labelsTr", declared), (target / "labelsTr", []), (references, declared)):
        if predictions == references:  # of SEG files only: an RTSTRUCT has no voxels
            (references / "b.dcm").unlink()
        partial = ["--partial"] if predictions == references else []
        assert main(["evaluate", str(predictions), str(references), *options, *partial, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["foreground_mean"]["Dice"] == 1
        assert all(one["Dice"] == 1 for one in told["mean"].values())


def test_an_rtstruct_held_against_a_seg_and_against_another(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seg, contours = labelled / "labels" / "1", labelled / "labels" / "2"
    assert main(["evaluate", str(contours), str(seg), "--json"]) == 0  # of other series, on one grid
    assert json.loads(capsys.readouterr().out)["foreground_mean"]["Dice"] == 1
    assert main(["evaluate", str(contours), str(contours), "-q"]) == 1
    assert "no-grid: two RTSTRUCT files" in capsys.readouterr().err


def test_labels_that_are_not_declared_are_told(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "Liver": 1}, "file_ending": ".dcm"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    seg, declared = str(labelled / "labels" / "1"), ["--dataset-json", str(tmp_path / "dataset.json")]
    assert main(["evaluate", seg, seg, *declared]) == 0
    assert "1 structures are not declared and left out: tumour" in capsys.readouterr().err
    content["labels"] = {"background": 0, "lung": 1}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert main(["evaluate", seg, seg, *declared, "-q"]) == 1
    assert "label-undeclared" in capsys.readouterr().err


def test_classes_are_called_as_the_files_call_them(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nnunet_rs.core.types import LabelSet
    from nnunet_rs.exchange.dicom.seg import write_seg
    from nnunet_rs.exchange.dicom.source import Source
    from nnunet_rs.exchange.dicom.structures import structures_of

    seg, contours = labelled / "labels" / "1", labelled / "labels" / "2"

    def scored(other: Path) -> dict[str, float]:
        assert main(["evaluate", str(seg), str(other), "--json"]) == 0
        return {name: row["Dice"] for name, row in json.loads(capsys.readouterr().out)["mean"].items()}

    assert scored(contours) == {"1": 1, "2": 1}
    assert main(["evaluate", str(seg), str(contours)]) == 0
    shown = capsys.readouterr().out
    assert "tumour" in shown
    assert "liver" in shown
    # Another program's numbers: the names decide.
    voxels, other = np.zeros(SHAPE, np.uint8), tmp_path / "other"
    voxels[2:6, 5:15, 5:15], voxels[3, 7, 7:9] = 1, 2
    known = structures_of(LabelSet(("background", "Liver", "Tumour"), (0, 1, 2)))
    write_seg(other, voxels, Source(only_series(labelled / "a", labelled / "a")), known)
    assert scored(other) == {"1": 1, "2": 1}


def test_files_of_labels_that_name_nothing_are_told_first(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pydicom

    seg, target = labelled / "labels" / "1", tmp_path / "Dataset001_X"
    (labelled / "labels" / "2").unlink()
    dataset = pydicom.dcmread(seg)
    dataset.SegmentSequence = []
    dataset.save_as(seg)
    assert main(["dicom", str(labelled), "-o", str(target), "--modality", "CT", "-q"]) == 1
    assert f"{seg}: names no structure; export it again" in capsys.readouterr().err
    assert not target.exists() or not list(target.rglob("*.nii.gz"))
