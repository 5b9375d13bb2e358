"""Images to predict: what a folder of them holds, and what of it cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from nnunet_rs.core.dataset import find_input_cases
from nnunet_rs.core.errors import DatasetError

Make = Callable[..., Path]


def touch(root: Path, *names: str) -> None:
    """Empty files: listing opens none."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("names", "channels", "cases"),
    [
        (["a_0000.nii.gz", "b_0000.nii.gz"], 1, {"a": 1, "b": 1}),
        (["a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz"], 2, {"a": 2, "b": 2}),
        (["a.nii.gz", "b_1.nii.gz"], 1, {"a": 1, "b_1": 1}),
        (["scan_0001.nii.gz", "scan_0002.nii.gz"], 1, {"scan_0001": 1, "scan_0002": 1}),  # no 0000: plain names
        (["a_0000.nii.gz", "b.nii.gz"], 1, {"a": 1, "b": 1}),
        (["a_0000.nii.gz"], 3, {"a": 1}),
        (["a.nii.gz", "._a.nii.gz", "notes.txt"], 1, {"a": 1}),
    ],
)
def test_input_cases(tmp_path: Path, names: list[str], channels: int, cases: dict[str, int]) -> None:
    touch(tmp_path, *names)
    found, issues = find_input_cases(tmp_path, channels, ".nii.gz")
    assert not [issue for issue in issues if issue.fatal]
    assert {case.name: len(case.images) for case in found} == cases
    assert [case.name for case in found] == sorted(cases)


@pytest.mark.parametrize(
    ("names", "channels", "text"),
    [
        (["a_0000.nii.gz", "a_0001.nii.gz"], 1, "channels 0000, 0001, one expected"),
        (["a_0000.nii.gz", "a_0002.nii.gz"], 3, r"channels 0000, 0002, 3 expected \(0000 … 0002\)"),
        (["a_0000.nii.gz", "a_0001.nii.gz", "a_0002.nii.gz"], 2, "channels 0000, 0001, 0002, 2 expected"),
        (["a.nii.gz", "a_0000.nii.gz"], 1, "'a' is there twice"),
        (["a.nrrd"], 1, r"no file ends in \.nii\.gz \(found: 1 \.nrrd\)"),
        ([], 1, "found: nothing"),
    ],
)
def test_input_folders_that_do_not_fit(tmp_path: Path, names: list[str], channels: int, text: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(DatasetError, match=text):
        find_input_cases(tmp_path, channels, ".nii.gz")


def test_input_cases_that_cannot_be_used_leave_the_others_alone(tmp_path: Path) -> None:
    touch(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz", "b_0001.nii.gz", "c_0000.nii.gz", "c.nii.gz")
    cases, issues = find_input_cases(tmp_path, 2)
    assert [case.name for case in cases] == ["a"]
    assert {issue.case: issue.rule for issue in issues} == {"b": "channels", "c": "case-twice"}


def test_what_an_input_folder_holds_besides_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "a.NII.GZ", "dataset.json", "notes.txt", "a.seg.nrrd", "_b.nii.gz", ".DS_Store", "scans/c.nii.gz")
    cases, issues = find_input_cases(tmp_path, 1)
    assert [case.name for case in cases] == ["a"]
    assert [issue.value for issue in issues] == [
        "1 folder is left out (scans): folders within are not looked into",
        "1 file is left out (_b.nii.gz): names that begin with _ are taken for no data",
        "1 file is left out (a.seg.nrrd): a segmentation by its ending, no image",
        "1 file is left out (notes.txt): not of a format that is read",
    ]
    assert not any(issue.fatal for issue in issues)


def test_without_an_ending_every_format_is_taken(tmp_path: Path) -> None:
    touch(tmp_path, "a.nrrd", "b.nii.gz", "c.txt")
    assert [case.name for case in find_input_cases(tmp_path, 1)[0]] == ["a", "b"]
    with pytest.raises(DatasetError, match="gone: no such folder"):
        find_input_cases(tmp_path / "gone", 1)
