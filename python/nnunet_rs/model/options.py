"""What a user may ask of a training, and what comes of it. No torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_rs.core.choices import Activation, Downsampling, Norm, Precision
from nnunet_rs.core.types import FoldName, Shape
from nnunet_rs.model.history import History
from nnunet_rs.model.plugins import EpochFunction, LossFunction, NetworkFunction, OptimiserFunction
from nnunet_rs.model.recipe import TrainRecipe

if TYPE_CHECKING:
    from nnunet_rs.data.augment import AugmentationFunction


@dataclass(frozen=True, slots=True)
class Model:
    """Which network."""

    configuration: str
    fold: FoldName

    def __str__(self) -> str:
        return f"{self.configuration}, {'all cases' if self.fold == 'all' else f'fold {self.fold}'}"


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What a training may have otherwise than its plan and recipe say; what is None is as it was, when it resumes.

    Network, loss, optimiser and augmentation may be the user's own: a function or class, or its name as
    `module:function` or `file.py:function`. See `model.plugins`.
    """

    recipe: TrainRecipe | None = None  # None: the one of the plan's authors
    learning_rate: float | None = None  # initial, or the cycle's peak; None: the recipe's
    epochs: int | None = None  # None: the recipe's
    batches: int | None = None  # an epoch's
    validation_batches: int | None = None
    keep_best: bool | None = None  # keep the epoch with the best Dice on validation patches too; None: no
    time_budget: float | None = None  # seconds
    batch_size: int | None = None  # None: the plan's, within the recipe's limit
    features: int | None = None  # of the first stage; the others keep their ratio to it
    # Network options; None: the plan's and the recipe's own.
    activation: Activation | None = None
    norm: Norm | None = None
    downsampling: Downsampling | None = None
    deep_supervision: bool | None = None
    class_weights: Mapping[str, float] | None = None  # in the loss, of classes (the background too) or regions, by name
    loss: str | LossFunction | None = None  # ce_dice, ce, dice, or the user's own
    augmentation: str | AugmentationFunction | None = None  # a name that data.augment knows, or the user's own
    small_patches: float | None = None  # first part of the training, 0 to 1, whose patches are half as long
    # Share of the samples that are centred on foreground, 0 to 1; None: as nnU-Net, a third of each batch, rounded up.
    oversample_foreground: float | None = None
    # On which class: uniform (one of those in the case, as nnU-Net), balanced, inverse_frequency, or weights by name.
    class_sampling: str | Mapping[str, float] | None = None
    case_sampling: Mapping[str, float] | None = None  # how often samples are of each case, relative to others (1)
    mirror_axes: Shape | None = None  # of the image: 0 is z, 1 is y, 2 is x; None: the augmentation's
    pretrained: str | None = None  # a model, ours or nnU-Net's, whose weights training begins with
    seed: int | None = None  # None: 0
    on_epoch: str | EpochFunction | None = None  # called after every epoch, with all epochs so far
    resume: bool = False  # go on with a training that was interrupted; a finished one stays
    new_cycle: bool = False  # train a finished model further, by a whole schedule; it stays until that is finished
    fresh: bool = False  # train anew what is finished, and keep the old model aside
    device: str = "auto"
    precision: Precision = "auto"
    channels_last: bool | None = None  # memory layout; None: measured on processors, else contiguous
    compile: bool | None = None  # by torch.compile; None: on GPUs, where it can be and pays
    threads: int | None = None  # of the processor; None: PyTorch's choice for the network, all for the loader
    cache: int = 1 << 31  # bytes of memory in which prepared cases are kept decoded
    network: str | NetworkFunction | None = None  # the user's own; None: the plan's U-Net
    optimiser: str | OptimiserFunction | None = None  # the user's own; None: the recipe's
    # As the four were called in version 0.1.
    custom_network: InitVar[NetworkFunction | None] = None
    custom_loss: InitVar[LossFunction | None] = None
    custom_optimiser: InitVar[OptimiserFunction | None] = None
    custom_augmentation: InitVar[AugmentationFunction | None] = None

    def __post_init__(
        self,
        custom_network: Callable[..., Any] | None,
        custom_loss: Callable[..., Any] | None,
        custom_optimiser: Callable[..., Any] | None,
        custom_augmentation: Callable[..., Any] | None,
    ) -> None:
        """Take what is given by an earlier name."""
        given = {
            "network": custom_network,
            "loss": custom_loss,
            "optimiser": custom_optimiser,
            "augmentation": custom_augmentation,
        }
        for name, function in given.items():
            if function is not None:
                warnings.warn(f"custom_{name} is now {name}", DeprecationWarning, stacklevel=3)
                object.__setattr__(self, name, function)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What came of a training."""

    folder: Path
    history: History
    seconds: float  # since the training began, interruptions not counted
    finished: bool  # the model is written; else resume.safetensors is
    signal: int | None = None  # what stopped it
