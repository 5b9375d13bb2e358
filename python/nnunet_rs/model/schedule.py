"""How a training goes on: its learning rate and its end, by epochs, by the clock, or by the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from nnunet_rs.model.config import TrainingConfig
from nnunet_rs.model.recipe import PlateauRule

WARM_UP = 0.1  # share of the one cycle in which the rate rises
CYCLE_START = 1 / 25  # the rate it rises from, as a part of the peak
CYCLE_END = 1e-3  # the rate it falls to, as a part of the peak


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


@dataclass(slots=True)
class Position:
    """Where a training stands: a value that JSON holds."""

    epoch: int = 0
    batch: int = 0  # of the epoch, the next one
    iterations: int = 0
    seconds: float = 0.0  # since the beginning, interruptions not counted
    loss: float = 0.0  # sum over the epoch's batches so far, as far as it is a number
    skipped: int = 0  # of the epoch's batches: their loss was no number, in float16
    waiting: float = 0.0  # seconds in this epoch
    training: float = 0.0
    plateau: Plateau = field(default_factory=Plateau)


@dataclass(frozen=True, slots=True)
class Overhead:
    """What belongs to a time budget besides the training."""

    begun: float  # when its clock began, by `time.monotonic`
    windows: int = 0  # that follow: forward passes of one sample each
    seconds: float = 0.0  # what else follows takes, about
    what: str = ""  # that follows, for people
    mirror: bool = True  # every window goes through the network in all mirror images that training has seen


def share(config: TrainingConfig, position: Position, reserve: float = 0.0) -> float:
    """Return how much of a training is done, from 0; 1 or more: it is over.

    Parameters
    ----------
    config
        Its epochs and its time budget: whichever ends first.
    position
        Where the training stands.
    reserve
        Seconds of the time budget to keep for what follows the last iteration.
    """
    epochs = position.epoch + position.batch / config.batches
    return max(_by_iterations(config, epochs), _by_clock(config, position, reserve))


def has_small_patches(config: TrainingConfig, position: Position, reserve: float = 0.0) -> bool:
    """Whether the next iteration is of a training's first part, whose patches are small; parameters as of `share`."""
    limit = math.inf if config.small_iterations is None else config.small_iterations
    return position.iterations < limit and share(config, position, reserve) < config.small_patches


def batches_left(config: TrainingConfig, position: Position, small_part: float = 1.0) -> float:
    """Return how many batches are to come where epochs bound a training.

    Those that `has_small_patches` speaks of count `small_part` each, the part of a planned patch's voxels that they
    have: about what they take of the time.
    """
    whole = (config.epochs or 0) * config.batches
    small = math.ceil(config.small_patches * whole)
    small = small if config.small_iterations is None else min(small, config.small_iterations)
    left = whole - position.epoch * config.batches - position.batch
    return left - max(small - position.iterations, 0) * (1 - small_part)


def learning_rate(config: TrainingConfig, position: Position, reserve: float = 0.0) -> float:
    """Return the learning rate of the next iteration; parameters as of `share`."""
    if config.schedule == "one_cycle":
        return config.learning_rate * one_cycle(share(config, position, reserve))
    if config.schedule == "polynomial":  # constant within an epoch, as nnU-Net v2
        done = max(_by_iterations(config, position.epoch), _by_clock(config, position, reserve))
        return config.learning_rate * polynomial(done)
    return config.learning_rate * position.plateau.factor


def is_over(config: TrainingConfig, position: Position, reserve: float = 0.0) -> bool:
    """Whether no iteration is left: epochs or time are used up, or the paper's learning rate is too small."""
    exhausted = config.schedule == "plateau" and learning_rate(config, position) < config.plateau.stop_below
    return exhausted or share(config, position, reserve) >= 1


def _by_iterations(config: TrainingConfig, epochs: float) -> float:
    return 0.0 if config.epochs is None else epochs / config.epochs


def _by_clock(config: TrainingConfig, position: Position, reserve: float) -> float:
    budget = config.time_budget
    return 0.0 if budget is None else position.seconds / max(budget - reserve, 0.2 * budget)


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
