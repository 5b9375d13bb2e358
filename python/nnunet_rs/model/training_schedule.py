"""How long a training lasts, and its learning rate at any point of the way."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.recipe import TrainRecipe
from nnunet_rs.model.schedule import one_cycle, polynomial
from nnunet_rs.model.state import Position


@dataclass(frozen=True, slots=True)
class Overhead:
    """What belongs to a time budget besides the training."""

    begun: float  # when its clock began, by `time.monotonic`
    windows: int = 0  # that follow: forward passes of one sample each
    seconds: float = 0.0  # what else follows takes, about
    what: str = ""  # that follows, for people
    mirror: bool = True  # every window goes through the network in all mirror images that training has seen


@dataclass(frozen=True, slots=True)
class TrainingSchedule:
    """The way a training has before it, by epochs, by the clock, or by whichever ends first."""

    recipe: TrainRecipe
    epochs: int | None  # None: as many as the time budget lets
    batches: int  # an epoch's
    validation_batches: int
    budget: float | None = None  # seconds, with validation, checkpoints and what follows

    @classmethod
    def of(cls, recipe: TrainRecipe, options: TrainOptions) -> TrainingSchedule:
        """Return a recipe's course with what the user wants otherwise.

        A time budget without a number of epochs is all that bounds one cycle; the other schedules keep the recipe's
        epochs as well.
        """
        budget, batches = options.time_budget, options.validation_batches
        free = budget is not None and recipe.schedule == "one_cycle"
        default = None if free else recipe.epochs
        return cls(
            recipe,
            default if options.epochs is None else options.epochs,
            recipe.batches if options.batches is None else options.batches,
            recipe.validation_batches if batches is None else batches,
            budget,
        )

    def share(self, position: Position, reserve: float = 0.0) -> float:
        """Return how much of the way is behind, from 0; 1 or more: it is over.

        Parameters
        ----------
        position
            Where the training stands.
        reserve
            Seconds of the time budget to keep for what follows the last iteration.
        """
        return max(
            self._by_iterations(position.epoch + position.batch / self.batches), self._by_clock(position, reserve)
        )

    def rate(self, position: Position, reserve: float = 0.0) -> float:
        """Return the learning rate of the next iteration."""
        recipe = self.recipe
        if recipe.schedule == "one_cycle":
            return recipe.learning_rate * one_cycle(self.share(position, reserve))
        if recipe.schedule == "polynomial":  # constant within an epoch, as nnU-Net v2
            share = max(self._by_iterations(position.epoch), self._by_clock(position, reserve))
            return recipe.learning_rate * polynomial(share)
        return recipe.learning_rate * position.plateau.factor

    def over(self, position: Position, reserve: float = 0.0) -> bool:
        """Whether no iteration is left: epochs or time are used up, or the paper's learning rate is too small."""
        exhausted = self.recipe.schedule == "plateau" and self.rate(position) < self.recipe.plateau.stop_below
        return exhausted or self.share(position, reserve) >= 1

    def _by_iterations(self, epochs: float) -> float:
        return 0.0 if self.epochs is None else epochs / self.epochs

    def _by_clock(self, position: Position, reserve: float) -> float:
        if self.budget is None:
            return 0.0
        return position.seconds / max(self.budget - reserve, 0.2 * self.budget)
