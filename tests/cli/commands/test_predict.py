from __future__ import annotations

from pathlib import Path

import pytest
from nnunet_rs.cli import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-i", "nowhere.nii.gz", "-o", "out"], "nowhere.nii.gz: no such file or folder"),
        (["-i", "ours", "-o", "seg.nii.gz"], "seg.nii.gz: names a file, and ours is a folder"),
        (["-i", "ours", "theirs", "-o", "out"], "theirs: no such model"),
    ],
)
def test_what_images_and_outputs_cannot_be_is_told(arguments, said, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
    model = ["theirs"] if "theirs" not in arguments else []
    assert main(["predict", *model, *arguments, "-q"]) == 1
    assert said.split(":")[0] in capsys.readouterr().err


@pytest.mark.parametrize("command", ["ensemble", "postprocess"])
def test_a_place_for_several_files_is_no_file(command: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ours").mkdir()
    more = ["--keep-largest", "foreground"] if command == "postprocess" else []
    assert main([command, "ours", "-o", "both.nii.gz", *more]) == 1
    assert "both.nii.gz: names one file; name a folder for the segmentations" in capsys.readouterr().err
    assert not (tmp_path / "both.nii.gz").exists()
