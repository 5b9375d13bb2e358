import os
import signal
import threading
import time

import pytest
from nnunet_rs.core.stop_request import stop_requests
from nnunet_rs.core.termination import SAME, STOPPING, Terminated, termination_unwinds


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request_the_second_acts(number: int) -> None:
    acted = []
    before = signal.signal(number, lambda *_: acted.append(number))
    try:
        with stop_requests() as stop_request:
            assert not stop_request.made
            os.kill(os.getpid(), number)
            assert stop_request.made
            assert stop_request.signal == number
            assert not acted
            os.kill(os.getpid(), number)
            assert not acted  # at the same time: the same request
            time.sleep(1.5 * SAME)
            os.kill(os.getpid(), number)
            assert acted == [number]
    finally:
        signal.signal(number, before)


def test_handlers_come_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="wrong"), stop_requests():
        raise ValueError("wrong")
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_leave_signals_alone() -> None:
    seen = []

    def work() -> None:
        with stop_requests() as stop_request:
            seen.append((stop_request.made, signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


@pytest.mark.parametrize("number", STOPPING)
def test_every_signal_that_asks_to_end_is_a_wish(number: int) -> None:
    """The second one, another one too, unwinds as it did before."""

    def work() -> None:
        with termination_unwinds(), stop_requests() as stop_request:
            os.kill(os.getpid(), number)
            assert stop_request.signal == number
            time.sleep(1.5 * SAME)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Terminated):
        work()


def test_a_programs_own_handlers_stay_and_ignored_signals_too() -> None:
    acted = []
    before = signal.signal(signal.SIGUSR1, lambda *_: acted.append(1)), signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with stop_requests() as stop_request:
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGTERM)
            assert not stop_request.made
        assert acted == [1]
    finally:
        signal.signal(signal.SIGUSR1, before[0])
        signal.signal(signal.SIGTERM, before[1])
