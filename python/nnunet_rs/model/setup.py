"""What a training is about: the work folder and the user's wishes, read and checked before anything is built."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnunet_rs.core.errors import PlanError, among
from nnunet_rs.core.types import LabelSet, Shape
from nnunet_rs.data.augment import AUGMENTATIONS, own_mirror_axes
from nnunet_rs.data.folds import Fold, read_splits, require_fold
from nnunet_rs.data.mirroring import patch_axes
from nnunet_rs.model.cascade import FirstStage, open_first_stage
from nnunet_rs.model.distributed import Team, current_team
from nnunet_rs.model.functions import name_of
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.recipe import TrainRecipe
from nnunet_rs.model.state import Identity
from nnunet_rs.model.switches import NetworkOptions
from nnunet_rs.plan.document import encode
from nnunet_rs.plan.recipe import recipe_named
from nnunet_rs.plan.schema import Configuration, Plan, read_fingerprint, read_plan


@dataclass(frozen=True, slots=True)
class Setup:
    """What one training is about."""

    work: Path
    plan: Plan  # with the user's overrides
    settings: Configuration
    fold: int
    cases: Fold
    options: TrainOptions
    team: Team
    first: FirstStage | None = None  # of a cascade's second stage

    @property
    def folder(self) -> Path:
        """Where the model goes."""
        return model_folder(self.work, self.settings.name, self.fold)

    @property
    def augmentation(self) -> str:
        """What augments, by name."""
        options = self.options
        return name_of(options.custom_augmentation) or options.augmentation or options.recipe.augmentation

    @property
    def mirror_axes(self) -> Shape | None:
        """Axes of the patch along which samples are mirrored; None: those of the augmentation itself."""
        if self.options.mirror_axes is None:
            return None
        axes = patch_axes(self.options.mirror_axes, self.settings.dims, self.plan.transpose)
        own = self.augmentation in AUGMENTATIONS and axes == own_mirror_axes(self.augmentation, self.settings.dims)
        return None if own else axes

    @property
    def loss(self) -> str:
        """What is minimised, by name."""
        return name_of(self.options.custom_loss) or self.options.loss or self.options.recipe.loss

    @property
    def optimiser(self) -> str:
        """What minimises it, by name."""
        return name_of(self.options.custom_optimiser) or self.options.recipe.optimiser

    @property
    def network(self) -> NetworkOptions:
        """The plan's and the recipe's own, with the switches that the user set."""
        names = ("activation", "norm", "downsampling", "deep_supervision")
        wanted = {name: getattr(self.options, name) for name in names}
        given = {name: value for name, value in wanted.items() if value is not None}
        return replace(default_network(self.plan, self.options.recipe), **given)


def set_up(work: Path, configuration: str, fold: int, options: TrainOptions) -> Setup:
    """Read the work folder, and put the user's overrides into the plan so that the model card tells the truth."""
    plan = read_plan(work / "plan.json")
    if configuration not in plan.configurations:
        there = among(configuration, plan.configurations)
        raise PlanError(f"{work / 'plan.json'}: there is no configuration {configuration}; {there}")
    plan = _with(plan, _with_batch(plan.configurations[configuration], options))
    if options.features is not None:
        plan = with_features(plan, configuration, options.features)
    splits = work / "splits.json"
    folds = read_splits(splits, [case.name for case in read_fingerprint(work / "fingerprint.json").cases])
    team = current_team()
    settings, cases = plan.configurations[configuration], require_fold(splits, folds, fold)
    team.check_batch(settings.batch_size)
    first = None
    if settings.previous is not None:
        first = open_first_stage(work, plan, configuration, (*cases.train, *cases.validation))
    return Setup(work, plan, settings, fold, cases, options, team, first)


def _with(plan: Plan, configuration: Configuration) -> Plan:
    return replace(plan, configurations={**plan.configurations, configuration.name: configuration})


def _with_batch(settings: Configuration, options: TrainOptions) -> Configuration:
    """Return the configuration with the user's batch size, or the plan's within the recipe's limit."""
    size, most = options.batch_size, options.recipe.most_samples
    if size is None:
        size = settings.batch_size if most is None else min(settings.batch_size, most[settings.dims - 2])
    if size < 1:
        raise PlanError(f"batch size is {size}: must be at least 1")
    return replace(settings, batch_size=size)


def model_folder(work: Path, configuration: str, fold: int) -> Path:
    """Return where a fold's model is: WORK/models/CONFIGURATION/fold_K."""
    return work / "models" / configuration / f"fold_{fold}"


def default_network(plan: Plan, recipe: TrainRecipe) -> NetworkOptions:
    """Return the network of a plan's and a training recipe's authors.

    Plans of the paper's rules have decoder kernels as the code of 2019; deep supervision is the training recipe's.
    """
    if plan.recipe == "paper":
        return NetworkOptions(deep_supervision=recipe.deep_supervision, decoder_kernels="below")
    return NetworkOptions(deep_supervision=recipe.deep_supervision)


def with_features(plan: Plan, configuration: str, features: int) -> Plan:
    """Return the plan with another number of features in a configuration's first stage.

    The others double at each stage up to the plan recipe's limit, as the planner has them.

    Raises
    ------
    PlanError
        `features` is less than 1.
    """
    if features < 1:
        raise PlanError(f"features is {features}: must be at least 1")
    old = plan.configurations[configuration]
    limit = max(recipe_named(plan.recipe).rules(old.dims).max_features, features)
    return _with(plan, replace(old, features=tuple(min(features * 2**s, limit) for s in range(len(old.features)))))


def identity_of(setup: Setup, batches: int) -> Identity:
    """Return what a training must share with the checkpoint that it goes on from; `batches` are an epoch's."""
    plan, settings, options = setup.plan, setup.settings, setup.options
    return Identity(
        configuration=settings.name,
        plan=_digest(encode(settings), encode(plan.labels), encode(plan.normalization), plan.transpose),
        fold=setup.fold,
        cases=_digest(encode(setup.cases)),
        recipe=options.recipe.name,
        seed=options.seed,
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


def class_names(labels: LabelSet) -> tuple[str, ...]:
    """Return what the entries of a Dice are called: regions, or foreground classes."""
    return tuple(region.name for region in labels.regions) or labels.names[1:]


def _digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
