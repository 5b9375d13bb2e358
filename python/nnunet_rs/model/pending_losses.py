"""Losses on their way back from the device: read without waiting for it, and a bound on how far it may fall behind."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Iterations that a device may have before it beyond the one that is prepared: enough that it never stands still; each
# holds a batch in pinned memory.
AHEAD = {"cpu": 0, "cuda": 2}
AHEAD_WITHOUT_EVENTS = 20  # where reading one loss waits for all that the device has to do: read seldom


@dataclass(frozen=True, slots=True)
class _Sent:
    """A loss that is being copied to the processor."""

    value: Tensor  # whole once the event has come
    event: torch.cuda.Event | None
    batch: Any  # whose memory the device may still be reading


class PendingLosses:
    """The losses of the last iterations, which the device may not have computed yet.

    A processor prepares iterations faster than a GPU computes them. Reading each loss would make it wait every time;
    never reading would let it run ahead without limit, and batches pile up in pinned memory.
    """

    def __init__(self, device: torch.device) -> None:
        """Begin with none."""
        self._device = device
        self._ahead = AHEAD.get(device.type, AHEAD_WITHOUT_EVENTS)
        self._sent: deque[_Sent] = deque()

    def __len__(self) -> int:
        return len(self._sent)

    def put(self, loss: Tensor, batch: Any = None) -> list[float]:
        """Take an iteration's loss; return those of iterations that are far enough behind, the oldest first.

        Parameters
        ----------
        loss
            Scalar on the device.
        batch
            Kept until the device has done with it.
        """
        self._sent.append(self._send(loss.detach(), batch))
        if len(self._sent) <= self._ahead:
            return []
        return [_read(self._sent.popleft())] if self._device.type == "cuda" else self.rest()

    def rest(self) -> list[float]:
        """Wait for the device and return all losses that were not returned yet, the oldest first."""
        losses = [_read(sent) for sent in self._sent]
        self._sent.clear()
        return losses

    def _send(self, loss: Tensor, batch: Any) -> _Sent:
        if self._device.type != "cuda":
            return _Sent(loss, None, batch)
        copied = loss.to("cpu", non_blocking=True)  # into pinned memory, which PyTorch takes by itself
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return _Sent(copied, event, batch)


def _read(sent: _Sent) -> float:
    if sent.event is not None and not sent.event.query():  # type: ignore[no-untyped-call]
        sent.event.synchronize()
    return float(sent.value)
