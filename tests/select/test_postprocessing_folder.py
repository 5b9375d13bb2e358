from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnunet_rs.cli import main
from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.core.io import read_labels
from nnunet_rs.core.types import LabelSet
from nnunet_rs.select.postprocessing_folder import keep_largest, postprocess_folder, read_decision

LABELS = LabelSet(("background", "liver", "tumour"), (0, 1, 4))
#                 liver, three voxels and one   tumour, two and one
BEFORE = np.array([[[1, 1, 1, 0, 1, 0, 4, 4, 0, 4]]], np.uint8)


@pytest.fixture
def folder(tmp_path: Path, save_nifti: Any) -> Path:
    save_nifti(tmp_path / "in" / "case.nii.gz", BEFORE, (2.0, 1.0, 1.0))
    (tmp_path / "in" / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1, "tumour": 4}}))
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("wanted", "after"),
    [
        (["liver"], [1, 1, 1, 0, 0, 0, 4, 4, 0, 4]),
        (["1", "4"], [1, 1, 1, 0, 0, 0, 4, 4, 0, 0]),
        (["foreground"], [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]),
        (["liver+tumour"], [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_the_largest_component_of_what_is_named(wanted: list[str], after: list[int], folder: Path) -> None:
    out = folder.with_name("out")
    assert postprocess_folder(folder, out, keep_largest(wanted, LABELS), LABELS) == ("case",)
    assert read_labels(out / "case.nii.gz").data.ravel().tolist() == after
    assert read_labels(folder / "case.nii.gz").data.ravel().tolist() == BEFORE.ravel().tolist()


def test_a_function_gets_classes_and_spacing(folder: Path) -> None:
    def swap(classes: Any, spacing: Any) -> Any:
        assert spacing == (2.0, 1.0, 1.0)
        return np.where(classes > 0, 3 - classes, 0)

    postprocess_folder(folder, folder.with_name("out"), swap, LABELS)
    found = read_labels(folder.with_name("out") / "case.nii.gz").data.ravel().tolist()
    assert found == [4, 4, 4, 0, 4, 0, 1, 1, 0, 1]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda classes, _: classes[0], r"returned uint8 \[1, 10\]; return whole numbers \[1, 1, 10\]"),
        (lambda classes, _: classes + 5, "returned 5 … 7; class indices are 0 … 2"),
        (lambda *_: None, "returned NoneType"),
        (lambda classes, _: classes / 2, "returned float"),
    ],
)
def test_what_a_function_may_not_return(answer: Any, said: str, folder: Path) -> None:
    with pytest.raises(DatasetError, match=f"case.nii.gz: post-processing {said}"):
        postprocess_folder(folder, folder.with_name("out"), answer, LABELS)


def test_nothing_is_written_over_what_is_there(folder: Path, save_nifti: Any) -> None:
    steps = keep_largest(["foreground"], LABELS)
    with pytest.raises(DatasetError, match="holds the segmentations themselves"):
        postprocess_folder(folder, folder, steps, LABELS)
    save_nifti(folder.with_name("out") / "case.nii.gz", BEFORE)
    before = (folder.with_name("out") / "case.nii.gz").read_bytes()
    with pytest.raises(NnunetError, match=r"case\.nii\.gz: is not known to be made by this tool"):
        postprocess_folder(folder, folder.with_name("out"), steps, LABELS)
    assert (folder.with_name("out") / "case.nii.gz").read_bytes() == before


def test_what_helps_is_decided_by_references_and_used_again(folder: Path, save_nifti: Any, capsys: Any) -> None:
    reference = BEFORE.copy()
    reference[0, 0, 4] = 0  # the liver's second component is wrong, the tumour's is right
    save_nifti(folder.with_name("reference") / "case.nii.gz", reference, (2.0, 1.0, 1.0))
    first, second = folder.with_name("first"), folder.with_name("second")
    line = ["postprocess", folder, "-o", first, "--decide", folder.with_name("reference"), "--json", "-q"]
    assert main(list(map(str, line))) == 0
    assert json.loads(capsys.readouterr().out)["keep_largest"] == ["liver"]
    assert read_decision(first).labels == LABELS
    assert main(list(map(str, ["postprocess", folder, "-o", second, "--from", first, "-q"]))) == 0
    for out in (first, second):
        assert np.array_equal(read_labels(out / "case.nii.gz").data, reference)


def test_a_class_or_a_decision_that_there_is_not(folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"no class 'spleen' .*; there are foreground, liver, tumour"):
        keep_largest(["spleen"], LABELS)
    with pytest.raises(DatasetError, match="no class 'background'"):
        keep_largest(["background"], LABELS)
    with pytest.raises(DatasetError, match=r"holds neither best.json \(run best\) nor postprocessing.json"):
        read_decision(folder)
    (folder / "postprocessing.json").write_text(
        json.dumps(
            {
                "labels": {"names": ["background", "liver"], "values": [0, 1], "regions": None, "ignore": None},
                "postprocessing": {"keep_largest": [[2]], "reasons": []},
                "version": 1,
            }
        )
    )
    with pytest.raises(DatasetError, match=r"postprocessing\.json: "):
        read_decision(folder)
