"""Every fault of real archives, made on purpose, must be found: all of them, in one pass, with file, rule and value."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nnunet_rs.core import check
from nnunet_rs.core.check import check_case, check_dataset
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.issues import Issue, IssueError, fatal, require_none
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.resources import resident_memory

Make = Callable[..., Path]
Save = Callable[..., Path]


def edit(path: Path, change: Callable[[np.ndarray], np.ndarray], **fields: Any) -> None:
    """Rewrite a NIfTI file with changed voxels (x, y, z), header fields, or an affine."""
    image = nibabel.load(path)
    voxels = change(np.asarray(image.dataobj))
    image = nibabel.Nifti1Image(voxels, fields.pop("affine", image.affine))
    for field, value in fields.items():
        image.header[field] = value
    nibabel.save(image, path)


def same(voxels: np.ndarray) -> np.ndarray:
    return voxels


def with_value(value: float, kind: str = "f4") -> Callable[[np.ndarray], np.ndarray]:
    def change(voxels: np.ndarray) -> np.ndarray:
        voxels = voxels.astype(kind)
        voxels[1, 2, 3] = value
        return voxels

    return change


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def told(root: Path, threads: int = 1) -> list[tuple[str, str, bool]]:
    issues = check_dataset(read_dataset(root), threads=threads)
    assert all("\n" not in str(issue) for issue in issues)
    return [(issue.rule, issue.file.name, issue.fatal) for issue in issues]


IMAGE, LABEL = "imagesTr/case_1_0000.nii.gz", "labelsTr/case_1.nii.gz"

FAULTS: list[tuple[str, Callable[[Path], object], str, bool]] = [
    (IMAGE, cut, "gzip-truncated", True),
    (LABEL, cut, "gzip-truncated", True),
    (IMAGE, lambda path: path.write_bytes(b""), "file-empty", True),
    (IMAGE, lambda path: path.write_bytes(gzip.decompress(path.read_bytes())), "not-gzip", True),
    (LABEL, lambda path: path.write_bytes(gzip.compress(b"nothing")), "not-nifti", True),
    (IMAGE, lambda path: edit(path, lambda voxels: voxels[0, 0]), "dimensions", True),
    (IMAGE, lambda path: edit(path, lambda voxels: np.stack([voxels] * 2, -1)), "channels", True),
    (LABEL, lambda path: edit(path, lambda voxels: np.stack([voxels] * 2, -1)), "channels", True),
    (IMAGE, lambda path: edit(path, with_value(np.nan)), "non-finite", True),
    (IMAGE, lambda path: edit(path, with_value(np.inf, "f8")), "non-finite", True),
    (LABEL, lambda path: edit(path, with_value(np.nan)), "non-finite", True),
    (LABEL, lambda path: edit(path, with_value(1.0000001)), "label-not-integral", True),
    (LABEL, lambda path: edit(path, with_value(3)), "label-undeclared", True),
    (LABEL, lambda path: edit(path, with_value(-1, "i2")), "label-undeclared", True),
    (LABEL, lambda path: edit(path, np.zeros_like), "no-foreground", False),
    (IMAGE, lambda path: edit(path, np.zeros_like), "image-constant", False),
    (LABEL, lambda path: edit(path, lambda voxels: voxels[1:]), "shape-mismatch", True),
    (LABEL, lambda path: edit(path, same, affine=np.diag([1, 1, 3.1, 1])), "spacing-mismatch", True),
    (LABEL, lambda path: edit(path, same, affine=np.diag([1, 1, 3.001, 1])), "spacing-mismatch", False),
    (LABEL, lambda path: edit(path, same, affine=np.diag([-1, 1, 3, 1])), "orientation-mismatch", True),
    (LABEL, lambda path: edit(path, same, affine=np.diag([1, 1, 3, 1]) + np.eye(4, k=3)), "origin-mismatch", True),
    (IMAGE, lambda path: edit(path, same, pixdim=[1, 1, 0, 3, 0, 0, 0, 0]), "spacing-invalid", True),
    (LABEL, lambda path: edit(path, same, qform_code=1, qoffset_x=7), "qform-sform", False),
]


@pytest.mark.parametrize(("name", "spoil", "rule", "is_fatal"), FAULTS)
def test_each_fault_is_found_where_it_is(
    raw_dataset: Make, name: str, spoil: Callable[[Path], object], rule: str, is_fatal: bool
) -> None:
    root = raw_dataset(cases=2)
    spoil(root / name)
    assert (rule, Path(name).name, is_fatal) in told(root)
    assert not [one for one in told(root) if one[1] not in (Path(IMAGE).name, Path(LABEL).name)]


@pytest.mark.parametrize("threads", [1, 3])
def test_all_faults_are_found_in_one_pass_in_the_order_of_the_cases(raw_dataset: Make, threads: int) -> None:
    root = raw_dataset(cases=6, numTraining=7)
    (root / "labelsTr/case_0.nii.gz").unlink()
    cut(root / "imagesTr/case_1_0000.nii.gz")
    edit(root / "imagesTr/case_2_0000.nii.gz", with_value(np.nan))
    edit(root / "labelsTr/case_2.nii.gz", with_value(9))
    edit(root / "labelsTr/case_4.nii.gz", with_value(0.5))
    assert told(root, threads) == [
        ("label-missing", "case_0.nii.gz", True),
        ("num-training", "dataset.json", False),
        ("gzip-truncated", "case_1_0000.nii.gz", True),
        ("non-finite", "case_2_0000.nii.gz", True),
        ("label-undeclared", "case_2.nii.gz", True),
        ("label-not-integral", "case_4.nii.gz", True),
    ]


def test_every_fault_of_a_case_with_channels(raw_dataset: Make) -> None:
    root = raw_dataset(cases=1, channels=("T1", "T2"))
    edit(root / "imagesTr/case_0_0001.nii.gz", lambda voxels: voxels[:, 1:], affine=np.diag([1, 2, 3, 1]))
    edit(root / "labelsTr/case_0.nii.gz", with_value(5), affine=np.diag([1, 2, 3, 1]))
    assert told(root) == [
        ("shape-mismatch", "case_0_0001.nii.gz", True),
        ("spacing-mismatch", "case_0.nii.gz", True),
        ("label-undeclared", "case_0.nii.gz", True),
    ]


def test_a_sound_case_comes_with_image_and_class_indices(decathlon_dataset: Make, made_up_case: Any) -> None:
    root = decathlon_dataset(cases=1, channels=("T1", "T2"), labels={"background": 0, "large": 1, "small": 2})
    dataset = read_dataset(root)
    volume, labels, issues = check_case(dataset, dataset.training[0])
    image, truth = made_up_case(0, channels=2)
    assert issues == ()
    assert volume is not None
    assert labels is not None
    np.testing.assert_array_equal(volume.data, image)
    np.testing.assert_array_equal(labels.data, truth)
    assert (volume.spacing, labels.data.dtype) == ((3.0, 1.0, 1.0), np.uint8)


def test_values_that_are_not_consecutive_become_class_indices(raw_dataset: Make) -> None:
    root = raw_dataset(cases=1, labels={"background": 0, "large": 10, "small": 200, "ignore": 255})
    values = np.array([0, 10, 200], np.uint8)
    edit(root / "labelsTr/case_0.nii.gz", lambda voxels: with_value(255, "u1")(values[voxels]))
    dataset = read_dataset(root)
    _, labels, issues = check_case(dataset, dataset.training[0])
    assert labels is not None
    assert (np.unique(labels.data).tolist(), issues) == ([0, 1, 2, 3], ())


def test_a_case_that_cannot_be_used_comes_without_what_is_broken(raw_dataset: Make) -> None:
    root = raw_dataset(cases=3)
    cut(root / "imagesTr/case_0_0000.nii.gz")
    edit(root / "labelsTr/case_1.nii.gz", with_value(9))
    edit(root / "imagesTr/case_2_0000.nii.gz", np.zeros_like)
    dataset = read_dataset(root)
    given = [check_case(dataset, case)[:2] for case in dataset.training]
    assert [(volume is None, labels is None) for volume, labels in given] == [
        (True, False),
        (False, True),
        (False, False),
    ]


def test_memory_that_does_not_suffice_is_a_fault_of_the_case(
    raw_dataset: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise MemoryError

    root = raw_dataset(cases=1)
    monkeypatch.setattr(check, "read_scan", refuse)
    assert ("memory", "case_0_0000.nii.gz", True) in told(root)


def test_no_foreground_anywhere_is_fatal(raw_dataset: Make) -> None:
    root = raw_dataset(cases=2)
    for index in range(2):
        edit(root / f"labelsTr/case_{index}.nii.gz", np.zeros_like)
    assert told(root)[-1] == ("no-foreground-anywhere", "dataset.json", True)


def test_a_class_that_no_case_holds_is_a_warning(raw_dataset: Make) -> None:
    root = raw_dataset(cases=2, labels={"background": 0, "large": 1, "small": 2, "rare": 3})
    (issue,) = check_dataset(read_dataset(root))
    assert (issue.rule, issue.fatal) == ("label-unused", False)
    assert "no case holds 'rare' (3)" in str(issue)


def test_cases_together_tell_of_a_spacing_in_another_unit(raw_dataset: Make) -> None:
    root = raw_dataset(cases=4)
    for name in (IMAGE, LABEL):
        edit(root / name, same, affine=np.diag([1000, 1000, 3000, 1]))
    assert told(root) == [("spacing-outlier", "case_1_0000.nii.gz", False)]
    for index in range(4):
        for name in (f"imagesTr/case_{index}_0000.nii.gz", f"labelsTr/case_{index}.nii.gz"):
            edit(root / name, same, affine=np.diag([1e-6, 1e-6, 3e-6, 1]))
    assert told(root) == [("spacing-unit", "dataset.json", False)]


def test_regions_that_do_not_come_back_are_a_warning(raw_dataset: Make) -> None:
    labels = {"background": 0, "both": [1, 2], "small": [2]}
    assert told(raw_dataset("right", cases=2, labels=labels, regions_class_order=[1, 2])) == []
    wrong = raw_dataset("wrong", cases=2, labels=labels, regions_class_order=[2, 1])
    assert told(wrong) == [("regions-order", "dataset.json", False)]


def test_progress_counts_every_case(raw_dataset: Make) -> None:
    class Count:
        done = 0.0
        total = 0.0

        def task(self, name: str, total: float, *, timed: bool = False) -> Count:
            self.total = total
            return self

        def __enter__(self) -> Count:
            return self

        def __exit__(self, *exception: object) -> None:
            pass

        def advance(self, count: float = 1, note: str = "") -> None:
            self.done += count

        def say(self, text: str) -> None:
            pass

    progress = Count()
    shown: Progress = progress
    check_dataset(read_dataset(raw_dataset(cases=3)), shown, threads=2)
    assert (progress.done, progress.total) == (3, 3)


def test_an_interruption_drops_the_cases_not_begun(raw_dataset: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def interrupt(dataset: object, budget: object, case: Any) -> None:
        begun.append(case.name)
        if len(begun) == 1:
            raise KeyboardInterrupt
        time.sleep(0.05)  # longer than the main thread needs to hear of it

    dataset = read_dataset(raw_dataset(cases=8, shape=(4, 6, 6)))
    monkeypatch.setattr(check, "_see", interrupt)
    with pytest.raises(KeyboardInterrupt):
        check_dataset(dataset, threads=1)
    assert len(begun) < 8


def test_a_case_beyond_the_memory_is_a_fault_and_the_others_are_checked(raw_dataset: Make, save_nifti: Save) -> None:
    root = raw_dataset(cases=3)
    big = np.zeros((300, 300, 300), np.uint8)  # more than a hundred megabytes as float32
    save_nifti(root / IMAGE, big, (3, 1, 1))
    (root / "labelsTr" / "case_2.nii.gz").write_bytes(b"")
    issues = check_dataset(read_dataset(root), threads=1, memory=resident_memory() + (110 << 20))
    assert [(issue.case, issue.rule) for issue in fatal(issues)] == [("case_1", "memory"), ("case_2", "file-empty")]
    assert "raise --memory" in issues[0].advice


def test_the_first_fatal_fault_is_raised() -> None:
    warning = Issue(Path("a"), "units", "x", "y", fatal=False)
    issue = Issue(Path("b.nii"), "shape-mismatch", "1, not 2", "resample it")
    require_none((warning,))
    assert fatal((warning, issue)) == (issue,)
    with pytest.raises(IssueError, match=r"^b\.nii: shape-mismatch: 1, not 2; resample it$"):
        require_none((warning, issue))


def test_faults_are_plain_values(raw_dataset: Make) -> None:
    root = raw_dataset(cases=1)
    edit(root / "labelsTr/case_0.nii.gz", with_value(9))
    (issue,) = fatal(check_dataset(read_dataset(root)))
    assert (issue.case, issue.rule) == ("case_0", "label-undeclared")
    assert json.loads(json.dumps(issue.value)).startswith("values 9 (1 voxel)")


def test_real_datasets_are_sound(shared: Path) -> None:
    for name in ("Task04_Hippocampus", "Dataset027_ACDC"):
        assert check_dataset(read_dataset(shared / "data" / name), threads=2) == ()


@pytest.mark.parametrize("name", ["prediction", "Summary", "scan"])
def test_a_stack_whose_spacing_file_would_be_one_of_ours_is_told(tmp_path: Path, name: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    for folder, file in (("imagesTr", f"{name}_0000.tif"), ("labelsTr", f"{name}.tif")):
        (tmp_path / folder).mkdir()
        voxels = np.ones((3, 8, 8), np.uint8)
        voxels[0] = 0
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / folder / file))
    content = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1}, "file_ending": ".tif"}
    (tmp_path / "dataset.json").write_text(json.dumps({**content, "numTraining": 1}))
    found = [issue for issue in fatal(check_dataset(read_dataset(tmp_path))) if issue.rule == "case-name"]
    assert [f"{name}.json" in issue.value for issue in found] == ([] if name == "scan" else [True])
