"""Completion scripts for shells, from the grammar itself."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from nnunet_rs.cli.options import RECIPES, TRAIN_RECIPES
from nnunet_rs.cli.parser import build_parser, own_names

CONFIGURATIONS = ("2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres")
_NAMES = {
    "configuration": CONFIGURATIONS,
    "device": ("auto", "cpu", "cuda", "mps"),
}


def script(shell: str) -> str:
    """Return the script that teaches a shell the commands, their options and the kind of each value.

    Parameters
    ----------
    shell
        bash, zsh or fish.
    """
    import shtab

    parser = build_parser()
    for command, action in _actions(parser):
        action.option_strings = own_names(action)
        if action.dest == "recipe":
            action.choices = (TRAIN_RECIPES if command == "train" else RECIPES).split(", ")
        elif action.dest in _NAMES:
            action.choices = _NAMES[action.dest]
        elif action.type is Path:
            kind = shtab.FILE if action.metavar == "FILE" else shtab.DIRECTORY
            action.complete = kind  # type: ignore[attr-defined]
    return shtab.complete(parser, shell)


def _actions(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """Give every argument of every command."""
    for group in parser._actions:
        if isinstance(group, argparse._SubParsersAction):
            for name, command in group.choices.items():
                yield from ((name, action) for action in command._actions)
