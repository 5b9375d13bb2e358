"""Generated parts of the site: the reference of commands from their parser, the source tree from the modules."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from nnunet_rs.cli.commands import COMMANDS
from nnunet_rs.cli.parser import build_parser

sys.path.insert(0, str(Path(__file__).parent))
from tree import source_tree

MARK = "<!-- commands -->"
TREE = "<!-- tree -->"


def on_config(config: Any) -> None:
    """List the decisions in the navigation."""
    (part,) = (entry["Explanation"] for entry in config.nav if "Explanation" in entry)
    (decisions,) = (entry for entry in part if isinstance(entry, dict))
    docs = Path(config.docs_dir)
    decisions["Decisions"] = sorted(str(file.relative_to(docs)) for file in docs.glob("decisions/*.md"))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put every command's help where a page asks for it; comments to the tests are not for readers."""
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]  # of one entry
    pages = "\n".join(
        f"## {command.name}\n\n```text\n{text}```\n" for command, text in zip(COMMANDS, helps(), strict=True)
    )
    markdown = re.sub(r"<!-- tests: .*? -->\n", "", markdown).replace(MARK, pages)
    return markdown.replace(TREE, source_tree()) if TREE in markdown else markdown


def helps() -> list[str]:
    """Return the help of every command, as wide as the page shows without scrolling."""
    os.environ["COLUMNS"] = "88"
    parsers = build_parser().commands
    return [parsers[command.name].format_help() for command in COMMANDS]
