"""What dataset.json says of cases that are annotated in part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from nnunet_rs.core.check import check_dataset
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.partial_labels import PartialLabels, unannotated_targets
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.data.pipeline import PrepareOptions, prepare_dataset

LABELS = LabelSet(("background", "a", "b", "c"), (0, 1, 2, 5))
FILE = Path("dataset.json")


def test_numbers_and_offsets() -> None:
    found = unannotated_targets(FILE, {"annotated_labels": {"x": ["a"], "y": ["c", "b", "a"], "z": ["b", "c"]}}, LABELS)
    assert found == {"x": (1, 2), "z": (0,)}
    partial = PartialLabels.of(found)
    assert [partial.offset(name, LABELS) for name in "xyz"] == [10, 0, 5]
    assert partial.table(LABELS) == [[1, 1, 1], [0, 1, 1], [1, 0, 0]]
    assert partial.among({"x"}) == PartialLabels.of({"x": (1, 2)})
    assert not PartialLabels()


def test_regions_by_their_names() -> None:
    regions = LabelSet(LABELS.names, LABELS.values, (Region("whole", (1, 2), 1), Region("core", (2,), 2)))
    assert unannotated_targets(FILE, {"annotated_labels": {"x": ["whole"]}}, regions) == {"x": (1,)}


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (["x"], "'annotated_labels' is ['x'], not an object"),
        ({"x": "a"}, "'annotated_labels['x']' is 'a'"),
        ({"x": []}, "'annotated_labels['x']' is []"),
        ({"x": ["lesion"]}, "names 'lesion'; there are a, b, c"),
        ({"x": [1]}, "names 1; there are a, b, c"),
        ({"x": ["background"]}, "names the background alone"),
    ],
)
def test_wrong_declarations(declared: Any, said: str) -> None:
    with pytest.raises(DatasetError) as told:
        unannotated_targets(FILE, {"annotated_labels": declared}, LABELS)
    assert str(told.value).startswith(str(FILE))
    assert said in str(told.value)


def test_too_many_combinations() -> None:
    names = ("background", *(f"c{k}" for k in range(200)))
    many = {f"case_{k}": [f"c{k}"] for k in range(200)}
    with pytest.raises(DatasetError, match="has 200 combinations of 201 classes"):
        unannotated_targets(FILE, {"annotated_labels": many}, LabelSet(names, tuple(range(201))))


@pytest.mark.parametrize("layout", ["raw_dataset", "decathlon_dataset"])
def test_the_work_folder_keeps_what_is_annotated(layout: str, request: Any, tmp_path: Path) -> None:
    root = request.getfixturevalue(layout)(annotated_labels={"case_1": ["large"], "case_2": ["large", "small"]})
    image = {"large": 1}
    _relabel(root / "labelsTr" / "case_1.nii.gz", 2, image["large"])
    dataset = read_dataset(root)
    assert [case.unannotated for case in dataset.training] == [(), (1,), (), ()]
    prepare_dataset(dataset, tmp_path / "work", PrepareOptions(configurations=("2d",)))
    assert json.loads((tmp_path / "work" / "dataset.json").read_text())["annotated_labels"] == {"case_1": ["large"]}
    assert read_dataset(tmp_path / "work").training[1].unannotated == (1,)


def test_a_label_that_is_said_not_to_be_annotated(raw_dataset: Any, tmp_path: Path) -> None:
    root = raw_dataset()
    prepare_dataset(read_dataset(root), tmp_path / "work", PrepareOptions(configurations=("2d",)))
    content = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**content, "annotated_labels": {"case_1": ["large"]}}))
    dataset = read_dataset(root)
    with pytest.raises(DatasetError, match="not annotated for that"):  # what was scanned before is looked at again
        prepare_dataset(dataset, tmp_path / "work", PrepareOptions(configurations=("2d",)))
    (issue,) = [issue for issue in check_dataset(dataset) if issue.fatal]
    assert (issue.case, issue.rule) == ("case_1", "label-unannotated")
    assert "holds small, and dataset.json says that it is not annotated for that" in issue.value


def test_a_case_that_is_not_there(raw_dataset: Any) -> None:
    with pytest.raises(DatasetError, match="'annotated_labels' names 'case_9', which is no training case; did you"):
        read_dataset(raw_dataset(annotated_labels={"case_9": ["large"]}))


def _relabel(path: Path, value: int, becomes: int) -> None:
    import nibabel
    import numpy as np

    image = nibabel.load(path)
    data = np.asarray(image.dataobj)
    data[data == value] = becomes
    nibabel.save(nibabel.Nifti1Image(data, image.affine), path)
