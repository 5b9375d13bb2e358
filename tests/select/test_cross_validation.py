import json

import nibabel
import numpy as np
import pytest
from nnunet_rs.core.errors import CheckpointError, DatasetError
from nnunet_rs.predict.predictor import PredictOptions
from nnunet_rs.select.cross_validation import validate_fold

FAST = PredictOptions(mirror=False)


@pytest.fixture
def work(make_work):
    return make_work({"3d_fullres": (1,)})


def test_the_held_out_cases_are_predicted_and_scored(work):
    summary = validate_fold(work, "3d_fullres", 1, device="cpu", options=FAST)
    held_out = json.loads((work / "splits.json").read_text())[1]["val"]
    assert [case.name for case in summary.cases] == held_out
    folder = work / "models" / "3d_fullres" / "fold_1" / "validation"
    for name in held_out:
        ours, theirs = nibabel.load(folder / f"{name}.nii.gz"), nibabel.load(summary.cases[0].reference)
        np.testing.assert_array_equal(ours.affine, theirs.affine)
        assert ours.shape == theirs.shape
    written = json.loads((folder / "summary.json").read_text())
    assert written["foreground_mean"]["Dice"] == pytest.approx(summary.foreground_mean())


def test_a_second_run_predicts_nothing_anew(work):
    validate_fold(work, "3d_fullres", 1, device="cpu", options=FAST)
    folder = work / "models" / "3d_fullres" / "fold_1" / "validation"
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.nii.gz")}
    validate_fold(work, "3d_fullres", 1, device="cpu", options=FAST)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.nii.gz")} == before


def test_what_is_missing_is_said(work):
    with pytest.raises(CheckpointError, match="fold 0 is not trained"):
        validate_fold(work, "3d_fullres", 0, device="cpu")
    (work / "splits.json").write_text("[]")
    with pytest.raises(DatasetError, match=r"splits\.json"):
        validate_fold(work, "3d_fullres", 1, device="cpu")
    (work / "dataset.json").unlink()
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        validate_fold(work, "3d_fullres", 1, device="cpu")


def test_a_case_that_the_model_has_seen_is_not_scored(work):
    """A fold edited after training would score the model on what it learnt."""
    folds = json.loads((work / "splits.json").read_text())
    metadata = work / "models" / "3d_fullres" / "fold_1" / "model.json"
    content = json.loads(metadata.read_text())
    content["cases"] = {"train": folds[1]["train"], "validation": folds[1]["val"]}
    metadata.write_text(json.dumps(content))
    validate_fold(work, "3d_fullres", 1, device="cpu", options=FAST)
    seen = folds[1]["train"].pop()
    folds[1]["val"].append(seen)
    (work / "splits.json").write_text(json.dumps(folds))
    with pytest.raises(CheckpointError, match=f"fold 1 holds out {seen}, which 3d_fullres, fold 1, was trained on"):
        validate_fold(work, "3d_fullres", 1, device="cpu", options=FAST)
