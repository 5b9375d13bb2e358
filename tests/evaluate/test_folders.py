from pathlib import Path

import numpy as np
import pytest
from nnunet_rs.cli import main
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.io import write_labels
from nnunet_rs.core.types import Header, LabelSet
from nnunet_rs.evaluate.folders import evaluate_folders

LABELS = LabelSet(("background", "liver", "tumour"), (0, 1, 2))


def header(spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return Header("itk", tuple(map(tuple, affine.tolist())))


def save(folder: Path, name: str, data, head=None):
    folder.mkdir(exist_ok=True)
    write_labels(folder / name, np.asarray(data, np.uint8), head or header())


@pytest.fixture
def folders(tmp_path):
    ours, theirs = tmp_path / "predictions", tmp_path / "reference"
    save(ours, "a.nii.gz", [[[1, 1, 0, 0]]])
    save(theirs, "a.nii.gz", [[[1, 0, 0, 0]]])
    save(ours, "b.nii.gz", [[[0, 2, 2, 0]]])
    save(theirs, "b.nii.gz", [[[0, 2, 2, 0]]])
    (ours / "summary.json").write_text("{}")
    return ours, theirs


@pytest.mark.parametrize("labels", [LABELS, None])
def test_scores_by_hand(folders, labels):
    summary = evaluate_folders(*folders, labels)
    assert [case.name for case in summary.cases] == ["a", "b"]
    np.testing.assert_allclose(summary.values("dice"), [[2 / 3, np.nan], [np.nan, 1.0]])
    assert summary.foreground_mean() == pytest.approx((2 / 3 + 1) / 2)
    assert summary.values("hd95")[1, 1] == 0.0


def test_endings_in_capitals_are_the_same_case(tmp_path):
    save(tmp_path / "predictions", "a.nii.gz", [[[1, 0]]])
    save(tmp_path / "reference", "A.nii.gz", [[[1, 0]]])
    (tmp_path / "reference" / "A.nii.gz").rename(tmp_path / "reference" / "a.NII.GZ")
    assert evaluate_folders(tmp_path / "predictions", tmp_path / "reference", LABELS).foreground_mean() == 1.0


def test_a_case_of_two_endings_is_an_error(folders):
    save(folders[1], "a.mha", [[[1, 0, 0, 0]]])
    with pytest.raises(DatasetError, match=r"a\.nii\.gz: and a\.mha are the same case; move one of them away"):
        evaluate_folders(*folders, LABELS)


def test_missing_predictions_are_an_error_unless_allowed(folders):
    (folders[0] / "a.nii.gz").unlink()
    with pytest.raises(DatasetError, match="no prediction of a, 1 of 2 references"):
        evaluate_folders(*folders, LABELS)
    assert len(evaluate_folders(*folders, LABELS, partial=True).cases) == 1


def test_files_that_are_not_scored_are_told(folders, capsys):
    ours, theirs = folders
    for file in (ours / "c.mnc", theirs / "_a.nii.gz", theirs / "notes.txt"):
        file.touch()
    for file in (ours / "a.npz", ours / "plans.json", ours / "summary.csv"):  # stand beside segmentations by rights
        file.touch()
    assert main(["evaluate", str(ours), str(theirs)]) == 0
    shown = capsys.readouterr().err
    assert f"warning: {ours}: left-out: 1 file is left out (c.mnc): not of a format that is read" in shown
    assert f"warning: {theirs}: left-out: 1 file is left out (_a.nii.gz): names that begin with _" in shown
    assert f"warning: {theirs}: left-out: 1 file is left out (notes.txt): not of a format that is read" in shown
    assert shown.count("left out") == 3
    (theirs / "b.nii.gz").rename(theirs / "b.mnc")
    with pytest.raises(DatasetError, match=r"b\.nii\.gz: has no reference in .*; b\.mnc is of no format that is read"):
        evaluate_folders(ours, theirs, LABELS)


def test_a_prediction_without_reference_is_an_error(folders):
    (folders[1] / "a.nii.gz").unlink()
    with pytest.raises(DatasetError, match=r"a\.nii\.gz: has no reference"):
        evaluate_folders(*folders, LABELS)


def test_other_shape_place_or_values_are_errors(folders):
    path = folders[0] / "a.nii.gz"
    save(folders[0], path.name, [[[1, 1, 0]]])
    with pytest.raises(DatasetError, match="shape-mismatch"):
        evaluate_folders(*folders, LABELS)
    save(folders[0], path.name, [[[1, 1, 0, 0]]], header(origin=(2.0, 0, 0)))
    with pytest.raises(DatasetError, match="origin-mismatch"):
        evaluate_folders(*folders, LABELS)
    save(folders[0], path.name, [[[1, 7, 0, 0]]])
    with pytest.raises(DatasetError, match=r"a\.nii\.gz: values 7 "):
        evaluate_folders(*folders, LABELS)


def test_empty_missing_and_ambiguous_folders_are_errors(folders, tmp_path):
    with pytest.raises(DatasetError, match="is not a folder"):
        evaluate_folders(tmp_path / "nowhere", folders[1])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no segmentation"):
        evaluate_folders(tmp_path / "empty", folders[1])
    save(folders[0], "a.nrrd", [[[1, 1, 0, 0]]])
    with pytest.raises(DatasetError, match="same case"):
        evaluate_folders(*folders)
