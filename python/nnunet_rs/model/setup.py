"""What a training is about: the work folder and the user's wishes, read and checked before anything is built."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from nnunet_rs.core.document import encode
from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.types import FoldName, Shape
from nnunet_rs.core.workspace import ModelFolder, WorkFolder
from nnunet_rs.data.augment import AUGMENTATIONS, default_mirror_axes
from nnunet_rs.data.folds import Fold, read_plan_and_fold
from nnunet_rs.data.mirroring import patch_axes
from nnunet_rs.model.cascade import FirstStage, open_first_stage
from nnunet_rs.model.config import TrainingConfig, default_network, own_function, usual_batch
from nnunet_rs.model.context import Context
from nnunet_rs.model.distributed import ProcessGroup, current_team
from nnunet_rs.model.network_options import NetworkOptions
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.plugins import Plugin, as_own, name_of
from nnunet_rs.model.recipe import TrainRecipe, recipe_of_plan
from nnunet_rs.model.state import Identity
from nnunet_rs.model.training_schedule import TrainingSchedule
from nnunet_rs.plan.schema import Configuration, Plan
from nnunet_rs.plan.training_plan import training_plan

_LATER = ("resampling", "norm", "activation")  # of a configuration; version 0.1 began trainings without
_ANY = object()


@dataclass(frozen=True, slots=True)
class Setup:
    """What one training is about."""

    work: Path
    plan: Plan  # with the user's overrides
    settings: Configuration
    fold: FoldName
    cases: Fold
    options: TrainOptions
    recipe: TrainRecipe  # with the learning rate that is asked for
    group: ProcessGroup
    first: FirstStage | None = None  # of a cascade's second stage

    @property
    def model(self) -> ModelFolder:
        """Where the model goes."""
        return WorkFolder(self.work).model(self.settings.name, self.fold)

    @property
    def seed(self) -> int:
        """What all chance comes from."""
        return self.options.seed or 0

    @property
    def augmentation(self) -> str:
        """What augments, by name."""
        options = self.options
        return name_of(options.custom_augmentation) or options.augmentation or self.recipe.augmentation

    @property
    def mirror_axes(self) -> Shape | None:
        """Axes of the patch along which samples are mirrored; None: those of the augmentation itself."""
        if self.options.mirror_axes is None:
            return None
        axes = patch_axes(self.options.mirror_axes, self.settings.dims, self.plan.transpose)
        own = self.augmentation in AUGMENTATIONS and axes == default_mirror_axes(self.augmentation, self.settings.dims)
        return None if own else axes

    @property
    def loss(self) -> str:
        """What is minimised, by name."""
        return name_of(self.options.custom_loss) or self.options.loss or self.recipe.loss

    @property
    def optimiser(self) -> str:
        """What minimises it, by name."""
        return name_of(self.options.custom_optimiser) or self.recipe.optimiser

    @property
    def context(self) -> Context:
        """What own functions may know."""
        return Context(self.plan, self.settings, self.network)

    def own(self, option: str) -> Plugin | None:
        """Return the user's own function for an option (network, loss, optimiser, augmentation), if there is one."""
        own = as_own(option, getattr(self.options, f"custom_{option}"))
        return None if own is None else own.with_context(self.context)

    @property
    def network(self) -> NetworkOptions:
        """The plan's and the recipe's own, with the switches that the user set."""
        names = ("activation", "norm", "downsampling", "deep_supervision")
        wanted = {name: getattr(self.options, name) for name in names}
        given = {name: value for name, value in wanted.items() if value is not None}
        return replace(default_network(self.plan, self.recipe, self.settings), **given)


def plugins(setup: Setup) -> tuple[Plugin, ...]:
    """List the user's own functions of a training."""
    found = (setup.own(option) for option in ("network", "loss", "optimiser", "augmentation"))
    return tuple(own for own in found if own is not None)


def set_up(
    work: Path, configuration: str, fold: FoldName, options: TrainOptions, group: ProcessGroup | None = None
) -> Setup:
    """Read the work folder, and resolve the plan with what the user asked for: it is not changed afterwards."""
    plan, cases = read_plan_and_fold(work, configuration, fold)
    if not cases.validation:
        options = replace(options, validation_batches=0)
    recipe = _recipe(plan, options)
    planned = plan.configurations[configuration]
    batch_size = usual_batch(planned, recipe) if options.batch_size is None else options.batch_size
    plan = training_plan(plan, configuration, batch_size=batch_size, features=options.features)
    group, settings = group or current_team(), plan.configurations[configuration]
    group.check_batch(settings.batch_size)
    first = None
    if settings.previous is not None:
        first = open_first_stage(work, plan, configuration, (*cases.train, *cases.validation))
    return Setup(work, plan, settings, fold, cases, options, recipe, group, first)


def _recipe(plan: Plan, options: TrainOptions) -> TrainRecipe:
    recipe, rate = options.recipe or recipe_of_plan(plan.recipe), options.learning_rate
    if rate is None:
        return recipe
    if options.custom_optimiser is not None:
        raise PlanError(
            f"learning rate is {rate:g}, but an optimiser of your own brings its rate: set it there, or leave one out"
        )
    if not 0 < rate < math.inf:
        raise PlanError(f"learning rate is {rate:g}: must be a number above 0")
    return replace(recipe, learning_rate=rate)


def identity_of(setup: Setup, batches: int) -> Identity:
    """Return what a training must share with the checkpoint that it goes on from; `batches` are an epoch's."""
    plan, settings, options = setup.plan, setup.settings, setup.options
    return Identity(
        configuration=settings.name,
        plan=plan_digest(plan, settings),
        fold=setup.fold,
        cases=_digest(encode(setup.cases)),
        recipe=setup.recipe.name,
        seed=setup.seed,
        batch_size=settings.batch_size,
        batches=batches,
        network=setup.network,
        loss=setup.loss,
        optimiser=setup.optimiser,
        augmentation=setup.augmentation,
        mirror_axes=setup.mirror_axes,
        custom_network=name_of(options.custom_network),
        first_stage=None if setup.first is None else setup.first.digest,
    )


def plan_digest(plan: Plan, settings: Configuration) -> str:
    """Return a hash of all of a plan that a training of a configuration depends on.

    What plans of earlier versions do not say counts only where it is not as it was then: their trainings go on.
    """
    usual = {field.name: field.default for field in fields(Configuration) if field.name in _LATER}
    body = {name: value for name, value in encode(settings).items() if getattr(settings, name) != usual.get(name, _ANY)}
    turned = [plan.reorient] if plan.reorient else []
    return _digest(body, encode(plan.labels), encode(plan.normalization), plan.transpose, *turned)


def config_for(setup: Setup, schedule: TrainingSchedule) -> TrainingConfig:
    """Return what a training is, with nothing left open."""
    options, settings, network = setup.options, setup.settings, setup.network
    return TrainingConfig(
        recipe=setup.recipe,
        seed=setup.seed,
        epochs=schedule.epochs,
        batches=schedule.batches,
        validation_batches=schedule.validation_batches,
        time_budget=schedule.budget,
        batch_size=settings.batch_size,
        features=settings.features[0],
        activation=network.activation,
        norm=network.norm,
        downsampling=network.downsampling,
        deep_supervision=network.deep_supervision,
        loss=None if options.custom_loss else options.loss or setup.recipe.loss,
        augmentation=None if options.custom_augmentation else setup.augmentation,
        precision=options.precision,
        mirror_axes=options.mirror_axes,
        pretrained=options.pretrained,
        custom_network=own_function(options.custom_network),
        custom_loss=own_function(options.custom_loss),
        custom_optimiser=own_function(options.custom_optimiser),
        custom_augmentation=own_function(options.custom_augmentation),
    )


def _digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
