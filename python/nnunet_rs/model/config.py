"""What a training is, with nothing left open: checkpoint and model hold it, and who resumes follows it. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_rs.core.choices import Activation, Downsampling, LossTerms, Norm, Precision
from nnunet_rs.core.document import decode
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.types import Shape
from nnunet_rs.model.network_options import NetworkOptions
from nnunet_rs.model.plugins import spelled
from nnunet_rs.model.recipe import RECIPES, TrainRecipe, recipe_of_plan
from nnunet_rs.plan.schema import Configuration, Plan

if TYPE_CHECKING:
    from nnunet_rs.model.options import TrainOptions

_ADVICE = "train anew with --fresh, which keeps it aside"


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """What was asked of a training, or stood in plan and recipe; fields are named as those of `TrainOptions`."""

    recipe: TrainRecipe  # with the learning rate that was asked for
    seed: int
    epochs: int | None  # None: as many as the time budget lets
    batches: int
    validation_batches: int
    time_budget: float | None  # seconds
    batch_size: int
    features: int  # of the first stage
    activation: Activation
    norm: Norm
    downsampling: Downsampling
    deep_supervision: bool
    loss: LossTerms | None  # None: the user's own
    augmentation: str | None
    precision: Precision
    mirror_axes: Shape | None = None  # of the image; None: the augmentation's
    pretrained: str | None = None  # where the first weights came from
    # The user's own functions, as the command line names them.
    custom_network: str | None = None
    custom_loss: str | None = None
    custom_optimiser: str | None = None
    custom_augmentation: str | None = None


_OWN = ("custom_network", "custom_loss", "custom_optimiser", "custom_augmentation")
# What may change on the way: it bounds the training or says how exactly it computes.
_FREE = ("epochs", "time_budget", "validation_batches", "precision")
_NAMES = tuple(field.name for field in fields(TrainingConfig) if field.name not in ("recipe", *_OWN))
_CALLED = {"downsampling": "pooling"}  # options of the command that are not named as the field


def read_document(path: Path) -> dict[str, Any]:
    """Read the JSON in a checkpoint's header; not its tensors.

    Raises
    ------
    CheckpointError
        The file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            return parsed((file.metadata() or {}).get("nnunet_rs", "").partition("\n")[0], path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: is damaged: {error}; {_ADVICE}") from error


def parsed(text: str, path: Path) -> dict[str, Any]:
    """Parse the text in a checkpoint's header; errors as `read_document`."""
    try:
        document = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its header is not JSON ({error}); {_ADVICE}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: its header is no table; {_ADVICE}")
    return document


def config_of(document: dict[str, Any], path: Path) -> TrainingConfig | None:
    """Return what a checkpoint's header says of the training; None if it was begun by an earlier version."""
    known = document.get("config")
    return None if known is None else decode(TrainingConfig, known, f"{path}: config", CheckpointError)


def followed(options: TrainOptions, saved: TrainingConfig, where: Path) -> TrainOptions:
    """Return the options of a training that goes on: what is not asked for is as it was.

    Raises
    ------
    CheckpointError
        Something is asked for that would make it another training, or a function of the user's own is needed again.
    """
    _refuse(options, saved, f"{where}: was begun with", "leave that out to go on, or train anew with --fresh")
    for name in _OWN:
        known = getattr(saved, name)
        if known is not None and getattr(options, name) is None:
            raise CheckpointError(
                f"{where}: was begun with {_words(name, known)}, and nothing is imported by a name in a file: give "
                "that option again"
            )
    kept = {name: getattr(saved, name) for name in _NAMES if not _asked(options, name)}
    return replace(options, **kept, recipe=saved.recipe, learning_rate=_asked_rate(options))


def unlike(options: TrainOptions, saved: TrainingConfig, where: Path) -> str:
    """Say which options a finished model's training had otherwise, of those that may change on the way; or nothing.

    Raises
    ------
    CheckpointError
        One that makes it another model is asked for.
    """
    rate, before = _asked_rate(options), saved.recipe.learning_rate
    more = [] if rate in (None, before) else [f"--learning-rate {_value(before)} (now {_value(rate)})"]
    advice = "leave that out to keep it, or train anew with --fresh"
    _refuse(options, saved, f"{where}: was trained with", advice, more)
    return "; ".join(_differences(options, saved, _FREE))


def _refuse(options: TrainOptions, saved: TrainingConfig, said: str, advice: str, more: Sequence[str] = ()) -> None:
    hard = [name for name in _NAMES if name not in (*_FREE, "mirror_axes")]  # which the patch's axes tell
    found = [*_recipe_differences(options, saved), *_differences(options, saved, hard), *more]
    if found:
        raise CheckpointError(f"{said} {'; '.join(found)}: {advice}")


def _differences(options: TrainOptions, saved: TrainingConfig, names: Sequence[str]) -> list[str]:
    """Say what is asked for otherwise than it was."""
    found = []
    for name in names:
        now, own = getattr(options, name), f"custom_{name}"
        before = getattr(saved, name)
        if _asked(options, name) and now != before:
            known = _words(own, getattr(saved, own)) if own in _OWN and before is None else _words(name, before)
            found.append(f"{known} (now {_value(now)})")
    return found


def _recipe_differences(options: TrainOptions, saved: TrainingConfig) -> list[str]:
    wanted, known = options.recipe, saved.recipe
    if wanted is None:
        return []
    if wanted.name != known.name:
        return [f"--recipe {known.name} (now {wanted.name})"]
    constants = [field.name for field in fields(TrainRecipe) if field.name not in ("learning_rate", "summary")]
    return [
        f"{name} {getattr(known, name)} of the recipe (now {getattr(wanted, name)})"
        for name in constants
        if getattr(known, name) != getattr(wanted, name)
    ]


def _asked_rate(options: TrainOptions) -> float | None:
    """Return the learning rate that is asked for, also by a recipe that the caller changed; None: none is."""
    if options.learning_rate is not None or options.recipe is None:
        return options.learning_rate
    rate, usual = options.recipe.learning_rate, RECIPES.get(options.recipe.name)
    return None if usual is None or rate == usual.learning_rate else rate


def _asked(options: TrainOptions, name: str) -> bool:
    return getattr(options, name) not in (None, "auto")


def command_words(config: TrainingConfig, plan: Plan, configuration: str) -> tuple[str, ...]:
    """Return the options of `train` that make another fold's training of a configuration like this one."""
    recipe, usual = config.recipe, usual_config(plan, plan.configurations.get(configuration), config.recipe)
    words = [] if recipe.name == recipe_of_plan(plan.recipe).name else ["--recipe", recipe.name]
    if recipe.learning_rate != usual.recipe.learning_rate:
        words += ["--learning-rate", _value(recipe.learning_rate)]
    if config.time_budget is not None and config.epochs is None:
        usual = replace(usual, epochs=None)
    for name in (*_NAMES, *_OWN):
        value = getattr(config, name)
        if value != getattr(usual, name) and value is not None:
            words += _words(name, value).split(" ", 1)
    return tuple(words)


def own_words(config: TrainingConfig) -> tuple[str, ...]:
    """Return the options that name the functions of the user's own: what resuming cannot take from a file."""
    named = [(name, getattr(config, name)) for name in _OWN]
    return tuple(word for name, value in named if value is not None for word in _words(name, value).split(" ", 1))


def usual_config(plan: Plan, settings: Configuration | None, recipe: TrainRecipe) -> TrainingConfig:
    """Return the training that plan and recipe describe, where nothing else is asked for."""
    network = default_network(plan, recipe, settings)
    return TrainingConfig(
        recipe=RECIPES.get(recipe.name, recipe),
        seed=0,
        epochs=recipe.epochs,
        batches=recipe.batches,
        validation_batches=recipe.validation_batches,
        time_budget=None,
        batch_size=0 if settings is None else usual_batch(settings, recipe),
        features=0 if settings is None else settings.features[0],
        activation=network.activation,
        norm=network.norm,
        downsampling=network.downsampling,
        deep_supervision=network.deep_supervision,
        loss=recipe.loss,
        augmentation=recipe.augmentation,
        precision="auto",
    )


def usual_batch(settings: Configuration, recipe: TrainRecipe) -> int:
    """Return the plan's batch size within the recipe's limit."""
    most = recipe.most_samples
    return settings.batch_size if most is None else min(settings.batch_size, most[settings.dims - 2])


def default_network(plan: Plan, recipe: TrainRecipe, settings: Configuration | None = None) -> NetworkOptions:
    """Return the network of a plan's and a training recipe's authors.

    Norm and activation are the configuration's. Plans of the paper's rules have decoder kernels as the code of 2019;
    deep supervision is the training recipe's.
    """
    network = NetworkOptions(
        deep_supervision=recipe.deep_supervision, decoder_kernels="below" if plan.recipe == "paper" else "same"
    )
    return network if settings is None else replace(network, norm=settings.norm, activation=settings.activation)


def own_function(function: object) -> str | None:
    """Return how the command line names a function of the user's own; None of None."""
    return None if function is None else spelled(function)


def _words(name: str, value: object) -> str:
    option = _CALLED.get(name, name.removeprefix("custom_")).replace("_", "-")
    if isinstance(value, bool):
        return f"--{option}" if value else f"--no-{option}"
    return f"no --{option}" if value is None else f"--{option} {_value(value)}"


def _value(value: object) -> str:
    if isinstance(value, tuple):  # mirror axes
        return ",".join(map(str, value)) or "none"
    return f"{value:.12g}" if isinstance(value, float) else str(value)
