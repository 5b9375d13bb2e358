from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest
from nnunet_rs.cli import main
from nnunet_rs.cli.console import UsageError
from nnunet_rs.cli.places import Places, fill
from nnunet_rs.core.errors import DatasetError


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    for name in ("Dataset004_Hippocampus", "Dataset027_ACDC", "Dataset127_ACDC", "notes"):
        (tmp_path / "raw" / name).mkdir(parents=True)
    return {
        "nnUNet_raw": str(tmp_path / "raw"),
        "nnUNet_preprocessed": str(tmp_path / "preprocessed"),
        "nnUNet_results": str(tmp_path / "results"),
    }


@pytest.mark.parametrize("asked", ["4", "004", "Hippocampus", "Dataset004_Hippocampus"])
def test_a_number_or_a_name_is_found(asked: str, environment: dict[str, str]) -> None:
    assert Places.of(environment).name(asked) == "Dataset004_Hippocampus"


@pytest.mark.parametrize(
    ("asked", "said"),
    [("5", "there are Dataset004_Hippocampus, Dataset027_ACDC"), ("ACDC", "Dataset027_ACDC, Dataset127_ACDC all fit")],
)
def test_none_or_several_say_what_there_is(asked: str, said: str, environment: dict[str, str]) -> None:
    with pytest.raises(DatasetError, match=said):
        Places.of(environment).name(asked)


def test_the_work_folder_lies_among_the_results_or_where_there_is_a_place(environment: dict[str, str]) -> None:
    raw, preprocessed, results = map(Path, environment.values())
    name = "Dataset027_ACDC"
    assert Places(raw, preprocessed, results).work("27") == results / name / "nnunet_rs"
    assert Places(raw, preprocessed, None).work("27") == preprocessed / name / "nnunet_rs"
    assert Places(raw, None, None).data("27") == raw / name


@pytest.mark.parametrize(
    ("command", "names", "needed"),
    [
        ({"data": None}, (), "nnUNet_raw"),
        ({"data": None}, ("nnUNet_results",), "nnUNet_raw"),
        ({"work": None}, ("nnUNet_raw",), "nnUNet_preprocessed or nnUNet_results"),
        ({"work": Path("work")}, ("nnUNet_raw", "nnUNet_results"), r"WORK \(work\) and -d 27"),
    ],
)
def test_what_is_missing_or_said_twice_is_named(
    command: dict[str, None], names: tuple[str, ...], needed: str, environment: dict[str, str]
) -> None:
    arguments = Namespace(command="any", dataset="27", output=None, **command)
    with pytest.raises(UsageError, match=needed):
        fill(arguments, {name: environment[name] for name in names})


def test_without_the_option_the_environment_is_not_asked(environment: dict[str, str]) -> None:
    arguments = Namespace(command="train", dataset=None, work=Path("work"))
    fill(arguments, environment)
    assert arguments.work == Path("work")


def test_prepared_cases_lie_where_nnunet_keeps_them(
    raw_dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = raw_dataset()
    named = root.rename(root.parent / "Dataset031_Small")
    preprocessed, results = tmp_path / "fast", tmp_path / "safe"
    for variable, place in (
        ("nnUNet_raw", named.parent),
        ("nnUNet_preprocessed", preprocessed),
        ("nnUNet_results", results),
    ):
        monkeypatch.setenv(variable, str(place))
    for _ in range(2):
        assert main(["preprocess", "-d", "31", "-c", "2d", "--features", "4", "--quiet", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    work = results / "Dataset031_Small" / "nnunet_rs"
    assert Path(answer["work"]) == work
    assert answer["made"] == 0
    assert list((preprocessed / "Dataset031_Small" / "nnunet_rs" / "2d").iterdir())
    assert (work / "prepared").is_symlink()
    assert main(["check", "-d", "Small", "--quiet"]) == 0
