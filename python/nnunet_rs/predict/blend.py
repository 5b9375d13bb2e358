"""Weighted averages of overlapping windows, in sums that are only as deep as one window."""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor

from nnunet_rs.core.kernels import Blend, gaussian_importance
from nnunet_rs.core.types import FloatArray, Shape3
from nnunet_rs.predict.sweep import Sweep


class SweepBlend(Protocol):
    """Sums that move along sweep axis 0. Windows come in the order of their starts along it."""

    def add(self, patch: Tensor, start: Shape3) -> FloatArray | None:
        """Add a window's scores (c, *tile); return the planes before `start` that were not handed out yet, if any.

        Planes come as weighted averages (c, planes, a, b).
        """

    def finish(self) -> FloatArray:
        """Return the planes that are left, (c, planes, a, b)."""


def open_blend(classes: int, sweep: Sweep, device: torch.device) -> SweepBlend:
    """Return empty sums: in the processor's memory for networks on it, else on their device."""
    kind = HostBlend if device.type == "cpu" else DeviceBlend
    return kind(classes, sweep, device)


class HostBlend:
    """SweepBlend by the Rust kernel."""

    def __init__(self, classes: int, sweep: Sweep, device: torch.device) -> None:  # noqa: ARG002
        self._blend = Blend(classes, sweep.padded, sweep.tile, stream_axis=0)

    def add(self, patch: Tensor, start: Shape3) -> FloatArray | None:
        """See SweepBlend."""
        return self._blend.add(patch.numpy(), start)

    def finish(self) -> FloatArray:
        """See SweepBlend."""
        return self._blend.finish()


class DeviceBlend:
    """SweepBlend in torch, on any device: a buffer that is moved on as planes are handed out."""

    def __init__(self, classes: int, sweep: Sweep, device: torch.device) -> None:
        self._first = 0  # plane before which everything was handed out
        self._last = sweep.padded[0]
        self._importance = torch.from_numpy(gaussian_importance(sweep.tile)).to(device)
        self._sums = torch.zeros((classes, sweep.tile[0], *sweep.padded[1:]), device=device)
        self._weights = torch.zeros((sweep.tile[0], *sweep.padded[1:]), device=device)

    @torch.inference_mode()
    def add(self, patch: Tensor, start: Shape3) -> FloatArray | None:
        """See SweepBlend."""
        done = self._hand_out(start[0]) if start[0] > self._first else None
        place = tuple(slice(at, at + n) for at, n in zip(start[1:], self._importance.shape[1:], strict=True))
        self._sums[(slice(None), slice(None), *place)].addcmul_(patch, self._importance)
        self._weights[(slice(None), *place)] += self._importance
        return done

    def finish(self) -> FloatArray:
        """See SweepBlend."""
        return self._hand_out(self._last)

    @torch.inference_mode()
    def _hand_out(self, stop: int) -> FloatArray:
        count = stop - self._first
        averages = self._sums[:, :count] / self._weights[:count]
        for buffer in (self._sums.transpose(0, 1), self._weights):
            kept = buffer[count:].clone()
            buffer[: len(kept)] = kept
            buffer[len(kept) :] = 0
        self._first = stop
        return cast("FloatArray", averages.cpu().numpy())
