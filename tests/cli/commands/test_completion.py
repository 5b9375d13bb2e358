"""The scripts, run by the shells themselves where these are installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from nnunet_rs.cli import main
from nnunet_rs.cli.commands import COMMANDS
from nnunet_rs.cli.commands.completion import script
from nnunet_rs.cli.parser import build_parser


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_its_options_are_in_the_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert all(command.name in text for command in COMMANDS)
    for word in ("3d_cascade_fullres", "v2-resenc-m", "cuda", "save-probabilities"):
        assert word in text
    assert "num_parts" not in text


def bash(tmp_path: Path, line: str) -> set[str]:
    """What bash offers at the end of a command line."""
    file = tmp_path / "nnunet-rs.bash"
    file.write_text(script(build_parser(), "bash"))
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    code = f"""
        source {file}
        COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; COMP_LINE='{line}'; COMP_POINT={len(line)}
        _shtab_nnunet_rs nnunet-rs '{words[-1]}' '{words[-2]}'
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    shown = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    return set(shown.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_bash_offers_commands_options_values_and_folders(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    assert bash(tmp_path, "nnunet-rs tr") == {"train"}
    assert "--time-budget" in bash(tmp_path, "nnunet-rs train --t")
    assert bash(tmp_path, "nnunet-rs train work -c 3d_f") == {"3d_fullres"}
    assert bash(tmp_path, "nnunet-rs train work --recipe f") == {"fast"}
    assert bash(tmp_path, "nnunet-rs check wo") == {"work"}


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish on this machine")
def test_fish_offers_the_same(tmp_path: Path) -> None:
    file = tmp_path / "nnunet-rs.fish"
    file.write_text(script(build_parser(), "fish"))

    def offered(line: str) -> set[str]:
        code = f"source {file}; complete --do-complete '{line}'"
        shown = subprocess.run(["fish", "--no-config", "-c", code], capture_output=True, text=True, check=True)
        return {row.split("\t")[0] for row in shown.stdout.splitlines()}

    assert offered("nnunet-rs tr") == {"train"}
    assert "3d_fullres" in offered("nnunet-rs train work -c 3d_f")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh on this machine")
def test_zsh_finds_no_fault_in_the_script(tmp_path: Path) -> None:
    file = tmp_path / "_nnunet-rs"
    file.write_text(script(build_parser(), "zsh"))
    code = f"autoload -Uz compinit; compinit -D; source {file}; whence -w _shtab_nnunet_rs"
    shown = subprocess.run(["zsh", "-f", "-c", code], capture_output=True, text=True, check=True)
    assert "function" in shown.stdout
