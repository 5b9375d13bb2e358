"""The public way to read a dataset knows the process's environment."""

from __future__ import annotations

import json
from pathlib import Path

import nnunet_rs
import pytest


def test_listed_files_may_lie_where_a_variable_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, root = tmp_path / "archive", tmp_path / "data"
    for folder in (archive, root):
        folder.mkdir()
    for name in ("a.nii.gz", "b.nii.gz"):
        (archive / name).touch()
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "organ": 1},
        "numTraining": 1,
        "file_ending": ".nii.gz",
        "dataset": {"case": {"images": ["$ARCHIVE/a.nii.gz"], "label": "${ARCHIVE}/b.nii.gz"}},
    }
    (root / "dataset.json").write_text(json.dumps(content))
    monkeypatch.setenv("ARCHIVE", str(archive))
    (case,) = nnunet_rs.read_dataset(root).training
    assert (case.images, case.label) == ((archive / "a.nii.gz",), archive / "b.nii.gz")
