from __future__ import annotations

import json
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


@pytest.fixture
def listed(make_work, tmp_path: Path, monkeypatch) -> Path:
    """A list of two images of a work folder with a model, in the current folder."""
    make_work({"3d_fullres": (0,)})
    monkeypatch.chdir(tmp_path)
    rows = (f"{name},Dataset001_Made/imagesTr/case_{name}_0000.nii.gz,{name}/seg.nii.gz\n" for name in "01")
    (tmp_path / "cases.csv").write_text("id,image,output\n" + "".join(rows))
    return tmp_path


def test_a_list_is_predicted(listed: Path, capsys) -> None:
    words = ["predict", "work", "--list", "cases.csv", "-o", "out", "--device", "cpu", "-q", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["written"] == ["0", "1"]
    assert sorted(path.name for path in listed.glob("out/*/seg.nii.gz")) == ["seg.nii.gz"] * 2
    (listed / "out" / "1" / "seg.nii.gz").unlink()
    assert main([*words, "--part", "2/2"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == ["1"]
    with (listed / "cases.csv").open("a") as stream:
        stream.write("2,nowhere.nii.gz,2/seg.nii.gz\n")
    assert main(words[:-1]) == 1
    assert "1 of 1 case failed, none is written: 2: " in capsys.readouterr().err


def test_a_dry_run_writes_nothing(listed: Path, capsys) -> None:
    words = ["predict", "work", "--list", "cases.csv", "-o", "out", "--on", "ray", "--dry-run", "-q"]
    assert main([*words, "--workers", "5", "--cpus", "3"]) == 0
    shown = capsys.readouterr().out
    assert "2 cases, shared by 2 workers" in shown
    assert "would submit: predict out, worker 2 (3 processors, 0 GPUs)" in shown
    assert not (listed / "out").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "predict needs -i IN, or --list FILE; one of them"),
        (["-i", "a", "--list", "cases.csv"], "one of them"),
        (["--list", "cases.csv", "--rtstruct"], "--list takes image files"),
        (["--list", "cases.csv", "--workers", "2"], "--workers is for a cluster: add --on"),
        (["--list", "cases.csv", "--dry-run"], "--dry-run is for a cluster"),
    ],
)
def test_what_does_not_go_together_is_told(more: list[str], said: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "work", "-o", "out", *more, "-q"]) == 2
    assert said in capsys.readouterr().err


def test_slurm_that_is_not_here_is_told(listed: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PATH", str(listed))
    assert main(["predict", "work", "--list", "cases.csv", "-o", "out", "--on", "slurm", "-q"]) == 1
    assert "SLURM is not here: there is no command sbatch" in capsys.readouterr().err
