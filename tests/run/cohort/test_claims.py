"""Claims: whatever dies, pauses or comes back, every case is settled, and each block has one worker at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.run.cohort.board import CLAIMS, LEASE, TRIES, WORKERS, Board
from nnunet_rs.run.cohort.claims import PATIENCE, Claim, Claims, cancel, report_lost


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def join(tmp_path: Path) -> Callable[..., Claims]:
    """`join(sizes=(2, 2), clock=..., host="a", groups=...)`: a worker that gives signs of life when it is told to."""
    clock = Clock()

    def make(sizes: tuple[int, ...] = (2, 2), host: str = "a", groups: tuple[str, ...] = (), **more: Any) -> Claims:
        (tmp_path / CLAIMS).mkdir(exist_ok=True)
        who = {"host": host, "process": 1, "since": "", "job": f"worker on {host}"}
        groups = groups or ("",) * len(sizes)
        return Claims(tmp_path, sizes, groups, who, clock=more.get("clock", clock), alive=False)

    return make


def clock_of(claims: Claims) -> Clock:
    clock = claims.board.clock
    assert isinstance(clock, Clock)
    return clock


def taken(claims: Claims, group: str | None = None) -> Claim:
    claim = claims.take(group)
    assert claim is not None
    return claim


def test_two_workers_never_have_the_same_block(join: Callable[..., Claims]) -> None:
    one, other = join(), join()
    blocks = {taken(one).block, taken(other).block}
    assert blocks == {0, 1}
    assert one.take() is None
    assert other.take() is None


def test_a_worker_that_gives_no_sign_of_life_loses_its_blocks(join: Callable[..., Claims]) -> None:
    dead, other = join((1,)), join((1,))
    claim = taken(dead)
    clock_of(other).now += LEASE - 1
    dead.journal.beat()
    assert other.take() is None
    clock_of(other).now += LEASE - 1  # the sign was seen by then
    assert other.take() is None
    clock_of(other).now += LEASE
    assert other.take() == Claim(0, 2)
    assert not dead.is_mine(claim)


def test_clocks_of_machines_need_not_agree(join: Callable[..., Claims]) -> None:
    past, future = Clock(), Clock()
    future.now += 1e6
    one, other = join((1,), clock=past), join((1,), clock=future)
    taken(one)
    for _ in range(10):
        past.now, future.now = past.now + 50, future.now + 50
        one.journal.beat()
        assert other.take() is None


def test_who_is_told_to_be_gone_is(join: Callable[..., Claims], tmp_path: Path) -> None:
    dead, other = join((1,)), join((1,))
    taken(dead)
    report_lost(tmp_path, [dead.token])
    assert other.take() == Claim(0, 2)


def test_who_is_told_to_be_gone_and_works_on_keeps_what_it_takes_next(
    join: Callable[..., Claims], tmp_path: Path
) -> None:
    one, other = join((1,)), join((1,))
    taken(one)
    report_lost(tmp_path, [one.token])
    other.leave(taken(other).block)
    one.leave_all()
    assert one.take() == Claim(0, 3)
    assert other.take() is None


def test_a_case_that_was_in_hand_is_suspect_and_recorded_after_some_tries(join: Callable[..., Claims]) -> None:
    for number in range(TRIES):
        worker = join((2,))
        clock_of(worker).now += LEASE  # it has to see for itself that the others are silent
        assert taken(worker).attempt == number + 1
        assert [worker.is_suspect(case) for case in (0, 1)] == [number > 0, False]
        worker.begin(0)
    last = join((2,))
    clock_of(last).now += LEASE
    assert taken(last).attempt == TRIES + 1
    assert list(last.board.failed) == [0]
    assert "the process that had it ended without a word, 3 times: a (worker on a)" in last.board.failed[0]
    last.done(1)
    last.close()
    board = last.board
    board.refresh()
    assert board.finished
    assert (board.settled, len(board.done)) == (2, 1)


def test_a_failure_is_tried_again_elsewhere(join: Callable[..., Claims]) -> None:
    here, there = join((1,), "a"), join((1,), "b")
    claim = taken(here)
    here.begin(0)
    here.fail(0, "out of memory", final=False)
    here.leave(claim.block)
    assert here.take() is None  # for a while
    assert there.take() == Claim(0, 2)
    there.fail(0, "out of memory", final=False)
    there.leave(0)
    assert there.take() is None
    clock_of(there).now += PATIENCE  # others have had their time
    here.journal.beat()
    assert there.take() == Claim(0, 3)
    there.fail(0, "out of memory", final=False)
    there.board.refresh()
    assert there.board.failed == {0: "out of memory"}


def test_a_worker_keeps_to_the_group_that_it_has_loaded(join: Callable[..., Claims]) -> None:
    worker = join((1, 1, 1, 1), groups=("a", "b", "a", "b"))
    assert {taken(worker, "b").block, taken(worker, "b").block} == {1, 3}
    assert {taken(worker, "b").block, taken(worker, "b").block} == {0, 2}


def test_cancelling_stops_the_taking(join: Callable[..., Claims], tmp_path: Path) -> None:
    worker = join((1, 1))
    claim = taken(worker)
    cancel(tmp_path)
    clock_of(worker).now += LEASE
    assert not worker.is_mine(claim)
    assert worker.take() is None


def test_a_line_that_a_full_disk_cut_off_harms_no_other(join: Callable[..., Claims], tmp_path: Path) -> None:
    worker = join((2,))
    taken(worker)
    with (tmp_path / WORKERS / f"{worker.token}.jsonl").open("a") as stream:
        stream.write('{"done":')
    worker.journal._torn = True
    worker.done(1)
    board = Board(tmp_path, (2,))
    board.refresh()
    assert list(board.done) == [1]


def test_a_claim_without_a_journal_is_given_up_after_a_while(join: Callable[..., Claims], tmp_path: Path) -> None:
    worker = join((1,))
    (tmp_path / CLAIMS / "0.1").touch()  # its maker died at once
    assert worker.take() is None
    clock_of(worker).now += LEASE + 1
    assert worker.take() == Claim(0, 2)


def test_a_claim_tells_who_made_it_where_the_listing_is_older(join: Callable[..., Claims], tmp_path: Path) -> None:
    one = join((1,))
    taken(one)
    board = Board(tmp_path, (1,), clock_of(one))
    board.note_claim(0, 1)
    board._read_claim(0, 1)
    holder = board.holder(0)
    assert holder is not None
    assert holder.token == one.token


def test_a_folder_that_cannot_be_written_is_told(join: Callable[..., Claims], tmp_path: Path) -> None:
    worker = join((1,))
    (tmp_path / CLAIMS).rmdir()
    with pytest.raises(NnunetError, match=r"0\.1: cannot be written: No such file"):
        worker.take()
    (tmp_path / WORKERS / "a").write_text("")
    with pytest.raises(NnunetError, match="cannot be written"):
        cancel(tmp_path / WORKERS / "a")


class Cohorts(RuleBasedStateMachine):
    """Workers that take, do, fail, leave, die and pause in any order; results are written as files are."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.live: list[Claims] = []
        self.paused: list[Claims] = []
        self.held: dict[str, list[Claim]] = {}
        self.written: dict[int, int] = {}
        self.count = 0
        self.sizes: tuple[int, ...] = ()

    @initialize(sizes=st.lists(st.integers(1, 3), min_size=1, max_size=5))
    def begin(self, sizes: list[int]) -> None:
        self.sizes = tuple(sizes)
        self.root = self.folder / str(len(list(self.folder.iterdir())))
        (self.root / CLAIMS).mkdir(parents=True)

    def worker(self, host: str) -> Claims:
        who = {"host": host, "process": 1, "since": "", "job": host}
        self.count, token = self.count + 1, f"{host}{self.count}"
        claims = Claims(self.root, self.sizes, ("",) * len(self.sizes), who, clock=self.clock, alive=False, token=token)
        self.held[claims.token] = []
        return claims

    @precondition(lambda self: len(self.live) + len(self.paused) < 5)
    @rule(host=st.sampled_from("ab"))
    def join(self, host: str) -> None:
        self.live.append(self.worker(host))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.live))
        claim = worker.take()
        if claim is not None:
            self.held[worker.token].append(claim)

    def in_hand(self, data: st.DataObject, among: list[Claims]) -> tuple[Claims, int] | None:
        cases = [
            (worker, case)
            for worker in among
            for claim in self.held[worker.token]
            for case in range(worker.board.first[claim.block], worker.board.first[claim.block + 1])
        ]
        return data.draw(st.sampled_from(cases)) if cases else None

    @precondition(lambda self: self.live)
    @rule(data=st.data(), ending=st.sampled_from(["done", "failed", "final", "dies"]))
    def do(self, data: st.DataObject, ending: str) -> None:
        found = self.in_hand(data, self.live)
        if found is None or found[0].board.is_settled(found[1]):
            return
        worker, case = found
        worker.begin(case)
        if ending == "done":
            self.written[case] = self.written.get(case, 0) + 1
            worker.done(case)
        elif ending == "dies":
            self.die(worker)
        else:
            worker.fail(case, ending, final=ending == "final")

    def die(self, worker: Claims) -> None:
        worker.journal.close()
        self.live.remove(worker)
        del self.held[worker.token]

    @precondition(lambda self: self.live)
    @rule(data=st.data(), told=st.booleans())
    def kill(self, data: st.DataObject, told: bool) -> None:
        worker = data.draw(st.sampled_from(self.live))
        self.die(worker)
        if told:
            report_lost(self.root, [worker.token])

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.live))
        self.live.remove(worker)
        self.paused.append(worker)

    @precondition(lambda self: self.paused)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        """What it had in hand it writes again; then it sees what has become of its blocks."""
        worker = data.draw(st.sampled_from(self.paused))
        found = self.in_hand(data, [worker])
        if found is not None:
            worker.done(found[1])
            self.written[found[1]] = self.written.get(found[1], 0) + 1
        self.paused.remove(worker)
        self.clock.now += LEASE / 3
        self.beat()
        self.held[worker.token] = [claim for claim in self.held[worker.token] if worker.is_mine(claim)]
        self.live.append(worker)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.live))
        self.live.remove(worker)
        del self.held[worker.token]
        worker.close()

    def beat(self) -> None:
        for worker in self.live:
            worker.journal.beat()
            worker.board.refresh()

    @rule(seconds=st.sampled_from([1.0, PATIENCE, LEASE / 2]))
    def pass_time(self, seconds: float) -> None:
        self.beat()
        self.clock.now += seconds
        self.beat()

    @invariant()
    def nobody_shares_a_block(self) -> None:
        held = [claim.block for worker in self.live for claim in self.held[worker.token]]
        assert len(held) == len(set(held))

    def teardown(self) -> None:
        """A last worker comes: it can settle all that is left, in bounded time."""
        if not self.sizes:
            return
        for worker in (*self.live, *self.paused):
            worker.journal.close()
        last = self.worker("c")
        for _ in range(4 * (len(self.sizes) + TRIES)):
            self.clock.now += LEASE
            last.journal.beat()
            claim = last.take()
            while claim is not None:
                for case in range(last.board.first[claim.block], last.board.first[claim.block + 1]):
                    if not last.board.is_settled(case):
                        last.begin(case)
                        self.written[case] = self.written.get(case, 0) + 1
                        last.done(case)
                last.leave(claim.block)
                claim = last.take()
        last.close()
        board = Board(self.root, self.sizes)
        board.refresh()
        assert board.finished
        assert board.settled == sum(self.sizes)
        assert not board.done.keys() & board.failed.keys()
        assert board.done.keys() <= self.written.keys()  # what counts as done was written
        assert all(reason for reason in board.failed.values())
        lines = [json.loads(line) for path in (self.root / WORKERS).iterdir() for line in path.read_text().splitlines()]
        for case in self.written:
            assert sum(line.get("done") == case for line in lines) == self.written[case]


def test_nothing_is_lost_whatever_dies(tmp_path: Path) -> None:
    machine = type("Here", (Cohorts,), {"folder": tmp_path})
    run_state_machine_as_test(machine)
