"""Sizes and imports of the sources: what keeps them readable is counted."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "python" / "nnunet_rs"
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def functions() -> Iterator[tuple[str, int]]:
    for path, text in SOURCES.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                yield f"{path.relative_to(PACKAGE)}: {node.name}", node.end_lineno - node.lineno + 1


def imports(text: str, known: set[str]) -> Iterator[str]:
    """Modules that a module imports, wherever in its text."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_functions_and_files_are_short() -> None:
    found = dict(functions())
    lengths = sorted(found.values())
    assert {name: length for name, length in found.items() if length > 60} == {}
    assert statistics.median(lengths) <= 8
    assert lengths[int(0.9 * len(lengths))] <= 22
    assert [path.name for path, text in SOURCES.items() if text.count("\n") > 400] == []


def test_no_two_modules_import_each_other() -> None:
    names = {
        path: ".".join(("nnunet_rs", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for path in SOURCES
    }
    known = set(names.values())
    graph = {names[path]: {name for name in imports(text, known) if name in known} for path, text in SOURCES.items()}
    both = {(one, other) for one, others in graph.items() for other in others if one < other and one in graph[other]}
    assert both == set()


def definitions(text: str) -> Iterator[str]:
    """Public classes and type aliases at the top of a module."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (each.id for each in targets if isinstance(each, ast.Name) and re.match("[A-Z][a-z]", each.id))


def test_a_name_of_a_type_has_one_meaning() -> None:
    homes: dict[str, list[str]] = {}
    for path, text in SOURCES.items():
        for name in definitions(text):
            if not name.startswith("_"):
                homes.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}
