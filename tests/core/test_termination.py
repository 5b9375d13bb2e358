from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from nnunet_rs.core.termination import (
    SAME,
    STOPPING,
    Terminated,
    handled,
    is_default,
    termination_unwinds,
    until_interrupted,
)

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has other signals")


@pytest.mark.parametrize("number", STOPPING)
def test_the_first_signal_unwinds_and_the_second_would_kill(number: int) -> None:
    def work() -> None:
        with termination_unwinds():
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(Terminated) as raised:
        work()
    assert raised.value.signal == number
    assert signal.getsignal(number) is before


@posix
def test_what_comes_at_the_same_time_is_one_request() -> None:
    def work() -> None:
        with termination_unwinds():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGHUP)

    with pytest.raises(Terminated):
        work()


@posix
def test_the_system_repeats_that_no_processor_time_is_left() -> None:
    def work() -> None:
        with termination_unwinds():
            try:
                os.kill(os.getpid(), signal.SIGXCPU)
            finally:
                time.sleep(1.5 * SAME)
                os.kill(os.getpid(), signal.SIGXCPU)

    with pytest.raises(Terminated):
        work()


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
        with termination_unwinds(watched=True):
            heard.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == [1, signal.SIG_DFL]


@posix
def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with termination_unwinds():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_come_back_after_an_error() -> None:
    before = [signal.getsignal(number) for number in STOPPING]
    with pytest.raises(ValueError, match="wrong"), handled(is_default, lambda *_: None):
        raise ValueError("wrong")
    assert [signal.getsignal(number) for number in STOPPING] == before


# What never returns and no signal interrupts: a lock that is taken twice, with and without the interpreter's lock held.
STUCK = """
import ctypes, sys
from nnunet_rs.core.termination import termination_unwinds, until_interrupted
def wait():
    library = {library}(None)
    mutex = ctypes.create_string_buffer(64)
    library.pthread_mutex_lock(mutex)
    print("waiting", flush=True)
    library.pthread_mutex_lock(mutex)
def unwind():
    try:
        print("waiting", flush=True)
        __import__("threading").Event().wait()
    finally:
        wait()
with termination_unwinds(watched=True):
    {work}()
"""


@contextmanager
def child(library: str, work: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    code = STUCK.format(library=library, work=work)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.3)  # until it waits
        yield process
    finally:
        process.kill()
        process.communicate()


@posix
@pytest.mark.parametrize("library", ["ctypes.CDLL", "ctypes.PyDLL"])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGUSR1])
def test_a_second_signal_ends_what_never_returns(library: str, second: int) -> None:
    with child(library, "wait") as process:
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3 * SAME)
        process.send_signal(second)
        assert process.wait(60) == -signal.SIGKILL


@posix
def test_one_signal_sent_twice_at_once_is_no_second_one() -> None:
    with child("ctypes.CDLL", "wait") as process:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)


@posix
def test_a_second_signal_ends_an_unwinding_that_never_ends() -> None:
    with child("ctypes.CDLL", "unwind") as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        time.sleep(2 * SAME)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGKILL


@posix
def test_where_the_interpreter_runs_the_second_signal_acts_as_the_system_has_it() -> None:
    code = (
        "import time\nfrom nnunet_rs.core.termination import termination_unwinds\n"
        "with termination_unwinds(watched=True):\n    try:\n        print('waiting', flush=True); time.sleep(60)\n"
        "    finally:\n        print('unwinding', flush=True); time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "unwinding\n"
    time.sleep(2 * SAME)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == -signal.SIGHUP
    process.stdout.close()


def test_what_has_no_end_ends_by_ctrl_c_alone() -> None:
    for stop in (KeyboardInterrupt(), Terminated(signal.SIGINT)):
        with until_interrupted():
            raise stop
    with pytest.raises(Terminated), until_interrupted():
        raise Terminated(signal.SIGTERM)
    with pytest.raises(ValueError, match="mine"), until_interrupted():
        raise ValueError("mine")
