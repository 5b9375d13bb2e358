from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnunet_rs.cli import main
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.types import LabelSet
from nnunet_rs.predict.prediction_json import prediction_content, write_prediction_json


@pytest.fixture
def folders(tmp_path: Path, save_nifti: Any) -> tuple[Path, Path, Path]:
    """Predictions, others and references of three cases: the others miss one voxel more in each."""
    reference = np.zeros((1, 4, 8), np.uint8)
    reference[0, 1:3, :4] = 1
    reference[0, 1:3, 4:6] = 2
    for index in range(3):
        ours, theirs = reference.copy(), reference.copy()
        ours[0, 1, : index + 1] = 0
        theirs[0, 1, : index + 2] = 0
        for folder, labels in (("ours", ours), ("theirs", theirs), ("reference", reference)):
            save_nifti(tmp_path / folder / f"case_{index}.nii.gz", labels, (2.0, 1.0, 1.0))
    return tmp_path / "ours", tmp_path / "theirs", tmp_path / "reference"


def name_labels(folder: Path) -> None:
    """Say as predict does what the labels are called."""
    with Outputs(folder) as outputs:
        write_prediction_json(outputs, prediction_content({}, LabelSet(("background", "liver", "spleen"), (0, 1, 2))))


def evaluate(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["evaluate", *map(str, arguments), "--json", "--quiet"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_two_predictions_are_compared_case_by_case(folders, tmp_path: Path, capsys) -> None:
    ours, theirs, reference = folders
    result = evaluate(capsys, ours, reference, "--against", theirs, "-o", tmp_path / "scores.json")
    one, two, mean = result["comparison"]["classes"]
    dices = [[2 * (8 - missed) / (16 - missed) for missed in (first, first + 1, first + 2)] for first in (1, 2)]
    assert one["name"] == "1"
    assert one["cases"] == 3
    assert one["first"] == pytest.approx(np.mean(dices[0]))
    assert one["second"] == pytest.approx(np.mean(dices[1]))
    assert one["difference"] == pytest.approx(np.mean(dices[0]) - np.mean(dices[1]))
    assert one["difference"] > 0
    assert one["p_value"] == 0.25  # +++ and --- of eight sign patterns
    assert two["difference"] == 0
    assert mean["difference"] == pytest.approx(one["difference"] / 2)
    assert json.loads((tmp_path / "scores.json").read_text()) == {
        key: value for key, value in result.items() if key not in ("command", "ok", "seconds")
    }


def test_classes_have_the_names_that_they_were_predicted_by(folders, capsys) -> None:
    ours, _, reference = folders
    name_labels(ours)
    classes = evaluate(capsys, ours, reference)["classes"]
    assert [known["name"] for known in classes.values()] == ["liver", "spleen"]


def test_folders_in_nnunets_order_are_told(folders, capsys) -> None:
    ours, _, reference = folders
    name_labels(ours)
    assert main(["evaluate", str(reference), str(ours)]) == 0
    assert f"warning: {ours} holds predictions and is taken as the reference" in capsys.readouterr().err
    assert main(["evaluate", str(ours), str(reference)]) == 0
    assert "warning" not in capsys.readouterr().err


def test_the_comparison_is_shown_as_a_table(folders, capsys) -> None:
    ours, theirs, reference = folders
    assert main(["evaluate", str(ours), str(reference), "--against", str(theirs), "--metric", "hd95", "-q"]) == 0
    shown = capsys.readouterr().out
    assert "mean hd95 over the same cases" in shown
    assert "paired permutation test" in shown
    assert shown.count(str(theirs)) == 2  # its scores, and a column


def test_what_is_found_in_one_of_the_two_only_is_a_class_all_the_same(folders, save_nifti, capsys) -> None:
    ours, theirs, reference = folders
    labels = np.zeros((1, 4, 8), np.uint8)
    labels[0, 1:3, :4] = 3
    save_nifti(theirs / "case_0.nii.gz", labels, (2.0, 1.0, 1.0))
    result = evaluate(capsys, ours, reference, "--against", theirs)
    assert [row["name"] for row in result["comparison"]["classes"]] == ["1", "2", "3", "mean"]


def test_partial_comparisons_are_over_the_cases_of_both(folders, capsys) -> None:
    ours, theirs, reference = folders
    (theirs / "case_1.nii.gz").unlink()
    assert main(["evaluate", str(ours), str(reference), "--against", str(theirs), "--quiet"]) == 1
    assert "no prediction of case_1" in capsys.readouterr().err
    assert main(["evaluate", str(ours), str(reference), "--against", str(theirs), "--partial"]) == 0
    assert f"left out, without prediction in {ours} or {theirs}: 1 of 3: case_1" in capsys.readouterr().err
    result = evaluate(capsys, ours, reference, "--against", theirs, "--partial")
    assert [case["case"] for case in result["metric_per_case"]] == ["case_0", "case_2"]


def test_the_tolerance_is_that_of_the_surface_dice(folders, capsys) -> None:
    ours, _, reference = folders
    strict, lax = (evaluate(capsys, ours, reference, "--tolerance", mm) for mm in ("0.5", "3"))
    assert (strict["tolerance_mm"], lax["tolerance_mm"]) == (0.5, 3.0)
    assert strict["mean"]["1"]["NSD"] < lax["mean"]["1"]["NSD"] == 1.0


@pytest.mark.parametrize("name", ["scores.json", "scores.csv"])
def test_scores_are_written_as_json_and_csv(name: str, folders, tmp_path: Path, capsys) -> None:
    ours, _, reference = folders
    result = evaluate(capsys, ours, reference, "-o", tmp_path / name)
    assert json.loads((tmp_path / "scores.json").read_text())["mean"] == result["mean"]
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["label"]) for row in rows][:3] == [("case_0", "1"), ("case_0", "2"), ("case_1", "1")]
    assert float(rows[0]["Dice"]) == result["metric_per_case"][0]["metrics"]["1"]["Dice"]


def test_a_method_that_misses_lesions_wins_no_comparison(tmp_path: Path, save_nifti, capsys) -> None:
    """Half missed and the other half 1 mm off, against all found 2 mm off."""
    for index in range(8):
        truth = np.zeros((10, 20, 20), np.uint8)
        truth[3:7, 5:12, 5:12] = 1
        near = np.roll(truth, 1, 2) if index >= 4 else truth * 0
        for folder, labels in (("reference", truth), ("misses", near), ("finds", np.roll(truth, 2, 2))):
            save_nifti(tmp_path / folder / f"c{index}.nii.gz", labels)
    misses, finds, reference = (tmp_path / name for name in ("misses", "finds", "reference"))
    signs = {"dice": -1, "iou": -1, "sensitivity": -1, "precision": -1, "nsd": -1, "hd95": 1, "asd": 1}
    for metric, sign in signs.items():
        result = evaluate(capsys, misses, reference, "--against", finds, "--metric", metric)
        row = result["comparison"]["classes"][0]
        assert (row["cases"], np.sign(row["difference"])) == (8, sign)
        assert row["missing"] == ([4, 0] if metric in ("hd95", "asd") else [0, 0])
    assert (result["mean"]["1"]["NSD"], result["cases_in_mean"]["1"]["HD95"]) == (0.5, 4)
    assert main(["evaluate", str(misses), str(reference), "--against", str(finds), "--metric", "asd"]) == 0
    shown = capsys.readouterr().out
    assert "1.00 (4/8)" in shown
    assert "HD95 and ASD exist where prediction and reference have the structure" in shown
    assert f"counts with the image's diagonal: 4 in {misses}, 0 in {finds}" in " ".join(shown.split())
    wrong = ["evaluate", str(misses), str(reference), "--against", str(finds), "--metric", "nsd", "--no-distances"]
    assert main(wrong) == 2
    assert "--metric nsd needs the surface distances" in capsys.readouterr().err


def test_two_files_are_scored_whatever_their_names(folders, capsys) -> None:
    ours, _, reference = folders
    name_labels(ours)
    result = evaluate(capsys, ours / "case_0.nii.gz", reference / "case_1.nii.gz")
    assert [case["case"] for case in result["metric_per_case"]] == ["case_0"]
    assert result["mean"]["1"]["Dice"] == pytest.approx(14 / 15)
    assert [known["name"] for known in result["classes"].values()] == ["liver", "spleen"]
    assert main(["evaluate", str(ours / "case_0.nii.gz"), str(reference), "-q"]) == 1
    assert "are a file and a folder" in capsys.readouterr().err


def test_what_a_reference_is_not_annotated_for_counts_nowhere(folders, capsys) -> None:
    ours, _, reference = folders
    labels = {"background": 0, "liver": 1, "spleen": 2}
    content = {"labels": labels, "annotated_labels": {"case_0": ["spleen"], "case_1": ["spleen"]}}
    (reference / "dataset.json").write_text(json.dumps(content))
    assert main(["evaluate", str(ours), str(reference), "--json"]) == 0
    out = capsys.readouterr()
    result = json.loads(out.out)
    assert result["mean"]["1"]["Dice"] == pytest.approx(2 * 5 / 13)  # of case_2 alone
    assert result["mean"]["2"]["Dice"] == 1
    assert "liver is not scored in 2 cases that are not annotated for it: case_0, case_1" in out.err
    assert result["metric_per_case"][0]["metrics"]["1"]["Dice"] is None
