"""Learning rates: a fixed course over the training, or a step down whenever the loss stops falling."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

WARM_UP = 0.1  # share of the one cycle in which the rate rises
CYCLE_START = 1 / 25  # the rate it rises from, as a part of the peak
CYCLE_END = 1e-3  # the rate it falls to, as a part of the peak


def polynomial(share: float, exponent: float = 0.9) -> float:
    """Return (1 - share)^exponent: the factor of nnU-Net v2's initial rate after `share` (0 … 1) of the epochs."""
    return float((1 - min(max(share, 0.0), 1.0)) ** exponent)


def one_cycle(share: float) -> float:
    """Return the factor of the peak rate after `share` (0 … 1) of the training.

    A cosine up from 1/25 in the first tenth, a cosine down to 1/1000 in the rest (Smith and Topin, "Super-Convergence",
    2018). `share` may come from iterations or from a clock.
    """
    share = min(max(share, 0.0), 1.0)
    if share < WARM_UP:
        return _cosine(CYCLE_START, 1.0, share / WARM_UP)
    return _cosine(1.0, CYCLE_END, (share - WARM_UP) / (1 - WARM_UP))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True, slots=True)
class PlateauRule:
    """When the paper lowers its rate, and when it stops."""

    smoothing: float = 0.93  # of the exponential moving average of the training loss
    patience: int = 30  # epochs without improvement that are borne
    threshold: float = 1e-3  # an average must fall by more than this to be an improvement (the code of 2019)
    factor: float = 0.2
    stop_below: float = 1e-6  # learning rate


@dataclass(frozen=True, slots=True)
class Plateau:
    """Where a training stands with its plateau rule; a value to be stored, `after` makes the next one."""

    factor: float = 1.0  # of the initial rate
    average: float | None = None  # of the training loss
    best: float | None = None  # lowest average since the beginning
    waited: int = 0  # epochs since then, or since the last step down

    def after(self, loss: float, rule: PlateauRule) -> Plateau:
        """Return the state after one more epoch with this mean training loss.

        As `torch.optim.lr_scheduler.ReduceLROnPlateau(patience, threshold_mode="abs")` fed with the average: the step
        comes with the first epoch beyond `patience` that brings no improvement.
        """
        known = self.average is not None
        average = rule.smoothing * self.average + (1 - rule.smoothing) * loss if known else loss  # type: ignore[operator]
        if self.best is None or average < self.best - rule.threshold:
            return replace(self, average=average, best=average, waited=0)
        if self.waited + 1 > rule.patience:
            return replace(self, factor=self.factor * rule.factor, average=average, waited=0)
        return replace(self, average=average, waited=self.waited + 1)
