"""What the journals and claims of a cohort say: which cases are settled, who has which block, who is alive.

Everything is read anew from files by opening them, which makes a network drive show what is there now; the times that
it tells are not believed. Whether a worker is alive is told by its journal growing, within a time measured by the clock
of whoever looks.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from nnunet_rs.run.cohort.journal import ENDING

LEASE = 60.0  # seconds without a sign of life after which a worker's blocks are given to others
TRIES = 3  # of a case, on whatever machines, before it is recorded as failed
WORKERS, CLAIMS = "workers", "claims"  # folders of a cohort


@dataclass(slots=True)
class WorkerState:
    """What a worker's journal says."""

    token: str
    host: str = ""
    process: int = 0
    job: str = ""  # of the engine that runs it
    since: str = ""  # local time of its machine
    blocks: dict[int, int] = field(default_factory=dict)  # that it has: number to attempt
    in_hand: dict[int, tuple[int, int]] = field(default_factory=dict)  # cases, with block and attempt
    done: list[tuple[int, float]] = field(default_factory=list)  # cases, and when, in seconds since it began
    ended: bool = False  # by itself, properly
    gone: int = -1  # bytes it had written when whoever started it said that it had ended; more is a sign of life
    read: int = 0  # bytes
    grown: float = 0.0  # when it was last seen to grow, by the clock of whoever looks

    @property
    def finished(self) -> bool:
        """Whether nothing more is to come."""
        return self.ended or self.read <= self.gone


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a case could not be done, once."""

    token: str  # the worker's
    reason: str
    final: bool  # it would fail anywhere, as a damaged file does


class Board:
    """What is known of a cohort; `refresh` reads on.

    Parameters
    ----------
    folder
        The cohort's.
    sizes
        Of the blocks.
    clock
        Seconds, of whoever looks.
    """

    def __init__(self, folder: Path, sizes: Sequence[int], clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = folder
        self.clock = clock
        self.first = [0, *accumulate(sizes)]  # case of each block, and how many cases there are
        self.workers: dict[str, WorkerState] = {}
        self.attempts: dict[int, int] = {}  # the last of each block that was ever taken
        self.holders: dict[tuple[int, int], str] = {}  # token by block and attempt
        self.done: dict[int, Any] = {}  # cases, with what came of them
        self.failures: dict[int, list[Failure]] = {}
        self.failed: dict[int, str] = {}  # cases that nobody will try again, with the reason
        self.cancelled = False
        self._unsettled = dict(enumerate(sizes))  # cases of each block
        self._orphans: dict[tuple[int, int], float] = {}  # claims whose worker is not known yet, with when first seen

    @property
    def count(self) -> int:
        """How many cases there are."""
        return self.first[-1]

    @property
    def settled(self) -> int:
        """How many cases are done, or failed for good."""
        return len(self.done) + len(self.failed)

    @property
    def finished(self) -> bool:
        """Whether every case is settled."""
        return not self._unsettled

    def open_blocks(self) -> tuple[int, ...]:
        """Return the blocks that have unsettled cases."""
        return tuple(self._unsettled)

    def block_of(self, case: int) -> int:
        """Return the block that holds a case."""
        return bisect_right(self.first, case) - 1

    def is_settled(self, case: int) -> bool:
        """Whether a case is done, or failed for good."""
        return case in self.done or case in self.failed

    def tries(self, case: int) -> int:
        """Count how often a case failed, or was in the hand of a worker whose block another has taken over."""
        return len(self.failures.get(case, ())) + len(self.losses(case))

    def losses(self, case: int) -> list[WorkerState]:
        """Return the workers that had a case in hand when they ended, as far as others have taken over."""
        return [
            worker
            for worker in self.workers.values()
            if (held := worker.in_hand.get(case)) is not None and held[1] < self.attempts.get(held[0], 0)
        ]

    def alive(self, worker: WorkerState) -> bool:
        """Whether a worker has given a sign of life lately."""
        return not worker.finished and self.clock() - worker.grown < LEASE

    def holder(self, block: int) -> WorkerState | None:
        """Return who took a block last; None: nobody, or it is not known who."""
        token = self.holders.get((block, self.attempts.get(block, 0)), "")
        return self.workers.get(token)

    def is_held(self, block: int) -> bool:
        """Whether a block belongs to a worker that may be alive."""
        attempt = self.attempts.get(block)
        if attempt is None:
            return False
        worker = self.holder(block)
        if worker is None:
            return self.clock() - self._orphans.setdefault((block, attempt), self.clock()) < LEASE
        return worker.blocks.get(block) == attempt and self.alive(worker)

    def refresh(self) -> None:
        """Read what was written since the last time."""
        for name in _names(self.folder / CLAIMS):
            block, _, attempt = name.partition(".")
            if block.isdecimal() and attempt.isdecimal():
                self.note_claim(int(block), int(attempt))
        for orphan in [key for key in self._orphans if key not in self.holders]:
            self._read_claim(*orphan)
        for name in _names(self.folder / WORKERS):
            if name.endswith(ENDING):
                self._worker(name.removesuffix(ENDING))
        for worker in tuple(self.workers.values()):
            self._read(worker)

    def note_claim(self, block: int, attempt: int) -> None:
        """Remember that a block was taken."""
        if attempt > self.attempts.get(block, 0):
            self.attempts[block] = attempt
            if (block, attempt) not in self.holders:
                self._orphans.setdefault((block, attempt), self.clock())

    def _read_claim(self, block: int, attempt: int) -> None:
        """Learn who made a claim from the claim itself: a listing may be older than the worker's journal."""
        with suppress(OSError):
            token = (self.folder / CLAIMS / f"{block}.{attempt}").read_text(encoding="utf-8")
            if token.isalnum():
                self._hold(self._worker(token), block, attempt)

    def _worker(self, token: str) -> WorkerState:
        return self.workers.setdefault(token, WorkerState(token, grown=self.clock()))

    def _read(self, worker: WorkerState) -> None:
        with suppress(OSError), (self.folder / WORKERS / (worker.token + ENDING)).open("rb") as stream:
            stream.seek(worker.read)
            content = stream.read()
            whole = content.rfind(b"\n") + 1
            if whole:
                worker.read += whole
                worker.grown = self.clock()
                for line in content[:whole].splitlines():
                    with suppress(ValueError, TypeError, KeyError):  # cut off, by a full disk
                        self._note(worker, json.loads(line))

    def _note(self, worker: WorkerState, entry: dict[str, Any]) -> None:
        if "take" in entry:
            self._hold(worker, *entry["take"])
        elif "begin" in entry:
            block = self.block_of(entry["begin"])
            worker.in_hand[entry["begin"]] = (block, worker.blocks.get(block, 0))
        elif "done" in entry:
            worker.in_hand.pop(entry["done"], None)
            worker.done.append((entry["done"], entry["at"]))
            self._settle(entry["done"])
            self.done.setdefault(entry["done"], entry.get("value"))
            self.failed.pop(entry["done"], None)
        elif "failed" in entry:
            self._failed(worker, entry["failed"], Failure(worker.token, entry["why"], entry["final"]))
        elif "left" in entry:
            self._left(worker, entry["left"])
        elif "gone" in entry:
            lost = self._worker(entry["gone"])
            lost.gone = max(lost.gone, entry["bytes"])
        elif "cancel" in entry:
            self.cancelled = True
        elif "end" in entry:
            worker.ended = True
        elif "host" in entry:
            worker.host, worker.process, worker.since = entry["host"], entry["process"], entry["since"]
            worker.job = entry["job"]

    def _hold(self, worker: WorkerState, block: int, attempt: int) -> None:
        if self.holders.setdefault((block, attempt), worker.token) == worker.token:
            self._orphans.pop((block, attempt), None)
            worker.blocks.setdefault(block, attempt)
            worker.blocks[block] = max(worker.blocks[block], attempt)
            self.attempts[block] = max(attempt, self.attempts.get(block, 0))

    def _left(self, worker: WorkerState, block: int) -> None:
        worker.blocks.pop(block, None)
        for case in [case for case, held in worker.in_hand.items() if held[0] == block]:
            del worker.in_hand[case]

    def _failed(self, worker: WorkerState, case: int, failure: Failure) -> None:
        worker.in_hand.pop(case, None)
        self.failures.setdefault(case, []).append(failure)
        if failure.final and case not in self.done:
            self._settle(case)
            self.failed.setdefault(case, failure.reason)

    def _settle(self, case: int) -> None:
        if self.is_settled(case):
            return
        block = self.block_of(case)
        self._unsettled[block] -= 1
        if not self._unsettled[block]:
            del self._unsettled[block]


def _names(folder: Path) -> Iterator[str]:
    with suppress(OSError):
        yield from (path.name for path in folder.iterdir())
