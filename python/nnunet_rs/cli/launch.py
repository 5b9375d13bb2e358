"""Training by several processes, which `torchrun` starts: what its environment says of this one."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from nnunet_rs.cli.console import Console, UsageError

_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
_WAY = "start the command by torchrun, which sets them all, or unset WORLD_SIZE to train in one process"


@contextmanager
def processes_joined(arguments: argparse.Namespace, console: Console) -> Iterator[bool]:
    """Join the processes of this training, if there are several; yields whether this one leads.

    Those that follow are silent but for errors. On a machine with GPUs each process takes its own.

    Raises
    ------
    UsageError
        The environment tells of several processes, but not all that is needed to join them: schedulers set WORLD_SIZE.
    """
    if (size := _whole("WORLD_SIZE", 1)) == 1:
        yield True
        return
    rank = _whole("RANK")
    missing = [name for name in _ADDRESS if not os.environ.get(name)]
    if missing:
        raise UsageError(f"WORLD_SIZE is {size}, but {missing[0]} is not set: {_WAY}")
    if size < 1 or rank >= size:
        raise UsageError(f"WORLD_SIZE is {size} and RANK is {rank}: ranks count from 0 to WORLD_SIZE - 1; {_WAY}")
    from nnunet_rs.model.device import find_device
    from nnunet_rs.model.distributed import joined

    is_rank_0 = rank == 0
    if is_rank_0:
        console.say(f"waiting for {size} processes at {os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}")
    else:
        console.display = replace(console.display, quiet=True, json=False)
    device = find_device(arguments.device)
    if device.type == "cuda":
        arguments.device = f"cuda:{_whole('LOCAL_RANK')}"
    with joined(find_device(arguments.device)):
        yield is_rank_0


def _whole(name: str, otherwise: int | None = None) -> int:
    """Read a whole number of at least 0 from the environment; an empty variable is none."""
    text = os.environ.get(name, "").strip()
    if not text and otherwise is not None:
        return otherwise
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        said = f"is '{text}', not a whole number" if text else "is not set"
        beside = "" if name == "WORLD_SIZE" else f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but "
        raise UsageError(f"{beside}{name} {said}: {_WAY}")
    return int(text)
