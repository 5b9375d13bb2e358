"""TrainingConfig: all that a training is, resolved once from recipe and options, and how it goes on. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from nnunet_rs.core.choices import Activation, Downsampling, Norm, Precision, ScheduleName
from nnunet_rs.core.errors import CheckpointError, PlanError
from nnunet_rs.core.types import LabelSet, Shape
from nnunet_rs.data.sampling import require_weights, target_weights
from nnunet_rs.model.network_options import NetworkOptions
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.plugins import is_own, same_function, spelled
from nnunet_rs.model.recipe import RECIPES, PlateauRule, TrainRecipe, recipe_of_plan
from nnunet_rs.plan.schema import Configuration, Plan


@dataclass(frozen=True, slots=True)
class MeasuredCompute:
    """What was fastest on the processor on which a training began, where that was left open."""

    precision: Precision  # float32 or bfloat16
    channels_last: bool  # the memory layout of weights and feature maps


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """What a training is, with nothing left open: checkpoint and model hold it, and who resumes follows it.

    A function of the user's own stands here as the command line names it, `module:function` or `file.py:function`.
    """

    recipe: str  # the table of constants that the rest was taken from: paper, v2, fast, or a name of the user's own

    # How long
    epochs: int | None  # None: as many as the time budget lets
    batches: int  # an epoch's
    validation_batches: int  # after each epoch
    time_budget: float | None  # seconds; None: no limit

    # What goes through the network
    batch_size: int  # samples in a batch, of all processes together
    augmentation: str  # a name that data.augment knows, or the user's own
    mirror_axes: Shape | None  # of the image, 0 is z; None: the augmentation's
    seed: int  # of weights, patches and augmentation

    # The network: the plan's with these options
    network: str | None  # the user's own; None: the plan's U-Net
    features: int  # of the first stage; the others double at each stage
    activation: Activation
    norm: Norm
    downsampling: Downsampling
    deep_supervision: bool  # a loss at every decoder resolution but the lowest
    decoder_kernels: Literal["same", "below"]  # see NetworkOptions
    pretrained: str | None  # where the first weights came from; None: they were drawn

    # How it learns
    loss: str  # ce_dice, ce, dice, or the user's own
    optimiser: str  # adam_amsgrad, muon, sgd_nesterov, or the user's own
    learning_rate: float  # at the beginning, or at the cycle's peak
    weight_decay: float
    momentum: float  # of sgd_nesterov
    gradient_clip: float | None  # greatest norm of all gradients together; None: no limit
    schedule: ScheduleName  # of the learning rate: plateau, polynomial, one_cycle
    plateau: PlateauRule  # of the schedule of this name
    ema_decay: float | None  # of the weights' exponential moving average, which is then the model; None: none

    precision: Precision  # of the arithmetic: auto, float32, bfloat16, float16
    channels_last: bool | None = None  # the memory layout; None: what was measured, else contiguous
    measured: MeasuredCompute | None = None  # None: nothing was (see model.measured_compute)

    small_patches: float = 0.0  # the first part of the training, whose patches are half as long
    small_iterations: int | None = None  # that part has at most; None: no limit

    # Of each class: in which patches (see `data.sampling`), and how much in the loss
    oversample_foreground: float | None = None  # share of the samples that are centred on foreground; None: nnU-Net's
    class_sampling: str | dict[str, float] = "uniform"  # on which class: or balanced, inverse_frequency, weights
    class_weights: dict[str, float] | None = None  # of classes or regions, by name; None, or no name: 1
    case_sampling: dict[str, float] | None = None  # how often a sample is of each case; None, or no name: 1

    keep_best: bool = False  # the epoch with the best Dice on validation patches is kept beside the last one
    cycle: int = 1  # 2: of a finished model that was trained further, and so on
    iterations_before: int = 0  # in the cycles before this one

    # Fields that an earlier version, or another program, did not record: they hold what the recipe says.
    unknown: tuple[str, ...] = ()

    @property
    def iterations(self) -> float:
        """How many iterations the epochs have; infinitely many where the time budget alone ends them."""
        return math.inf if self.epochs is None else self.epochs * self.batches

    @property
    def network_options(self) -> NetworkOptions:
        """What the network is besides what the plan says."""
        return NetworkOptions(**{field.name: getattr(self, field.name) for field in fields(NetworkOptions)})


OWN = ("network", "loss", "optimiser", "augmentation")  # what a function of the user's own may be
_CONSTANTS = (  # of a recipe alone
    "weight_decay", "momentum", "gradient_clip", "schedule", "plateau", "ema_decay", "small_iterations",
)  # fmt: skip
# What may change when a training is resumed: it bounds the training or says how exactly it computes.
_FREE = ("epochs", "time_budget", "validation_batches", "precision", "channels_last", "keep_best")
_NAMES = tuple(
    field.name
    for field in fields(TrainingConfig)
    if field.name in TrainOptions.__slots__ and field.name not in ("recipe", "learning_rate")
)
_CALLED = {"downsampling": "pooling"}  # options of the command that are not named as the field
_MOST_SHOWN = 6  # weights in a message


def new_config(options: TrainOptions, plan: Plan, configuration: str, *, on_gpu: bool = False) -> TrainingConfig:
    """Return the configuration of a training that begins: what is asked for, else the recipe's and the plan's.

    Parameters
    ----------
    options
        What is asked for.
    plan, configuration
        What is trained.
    on_gpu
        Whether a GPU computes: its batches are as planned.

    Raises
    ------
    PlanError
        A number is out of its range, or two options contradict each other.
    """
    recipe = options.recipe or recipe_of_plan(plan.recipe)
    asked: dict[str, Any] = {
        name: value for name in (*_NAMES, "learning_rate") if (value := asked_for(options, name)) is not None
    }
    if "learning_rate" in asked and is_own(options.optimiser):
        raise PlanError(
            f"learning rate is {asked['learning_rate']:g}, but an optimiser of your own brings its rate: set it "
            "there, or leave one out"
        )
    usual = usual_config(plan.recipe, plan.configurations[configuration], recipe, on_gpu=on_gpu)
    config = replace(_beside_own(usual, options), **asked)
    if config.time_budget is not None and config.schedule == "one_cycle" and "epochs" not in asked:
        config = replace(config, epochs=None)
    _require_range(config, plan.labels)
    return config


def _beside_own(usual: TrainingConfig, options: TrainOptions) -> TrainingConfig:
    """Leave out what a recipe would do to functions of the user's own: networks may want the planned patch."""
    if is_own(options.augmentation):  # says itself how it mirrors
        usual = replace(usual, mirror_axes=None, small_patches=0.0)
    return replace(usual, small_patches=0.0) if is_own(options.network) else usual


def resumed_config(
    options: TrainOptions, saved: TrainingConfig, plan: Plan, configuration: str, where: Path
) -> TrainingConfig:
    """Return the configuration of a training that goes on: what is not asked for is as it was.

    Parameters
    ----------
    options
        What is asked for.
    saved
        What stands in the checkpoint.
    plan, configuration
        What is trained.
    where
        The checkpoint, for errors.

    Raises
    ------
    CheckpointError
        Something is asked for that would make it another training, or a function of the user's own is needed again.
    PlanError
        A number is out of its range.
    """
    _refuse(options, saved, f"{where}: was begun with", "leave that out to go on, or train anew with --fresh")
    for name in OWN:
        known = getattr(saved, name)
        if is_own(known) and getattr(options, name) is None:
            raise CheckpointError(
                f"{where}: was begun with {_words(name, known)}, and nothing is imported by a name in a file: give "
                "that option again"
            )
    may_change = (*_FREE, "learning_rate", "mirror_axes")  # the axes of the patch are compared with the checkpoint's
    asked = _all_asked(options, may_change)
    recipe = options.recipe or RECIPES.get(saved.recipe)
    fresh = new_config(replace(options, recipe=recipe), plan, configuration) if saved.unknown else saved
    # Versions that did not record mirror axes mirrored as the augmentation does, whatever the recipe says today.
    known_now = {name: None if name == "mirror_axes" else getattr(fresh, name) for name in saved.unknown}
    config = replace(saved, **{**known_now, **asked, "unknown": ()})
    _require_range(config, plan.labels)
    return config


def next_cycle_config(
    options: TrainOptions, before: TrainingConfig, plan: Plan, configuration: str, where: Path
) -> TrainingConfig:
    """Return the configuration of a new cycle on top of a finished model: as its was, over the length now asked for.

    Parameters and errors as `resumed_config`; `before` is the finished model's.
    """
    config = resumed_config(options, before, plan, configuration, where)
    if options.epochs is not None and options.time_budget is None:
        config = replace(config, time_budget=None)
    if options.time_budget is not None and options.epochs is None and config.schedule == "one_cycle":
        config = replace(config, epochs=None)
    return replace(config, cycle=before.cycle + 1, measured=None)


def asked_for(options: TrainOptions, name: str) -> Any:
    """Return what is asked for, also by a recipe that the caller changed; None: nothing is."""
    value = getattr(options, name)
    if name in OWN and is_own(value):
        return spelled(value)
    if isinstance(value, Mapping):
        return dict(value)
    if value not in (None, "auto"):
        return value
    usual = None if options.recipe is None else RECIPES.get(options.recipe.name)
    if usual is None or name not in TrainRecipe.__slots__:
        return None
    changed = getattr(options.recipe, name)
    return None if changed == getattr(usual, name) else changed


def _all_asked(options: TrainOptions, names: Sequence[str]) -> dict[str, Any]:
    found = {name: asked_for(options, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def unlike(options: TrainOptions, saved: TrainingConfig, where: Path) -> str:
    """Say which options a finished model's training had otherwise, of those that may change on the way; or nothing.

    Raises
    ------
    CheckpointError
        One that makes it another model is asked for.
    """
    rate = _differences(options, saved, ["learning_rate"])
    _refuse(options, saved, f"{where}: was trained with", "leave that out to keep it, or train anew with --fresh", rate)
    return "; ".join(_differences(options, saved, _FREE))


def _refuse(options: TrainOptions, saved: TrainingConfig, said: str, advice: str, more: Sequence[str] = ()) -> None:
    hard = [name for name in _NAMES if name not in (*_FREE, "mirror_axes")]
    found = [*_recipe_differences(options, saved), *_differences(options, saved, hard), *more]
    if found:
        raise CheckpointError(f"{said} {'; '.join(found)}: {advice}")


def _differences(options: TrainOptions, saved: TrainingConfig, names: Sequence[str]) -> list[str]:
    """Say what is asked for otherwise than it was."""
    found = []
    for name in names:
        now, before = asked_for(options, name), getattr(saved, name)
        if now is None or name in saved.unknown or now == before or same_function(now, before):
            continue
        found.append(f"{_words(name, before)} (now {_value(now)})")
    return found


def _recipe_differences(options: TrainOptions, saved: TrainingConfig) -> list[str]:
    wanted = options.recipe
    if wanted is None:
        return []
    if wanted.name != saved.recipe:
        return [f"--recipe {saved.recipe} (now {wanted.name})"]
    if wanted == RECIPES.get(wanted.name):
        return []  # it is asked for by its name: its constants may have been others when the training was begun
    constants = _CONSTANTS if is_own(saved.optimiser) else (*_CONSTANTS, "optimiser")
    return [
        f"{name} {getattr(saved, name)} of the recipe (now {getattr(wanted, name)})"
        for name in constants
        if name not in saved.unknown and getattr(saved, name) != getattr(wanted, name)
    ]


def _require_range(config: TrainingConfig, labels: LabelSet) -> None:
    share = config.oversample_foreground
    if share is not None and not 0 <= share <= 1:
        raise PlanError(f"oversample foreground is {share:g}: must be a share of the samples, from 0 to 1")
    if config.class_sampling != "uniform":
        target_weights(labels, config.class_sampling)
    if config.class_weights is not None:
        require_weights("class weights", config.class_weights, labels.output_names)
        if not any(config.class_weights.get(name, 1) for name in labels.score_names):
            raise PlanError("class weights: every class has the weight 0; nothing would be learnt")
    if not 0 < config.learning_rate < math.inf:
        raise PlanError(f"learning rate is {config.learning_rate:g}: must be a number above 0")
    if not 0 <= config.small_patches < 1:
        raise PlanError(f"small patches is {config.small_patches:g}: must be a share of the training, 0 to below 1")
    if config.batch_size < 1:
        raise PlanError(f"batch size is {config.batch_size}: must be at least 1")
    if config.features < 1:
        raise PlanError(f"features is {config.features}: must be at least 1")


def command_words(config: TrainingConfig, plan: Plan, configuration: str) -> tuple[str, ...]:
    """Return the options of `train` that make another fold's training of a configuration like this one."""
    recipe = RECIPES.get(config.recipe, recipe_of_plan(plan.recipe))
    usual = usual_config(plan.recipe, plan.configurations.get(configuration), recipe)
    on_gpu = usual_config(plan.recipe, plan.configurations.get(configuration), recipe, on_gpu=True)
    # What depends on the device is said always: the other fold may be trained on another one.
    if usual.batch_size != on_gpu.batch_size:
        usual = replace(usual, batch_size=0)
    if usual.small_patches != on_gpu.small_patches:
        usual = replace(usual, small_patches=-1.0)
    words = [] if config.recipe == recipe_of_plan(plan.recipe).name else ["--recipe", config.recipe]
    if config.time_budget is not None and config.epochs is None:
        usual = replace(usual, epochs=None)
    silent = ("learning_rate",) if is_own(config.optimiser) else ()  # such an optimiser brings its own
    for name in ("learning_rate", *_NAMES):
        value = getattr(config, name)
        if name not in (*silent, *config.unknown) and value != getattr(usual, name) and value is not None:
            words += _typed(name, value)
    return tuple(words)


def own_words(config: TrainingConfig) -> tuple[str, ...]:
    """Return the options that name the functions of the user's own: what resuming cannot take from a file."""
    named = [(name, getattr(config, name)) for name in OWN]
    return tuple(word for name, value in named if is_own(value) for word in _typed(name, value))


def usual_config(
    plan_recipe: str, configuration: Configuration | None, recipe: TrainRecipe, *, on_gpu: bool = False
) -> TrainingConfig:
    """Return the training that plan and recipe describe, where nothing else is asked for.

    Norm and activation are the configuration's. Plans of the paper's rules have decoder kernels as the code of 2019;
    deep supervision is the training recipe's. Without a configuration there is no batch size and no features: 0.
    """
    shared = {field.name for field in fields(TrainRecipe)} & {field.name for field in fields(TrainingConfig)}
    of_recipe = {name: getattr(recipe, name) for name in shared}
    network = NetworkOptions()
    return TrainingConfig(
        **{**of_recipe, "small_patches": 0.0 if on_gpu else recipe.small_patches},
        recipe=recipe.name,
        time_budget=None,
        batch_size=0 if configuration is None else _usual_batch(configuration, recipe, on_gpu=on_gpu),
        mirror_axes=None if recipe.mirrored else (),
        seed=0,
        network=None,
        features=0 if configuration is None else configuration.features[0],
        activation=network.activation if configuration is None else configuration.activation,
        norm=network.norm if configuration is None else configuration.norm,
        downsampling=network.downsampling,
        decoder_kernels="below" if plan_recipe == "paper" else "same",
        pretrained=None,
        precision="auto",
    )


def _usual_batch(configuration: Configuration, recipe: TrainRecipe, *, on_gpu: bool) -> int:
    """Return the plan's batch size, on processors within the recipe's limit."""
    if on_gpu or recipe.most_samples is None:
        return configuration.batch_size
    return min(configuration.batch_size, recipe.most_samples[configuration.dims - 2])


def _words(name: str, value: object) -> str:
    option = _CALLED.get(name, name).replace("_", "-")
    if isinstance(value, bool):
        return f"--{option}" if value else f"--no-{option}"
    return f"no --{option}" if value is None else f"--{option} {_value(value)}"


def _typed(name: str, value: object) -> list[str]:
    """Return an option of the command as it is typed, word by word."""
    option, *rest = _words(name, value).split(" ", 1)
    return [option, *(_pairs(value) if isinstance(value, Mapping) else rest)]


def _pairs(weights: Mapping[str, float]) -> list[str]:
    return [f"{name}={weight:.12g}" for name, weight in weights.items()]


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        pairs = _pairs(value)
        return " ".join(pairs if len(pairs) <= _MOST_SHOWN else (*pairs[:_MOST_SHOWN], f"... ({len(pairs)})"))
    if isinstance(value, tuple):  # mirror axes
        return ",".join(map(str, value)) or "none"
    return f"{value:.12g}" if isinstance(value, float) else str(value)
