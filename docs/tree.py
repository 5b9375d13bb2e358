"""The source tree as the site shows it: every module with the first line of its own documentation."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = ("rust/kernels/src", "rust/bindings/src", "python/nnunet_rs")


def source_tree() -> str:
    """Return a section for each folder of sources, modules as a list."""
    return "\n\n".join(section for part in PARTS for section in _sections(ROOT / part))


def summary(file: Path) -> str:
    """Return the first sentence or line that a module says about itself."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".rs":
        lines = [line[3:].strip() for line in text.splitlines() if line.startswith("//!")]
    else:
        lines = (ast.get_docstring(ast.parse(text)) or "").splitlines()
    paragraph = lines[: lines.index("")] if "" in lines else lines
    return " ".join(paragraph)


def _sections(folder: Path) -> Iterator[str]:
    files = sorted(file for file in folder.iterdir() if file.suffix in (".py", ".rs", ".pyi"))
    about = next((summary(file) for file in files if file.stem in ("__init__", "mod", "lib")), "")
    modules = [file for file in files if file.stem not in ("__init__", "mod", "lib", "__main__")]
    title = f"### {folder.relative_to(ROOT)}/\n\n{about}"
    yield "\n".join([title, "", *(f"- `{file.name}`: {summary(file)}" for file in modules)])
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        if any(inner.glob("*.py")) or any(inner.glob("*.rs")):
            yield from _sections(inner)
