"""What a folder of segmentations tells of itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.report.predictions import Given, Predictions, read_predictions

LABELS = np.array([[[0, 1], [2, 2]]], np.uint8)


@pytest.fixture
def folder(tmp_path: Path, save_nifti: Callable[..., Path]) -> Path:
    """Two segmentations made from images that the record names: one channel a file, two of them."""
    out = tmp_path / "out"
    for name in ("a", "b"):
        images = [save_nifti(tmp_path / "images" / f"{name}_{c:04d}.nii.gz", LABELS.astype("f4")) for c in (0, 1)]
        with Outputs(out) as outputs, outputs.new_files(f"{name}.nii.gz", images) as place:
            save_nifti(place / f"{name}.nii.gz", LABELS)
    return out


def images_of(found: Predictions) -> dict[str, list[str]]:
    return {case.name: [image.name for image in case.images] for case in found.cases}


def test_images_are_those_of_the_record(folder: Path) -> None:
    found = read_predictions(folder)
    assert images_of(found) == {n: [f"{n}_0000.nii.gz", f"{n}_0001.nii.gz"] for n in ("a", "b")}
    assert (found.remarks, found.name) == ((), "out")
    assert found.labels.names == ("background", "label 1", "label 2")


def test_images_that_are_gone_are_told_and_can_be_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    found = read_predictions(folder)
    assert images_of(found) == {"a": [], "b": []}
    assert [remark.split(":")[0] for remark in found.remarks] == [
        "images are no longer where they were predicted from",
        "2 of 2 cases have no image",
    ]
    found = read_predictions(folder, Given(images=tmp_path / "elsewhere"))
    assert images_of(found)["b"] == ["b_0000.nii.gz", "b_0001.nii.gz"]
    assert found.remarks == ()


def test_one_file(folder: Path, tmp_path: Path) -> None:
    found = read_predictions(folder / "a.nii.gz", Given(references=folder / "b.nii.gz"))
    assert list(images_of(found)) == ["a"]
    assert found.references == {"a": folder / "b.nii.gz"}


def test_segmentations_are_not_their_own_images(folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"out: holds the image of no case \(a, b\)"):
        read_predictions(folder, Given(images=folder))


def test_names_come_from_prediction_json_then_from_dataset_json(folder: Path, tmp_path: Path) -> None:
    def write(path: Path, first: str) -> Path:
        labels = {"background": 0, first: 1, "second": 2}
        path.write_text(json.dumps({"channel_names": {"0": "T1", "1": "T2"}, "labels": labels}))
        return path

    beside = write(tmp_path / "dataset.json", "beside")
    assert read_predictions(folder).labels.names[1] == "beside"
    assert read_predictions(folder).channels == ("T1", "T2")
    write(folder / "prediction.json", "predicted")
    assert read_predictions(folder).labels.names[1] == "predicted"
    assert read_predictions(folder, Given(dataset_json=beside)).labels.names[1] == "beside"


def test_references_that_are_missing_are_told(folder: Path, tmp_path: Path, save_nifti: Callable[..., Path]) -> None:
    save_nifti(tmp_path / "labels" / "a.nii.gz", LABELS)
    found = read_predictions(folder, Given(references=tmp_path / "labels"))
    assert list(found.references) == ["a"]
    assert found.remarks == ("1 of 2 cases has no reference: b",)


def test_folders_that_are_not_there_are_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: is not a folder"):
        read_predictions(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"nowhere: no such folder; give the folder of the references"):
        read_predictions(folder, Given(references=tmp_path / "nowhere"))
    with pytest.raises(DatasetError, match=r"a_0000\.nii\.gz: is a file, of several cases a folder is needed"):
        read_predictions(folder, Given(images=tmp_path / "images" / "a_0000.nii.gz"))


def test_series_of_dicom_are_folders(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="pydicom is not installed (pip install 'nnunet-rs[dicom]')")
    from dicom_files import write_series

    for name in ("a", "b"):
        write_series(tmp_path / "series" / name)
    found = read_predictions(folder, Given(images=tmp_path / "series"))
    assert images_of(found) == {"a": ["a"], "b": ["b"]}
    assert found.remarks == ()
