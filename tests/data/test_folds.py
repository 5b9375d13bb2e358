from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.progress import Silent
from nnunet_rs.data.folds import (
    Fold,
    count_folds,
    groups_from_pattern,
    make_folds,
    read_case_table,
    read_splits,
    write_splits,
)
from sklearn.model_selection import KFold, StratifiedKFold


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def _names(count: int) -> list[str]:
    return [f"case_{number:03}" for number in range(count)]


@given(count=st.integers(5, 60), folds=st.integers(2, 5))
@settings(max_examples=20, deadline=None)
def test_equals_scikit_learn(count: int, folds: int) -> None:
    names = np.array(_names(count))
    reference = KFold(folds, shuffle=True, random_state=12345).split(names)
    expected = tuple(Fold(tuple(names[train]), tuple(names[held])) for train, held in reference)
    assert make_folds(list(reversed(names.tolist())), count=folds) == expected


def test_stratified_equals_scikit_learn() -> None:
    names = np.array(_names(23))
    strata = dict(zip(names.tolist(), np.random.default_rng(0).choice(["b", "a", "c"], 23).tolist(), strict=True))
    reference = StratifiedKFold(5, shuffle=True, random_state=12345).split(names, [strata[name] for name in names])
    folds = make_folds(names.tolist(), strata=strata)
    assert [fold.validation for fold in folds] == [tuple(names[held]) for _, held in reference]


@given(st.lists(st.integers(0, 9), min_size=2, max_size=40), st.booleans())
@settings(max_examples=30, deadline=None)
def test_every_case_is_held_out_once_and_groups_stay_together(patients: list[int], stratify: bool) -> None:
    names = _names(len(patients))
    groups = {name: str(patient) for name, patient in zip(names, patients, strict=True)}
    strata = {name: str(patient % 2) for name, patient in zip(names, patients, strict=True)} if stratify else None
    folds = make_folds(names, groups=groups, strata=strata)
    if len(set(patients)) == 1:
        assert folds == (Fold(tuple(names), tuple(names)),)
        return
    assert sorted(name for fold in folds for name in fold.validation) == names
    for fold in folds:
        assert sorted((*fold.train, *fold.validation)) == names
        assert not {groups[name] for name in fold.train} & {groups[name] for name in fold.validation}


def test_few_cases_give_fewer_folds_and_a_warning() -> None:
    listener = Listener()
    folds = make_folds(["b", "a", "c"], progress=listener)
    assert sorted(fold.validation for fold in folds) == [("a",), ("b",), ("c",)]
    assert listener.said == ["warning: only 3 cases: 3 folds instead of 5"]


def test_one_case_validates_on_itself() -> None:
    listener = Listener()
    assert make_folds(["a"], progress=listener) == (Fold(("a",), ("a",)),)
    assert "only one case (a)" in listener.said[0]


def test_no_case() -> None:
    with pytest.raises(DatasetError, match="no training case"):
        make_folds([])


def test_groups_by_pattern() -> None:
    names = ["patient001_frame01", "patient001_frame12", "patient006_frame01"]
    expected = {names[0]: "patient001", names[1]: "patient001", names[2]: "patient006"}
    assert groups_from_pattern(names, r"^(patient\d+)_") == expected
    assert groups_from_pattern(names, r"patient\d+") == expected


def test_groups_by_pattern_faults() -> None:
    with pytest.raises(DatasetError, match="is not a regular expression"):
        groups_from_pattern(["a"], "(")
    with pytest.raises(DatasetError, match="case a does not match"):
        groups_from_pattern(["a"], "b")


def test_groups_by_table(tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    path.write_text("case,patient\n a ,1\nb,1\n\nc,2\n")
    assert read_case_table(path) == {"a": "1", "b": "1", "c": "2"}
    with pytest.raises(DatasetError, match="case d is not listed"):
        make_folds(["a", "d"], groups=read_case_table(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [("a\n", "line 1: one column"), ("a,1\na,2\n", "line 2: case a is listed before with '1', now '2'")],
)
def test_group_table_faults(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "groups.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=re.escape(message)):
        read_case_table(path)
    with pytest.raises(DatasetError, match=r"none\.csv: cannot be read"):
        read_case_table(tmp_path / "none.csv")


def test_splits_are_nnunets_and_come_back(tmp_path: Path) -> None:
    folds = make_folds(_names(7))
    write_splits(tmp_path / "splits.json", folds)
    content = json.loads((tmp_path / "splits.json").read_text())
    assert [sorted(entry) for entry in content] == [["train", "val"]] * 5
    assert read_splits(tmp_path / "splits.json", _names(7)) == folds


def test_a_single_case_split_comes_back(tmp_path: Path) -> None:
    write_splits(tmp_path / "splits.json", make_folds(["a"]))
    assert read_splits(tmp_path / "splits.json", ["a"]) == (Fold(("a",), ("a",)),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "expected a list of folds"),
        ([{"train": ["a"]}], "fold 0: expected"),
        ([{"train": [], "val": ["a"]}], "'train' must be a list of at least one"),
        ([{"train": ["a"], "val": "b"}], "'val' must be a list of case names, or empty"),
        ([{"train": ["a", "x"], "val": ["b"]}], "'train' names 'x', which is not a training case"),
        ([{"train": ["a", "b"], "val": ["b"]}], "b is both trained on and held out"),
        ([{"train": ["a", "a"], "val": ["b"]}], "'train' names a twice"),
    ],
)
def test_edited_splits_faults(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "splits.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=re.escape(message)):
        read_splits(path, ["a", "b", "c"])


def test_numbers_in_place_of_names_are_named(tmp_path):
    file = tmp_path / "splits.json"
    file.write_text('[{"train": [0, 1], "val": ["case_2"]}]')
    with pytest.raises(DatasetError, match=r"fold 0: 'train' holds 0; names of cases are texts, such as \"case_1\"$"):
        read_splits(file, ["case_1", "case_2"])


@pytest.mark.parametrize("content", ["3", "{}", "[]"])
def test_splits_that_are_no_list_cannot_be_counted(tmp_path, content):
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(DatasetError, match=r"splits\.json: expected a list of folds"):
        count_folds(tmp_path / "splits.json")


def test_one_fold_is_no_cross_validation() -> None:
    with pytest.raises(DatasetError, match="number of folds is 1: must be at least 2"):
        make_folds(["a", "b"], count=1)
