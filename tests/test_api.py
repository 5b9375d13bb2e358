"""What `import nnunet_rs` offers, and what it costs."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import nnunet_rs
import pytest

ROOT = Path(__file__).parents[1]
NEEDS_TORCH = {"TrainOptions", "train_fold"}


def loaded_with(statement: str) -> set[str]:
    """Which heavy packages are in memory after a statement, in an interpreter of its own."""
    heavy = {"torch", "numpy", "matplotlib", "nibabel"}
    code = f"import sys, nnunet_rs\n{statement}\nprint(*({heavy} & set(sys.modules)))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_costs_nothing_and_the_version_no_more() -> None:
    assert loaded_with("nnunet_rs.__version__") == set()


def test_only_what_trains_loads_torch() -> None:
    free = sorted(set(nnunet_rs.__all__) - NEEDS_TORCH)
    assert "torch" not in loaded_with(";".join(f"nnunet_rs.{name}" for name in free))
    assert "torch" in loaded_with("nnunet_rs.train_fold")


def test_every_name_is_documented_and_comes_from_where_type_checkers_are_told() -> None:
    tree = ast.parse(inspect.getsource(nnunet_rs))
    told = {
        alias.name: node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert sorted(nnunet_rs.__all__) == nnunet_rs.__all__
    for name in nnunet_rs.__all__:
        value = getattr(nnunet_rs, name)
        assert nnunet_rs._MODULE_OF.get(name, "nnunet_rs") == told[name]
        assert inspect.getdoc(value)
        assert name in dir(nnunet_rs)
    assert {*nnunet_rs._MODULE_OF, *nnunet_rs._SUBMODULES} == set(nnunet_rs.__all__)
    assert dir(nnunet_rs) == sorted([*nnunet_rs.__all__, "__version__"])


def test_the_version_is_cargos() -> None:
    cargo = (ROOT / "Cargo.toml").read_text(encoding="utf-8")
    (said,) = re.findall(r'^version = "(.+)"', cargo, re.MULTILINE)
    assert nnunet_rs.__version__ == version("nnunet-rs") == said


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'predictor'"):
        nnunet_rs.predictor  # noqa: B018


def test_type_checkers_may_believe_the_annotations() -> None:
    assert (Path(inspect.getfile(nnunet_rs)).parent / "py.typed").is_file()
