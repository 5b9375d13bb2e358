"""What a command is: its place in the list, its help, its options, and what carries it out."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from nnunet_rs.cli.console import Console, Outcome

_OURS = re.compile(r"-\w|--(?!clean)[a-z]+(-[a-z]+)+|--(?!clean)[a-z]{2,}")  # not -step_size, --c, --disable_tta


@dataclass(frozen=True, slots=True)
class Command:
    """One command of `nnunet-rs`."""

    name: str
    group: str  # under which the first page lists it
    summary: str  # one line of that list
    usage: str  # what follows `nnunet-rs NAME`
    description: str
    examples: tuple[str, ...]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Console], Outcome]


class Options(Protocol):
    """The parser of one command, as completion sees it."""

    @property
    def arguments(self) -> Sequence[argparse.Action]:
        """What the command takes."""


class Grammar(Protocol):
    """The parser of `nnunet-rs` itself, as completion sees it."""

    @property
    def commands(self) -> Mapping[str, Options]:
        """The parsers of the commands."""


def own_names(action: argparse.Action) -> list[str]:
    """Names of an option that help and completion show: not those that nnU-Net's scripts call it by."""
    return [name for name in action.option_strings if _OURS.fullmatch(name) and action.help != argparse.SUPPRESS]
