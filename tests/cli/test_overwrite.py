"""What commands do to a file that is where the user wants theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnunet_rs.cli import main
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.data.pipeline import plan_dataset
from nnunet_rs.run.demo import DemoOptions, run_demo
from nnunet_rs.run.phantom import DATASET, write_dataset


@pytest.fixture
def place(tmp_path: Path, save_nifti: Any, raw_dataset: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the working one, with predictions, references, a dataset and a planned work folder."""
    labels = np.zeros((2, 8, 8), np.uint8)
    labels[:, 2:6, 2:6] = 1
    for folder in ("ours", "reference"):
        save_nifti(tmp_path / folder / "case.nii.gz", labels)
    data = raw_dataset(cases=5)
    plan_dataset(read_dataset(data), tmp_path / "work")
    data.rename(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


EVALUATE = ["evaluate", "ours", "reference", "-o", "file.json"]
PLAN = ["plan", "data", "--vram", "0.02", "--as-nnunet", "file.json"]
REPORT = ["report", "work", "-o", "file.html"]
COMMANDS = [EVALUATE, PLAN, REPORT]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_not_ours_stays_and_what_is_ours_is_made_anew(command, place: Path, capsys) -> None:
    file = place / command[-1]
    file.write_text("mine")
    assert main([*command, "-q"]) == 1
    assert f"{file.name}: is not known to be made by this tool" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert main([*command, "--overwrite", "-q"]) == 0
    made = file.read_text()
    assert (place / "previous/1" / file.name).read_text() == "mine"
    assert main([*command, "-q"]) == 0
    file.write_text("edited")
    assert main([*command, "-q"]) == 1
    assert "changed since this tool made it" in capsys.readouterr().err
    assert file.read_text() == "edited"
    assert made != "edited"


@pytest.mark.parametrize(
    ("command", "source"),
    [
        ([*EVALUATE[:-1], "ours/case.nii.gz"], "ours/case.nii.gz"),
        ([*EVALUATE[:-1], "data/dataset.json", "--dataset-json", "data/dataset.json"], "data/dataset.json"),
        ([*REPORT[:-1], "work/plan.json"], "work/plan.json"),
    ],
)
def test_an_input_is_never_replaced(command, source: str, place: Path, capsys) -> None:
    before = (place / source).read_bytes()
    assert main([*command, "--overwrite", "-q"]) == 1
    assert "inputs are never replaced" in capsys.readouterr().err
    assert (place / source).read_bytes() == before


def test_scores_beside_which_a_table_of_the_users_lies_are_refused(place: Path, capsys) -> None:
    (place / "file.csv").write_text("mine")
    assert main([*EVALUATE, "-q"]) == 1
    assert "file.csv: is not known to be made by this tool" in capsys.readouterr().err
    assert not (place / "file.json").exists()


def test_a_file_of_ours_of_another_kind_is_not_replaced(place: Path, capsys) -> None:
    assert main([*EVALUATE, "-q"]) == 0
    assert main([*REPORT[:-1], "file.json", "-q"]) == 1
    assert "metric_per_case" in json.loads((place / "file.json").read_text())


def test_a_report_in_its_own_place_keeps_aside_what_lies_there(place: Path) -> None:
    (place / "work/report.html").write_text("mine")
    assert main(["report", "work", "-q"]) == 0
    assert main(["report", "work", "-q"]) == 0
    assert (place / "work/previous/1/report.html").read_text() == "mine"
    assert not (place / "work/previous/2").exists()


@pytest.mark.parametrize("name", [DATASET, "work", "scores.json", "report.html"])
def test_the_demo_leaves_the_users_folders_alone(tmp_path: Path, name: str) -> None:
    if "." in name:
        (tmp_path / name).write_text("mine")
    else:
        (tmp_path / name / "imagesTr").mkdir(parents=True)
    with pytest.raises(NnunetError, match=f"holds {name}, which the demo would write and did not make"):
        run_demo(tmp_path, DemoOptions(training=1, test=1))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_made_up_scans_replace_no_other_dataset(tmp_path: Path) -> None:
    (tmp_path / DATASET).mkdir()
    (tmp_path / DATASET / "dataset.json").write_text('{"description": "mine"}')
    with pytest.raises(NnunetError, match="was not made by this tool"):
        write_dataset(tmp_path, training=1, test=0)
    assert [path.name for path in (tmp_path / DATASET).iterdir()] == ["dataset.json"]
