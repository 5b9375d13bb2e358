from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest
from nnunet_rs.cli import main
from nnunet_rs.cli.console import UsageError
from nnunet_rs.cli.paths import Paths, cache_folder, fill
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.data.placement import prepared_folder, read_placement
from nnunet_rs.data.store import open_store
from nnunet_rs.plan.files import read_plan


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
    assert Paths.of(environment).name(asked) == "Dataset004_Hippocampus"


@pytest.mark.parametrize(
    ("asked", "said"),
    [("5", "there are Dataset004_Hippocampus, Dataset027_ACDC"), ("ACDC", "Dataset027_ACDC, Dataset127_ACDC all fit")],
)
def test_none_or_several_say_what_there_is(asked: str, said: str, environment: dict[str, str]) -> None:
    with pytest.raises(DatasetError, match=said):
        Paths.of(environment).name(asked)


def test_the_work_folder_lies_among_the_results_or_where_there_is_a_place(environment: dict[str, str]) -> None:
    raw, preprocessed, results = map(Path, environment.values())
    name = "Dataset027_ACDC"
    assert Paths(raw, preprocessed, results).work("27") == results / name / "nnunet_rs"
    assert Paths(raw, preprocessed, None).work("27") == preprocessed / name / "nnunet_rs"
    assert Paths(raw, None, None).data("27") == raw / name


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
    assert not (work / "prepared").exists()
    assert main(["check", "-d", "Small", "--quiet"]) == 0


def test_a_number_may_have_any_number_of_digits(environment: dict[str, str]) -> None:
    raw = Path(environment["nnUNet_raw"])
    for name in ("Dataset1234_Large", "Dataset12_Short", "Dataset00000005_Long"):
        (raw / name).mkdir()
    for asked, found in (("1234", "Dataset1234_Large"), ("12", "Dataset12_Short"), ("5", "Dataset00000005_Long")):
        assert Paths.of(environment).name(asked) == found
    assert Paths.of(environment).name("Large") == "Dataset1234_Large"


@pytest.fixture
def small(raw_dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work folder that `preprocess -d 31` has made, its prepared cases under tmp_path/fast."""
    named = raw_dataset("raw/Dataset031_Small")
    for variable, place in (("raw", named.parent), ("preprocessed", tmp_path / "fast"), ("results", tmp_path / "safe")):
        monkeypatch.setenv(f"nnUNet_{variable}", str(place))
    assert preprocess() == 0
    return tmp_path / "safe" / "Dataset031_Small" / "nnunet_rs"


def preprocess() -> int:
    return main(["preprocess", "-d", "31", "-c", "2d", "--features", "4", "--quiet", "--json"])


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    main([*words])
    return capsys.readouterr().err


def test_commands_in_what_is_said_name_the_dataset_as_the_user_does(
    raw_dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named = raw_dataset("raw/Dataset031_Small")
    monkeypatch.setenv("nnUNet_raw", str(named.parent))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "the results"))
    for words in (["train", "-d", "31"], ["train", "31"]):
        assert "nnunet-rs preprocess -d 31 makes it" in told(capsys, *words, "-c", "2d", "-f", "0", "--device", "cpu")
    assert main(["preprocess", "-d", "31", "-c", "2d", "--features", "4", "-q"]) == 0
    assert capsys.readouterr().out.endswith("\nnext: nnunet-rs train -d 31 -c 2d -f 0\n")
    work = tmp_path / "the results" / "Dataset031_Small" / "nnunet_rs"
    assert main(["preprocess", str(named), "-o", str(work), "-c", "2d", "--features", "4", "-q"]) == 0
    assert capsys.readouterr().out.endswith(f"\nnext: nnunet-rs train '{work}' -c 2d -f 0\n")


def test_a_copy_of_the_prepared_cases_is_followed(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = read_plan(small / "plan.json")
    copy = (tmp_path / "fast").rename(tmp_path / "node")
    said = told(capsys, "report", "-d", "31", "-o", str(tmp_path / "report.html"))
    assert f"warning: {tmp_path}/fast/Dataset031_Small/nnunet_rs, where nnUNet_preprocessed leads, is not there" in said
    monkeypatch.setenv("nnUNet_preprocessed", str(copy))
    assert "warning" not in told(capsys, "report", "-d", "31", "-o", str(tmp_path / "report.html"))
    assert open_store(small, plan, "2d").folder == copy / "Dataset031_Small" / "nnunet_rs" / "2d"
    assert open_store(small, plan, "2d").shape("case_0") is not None
    monkeypatch.delenv("nnUNet_preprocessed")
    copy.rename(tmp_path / "fast")
    assert open_store(small, plan, "2d").shape("case_0") is not None  # where they were prepared


def test_preprocess_writes_to_where_the_variable_leads_now(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "other"))
    capsys.readouterr()
    assert main(["preprocess", "-d", "31", "-c", "2d", "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["made"] == 4
    assert "other/Dataset031_Small/nnunet_rs now, as nnUNet_preprocessed says; before, in" in output.err
    assert len(list((tmp_path / "other" / "Dataset031_Small" / "nnunet_rs" / "2d").glob("*.zip"))) == 4


def test_a_link_of_before_gives_way(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (small / "prepared.json").unlink()
    (small / "prepared").symlink_to(tmp_path / "fast" / "Dataset031_Small" / "nnunet_rs")
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "other"))
    said = told(capsys, "report", "-d", "31", "-o", str(tmp_path / "report.html"))
    assert "prepared cases are read from" in said
    assert "nnUNet_preprocessed is not followed" in said
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "fast"))
    assert preprocess() == 0
    assert json.loads(capsys.readouterr().out)["made"] == 0
    assert not (small / "prepared").is_symlink()
    assert read_placement(small) is not None


def test_cases_that_lie_in_the_work_folder_stay_and_that_is_said(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (small / "prepared.json").unlink()
    (tmp_path / "fast" / "Dataset031_Small" / "nnunet_rs").rename(small / "prepared")
    capsys.readouterr()
    assert main(["preprocess", "-d", "31", "-c", "2d", "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["made"] == 0
    assert "prepared cases stay in" in output.err


def test_no_links_are_needed(small: Path) -> None:
    assert not [path for path in small.rglob("*") if path.is_symlink()]


def test_a_users_own_link_stays(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (small / "prepared.json").unlink()
    (tmp_path / "big").mkdir()
    (small / "prepared").symlink_to(tmp_path / "big")
    capsys.readouterr()
    assert main(["preprocess", "-d", "31", "-c", "2d"]) == 0
    shown = capsys.readouterr()
    assert "prepared, a link, is followed, and nnUNet_preprocessed is not" in shown.err
    assert shown.out.endswith("next: nnunet-rs train -d 31 -c 2d -f 0\n")
    assert (tmp_path / "big" / "2d" / "case_0.zip").is_file()


@pytest.mark.parametrize("content", ["{}", "[]", "x", '{"format": "nnunet_rs prepared", "variable": 3}'])
def test_a_damaged_placement_is_told(content: str, small: Path) -> None:
    (small / "prepared.json").write_text(content)
    with pytest.raises(DatasetError, match=r"prepared\.json: "):
        prepared_folder(small)


def test_the_users_cache() -> None:
    assert cache_folder({"HOME": "/home/a"}, "linux") == Path("/home/a/.cache/nnunet_rs")
    assert cache_folder({"HOME": "/home/a", "XDG_CACHE_HOME": "/tmp/c"}, "linux") == Path("/tmp/c/nnunet_rs")
    assert cache_folder({"HOME": "/home/a", "XDG_CACHE_HOME": "relative"}, "linux") == Path("/home/a/.cache/nnunet_rs")
    assert cache_folder({"HOME": "/Users/a"}, "darwin") == Path("/Users/a/Library/Caches/nnunet_rs")
    assert cache_folder({"LOCALAPPDATA": "C:/a"}, "win32") == Path("C:/a/nnunet_rs")
    assert cache_folder({}, "linux") is None
