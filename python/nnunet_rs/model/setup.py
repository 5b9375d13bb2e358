"""What a training is about: the work folder and what is asked for, read and checked before anything is built."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from nnunet_rs.core.dataset_json import read_document
from nnunet_rs.core.document import encode
from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.partial_labels import KEY, NONE, PartialLabels, unannotated_targets
from nnunet_rs.core.types import FoldName, Shape
from nnunet_rs.core.workspace import ModelFolder, WorkFolder
from nnunet_rs.data.augment import AUGMENTATIONS, default_mirror_axes
from nnunet_rs.data.folds import Fold, read_plan_and_fold
from nnunet_rs.data.mirroring import patch_axes
from nnunet_rs.data.sampling import cases_drawn, require_case_weights
from nnunet_rs.model.cascade import FirstStage, open_first_stage
from nnunet_rs.model.config import OWN, TrainingConfig, new_config, next_cycle_config, resumed_config
from nnunet_rs.model.context import Context
from nnunet_rs.model.device import find_device
from nnunet_rs.model.distributed import ProcessGroup, current_group
from nnunet_rs.model.header import Identity
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.plugins import Plugin, as_plugin
from nnunet_rs.plan.files import read_fingerprint
from nnunet_rs.plan.schema import Configuration, Plan
from nnunet_rs.plan.training_plan import training_plan

_LATER = ("resampling", "norm", "activation")  # of a configuration; version 0.1 began trainings without
_ANY = object()


@dataclass(frozen=True, slots=True)
class Setup:
    """What one training is about."""

    work: Path
    model: ModelFolder  # where the model goes
    plan: Plan  # with batch size and features of the training
    configuration: Configuration
    fold: FoldName
    cases: Fold
    config: TrainingConfig
    options: TrainOptions  # of which only what is no part of the config is read: device, threads, ...
    plugins: tuple[Plugin, ...]  # the user's own functions
    group: ProcessGroup
    first: FirstStage | None = None  # of a cascade's second stage
    partial: PartialLabels = NONE  # cases that are annotated in part
    orientations: dict[str, int] | None = None  # of the training cases' files, as in ModelMetadata

    @property
    def mirror_axes(self) -> Shape | None:
        """Axes of the patch along which samples are mirrored; None: those of the augmentation itself."""
        config, dims = self.config, self.configuration.dims
        if config.mirror_axes is None:
            return None
        axes = patch_axes(config.mirror_axes, dims, self.plan.transpose)
        own = config.augmentation in AUGMENTATIONS and axes == default_mirror_axes(config.augmentation, dims)
        return None if own else axes

    @property
    def context(self) -> Context:
        """What own functions may know."""
        return Context(self.plan, self.configuration, self.config.network_options, self.fold, self.config, self.partial)

    def plugin(self, option: str) -> Plugin | None:
        """Return the user's own function for an option (network, loss, ..., on-epoch), if there is one."""
        return next((own.with_context(self.context) for own in self.plugins if own.option == option), None)

    @property
    def identity(self) -> Identity:
        """What a training must share with the checkpoint that it resumes from."""
        return Identity(
            configuration=self.configuration.name,
            plan=plan_digest(self.plan, self.configuration),
            fold=self.fold,
            cases=_digest(encode(self.cases), *([encode(self.partial)] if self.partial else [])),
            mirror_axes=self.mirror_axes,
            first_stage=None if self.first is None else self.first.digest,
        )


def set_up(
    work: Path,
    configuration: str,
    fold: FoldName,
    options: TrainOptions,
    group: ProcessGroup | None = None,
    saved: TrainingConfig | None = None,
    *,
    folder: ModelFolder | None = None,
    finished: TrainingConfig | None = None,
) -> Setup:
    """Read the work folder, and resolve what the training is: from recipe and options, or as a checkpoint has it.

    Parameters
    ----------
    work, configuration, fold
        What is trained.
    options
        What is asked for.
    group
        The processes that train.
    saved
        The configuration in the checkpoint that is resumed.
    folder
        Where the model goes; None: the fold's folder.
    finished
        The configuration of the finished model that is trained further.

    Raises
    ------
    PlanError, DatasetError, CheckpointError
        As `read_plan_and_fold`, `new_config`, `resumed_config` and `open_first_stage`.
    NnunetError
        A function of the user's own is not found.
    """
    plan, cases = read_plan_and_fold(work, configuration, fold)
    given = {**{option: getattr(options, option) for option in OWN}, "on-epoch": options.on_epoch}
    plugins = tuple(own for option, value in given.items() if (own := as_plugin(option, value)) is not None)
    folder = folder or WorkFolder(work).model(configuration, fold)
    if saved is not None:
        config = resumed_config(options, saved, plan, configuration, folder.checkpoint_file)
    elif finished is not None:
        config = next_cycle_config(options, finished, plan, configuration, folder.path.parent)
    else:
        on_gpu = find_device(options.device).type != "cpu"
        config = new_config(options, plan, configuration, on_gpu=on_gpu)
    _require_cases(options, config, WorkFolder(work), cases)
    if not cases.validation:
        config = replace(config, validation_batches=0)
    if config.keep_best and not config.validation_batches:
        raise PlanError("keep best: there are no validation batches to choose an epoch by; leave it out")
    group = group or current_group()
    plan = training_plan(plan, configuration, batch_size=config.batch_size, features=config.features)
    group.check_batch(config.batch_size)
    first = None
    if plan.configurations[configuration].previous is not None:
        first = open_first_stage(work, plan, configuration, (*cases.train, *cases.validation))
    configured, partial = plan.configurations[configuration], read_partial(work, plan, cases)
    return Setup(work, folder, plan, configured, fold, cases, config, options, plugins, group, first, partial)


def _require_cases(options: TrainOptions, config: TrainingConfig, work: WorkFolder, cases: Fold) -> None:
    """Raise a PlanError where samples cannot be drawn from the cases as asked for."""
    if options.case_sampling is not None:
        require_case_weights(
            options.case_sampling, {case.name for case in read_fingerprint(work.fingerprint_file).cases}
        )
    cases_drawn(cases.train, config.case_sampling)


def read_partial(work: Path, plan: Plan, cases: Fold) -> PartialLabels:
    """Read which cases of a fold are annotated in part; a DatasetError where dataset.json says so in a wrong way."""
    file = WorkFolder(work).dataset_file
    if not file.is_file():
        return NONE
    content = read_document(file)
    if KEY not in content:
        return NONE
    return PartialLabels.of(unannotated_targets(file, content, plan.labels)).among({*cases.train, *cases.validation})


def plan_digest(plan: Plan, configuration: Configuration) -> str:
    """Return a hash of all of a plan that a training of a configuration depends on.

    What plans of earlier versions do not say counts only where it is not as it was then: their trainings go on.
    """
    usual = {field.name: field.default for field in fields(Configuration) if field.name in _LATER}
    said = encode(configuration)
    body = {name: value for name, value in said.items() if getattr(configuration, name) != usual.get(name, _ANY)}
    turned = [plan.reorient] if plan.reorient else []
    return _digest(body, encode(plan.labels), encode(plan.normalization), plan.transpose, *turned)


def _digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
