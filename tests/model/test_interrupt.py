import os
import signal
import threading

import pytest
from nnunet_rs.model.interrupt import stop_wishes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_wish_the_second_acts(number: int) -> None:
    acted = []
    before = signal.signal(number, lambda *_: acted.append(number))
    try:
        with stop_wishes() as wish:
            assert not wish.made
            os.kill(os.getpid(), number)
            assert wish.made
            assert wish.signal == number
            assert not acted
            os.kill(os.getpid(), number)
            assert acted == [number]
    finally:
        signal.signal(number, before)


def test_handlers_come_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="wrong"), stop_wishes():
        raise ValueError("wrong")
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_leave_signals_alone() -> None:
    seen = []

    def work() -> None:
        with stop_wishes() as wish:
            seen.append((wish.made, signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
