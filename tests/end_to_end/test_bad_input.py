"""Every kind of broken dataset: one line with file, rule and value, exit code 1, nothing half-written."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nnunet_rs.cli import main

IMAGE = "imagesTr/case_1_0000.nii.gz"
LABEL = "labelsTr/case_1.nii.gz"


@dataclass(frozen=True)
class Breakage:
    """How a dataset is broken, and what must be said about it."""

    name: str
    break_it: Callable[[Path], object]
    file: str  # the file named
    said: tuple[str, ...]  # rule and value


def edit_json(**changes: Any) -> Callable[[Path], object]:
    def edit(root: Path) -> None:
        content = json.loads((root / "dataset.json").read_text()) | changes
        kept = {key: value for key, value in content.items() if value is not None}
        (root / "dataset.json").write_text(json.dumps(kept))

    return edit


def rewrite_json(text: str) -> Callable[[Path], object]:
    return lambda root: (root / "dataset.json").write_text(text)


def edit_nifti(file: str, change: Callable[[np.ndarray, np.ndarray], tuple[Any, Any]]) -> Callable[[Path], object]:
    def edit(root: Path) -> None:
        image = nibabel.load(root / file)
        data, affine = change(np.asarray(image.dataobj), image.affine.copy())
        nibabel.save(nibabel.Nifti1Image(data, affine), root / file)

    return edit


def with_value(value: float, dtype: type) -> Callable[[np.ndarray, np.ndarray], tuple[Any, Any]]:
    def change(data: np.ndarray, affine: np.ndarray) -> tuple[Any, Any]:
        data = data.astype(dtype)
        data[3, 4, 5] = value
        return data, affine

    return change


def truncate(root: Path) -> None:
    content = (root / IMAGE).read_bytes()
    (root / IMAGE).write_bytes(content[: len(content) // 2])


def not_gzip(root: Path) -> None:
    (root / IMAGE).write_bytes(gzip.decompress((root / IMAGE).read_bytes()))


BREAKAGES = [
    Breakage("no dataset.json", lambda r: (r / "dataset.json").unlink(), "dataset.json", ("no such file",)),
    Breakage("json cut short", rewrite_json('{"labels": {'), "dataset.json", ("not JSON", "line 1")),
    Breakage("json is a list", rewrite_json("[1]"), "dataset.json", ("list",)),
    Breakage("no labels", edit_json(labels=None), "dataset.json", ("'labels'", "missing")),
    Breakage("no channels", edit_json(channel_names=None), "dataset.json", ("channel_names",)),
    Breakage("nonsense ending", edit_json(file_ending=".docx"), "dataset.json", ("file_ending", ".docx")),
    Breakage("image without label", lambda r: (r / LABEL).unlink(), LABEL, ("label-missing",)),
    Breakage("label without image", lambda r: (r / IMAGE).unlink(), LABEL, ("image-missing",)),
    Breakage("other shape", edit_nifti(LABEL, lambda d, a: (d[:-2], a)), LABEL, ("shape-mismatch", "18", "20")),
    Breakage("other spacing", edit_nifti(LABEL, lambda d, a: (d, a * 1.5)), LABEL, ("spacing-mismatch", "1.5")),
    Breakage("undeclared label", edit_nifti(LABEL, with_value(7, np.uint8)), LABEL, ("label-undeclared", "7")),
    Breakage("half a label", edit_nifti(LABEL, with_value(1.5, np.float32)), LABEL, ("label-not-integral", "1.5")),
    Breakage("NaN", edit_nifti(IMAGE, with_value(np.nan, np.float32)), IMAGE, ("non-finite", "1")),
    Breakage("truncated gzip", truncate, IMAGE, ("gzip-truncated",)),
    Breakage("not gzip", not_gzip, IMAGE, ("not-gzip",)),
    Breakage("empty file", lambda r: (r / IMAGE).write_bytes(b""), IMAGE, ("empty",)),
    Breakage("4-D", edit_nifti(IMAGE, lambda d, a: (np.stack([d] * 2, -1), a)), IMAGE, ("channels", "2")),
]  # fmt: skip


@pytest.mark.parametrize("broken", BREAKAGES, ids=lambda broken: broken.name)
def test_broken_datasets(
    broken: Breakage, raw_dataset: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, work = raw_dataset(cases=3), tmp_path / "work"
    broken.break_it(root)

    assert main(["check", str(root), "--quiet"]) == 1
    printed = "".join(capsys.readouterr())
    lines = [line for line in printed.splitlines() if line.startswith("error")]
    assert len(lines) == 1, printed
    assert_line(lines[0], broken)

    assert main(["preprocess", str(root), "-o", str(work), "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert_line(err, broken)
    assert "; " in err  # what to do comes after the fact
    left = [path for path in work.rglob("*") if path.is_file()] if work.exists() else []
    assert not [path for path in left if path.name in ("plan.json", "splits.json") or "tmp" in path.name], left


def assert_line(line: str, broken: Breakage) -> None:
    assert Path(broken.file).name in line
    for text in broken.said:
        assert text in line
    assert "Traceback" not in line


def test_a_table_lists_the_faults_for_people(
    raw_dataset: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = raw_dataset(cases=4)
    truncate(root)
    with_value_7 = edit_nifti("labelsTr/case_3.nii.gz", with_value(7, np.uint8))
    with_value_7(root)
    (root / "labelsTr/case_2.nii.gz").unlink()
    assert main(["check", str(root), "--quiet"]) == 1
    title, head, *rows, verdict = capsys.readouterr().out.splitlines()
    assert title == f"{root}:"
    assert [head.index(name) for name in ("file", "rule", "found", "what to do")] == [
        rows[0].index(text) for text in ("labelsTr/case_2.nii.gz", "label-missing", "no label of", "restore it")
    ]
    assert [row.split()[:3] for row in rows] == [
        ["error", "labelsTr/case_2.nii.gz", "label-missing"],
        ["error", IMAGE, "gzip-truncated"],
        ["error", "labelsTr/case_3.nii.gz", "label-undeclared"],
    ]
    assert verdict == (
        "Dataset001_Made has problems: 4 training cases, 3 of them unusable, 3 errors, no warnings; "
        "preprocess --skip-faulty leaves them out"
    )


def test_json_lists_the_faults_for_machines(
    raw_dataset: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = raw_dataset(cases=3)
    truncate(root)
    (root / "labelsTr/case_2.nii.gz").unlink()
    assert main(["check", str(root), "--json", "--quiet"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert not result["ok"]
    assert (result["cases"], result["faulty"]) == (3, ["case_1", "case_2"])
    assert {(issue["case"], issue["rule"]) for issue in result["issues"] if issue["severity"] == "error"} == {
        ("case_1", "gzip-truncated"),
        ("case_2", "label-missing"),
    }
