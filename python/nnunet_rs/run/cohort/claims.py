"""Blocks of cases that workers claim without locks.

A claim is a file BLOCK.ATTEMPT that can be made once (O_EXCL, which network drives honour). It is never renamed and
never removed: who made attempt k has the block until somebody has made attempt k + 1, which is for when the worker has
left the block, has ended, or gives no sign of life. A worker that only seemed to be gone writes the same results again,
each whole, and stops as soon as it sees that its block has another attempt.
"""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.run.cohort.board import CLAIMS, LEASE, TRIES, WORKERS, Board
from nnunet_rs.run.cohort.journal import ENDING, Journal

PATIENCE = 15.0  # seconds that a block waits for a worker elsewhere after it failed on a machine
_LOOK = 2.0  # seconds between two readings of all journals
_AMONG = 8  # free blocks from which one is drawn, so that workers that come at once rarely want the same


@dataclass(frozen=True, slots=True)
class Claim:
    """A block that a worker has."""

    block: int
    attempt: int


class Claims:
    """One worker's part in a cohort; `close` ends it.

    Parameters
    ----------
    folder
        The cohort's.
    sizes
        Of the blocks.
    groups
        Of the blocks: what has to be loaded for them. A worker takes blocks of the group it has, while there are any.
    who
        Is written into the journal: host, process, since, job.
    clock, alive, token
        Of the board, of the journal, and its name; tests have their own.
    """

    def __init__(
        self,
        folder: Path,
        sizes: Sequence[int],
        groups: Sequence[str],
        who: dict[str, Any],
        *,
        clock: Callable[[], float] = time.monotonic,
        alive: bool = True,
        token: str = "",
    ) -> None:
        self.token = token or secrets.token_hex(6)
        self.board = Board(folder, sizes, clock)
        self.journal = Journal(folder / WORKERS / (self.token + ENDING), alive=alive)
        self.journal.write(who, durable=True)
        self._folder, self._groups, self._host = folder, groups, str(who.get("host", ""))
        self._mine: dict[int, int] = {}  # attempt of each block
        self._began = clock()
        self._looked = -LEASE
        self._free_since: dict[tuple[int, int], float] = {}  # blocks that wait for a worker elsewhere
        self._chance = random.Random(self.token)
        self._look(_LOOK)

    def take(self, group: str | None = None) -> Claim | None:
        """Take a block that nobody has; None: at the moment there is none.

        Raises
        ------
        NnunetError
            The folder cannot be written.
        """
        for every in (_LOOK, 0.0):  # what was seen lately may do
            self._look(every)
            for block in self._candidates(group):
                claim = Claim(block, self.board.attempts.get(block, 0) + 1)
                if self._made(claim):
                    self._mine[block] = claim.attempt
                    self.journal.write({"take": [block, claim.attempt]})
                    self._look(0.0)
                    self._record_hopeless(block)
                    return claim
                self.board.note_claim(block, claim.attempt)
        return None

    def is_mine(self, claim: Claim) -> bool:
        """Whether a block still belongs to this worker, as far as it has seen."""
        self._look(LEASE / 4)
        return self.board.attempts.get(claim.block) == claim.attempt and not self.board.cancelled

    def begin(self, case: int) -> None:
        """Note that a case is in hand: if this worker dies, its next try is alone."""
        self.journal.write({"begin": case})

    def done(self, case: int, value: Any = None) -> None:
        """Note that a case is done and its files are whole."""
        entry = {"done": case, "at": round(self.board.clock() - self._began, 3)}
        self.journal.write(entry if value is None else {**entry, "value": value})

    def fail(self, case: int, reason: str, *, final: bool) -> None:
        """Note that a case failed: for good, or as often as is tried at most."""
        final = final or self.board.tries(case) + 1 >= TRIES
        self.journal.write({"failed": case, "why": reason, "final": final}, durable=True)

    def is_suspect(self, case: int) -> bool:
        """Whether a worker ended that had the case in hand, so that it may be what ended it."""
        return bool(self.board.losses(case))

    def others_elsewhere(self) -> bool:
        """Whether workers of other machines are alive."""
        workers = self.board.workers.values()
        return any(worker.host not in ("", self._host) and self.board.alive(worker) for worker in workers)

    def leave(self, block: int) -> None:
        """Let others have a block, or say that nothing is left to do in it."""
        if self._mine.pop(block, None) is not None:
            self.journal.write({"left": block}, durable=True)

    def leave_all(self) -> None:
        """Let others have what this worker has."""
        for block in tuple(self._mine):
            self.leave(block)

    def close(self) -> None:
        """Leave all blocks; nothing more is to come."""
        try:
            self.leave_all()
            self.journal.write({"end": True}, durable=True)
        finally:
            self.journal.close()

    def _look(self, every: float) -> None:
        if self.board.clock() - self._looked >= every:
            self._looked = self.board.clock()
            self.board.refresh()

    def _candidates(self, group: str | None) -> list[int]:
        """Return the blocks that may be taken: of this group first, those never taken before, in a mixed order."""
        if self.board.cancelled:
            return []
        open_blocks = [block for block in self.board.open_blocks() if block not in self._mine]
        fresh = [block for block in open_blocks if block not in self.board.attempts]
        again = [
            b for b in open_blocks if b in self.board.attempts and not self.board.is_held(b) and not self._waits(b)
        ]
        head, tail = fresh[:_AMONG], fresh[_AMONG:]
        self._chance.shuffle(head)
        return sorted([*head, *tail, *again], key=lambda block: self._groups[block] != group)

    def _waits(self, block: int) -> bool:
        """Whether a block is better left to a worker elsewhere: it failed here, and others may come."""
        last, attempt = self.board.holder(block), self.board.attempts[block]
        cases = range(self.board.first[block], self.board.first[block + 1])
        if last is None or not (any(case in self.board.failures for case in cases) or block in last.blocks):
            return False
        others = [w for w in self.board.workers.values() if w.token != self.token and self.board.alive(w)]
        near = last.host == self._host and any(worker.host != self._host for worker in others)
        if not (near or (last.token == self.token and others)):
            return False
        since = self._free_since.setdefault((block, attempt), self.board.clock())
        return self.board.clock() - since < PATIENCE

    def _made(self, claim: Claim) -> bool:
        """Make a claim's file; False: another was faster."""
        path = self._folder / CLAIMS / f"{claim.block}.{claim.attempt}"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        except OSError as error:
            advice = "check the folder's permissions and the space on its disk"
            raise NnunetError(f"{path}: cannot be written: {error.strerror}; {advice}") from error
        try:
            os.write(descriptor, self.token.encode())
        except OSError:
            pass  # others wait until it counts as gone
        finally:
            os.close(descriptor)
        return True

    def _record_hopeless(self, block: int) -> None:
        """Record the cases of a block that have ended as many workers as are risked."""
        for case in range(self.board.first[block], self.board.first[block + 1]):
            if self.board.is_settled(case) or self.board.tries(case) < TRIES:
                continue
            lost = self.board.losses(case)
            failures = self.board.failures.get(case, ())
            reasons = [failure.reason for failure in failures]
            if lost:
                where = ", ".join(f"{worker.host} ({worker.job or worker.process})" for worker in lost)
                reasons.append(f"the process that had it ended without a word, {len(lost)} times: {where}")
            self.journal.write({"failed": case, "why": "; ".join(dict.fromkeys(reasons)), "final": True}, durable=True)
        self._look(0.0)


def cancel(folder: Path) -> None:
    """Ask all workers of a cohort to stop after the cases that they have in hand.

    Raises
    ------
    NnunetError
        The folder cannot be written.
    """
    _say(folder, {"cancel": True})


def report_lost(folder: Path, tokens: Sequence[str]) -> None:
    """Note that workers have ended, which whoever started them knows at once; errors as `cancel`.

    One that writes on is alive all the same: another process may have begun a worker of the same name.
    """
    for token in tokens:
        with suppress(OSError):  # without a journal it has nothing
            _say(folder, {"gone": token, "bytes": (folder / WORKERS / (token + ENDING)).stat().st_size})


def _say(folder: Path, entry: dict[str, Any]) -> None:
    journal = Journal(folder / WORKERS / (secrets.token_hex(6) + ENDING), alive=False)
    journal.write(entry)
    journal.write({"end": True})
    journal.close()
