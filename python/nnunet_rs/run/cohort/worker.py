"""What a worker does: it claims blocks of cases, keeps what it has loaded, and notes what comes of each case."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_rs.core.errors import DatasetError, NnunetError, named
from nnunet_rs.core.progress import Progress
from nnunet_rs.run.cohort.claims import Claim, Claims
from nnunet_rs.run.cohort.files import Blocks, Cohort, CohortFolder, Item, this_process
from nnunet_rs.run.cohort.kinds import opener
from nnunet_rs.run.cohort.work import Work
from nnunet_rs.run.executor import Resources

_LOOK = 1.0  # seconds between two looks for a block, when others have all of them
_IN_A_ROW = 5  # failed cases, after which a machine leaves the others to other machines


@dataclass(frozen=True, slots=True)
class Worked:
    """What a worker did."""

    done: int
    failed: int
    loaded: int  # how often something was loaded: once, unless there are several groups
    problem: str = ""  # why it could not go on


def work(folder: Path, name: str, resources: Resources, progress: Progress) -> Worked:
    """Do cases of a cohort until none is left that another might leave.

    Parameters
    ----------
    folder
        The cohort's.
    name
        Of the job, by which whoever started it knows it again.
    resources, progress
        As of Job.

    Returns
    -------
    Worked
        Its `problem` says, where it could not go on: models that cannot be loaded here, or are others than where the
        cohort was made; another version of this program; cases that fail on this machine alone, one after another; a
        folder that cannot be written.
    """
    home = CohortFolder(folder)
    try:
        cohort = home.read()
        home.require_same_version(cohort)
        claims = Claims(folder, cohort.sizes, cohort.groups, this_process(name))
    except NnunetError as error:
        return Worked(0, 0, 0, named(error))
    worker, problem = _Worker(cohort, home.blocks(cohort), claims, resources, progress), ""
    try:
        worker.run()
    except NnunetError as error:
        problem = named(error)
    finally:
        with suppress(NnunetError):  # a full disk: the worker counts as gone soon
            claims.close()
    return Worked(worker.done, worker.failed, worker.loaded, problem)


@dataclass(slots=True)
class _Worker:
    cohort: Cohort
    blocks: Blocks
    claims: Claims
    resources: Resources
    progress: Progress
    done: int = 0
    failed: int = 0
    loaded: int = 0
    group: str | None = None  # what is loaded
    next_claim: Claim | None = None  # of another group
    alone: list[Item] = field(default_factory=list)  # cases that may have ended a worker
    unsettled: dict[int, int] = field(default_factory=dict)  # cases of each block that are still to be told of
    in_a_row: int = 0  # failures

    def run(self) -> None:
        """Work through all groups."""
        claim = self._wait()
        while claim is not None:
            self.group = self.cohort.groups[claim.block]
            with opener(self.cohort.kind)(self.cohort, self.group, self.resources, self.progress) as loaded:
                self.loaded += 1
                while claim is not None and self.cohort.groups[claim.block] == self.group:
                    claim = self._share(loaded, claim)

    def _share(self, loaded: Work, claim: Claim) -> Claim | None:
        """Do what can be had; return what comes next."""
        loaded.run(self._items(claim), self._settled)
        while self.alone:
            item = self.alone.pop()
            self.claims.begin(item.index)
            loaded.run(iter([item]), self._settled)
        following, self.next_claim = self.next_claim or self._wait(), None
        return following

    def _wait(self) -> Claim | None:
        """Take a block as soon as there is one; None: all is settled, or cancelled. Nothing is in hand meanwhile."""
        self.claims.leave_all()
        while True:
            claim = self.claims.take(self.group)
            if claim is not None or self.claims.board.finished or self.claims.board.cancelled:
                return claim
            time.sleep(_LOOK)

    def _items(self, claim: Claim | None) -> Iterator[Item]:
        """Yield cases of a block and of further ones, as long as there are any of this group."""
        while claim is not None:
            if self.cohort.groups[claim.block] != self.group:
                self.next_claim = claim
                return
            yield from self._of(claim)
            claim = self.claims.take(self.group)

    def _of(self, claim: Claim) -> Iterator[Item]:
        items = [item for item in self.blocks[claim.block] if not self.claims.board.is_settled(item.index)]
        self.unsettled[claim.block] = len(items)
        if not items:
            self.claims.leave(claim.block)
        for item in items:
            if not self.claims.is_mine(claim):
                self.claims.leave(claim.block)
                return
            self._require_able()
            if self.claims.is_suspect(item.index):
                self.alone.append(item)
            else:
                self.claims.begin(item.index)
                yield item

    def _settled(self, item: Item, error: BaseException | None, value: Any) -> None:
        if error is None:
            self.claims.done(item.index, value)
            self.done, self.in_a_row = self.done + 1, 0
        else:
            final = isinstance(error, DatasetError)
            self.claims.fail(item.index, named(error), final=final)
            self.failed, self.in_a_row = self.failed + 1, 0 if final else self.in_a_row + 1
        block = self.claims.board.block_of(item.index)
        self.unsettled[block] -= 1
        if not self.unsettled[block]:
            self.claims.leave(block)

    def _require_able(self) -> None:
        """Leave the rest to other machines, if there are any, where nothing succeeds."""
        if self.in_a_row >= _IN_A_ROW and self.claims.others_elsewhere():
            raise NnunetError(f"{_IN_A_ROW} cases in a row failed on this machine; the rest is left to others")
