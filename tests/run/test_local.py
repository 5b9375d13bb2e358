"""The executors of one machine, with jobs that are no trainings."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.run import local
from nnunet_rs.run.executor import Done, Executor, Job, Lost, Resources, Said
from nnunet_rs.run.local import InProcess, PerDevice, local_executor


def report(text: str, resources: Resources, progress: Progress) -> tuple[str, str, int | None, int]:
    progress.say(text)
    return text, resources.device, resources.threads, os.getpid()


def leave(resources: Resources, progress: Progress) -> None:
    os._exit(3)


def wait_for_ever(resources: Resources, progress: Progress) -> None:
    progress.say("begun")
    time.sleep(60)


def job(*arguments: Any, function: Any = report) -> Job:
    return Job("a job", function, arguments)


def ended(executor: Executor) -> list[Done | Lost | Said]:
    """Wait for everything."""
    events: list[Done | Lost | Said] = []
    while executor.handles:
        events += executor.wait(5.0)
    return events


def test_one_device_is_used_by_this_process() -> None:
    executor = local_executor(["cpu"], Silent())
    assert executor.in_process
    assert executor.free == 1
    handle = executor.submit(job("a"))
    assert (executor.free, list(executor.handles)) == (0, [handle])
    assert executor.wait(0) == (Done(handle, ("a", "cpu", None, os.getpid())),)
    assert executor.free == 1
    executor.cancel(executor.submit(job("b")))
    assert executor.wait(0) == ()


def test_an_error_in_this_process_is_raised() -> None:
    executor = InProcess("cpu", Silent())
    executor.submit(job(function=lambda *_: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        executor.wait(0)
    assert not executor.handles


def test_several_devices_have_a_process_each_and_share_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "processors", lambda: 6)
    executor = local_executor(["cuda:0", "cuda:1"], Silent())
    first, second = executor.submit(job("a")), executor.submit(job("b"))
    assert (first.where, second.where, executor.free) == ("cuda:0", "cuda:1", 0)
    events = ended(executor)
    done = {event.handle: event.value for event in events if isinstance(event, Done)}
    assert (done[first][:3], done[second][:3]) == (("a", "cuda:0", 3), ("b", "cuda:1", 3))
    assert len({os.getpid(), done[first][3], done[second][3]}) == 3
    assert {(event.handle, event.text) for event in events if isinstance(event, Said)} == {(first, "a"), (second, "b")}


def test_a_lost_process_leaves_its_device_to_the_next_job() -> None:
    executor = PerDevice(("cpu", "cpu"))
    handle = executor.submit(job(function=leave))
    assert ended(executor) == [Lost(handle, "its process ended with exit code 3, and said why on standard error")]
    assert executor.free == 2


def test_a_cancelled_job_ends_by_its_signal_and_a_closed_executor_leaves_nothing() -> None:
    executor = PerDevice(("cpu", "cpu"))
    cancelled, killed = (executor.submit(job(function=wait_for_ever)) for _ in range(2))
    begun: set[Any] = set()
    while len(begun) < 2:
        begun |= {event.handle for event in executor.wait(5.0)}
    executor.cancel(cancelled)
    executor.cancel(cancelled)
    assert executor.wait(30.0) == (Lost(cancelled, "its process was ended by SIGTERM"),)
    assert list(executor.handles) == [killed]
    executor.close()
    assert not executor.handles
