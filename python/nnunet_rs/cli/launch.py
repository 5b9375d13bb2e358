"""Training by several processes, which `torchrun` starts: what its environment says of this one."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from nnunet_rs.cli.console import Console


@contextmanager
def processes_joined(arguments: argparse.Namespace, console: Console) -> Iterator[bool]:
    """Join the processes of this training, if there are several; yields whether this one leads.

    Those that follow are silent but for errors. On a machine with GPUs each process takes its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    from nnunet_rs.model.device import find_device
    from nnunet_rs.model.distributed import joined

    leads = os.environ["RANK"] == "0"
    if not leads:
        console.display = replace(console.display, quiet=True, json=False)
    device = find_device(arguments.device)
    if device.type == "cuda":
        arguments.device = f"cuda:{os.environ['LOCAL_RANK']}"
    with joined(find_device(arguments.device)):
        yield leads
