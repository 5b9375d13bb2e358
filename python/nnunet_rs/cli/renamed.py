"""Earlier names of options: taken for one release, with a remark that names the new one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any


class Renamed(argparse.Action):
    """An option's earlier name, which help and completion do not show; `const` is the new one."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, dest, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **more)

    def __call__(self, _: object, namespace: argparse.Namespace, value: Any, option: str | None = None) -> None:
        """Set what the new name sets."""
        setattr(namespace, self.dest, value)
        namespace.remarks = [*remarks(namespace), f"{option} is now {self.const}"]


def remarks(namespace: argparse.Namespace) -> list[str]:
    """Return what is to be said of the options that were given by an earlier name."""
    return getattr(namespace, "remarks", [])
