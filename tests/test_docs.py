"""Every snippet of the README and of the site runs, page by page, on small made-up data.

Blocks of `bash` are run line by line through the commands themselves, with trainings and networks cut short; blocks of
`python` are run in one namespace, and where a block of `text` follows it is what they print. Blocks of `sh` (make, pip,
docker) are not run.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nnunet_rs.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*/*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NOTHING_PREPARED = "<!-- tests: nothing is prepared -->"
SMALL = {"--features": "4", "--vram": "0.02"}
SHORT = {"--epochs": "1", "--batches": "2", "--device": "cpu", "--features": "4"}
CUT = {"plan": SMALL, "preprocess": SMALL, "train": SHORT, "predict": {"--device": "cpu"}, "best": {"--device": "cpu"}}
TRAINED: dict[str, Path] = {}  # the work folder that pages begin with, made by the first that needs it


def snippets(page: Path) -> list[tuple[str, str]]:
    return [(language, text) for language, text in FENCED.findall(page.read_text(encoding="utf-8"))]


RUN = [page for page in PAGES if {"bash", "python"} & {language for language, _ in snippets(page)}]


@pytest.fixture
def world(tmp_path: Path, raw_dataset: Callable[..., Path], decathlon_dataset: Callable[..., Path]) -> Iterator[Path]:
    """A folder with what the pages name: datasets in both layouts, scans, their labels."""
    decathlon_dataset("Task04_Hippocampus", cases=5)
    raw = raw_dataset("Dataset027_ACDC", cases=5)
    shutil.copytree(raw, tmp_path / "raw" / raw.name)
    shutil.copytree(raw / "imagesTr", tmp_path / "scans")
    shutil.copytree(raw / "labelsTr", tmp_path / "labels")
    with contextlib.chdir(tmp_path) if hasattr(contextlib, "chdir") else _chdir(tmp_path):
        yield tmp_path


@contextlib.contextmanager
def _chdir(folder: Path) -> Iterator[None]:  # contextlib has it from Python 3.11
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def prepare_and_train(folder: Path) -> None:
    run_line("nnunet-rs preprocess Task04_Hippocampus -o work")
    for configuration in ("2d", "3d_fullres"):
        run_line(f"nnunet-rs train work -c {configuration} -f 0")
    TRAINED["work"] = shutil.copytree(folder / "work", folder.with_name(f"{folder.name} trained"))  # the page goes on


def run_line(line: str) -> None:
    """Run one line of a shell: a command of ours, or a variable that is set."""
    command, _, target = line.split("   ")[0].partition(" > ")
    words = shlex.split(os.path.expandvars(command), comments=True)
    if words[0] == "export":
        name, _, value = words[1].partition("=")
        os.environ[name] = value
        return
    assert words[0] == "nnunet-rs", f"{line}: who would run this? Write `sh` over the block"
    out = io.StringIO()
    more = [word for option in CUT.get(words[1], {}).items() if option[0] not in words for word in option]
    with contextlib.redirect_stdout(out):
        assert main([*words[1:], *more, "--quiet"]) == 0, line
    if target:
        Path(target.strip()).write_text(out.getvalue())


def run_page(page: Path) -> None:
    names: dict[str, object] = {}
    printed: str | None = None
    for language, text in snippets(page):
        if language == "bash" and page.name != "README.md":  # its commands are the tour's; test_readme parses them
            for line in text.replace("\\\n", " ").splitlines():
                run_line(line)
        elif language == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(text, str(page), "exec"), names)
            printed = out.getvalue()
            continue
        elif language == "text" and printed is not None:
            assert printed == text
        printed = None


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_works(page: Path, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PWD", str(world))
    if NOTHING_PREPARED not in page.read_text(encoding="utf-8"):
        if TRAINED:
            shutil.copytree(TRAINED["work"], world / "work")
        else:
            prepare_and_train(world)
    run_page(page)


def test_the_site_lists_every_page() -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"(\S+\.md)$", config, re.MULTILINE))
    there = {str(page.relative_to(ROOT / "docs")) for page in PAGES[1:] if page.parent.name != "decisions"}
    assert listed == there | {"README.md", "benchmarks.md", "log.md"}


def test_every_decision_is_listed() -> None:
    listed = re.findall(r"\]\((\S+\.md)\)", (ROOT / "docs/decisions/README.md").read_text(encoding="utf-8"))
    assert set(listed) == {page.name for page in ROOT.glob("docs/decisions/*.md")} - {"README.md"}


def test_links_between_pages_lead_somewhere() -> None:
    for page in ROOT.glob("docs/**/*.md"):
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page}: {target}"


def test_the_source_tree_describes_every_module() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        tree = importlib.import_module("tree")
        lines = [line for line in tree.source_tree().splitlines() if line.startswith("- ")]
    finally:
        sys.path.remove(str(ROOT / "docs"))
    assert any(line.startswith("- `geometry.py`: ") for line in lines)
    assert [line for line in lines if line.endswith(": ")] == []
