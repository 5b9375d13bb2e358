"""The training recipes: one table of constants each. Where recipes differ, the difference stands here."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_rs.core.choices import (
    PLANNER_NAMES,
    AugmentationName,
    LossTerms,
    OptimiserName,
    ScheduleName,
    TrainRecipeName,
    complete,
)
from nnunet_rs.core.errors import NnunetError, among


@dataclass(frozen=True, slots=True)
class PlateauRule:
    """When the paper lowers its rate, and when it stops."""

    smoothing: float = 0.93  # of the exponential moving average of the training loss
    patience: int = 30  # epochs without improvement that are borne
    threshold: float = 1e-3  # an average must fall by more than this to be an improvement (the code of 2019)
    factor: float = 0.2
    stop_below: float = 1e-6  # learning rate


@dataclass(frozen=True, slots=True)
class TrainRecipe:
    """The constants of one way of training."""

    name: str
    summary: str
    epochs: int  # at most
    batches: int  # an epoch's
    validation_batches: int  # after each epoch, for the validation loss and the Dice on patches
    optimiser: OptimiserName
    learning_rate: float  # initial, or the peak of the cycle
    weight_decay: float
    schedule: ScheduleName
    augmentation: AugmentationName
    loss: LossTerms = "ce_dice"
    momentum: float = 0.0  # sgd_nesterov
    gradient_clip: float | None = None  # greatest norm of all gradients together
    deep_supervision: bool = False
    plateau: PlateauRule = PlateauRule()  # of the schedule of this name
    # In a batch, 2-D and 3-D, on processors; None, and on GPUs: as many as the plan says. A GPU that is given few
    # samples waits for their kernels to be launched.
    most_samples: tuple[int, int] | None = None
    ema_decay: float | None = None  # of the weights' exponential moving average, which is then the model; None: none
    small_patches: float = 0.0  # on processors: the first part of a training, whose patches are half as long
    small_iterations: int | None = None  # that part has at most; None: no limit
    mirrored: bool = True  # in augmentation, and so in prediction


PAPER = TrainRecipe(
    name="paper",
    summary="Adam (AMSGrad) at 3e-4, lowered when the training loss stops falling, up to 1000 epochs",
    epochs=1000,
    batches=250,
    validation_batches=50,
    optimiser="adam_amsgrad",
    learning_rate=3e-4,
    weight_decay=3e-5,
    schedule="plateau",
    augmentation="paper",
)

V2 = TrainRecipe(
    name="v2",
    summary="nnU-Net v2: SGD with momentum 0.99 from 0.01 to 0 over 1000 epochs, deep supervision",
    epochs=1000,
    batches=250,
    validation_batches=50,
    optimiser="sgd_nesterov",
    learning_rate=1e-2,
    weight_decay=3e-5,
    schedule="polynomial",
    augmentation="v2",
    momentum=0.99,
    gradient_clip=12.0,
    deep_supervision=True,
)

FAST = TrainRecipe(
    name="fast",
    summary="minutes instead of days: one cycle of Muon to 0.02 over the epochs or the time budget, averaged weights",
    epochs=20,
    batches=250,
    validation_batches=10,
    optimiser="muon",
    learning_rate=2e-2,
    weight_decay=0.1,  # against overfitting in many passes over few cases; in few passes it does no harm
    schedule="one_cycle",
    augmentation="progressive",
    gradient_clip=12.0,
    most_samples=(8, 2),  # many steps of few samples: where time is short they learn most
    ema_decay=0.9999,  # reached after 90 000 iterations: until then the average reaches over a tenth of all so far
    small_patches=0.5,
    small_iterations=2500,  # after which networks learn slowly from them
    mirrored=False,
)

RECIPES = complete(TrainRecipeName, {recipe.name: recipe for recipe in (PAPER, V2, FAST)})


def find_recipe(name: str) -> TrainRecipe:
    """Return the recipe of this name.

    Raises
    ------
    NnunetError
        There is none.
    """
    if name in RECIPES:
        return RECIPES[name]
    if name in PLANNER_NAMES:
        trained = recipe_of_plan(name).name
        raise NnunetError(
            f"training recipe {name!r}: this is a planner (preprocess --planner {name}); its training is "
            f"{trained}, which train follows by itself for such a plan"
        )
    raise NnunetError(f"training recipe {name!r}: there is none of this name; {among(name, RECIPES)}")


def recipe_of_plan(name: str) -> TrainRecipe:
    """Return the training recipe of the authors of a plan's recipe: the paper's, or nnU-Net v2's."""
    return PAPER if name == "paper" else V2
