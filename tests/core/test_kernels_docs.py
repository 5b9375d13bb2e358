"""`help()` of a kernel shows what the stub says: the build takes the docstrings out of it."""

from __future__ import annotations

import ast
from inspect import cleandoc
from pathlib import Path

import nnunet_rs
import pytest
from nnunet_rs import _kernels  # noqa: TID251

STUB = Path(nnunet_rs.__file__).parent / "_kernels.pyi"


def documented() -> list[tuple[str, str]]:
    """Names in the stub, of methods with their class before them, and their docstrings."""
    found = []
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        members = node.body if isinstance(node, ast.ClassDef) else []
        for one in (node, *members):
            if isinstance(one, ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(one)):
                found.append((one.name if one is node else f"{node.name}.{one.name}", text))  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize(("name", "text"), documented())
def test_the_module_says_what_the_stub_says(name: str, text: str):
    found: object = _kernels
    for part in name.split("."):
        found = getattr(found, part)
    assert cleandoc(found.__doc__ or "") == text


def test_every_kernel_is_documented():
    members = [getattr(_kernels, name) for name in dir(_kernels) if not name.startswith("_")]
    assert {member.__name__ for member in members} == {name for name, _ in documented() if "." not in name}
