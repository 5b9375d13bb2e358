"""A work folder's names have one owner, and its paths are what they were in every release."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import nnunet_rs
import pytest
from nnunet_rs.core import workspace
from nnunet_rs.core.workspace import ModelFolder, WorkFolder, fold_name, fold_of

PACKAGE = Path(nnunet_rs.__file__).parent
OWNER = Path(workspace.__file__)
# Names of files: nowhere in any text of the code, its messages and help included.
FILES = re.compile(
    r"(?<!\w)(dataset|survey|fingerprint|plan|splits|best|prepared|model|prediction|summary|postprocessing)\.json"
    r"|(weights|resume)\.safetensors|metrics\.jsonl|progress\.png|report\.html|^\.lock$|^\.nnunet-rs$"
    r"|(^|/)fold_(\*|$|\(|/)|(^|/)(previous_|\.keeping)$"
)
# Names of folders are words of the language as well: not as a part of a path.
FOLDERS = re.compile(r"(^|/)(prepared|previous|models|ensembles|validation|pictures)(/|$)")
JOINING = {"glob", "rglob", "joinpath", "with_name", "Path"}


def texts(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield the texts of some code, but for docstrings."""
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node


def parts_of_paths(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield the texts that are joined to a path, by `/` or by a method."""
    for node in ast.walk(tree):
        joined: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            joined = [node.left, node.right]
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            joined = node.args if name in JOINING else []
        for part in joined:
            yield from texts(part) if isinstance(part, (ast.Constant, ast.JoinedStr)) else ()


def spelled(code: str) -> list[tuple[int, str]]:
    """List the names of a work folder that some code spells, with their lines."""
    tree = ast.parse(code)
    found = [node for node in texts(tree) if FILES.search(str(node.value))]
    found += [node for node in parts_of_paths(tree) if FOLDERS.search(str(node.value))]
    return sorted({(node.lineno, str(node.value)) for node in found})


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ('work / "plan.json"', 1),
        ('f"edit {work}/plan.json"', 1),
        ('x = "as in summary.json"', 1),
        ('x = "nnU-Net\'s plans.json, dataset_fingerprint.json"', 0),
        ('work / "models" / name', 1),
        ('work.glob("models/*/fold_*")', 1),
        ('{"models": 1, "previous": 2}', 0),
        ('folder / f"fold_{k}"', 1),
        ('"""plan.json"""', 0),
    ],
)
def test_the_check_sees_names(code: str, count: int) -> None:
    assert len(spelled(code)) == count


def test_no_other_file_spells_a_name_of_the_work_folder() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if path != OWNER]
    assert files
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {text!r}"
        for path in files
        for line, text in spelled(path.read_text("utf-8"))
    ]
    assert not found


def test_the_names_are_those_of_every_release() -> None:
    work = WorkFolder(Path("w"))
    model = work.model("3d_fullres", 2)
    assert [path.as_posix() for path in (work.dataset_file, work.scan_file, work.fingerprint_file, work.plan_file)] == [
        "w/dataset.json",
        "w/survey.json",
        "w/fingerprint.json",
        "w/plan.json",
    ]
    assert [path.as_posix() for path in (work.splits_file, work.best_file, work.placement_file, work.report_file)] == [
        "w/splits.json",
        "w/best.json",
        "w/prepared.json",
        "w/report.html",
    ]
    assert work.own_prepared_folder == Path("w/prepared")
    assert work.previous_stage_folder("3d_cascade_fullres") == Path("w/previous/3d_cascade_fullres")
    assert work.ensemble_folder(("2d", "3d_fullres"), 1) == Path("w/ensembles/2d+3d_fullres/fold_1")
    assert model.path == Path("w/models/3d_fullres/fold_2")
    assert work.model("2d", "all").path == Path("w/models/2d/fold_all")
    assert [path.name for path in (model.metadata_file, model.weights_file, model.checkpoint_file)] == [
        "model.json",
        "weights.safetensors",
        "resume.safetensors",
    ]
    assert [path.name for path in (model.metrics_file, model.curves_file, model.pictures_folder)] == [
        "metrics.jsonl",
        "progress.png",
        "pictures",
    ]
    assert model.summary_file == model.path / "validation" / "summary.json"


def test_a_fold_has_one_name() -> None:
    assert [fold_name(fold) for fold in (0, 12, "all")] == ["fold_0", "fold_12", "fold_all"]
    assert [fold_of(name) for name in ("fold_0", "fold_12", "fold_all")] == [0, 12, "all"]
    assert [fold_of(name) for name in ("fold_", "fold_x", "xfold_0", "fold_0x", "previous_1", "")] == [None] * 6


def test_a_model_is_finished_when_its_metadata_is_there(tmp_path: Path) -> None:
    model = WorkFolder(tmp_path).model("2d", 0)
    assert not model.is_finished()
    model.path.mkdir(parents=True)
    model.weights_file.touch()
    model.checkpoint_file.touch()
    assert (model.is_finished(), model.has_checkpoint()) == (False, True)
    model.metadata_file.touch()
    assert (model.is_finished(), model.has_checkpoint()) == (True, True)


def test_folds_come_by_number_and_all_cases_last(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path)
    assert (work.configurations(), work.models("2d"), work.ensemble_folders(("2d", "3d_fullres"))) == ((), (), ())
    for fold in ("all", "10", "9", "x"):
        (tmp_path / "models" / "2d" / f"fold_{fold}").mkdir(parents=True)
    (tmp_path / "models" / "2d" / "fold_1").touch()  # no folder
    assert [model.fold for model in work.models("2d")] == [9, 10, "all"]
    assert work.configurations() == ("2d",)
    assert [model.fold for model in work.model("3d_fullres", 0).beside("2d")] == [9, 10, "all"]


def test_a_model_knows_its_work_folder_however_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "work" / "models" / "2d" / "fold_1"
    folder.mkdir(parents=True)
    copy = tmp_path / "copies" / "2d" / "fold_1"
    copy.mkdir(parents=True)
    assert ModelFolder(folder).work == WorkFolder(tmp_path / "work")
    assert ModelFolder(copy).work is None
    for start, name in (
        (tmp_path, "work/models/2d/fold_1"),
        (folder.parents[1], "2d/fold_1"),
        (folder.parent, "fold_1"),
        (folder, "."),
        (folder, "../fold_1"),
    ):
        monkeypatch.chdir(start)
        model = ModelFolder(Path(name))
        assert (model.configuration, model.fold) == ("2d", 1)
        assert model.work is not None
        assert model.work.path.resolve() == tmp_path / "work"


def test_what_is_kept_aside_gets_the_next_number(tmp_path: Path) -> None:
    model = ModelFolder(tmp_path)
    assert model.next_aside() == tmp_path / "previous_1"
    for name in ("previous_2", "previous_x", ".lock", "model.json", "resume.safetensors"):
        (tmp_path / name).touch()
    assert model.next_aside() == tmp_path / "previous_3"
    assert [path.name for path in model.contents(stay=("resume.safetensors",))] == ["model.json"]
