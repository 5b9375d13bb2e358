"""What the sections of the audit share: what was counted, what was wrong, and how a small training is asked for."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pretended
from made import make_work
from nnunet_rs.core.progress import Silent
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.train import train_fold


class Audit:
    """What was found."""

    def __init__(self, gpu: pretended.Gpu, folder: Path, *, short: bool) -> None:
        self.gpu, self.folder, self.short = gpu, folder, short
        self.counted: dict[str, dict[str, float]] = {}
        self.places: dict[str, dict[str, int]] = {}  # where it was waited, again and again
        self.wrong: list[str] = []
        self.waiting: Counter[str] = Counter()  # lines that waited, by their place
        self._works = 0

    def work(self, *arguments: Any) -> Path:
        """Make a new work folder."""
        self._works += 1
        return make_work(self.folder / f"work_{self._works}", *arguments)

    @contextmanager
    def checked(self, what: str) -> Iterator[None]:
        """Note an error, and go on."""
        begun = time.monotonic()
        try:
            yield
        except Exception as error:
            place = "; ".join(line.strip() for line in traceback.format_exc().splitlines()[-4:-1])
            self.wrong.append(f"{what}: {type(error).__name__}: {str(error)[:300]} ({place})")
            print(f"FAILED  {self.wrong[-1]}", flush=True)
        else:
            print(f"ok      {what} ({time.monotonic() - begun:.1f} s)", flush=True)

    def require(self, condition: bool, text: str) -> None:
        if not condition:
            raise AssertionError(text)


SECTIONS: dict[str, Callable[[Audit], None]] = {}


def section(function: Callable[[Audit], None]) -> Callable[[Audit], None]:
    SECTIONS[function.__name__] = function
    return function


def options_of(recipe: Any, **more: Any) -> Any:
    usual = {"epochs": 1, "batches": 2, "validation_batches": 1, "device": "cuda", "threads": 1}
    return TrainOptions(recipe=recipe, **(usual | more))


def train(work: Path, options: Any, name: str = "3d_fullres", fold: int = 0) -> Any:
    return train_fold(work, name, fold, options, Silent())
