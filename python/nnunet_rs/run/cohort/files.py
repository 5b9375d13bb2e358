"""The folder of a cohort: what is to be done, with which options, and the cases in blocks."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from nnunet_rs.core.document import Kind, encode
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.files import TEMPORARY, write_bytes, writing
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.version import installed_version
from nnunet_rs.core.workspace import WorkFolder, jobs_beside
from nnunet_rs.run.cohort.board import CLAIMS, WORKERS, Board

COHORT_JSON, BLOCKS = "cohort.json", "blocks.jsonl"
LARGEST = 64  # cases of a block
_SHARES = 4  # blocks that each worker could get of what is left, at least
_COHORT = re.compile(r"cohort_(\d+)")


@dataclass(frozen=True, slots=True)
class Cohort:
    """Cases that workers share, and what is to be done with them."""

    kind: str  # predict, preprocess, evaluate, best
    where: str  # the folder that it is for, as people know it
    key: str  # tells what determines the results
    sizes: tuple[int, ...]  # of the blocks
    groups: tuple[str, ...]  # of the blocks: what has to be loaded for them
    library: str  # version of nnunet_rs that made it
    work: dict[str, str] = field(default_factory=dict)  # options of the kind of work, each as JSON

    @property
    def count(self) -> int:
        """How many cases there are."""
        return sum(self.sizes)

    def option(self, name: str) -> Any:
        """Return an option of the work."""
        return json.loads(self.work[name])


COHORT = Kind("cohort", Cohort, NnunetError, "submit the work again", compact=True)


@dataclass(frozen=True, slots=True)
class Item:
    """A case of a cohort."""

    index: int
    name: str
    body: tuple[Any, ...]  # what the kind of work needs to know of it


@dataclass(frozen=True, slots=True)
class CohortFolder:
    """A cohort on disk."""

    path: Path

    def read(self) -> Cohort:
        """Return what is to be done.

        Raises
        ------
        NnunetError
            The file cannot be read.
        """
        return COHORT.load(self.path / COHORT_JSON)

    def require_same_version(self, cohort: Cohort) -> None:
        """See that this process would do what the one that made the cohort would.

        Raises
        ------
        NnunetError
            It is of another version.
        """
        if cohort.library != installed_version():
            raise NnunetError(
                f"{self.path}: was made by nnunet_rs {cohort.library}, and {socket.gethostname()} has "
                f"{installed_version()}; install the same version on all nodes, and run the same command again"
            )

    def job_name(self, cohort: Cohort, worker: str) -> str:
        """Name a worker's job: an executor that knows it by its name must not take another cohort's for it."""
        return f"{cohort.kind} {cohort.where}, {self.path.name}, {worker}"

    def board(self, cohort: Cohort) -> Board:
        """Return what its journals say by now."""
        board = Board(self.path, cohort.sizes)
        board.refresh()
        return board

    def blocks(self, cohort: Cohort) -> Blocks:
        """Return its cases."""
        return Blocks(self.path / BLOCKS, cohort.sizes)

    def names(self) -> list[str]:
        """Return the names of all cases, in order."""
        with (self.path / BLOCKS).open(encoding="utf-8") as stream:
            return [case[0] for line in stream for case in json.loads(line)]


class Blocks:
    """The cases of a cohort, of which one block is read at a time."""

    def __init__(self, path: Path, sizes: Sequence[int]) -> None:
        self._path = path
        self._cases = [0, *accumulate(sizes)]
        with path.open("rb") as stream:
            self._bytes = [0, *accumulate(len(line) for line in stream)]

    def __getitem__(self, block: int) -> list[Item]:
        with self._path.open("rb") as stream:
            stream.seek(self._bytes[block])
            line = json.loads(stream.readline())
        return [Item(self._cases[block] + number, case[0], tuple(case[1:])) for number, case in enumerate(line)]


def block_sizes(count: int, workers: int) -> list[int]:
    """Divide cases into blocks, large ones first: in the end no worker shall wait long for another's block."""
    sizes: list[int] = []
    while count:
        sizes.append(max(1, min(LARGEST, count // (_SHARES * workers))))
        count -= sizes[-1]
    return sizes


def cohorts_of(folder: Path) -> Iterator[CohortFolder]:
    """Yield the cohorts of a work folder or a folder of results, in the order in which they were made."""
    for home in (WorkFolder(folder).jobs_folder, jobs_beside(folder)):
        yield from _in(home)


def _in(home: Path) -> list[CohortFolder]:
    found = {int(match[1]): path for path in home.glob("cohort_*") if (match := _COHORT.fullmatch(path.name))}
    return [CohortFolder(found[number]) for number in sorted(found)]


def newest(home: Path, kind: str) -> tuple[CohortFolder, Cohort] | None:
    """Return the last cohort of a kind; None: there is none that can be read."""
    for folder in reversed(_in(home)):
        try:
            cohort = folder.read()
        except NnunetError:
            continue
        if cohort.kind == kind:
            return folder, cohort
    return None


def begin(
    home: Path, cohort: Cohort, groups: Mapping[str, Sequence[Sequence[Any]]], workers: int, progress: Progress
) -> tuple[CohortFolder, Cohort]:
    """Join the last cohort of this kind, if exactly what it has left is to be done, or make one; as `create`."""
    home = home.absolute()  # nodes have other current folders
    there = newest(home, cohort.kind)
    if there is not None and there[1].key == cohort.key:
        folder, made = there
        board = folder.board(made)
        all_cases = ((made.groups[board.block_of(index)], name) for index, name in enumerate(folder.names()))
        left = {case for index, case in enumerate(all_cases) if not board.is_settled(index)}
        wanted = {(group, case[0]) for group, cases in groups.items() for case in cases}
        if not (board.finished or board.cancelled or board.failed) and left == wanted:
            progress.say(f"{folder.path}: goes on where it was left")
            return folder, made
    return create(home, cohort, groups, workers)


def create(
    home: Path, cohort: Cohort, groups: Mapping[str, Sequence[Sequence[Any]]], workers: int
) -> tuple[CohortFolder, Cohort]:
    """Write a cohort; it is there whole, or not at all.

    Parameters
    ----------
    home
        Gets the folder cohort_N; finished ones of the same kind are removed.
    cohort
        Without blocks.
    groups
        By what has to be loaded for them: cases, each a list of its name and what the kind of work needs to know.
    workers
        How many will share them.

    Raises
    ------
    NnunetError
        The folder cannot be written.
    """
    blocks = [(group, cases[at : at + size]) for group, cases in groups.items() for at, size in _cut(cases, workers)]
    sizes = tuple(len(cases) for _, cases in blocks)
    made = replace(cohort, sizes=sizes, groups=tuple(group for group, _ in blocks), library=installed_version())
    before = _in(home)
    temporary = home / f"{TEMPORARY}{secrets.token_hex(4)}-cohort"
    with writing(home, temporary):
        temporary.mkdir(parents=True)
        for name in (WORKERS, CLAIMS):
            (temporary / name).mkdir()
    lines = "".join(json.dumps(cases, ensure_ascii=False, default=os.fspath) + "\n" for _, cases in blocks)
    write_bytes(temporary / BLOCKS, lines.encode())
    COHORT.save(temporary / COHORT_JSON, made)
    folder = _named(home, temporary)
    for old in before:
        _remove_finished(old, cohort.kind)
    return folder, made


def _cut(cases: Sequence[Any], workers: int) -> Iterator[tuple[int, int]]:
    at = 0
    for size in block_sizes(len(cases), workers):
        yield at, size
        at += size


def _named(home: Path, temporary: Path) -> CohortFolder:
    number = max((int(each.path.name.removeprefix("cohort_")) for each in _in(home)), default=0) + 1
    while True:
        path = home / f"cohort_{number}"
        try:
            with writing(path, temporary):
                temporary.rename(path)
        except (NnunetError, OSError):
            if not path.exists():
                raise
            number += 1
        else:
            return CohortFolder(path)


def _remove_finished(folder: CohortFolder, kind: str) -> None:
    try:
        cohort = folder.read()
    except NnunetError:
        return
    if cohort.kind == kind and folder.board(cohort).finished:
        shutil.rmtree(folder.path, ignore_errors=True)


def this_process(job: str) -> dict[str, Any]:
    """Describe this process, for a worker's journal."""
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return {"host": socket.gethostname(), "process": os.getpid(), "since": since, "job": job}


def as_options(**options: Any) -> dict[str, str]:
    """Return options of a kind of work as `Cohort.option` reads them."""
    return {name: json.dumps(encode(value), default=os.fspath) for name, value in options.items()}
