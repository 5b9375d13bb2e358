"""What a kind of work is: how it is loaded on a node, and what it does with cases as they come."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.core.progress import Progress
from nnunet_rs.run.cohort.files import Cohort, Item
from nnunet_rs.run.executor import Resources

# what came of a case: an error, or nothing and a value
ItemSettled = Callable[[Item, "BaseException | None", Any], None]


def as_seen_here(error: BaseException | None, files: Iterable[Path]) -> BaseException | None:
    """Tell files that are not there from damaged ones: another node may see them."""
    if isinstance(error, DatasetError):
        for file in files:
            if not file.exists():
                where = socket.gethostname()
                return NnunetError(f"{file}: is not there on {where}; name files that all nodes see (a shared drive)")
    return error


class Work(Protocol):
    """What is loaded for a group of blocks, and does a kind of work with cases."""

    def run(self, items: Iterator[Item], settled: ItemSettled) -> None:
        """Do cases as they come, reading some ahead, and tell of each what came of it.

        Both are called in the thread that calls this.
        """


Opener = Callable[[Cohort, str, Resources, Progress], AbstractContextManager[Work]]
