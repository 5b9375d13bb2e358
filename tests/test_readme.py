"""What the README says of this repository holds."""

import re
import shlex
from pathlib import Path

from nnunet_rs.cli.parser import build_parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for named, text in found if named == language]


def test_every_command_line_is_understood() -> None:
    lines = [line.split("   ")[0].split(" #")[0] for block in blocks("bash") for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("nnunet-rs ")]
    assert len(commands) >= 6
    for command in commands:
        assert build_parser().parse_args(command).command == command[0]


def test_a_reader_gets_through_it() -> None:
    assert len(README.splitlines()) <= 130
    assert README.count("\n|---|") == 1  # one table


def test_links_to_files_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    local = [target for target in targets if "://" not in target]
    assert "docs/images/demo.png" in local
    for target in local:
        assert (ROOT / target).exists(), target


def test_names_of_the_python_interface_exist() -> None:
    import nnunet_rs

    named = set(re.findall(r"nnunet_rs\.([a-zA-Z_]+)\(", README)) | {"Predictor"}
    assert named <= set(nnunet_rs.__all__)
    for statement in re.findall(r"^from (nnunet_rs\S*) import (.+)$", README, re.MULTILINE):
        module = __import__(statement[0], fromlist=["_"])
        assert all(hasattr(module, name.strip()) for name in statement[1].split(","))
