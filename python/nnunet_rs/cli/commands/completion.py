"""`completion`: a shell's completion script."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import cast

from nnunet_rs.cli.command import Command, Grammar, own_names
from nnunet_rs.cli.console import Console, Outcome
from nnunet_rs.core.choices import PLANNER_NAMES, ConfigurationName, DeviceName, TrainRecipeName, names


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `completion` takes."""
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")


def _run(arguments: argparse.Namespace, _: Console) -> Outcome:
    """Print a shell's completion script."""
    text = script(arguments.grammar, arguments.shell)
    return Outcome({"shell": arguments.shell, "script": text}, (text,))


def script(parser: Grammar, shell: str) -> str:
    """Return the script that teaches a shell the commands, their options and the kind of each value.

    Parameters
    ----------
    parser
        The grammar of all commands, which is changed.
    shell
        bash, zsh or fish.
    """
    import shtab

    for command in parser.commands.values():
        for action in command.arguments:
            action.option_strings = own_names(action)
            if action.dest == "recipe":
                action.choices = names(TrainRecipeName)
            elif action.dest == "planner":
                action.choices = names(PLANNER_NAMES)
            elif action.dest == "configuration":
                action.choices = names(ConfigurationName)
            elif action.dest == "device":
                action.choices = names(DeviceName)
            elif action.type is Path:
                kind = shtab.FILE if action.metavar == "FILE" else shtab.DIRECTORY
                action.complete = kind  # type: ignore[attr-defined]
    return shtab.complete(cast("argparse.ArgumentParser", parser), shell)


COMMAND = Command(
    name="completion",
    group="other",
    summary="print a shell's completion script",
    usage="bash|zsh|fish [options]",
    description="Print the script that completes commands, options and files. It knows the options of this "
    "version; completing starts no Python.",
    examples=(
        "nnunet-rs completion bash > ~/.local/share/bash-completion/completions/nnunet-rs",
        "nnunet-rs completion zsh > ~/.zfunc/_nnunet-rs     # with fpath+=~/.zfunc before compinit",
        "nnunet-rs completion fish > ~/.config/fish/completions/nnunet-rs.fish",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
