"""The folds of a work folder: made as asked for, then followed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.progress import Silent
from nnunet_rs.data.folds import Fold, make_folds, read_splits, write_splits
from nnunet_rs.data.pipeline import PrepareOptions, plan_dataset
from nnunet_rs.data.reconcile import reconcile_splits

NAMES = [f"case_{number:02}" for number in range(12)]
PAIRS = {name: f"p{number // 2}" for number, name in enumerate(NAMES)}


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    return tmp_path / "splits.json"


def reconciled(splits: Path, **asked) -> tuple[tuple[Fold, ...], list[str]]:
    """Return the folds, which the file holds, and what was said."""
    listener = Listener()
    folds = reconcile_splits(splits, NAMES, listener, **asked)
    assert read_splits(splits, NAMES) == folds
    return folds, listener.said


def test_there_are_five_where_no_number_is_asked_for(splits: Path) -> None:
    assert reconciled(splits) == (make_folds(NAMES, count=5), [])


@pytest.mark.parametrize("more", [{}, {"groups": PAIRS}, {"strata": {name: name[-1] for name in NAMES}}])
def test_as_many_as_asked_for_then_followed(splits: Path, more: dict) -> None:
    folds, _ = reconciled(splits, num_folds=3, **more)
    assert folds == make_folds(NAMES, count=3, **more)
    written = splits.read_bytes()
    assert reconciled(splits) == reconciled(splits, num_folds=3) == reconciled(splits, **more) == (folds, [])
    assert splits.read_bytes() == written


def test_another_number_than_the_files_is_refused(splits: Path) -> None:
    write_splits(splits, make_folds(NAMES, count=4))
    written = splits.read_bytes()
    for more in ({}, {"groups": PAIRS}):
        with pytest.raises(DatasetError, match=r"splits\.json has 4 folds, and 3 are asked for: leave .* move that"):
            reconciled(splits, num_folds=3, **more)
    assert splits.read_bytes() == written
    assert list(splits.parent.iterdir()) == [splits]


def test_new_groups_keep_the_number(splits: Path) -> None:
    write_splits(splits, make_folds(NAMES, count=3))
    folds, said = reconciled(splits, groups=PAIRS)
    assert folds == make_folds(NAMES, count=3, groups=PAIRS)
    assert len(said) == 1
    kept = next(path for path in splits.parent.iterdir() if path != splits)
    assert said[0] == f"{splits} had other folds: it is kept as {kept.name}"
    assert read_splits(kept, NAMES) == make_folds(NAMES, count=3)


@pytest.mark.parametrize("content", ["damaged", json.dumps([{"train": NAMES[:6], "val": NAMES[6:]}])])
def test_new_groups_make_five_of_what_has_no_folds(splits: Path, content: str) -> None:
    splits.write_text(content)
    assert reconciled(splits, groups=PAIRS)[0] == make_folds(NAMES, groups=PAIRS)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"num_folds": 1}, "number of folds is 1: must be at least 2; train -f all holds nothing out"),
        ({"num_folds": 13}, "number of folds is 13, and there are only 12 cases: must not be more than those"),
        ({"num_folds": 7, "groups": PAIRS}, "number of folds is 7, and there are only 6 groups: must not be more"),
        ({"num_folds": 2, "groups": dict.fromkeys(NAMES, "a")}, "number of folds is 2, and there is only 1 group: "),
    ],
)
def test_numbers_that_cannot_be(splits: Path, asked: dict, said: str) -> None:
    with pytest.raises(DatasetError, match=f"^{said}"):
        reconciled(splits, **asked)
    assert not splits.exists()


def test_a_damaged_file_is_not_replaced(splits: Path) -> None:
    splits.write_text("damaged")
    with pytest.raises(DatasetError, match=r"not JSON.*correct it, or move it away for new folds"):
        reconciled(splits, num_folds=3)
    assert splits.read_text() == "damaged"


def test_what_cannot_be_is_told_before_a_case_is_read(raw_dataset, tmp_path: Path) -> None:
    root = raw_dataset(cases=4)
    for image in (root / "imagesTr").iterdir():
        image.write_bytes(b"")  # no error of these comes first
    with pytest.raises(DatasetError, match="number of folds is 5, and there are only 4 cases"):
        plan_dataset(read_dataset(root), tmp_path / "work", PrepareOptions(num_folds=5))
