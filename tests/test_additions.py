"""How many files one more of a kind takes: counted on what there is, each entry of which was added so once.

That one more works is shown where each kind is tested: a normalisation in `plan/test_normalization`, a planner in
`core/test_choices`, an augmentation in `test_transforms`, a format in `core/test_image_format`, a command in
`cli/test_main`, an executor in `run/test_series_executors`.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from nnunet_rs.cli.commands import COMMANDS
from nnunet_rs.core.choices import PLANNER_NAMES
from nnunet_rs.core.io import FORMATS
from nnunet_rs.data.augment import AUGMENTATIONS
from nnunet_rs.plan.normalization import SCHEMES

PACKAGE = Path(__file__).parents[1] / "python" / "nnunet_rs"
TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}


def naming(*words: str) -> set[str]:
    """Modules in which one of these words stands as a text of its own."""
    return {
        module
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in words
    }


def importing(module: str) -> set[str]:
    """Modules that import a module of this path, wherever in their text."""
    package, _, name = module.removesuffix(".py").rpartition("/")
    package = ".".join(("nnunet_rs", *package.split("/")))
    return {
        other
        for other, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and (
            (node.module == package and name in {alias.name for alias in node.names})
            or node.module == f"{package}.{name}"
        )
    }


def test_what_is_counted_is_found() -> None:
    assert importing("core/nrrd.py") == {"core/io.py"}
    assert "core/choices.py" in naming("v2-resenc-m")


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name not in ("ct", "none")])  # words of other things
def test_a_normalisation_is_one_file(scheme: str) -> None:
    assert naming(scheme, SCHEMES[scheme].nnunet_name) == {"plan/normalization.py"}


@pytest.mark.parametrize("planner", [name for name in PLANNER_NAMES if "-" in name])
def test_a_planner_is_two(planner: str) -> None:
    assert naming(planner, PLANNER_NAMES[planner].plans) == {"core/choices.py", "plan/planners.py"}


def test_an_augmentation_is_two() -> None:
    assert "paper-batchgenerators" in AUGMENTATIONS
    assert naming("paper-batchgenerators") == {"core/choices.py", "data/augment.py"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_command_is_two(command) -> None:
    module = Path(inspect.getfile(command.run)).relative_to(PACKAGE).as_posix()
    assert module.startswith("cli/commands/")
    assert importing(module) == {"cli/commands/__init__.py"}


@pytest.mark.parametrize("known", ["nrrd", "metaimage", "tiff"])  # the others do more than hold images
def test_a_format_is_two(known: str) -> None:
    """Its module, and the table: nothing else tells it from other formats."""
    assert known in {each.name for each in FORMATS}
    assert naming(known) == {f"core/{known}.py"}
    assert importing(f"core/{known}.py") == {"core/io.py"}


def test_an_executor_is_one() -> None:
    """And, to be asked for on the command line, a name among the choices and a line in `cli/cluster`."""
    assert importing("run/ray.py") == {"cli/cluster.py"}
