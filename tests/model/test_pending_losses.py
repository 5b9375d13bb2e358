import weakref
from typing import Any

import pytest
import torch
from nnunet_rs.model.pending_losses import AHEAD, AHEAD_WITHOUT_EVENTS, PendingLosses


class Events:
    """CUDA's events and streams of a device that has come as far as `done` iterations."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.recorded, self.done, self.waited = 0, 0, list[int]()
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: device)
        monkeypatch.setattr(torch.cuda, "Event", lambda: Event(self))


class Event:
    def __init__(self, events: Events) -> None:
        self.events, self.number = events, 0

    def record(self, stream: Any) -> None:
        assert stream == torch.device("cuda:1")
        self.events.recorded += 1
        self.number = self.events.recorded

    def query(self) -> bool:
        return self.number <= self.events.done

    def synchronize(self) -> None:
        self.events.waited.append(self.number)
        self.events.done = max(self.events.done, self.number)


def test_on_a_processor_a_loss_is_read_at_once() -> None:
    pending = PendingLosses(torch.device("cpu"))
    assert [pending.put(torch.tensor(float(k))) for k in range(3)] == [[0.0], [1.0], [2.0]]
    assert pending.rest() == []


def test_a_gpu_may_be_a_few_iterations_behind_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    events, pending = Events(monkeypatch), PendingLosses(torch.device("cuda:1"))
    ahead = AHEAD["cuda"]
    read = [pending.put(torch.tensor(float(k))) for k in range(6)]
    assert read == [[]] * ahead + [[float(k)] for k in range(6 - ahead)]
    assert events.waited == list(range(1, 7 - ahead))  # the iteration that many before, never the last one
    events.done = 6  # it has caught up: nothing is waited for
    assert pending.rest() == [4.0, 5.0]
    assert events.waited == list(range(1, 7 - ahead))
    assert len(pending) == 0


def test_a_batch_is_kept_until_the_gpu_has_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Batch:
        pass

    Events(monkeypatch)
    pending, batch = PendingLosses(torch.device("cuda:1")), Batch()
    known = weakref.ref(batch)
    pending.put(torch.tensor(0.0), batch)
    del batch
    assert known() is not None
    pending.rest()
    assert known() is None


def test_without_events_losses_are_read_seldom_and_together() -> None:
    pending = PendingLosses(torch.device("mps"))
    read = [len(pending.put(torch.tensor(1.0))) for _ in range(AHEAD_WITHOUT_EVENTS + 2)]
    assert read == [0] * AHEAD_WITHOUT_EVENTS + [AHEAD_WITHOUT_EVENTS + 1, 0]
