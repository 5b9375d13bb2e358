from __future__ import annotations

import threading
import time

import pytest
from nnunet_rs.core.budget import Budget, in_parallel


def test_never_more_than_the_total() -> None:
    budget, held, most, lock = Budget(100), 0, 0, threading.Lock()

    def work(size: int) -> int:
        nonlocal held, most
        with budget.hold(size):
            with lock:
                held += size
                most = max(most, held)
            time.sleep(0.002)
            with lock:
                held -= size
        return size

    sizes = [10, 60, 100, 30, 70, 1, 50] * 3
    done = dict(in_parallel(lambda i: work(sizes[i]), range(len(sizes)), 6, budget))
    assert done == dict(enumerate(sizes))
    assert most <= 100
    assert budget.free == 100


def test_what_can_never_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="101 bytes are more than the 100"), Budget(100).hold(101):
        pass


def test_try_hold_does_not_wait() -> None:
    budget = Budget(100)
    assert budget.try_hold(80)
    assert not budget.try_hold(30)
    budget.give_back(80)
    assert budget.try_hold(30)
    assert budget.free == 70


def test_an_error_ends_the_others() -> None:
    budget = Budget(10)
    begun = []

    def work(item: int) -> None:
        if item == 0:
            with budget.hold(10):
                time.sleep(0.05)
                raise RuntimeError("broken")
        begun.append(item)
        with budget.hold(10):
            time.sleep(0.01)

    with pytest.raises(RuntimeError, match="broken"):
        list(in_parallel(work, range(200), 2, budget))
    assert len(begun) < 100
    assert budget.stopped


def test_a_caller_may_leave() -> None:
    budget, done = Budget(1), []

    def work(item: int) -> None:
        time.sleep(0.002)
        done.append(item)

    results = in_parallel(work, range(1000), 2, budget)
    next(results)
    results.close()
    assert len(done) < 1000
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("case")]
