"""What a command is: its place in the list, its help, its options, and what carries it out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from nnunet_rs.cli.console import Console, Outcome


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
