import os
import signal
import threading

import pytest
from nnunet_rs.core.termination import Terminated, termination_unwinds


def test_the_first_sigterm_unwinds_and_the_second_would_kill() -> None:
    left = []

    def work() -> None:
        with termination_unwinds():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                left.append(signal.getsignal(signal.SIGTERM))

    with pytest.raises(Terminated):
        work()
    assert left == [signal.SIG_DFL]


def test_nothing_is_left_behind() -> None:
    with termination_unwinds():
        assert callable(signal.getsignal(signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_programs_own_handler_and_other_threads_are_left_alone() -> None:
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        with termination_unwinds():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [1]

    def work() -> None:
        with termination_unwinds():
            heard.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == [1, signal.SIG_DFL]
