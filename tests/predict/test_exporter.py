"""Parts of cases in order, done while the next ones are made: how many wait, errors, interruptions."""

import threading
from concurrent.futures import CancelledError
from functools import partial

import pytest
from nnunet_rs.predict.exporter import AHEAD, Exporter, do_parts, in_order

WAIT = 20  # seconds, after which what should have happened will not


@pytest.mark.parametrize("beside", [True, False])
def test_work_is_done_in_order_and_little_of_it_waits(beside):
    made, done, most = [], [], []

    def work():
        for number in range(12):
            made.append(number)
            most.append(len(made) - len(done))
            yield partial(do, number)

    def do(number):
        done.append(number)
        return number, threading.current_thread() is threading.main_thread()

    assert list(in_order(work(), beside=beside)) == [(number, not beside) for number in range(12)]
    assert max(most) <= AHEAD


def test_an_error_of_the_work_is_raised_and_ends_the_making():
    made = []

    def work():
        for number in range(50):
            made.append(number)
            yield partial(do, number)

    def do(number):
        if number == 4:
            raise OSError("the disk is full")
        return number

    found = []
    with pytest.raises(OSError, match="disk is full"):
        found.extend(in_order(work(), beside=True))
    assert len(made) <= 4 + AHEAD
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        list(in_order(interrupted(), beside=True))
    assert threading.active_count() == before


def interrupted():
    yield int
    raise KeyboardInterrupt


def test_little_waits_of_all_cases_together():
    """The last parts of a case are under way while the first ones of the next are made, and count with them."""
    gate, made, done = threading.Event(), [], []

    def do(name):
        if name == "a1":
            assert gate.wait(WAIT)
        done.append(name)

    def parts(*names):
        for name in names:
            made.append(name)
            assert len(made) - len(done) <= AHEAD
            if name == "b0":
                assert done == ["a0"]  # the case before is still being done
                gate.set()
            yield partial(do, name)

    with Exporter() as exporter:
        first = exporter.do(parts("a0", "a1", "a2"), lambda: done[:3])
        second = exporter.do(parts("b0", "b1", "b2", "b3", "b4"), lambda: list(done))
        assert first() == ["a0", "a1", "a2"]
        assert second() == made
        assert not exporter.busy


def test_an_error_after_the_last_part_was_made_is_that_cases_alone():
    gate, done = threading.Event(), []

    def fail():
        assert gate.wait(WAIT)
        raise OSError("the disk is full")

    with Exporter() as exporter:
        failing = exporter.do([fail, partial(done.append, "after the error")], lambda: "labels")
        assert exporter.busy
        gate.set()
        with pytest.raises(OSError, match="disk is full"):
            failing()
        exporter.wait()
        before = len(done)
        assert exporter.do([partial(done.append, "the next case")], lambda: done[before:])() == ["the next case"]


def test_what_is_stopped_finishes_the_part_in_hand_and_drops_the_rest():
    gate, done = threading.Event(), []

    def slow():
        assert gate.wait(WAIT)
        done.append("slow")

    exporter = Exporter()
    finish = exporter.do([slow, partial(done.append, "never")], lambda: "labels")
    exporter._under_way[-1].add_done_callback(lambda _: gate.set())  # when it is dropped
    exporter.stop()
    assert done == ["slow"]
    with pytest.raises(CancelledError):
        finish()


def test_without_an_exporter_all_is_done_at_once():
    done = []
    finish = do_parts([partial(done.append, 1), partial(done.append, 2)], lambda: len(done), None)
    done.append(3)
    assert finish() == 2
