"""What a work folder holds, at whatever stage its work is: what is there, and a line on what is damaged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.errors import NnunetError, PlanError
from nnunet_rs.core.types import Case, Dataset, Shape3
from nnunet_rs.core.workspace import (
    PLAN_JSON,
    ModelFolder,
    WorkFolder,
)
from nnunet_rs.data.folds import Fold, read_folds
from nnunet_rs.data.placement import prepared_folder
from nnunet_rs.data.store import Store, prepared_name
from nnunet_rs.evaluate.summary import Summary, read_summary, together
from nnunet_rs.model.config import TrainingConfig
from nnunet_rs.model.header import read_config
from nnunet_rs.model.history import History
from nnunet_rs.model.metadata import ModelMetadata, read_metadata
from nnunet_rs.plan.dataset_scan import scanned_classes
from nnunet_rs.plan.files import read_fingerprint, read_plan
from nnunet_rs.plan.schema import Fingerprint, Plan
from nnunet_rs.select.choice import Choice, read_choice

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PreparedCase:
    """What a prepared case's record says."""

    name: str
    shape: Shape3  # working axes
    volumes: Mapping[int, float]  # ml of each class that occurs, by class index
    bytes: int  # on disk


@dataclass(frozen=True, slots=True)
class Training:
    """One fold's training, finished or not."""

    configuration: str
    fold: int
    model: ModelFolder
    history: History
    metadata: ModelMetadata | None  # None: not finished
    config: TrainingConfig | None  # what it is; None: its files do not say
    summary: Summary | None  # of the validation cases; None: not predicted

    @property
    def name(self) -> str:
        """How the report calls it."""
        return f"{self.configuration}, fold {self.fold}"


@dataclass(frozen=True, slots=True)
class WorkContents:
    """All that could be read."""

    path: Path
    plan: Plan
    fingerprint: Fingerprint | None
    dataset: Dataset | None  # None: dataset.json is missing; its cases are those whose files are still there
    folds: tuple[Fold, ...]
    scanned: Mapping[str, tuple[bool, ...]]  # case → which classes occur, the ignore label last
    prepared: Mapping[str, tuple[PreparedCase, ...]]  # by the stores' names
    trainings: tuple[Training, ...]  # by configuration and fold
    choice: Choice | None
    damage: tuple[str, ...]  # what is there but cannot be read: one line each

    @property
    def files(self) -> WorkFolder:
        """Where its files are."""
        return WorkFolder(self.path)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the cases."""
        return tuple(case.name for case in self.fingerprint.cases) if self.fingerprint else ()

    @property
    def moved(self) -> tuple[str, ...]:
        """Cases that were planned with, and whose files are no longer where dataset.json says."""
        there = {case.name for case in self.dataset.training} if self.dataset else set()
        return tuple(name for name in self.names if name not in there)

    def cases(self) -> dict[str, Case]:
        """Return the cases whose files are there, by name."""
        return {case.name: case for case in self.dataset.training} if self.dataset else {}

    def of(self, configuration: str) -> tuple[Training, ...]:
        """Return the trainings of a configuration."""
        return tuple(training for training in self.trainings if training.configuration == configuration)

    def validated(self) -> dict[str, Summary]:
        """Return the scores of each configuration's validated folds, all their cases together."""
        found: dict[str, list[Summary]] = {}
        for training in self.trainings:
            if training.summary is not None and training.summary.cases:
                found.setdefault(training.configuration, []).append(training.summary)
        return {name: together(summaries) for name, summaries in found.items()}


def read_work_folder(work: Path) -> WorkContents:
    """Read all that a report tells of; no image is opened.

    Raises
    ------
    PlanError
        There is no plan, or it cannot be read. Whatever else is damaged is in `damage`.
    """
    files = WorkFolder(work)
    if not files.plan_file.is_file():
        raise PlanError(f"{work}: holds no {PLAN_JSON}; make one with `nnunet-rs plan DATA -o {work}`")
    plan = read_plan(files.plan_file)
    reading = _Reading(files, plan)
    fingerprint = reading.read(files.fingerprint_file, read_fingerprint)
    return WorkContents(
        path=work,
        plan=plan,
        fingerprint=fingerprint,
        dataset=reading.read(files.dataset_file, lambda _: read_dataset(work)),
        folds=reading.read(files.splits_file, lambda _: read_folds(work)) or () if fingerprint else (),
        scanned=reading.read(files.scan_file, lambda _: scanned_classes(work)) or {},
        prepared={
            name: reading.store(name) for name in dict.fromkeys(prepared_name(plan, c) for c in plan.configurations)
        },
        trainings=tuple(reading.trainings()),
        choice=reading.read(files.best_file, lambda _: read_choice(work)),
        damage=tuple(reading.damage),
    )


@dataclass(frozen=True, slots=True)
class _Reading:
    work: WorkFolder
    plan: Plan
    damage: list[str] = field(default_factory=list)

    def read(self, path: Path, read: Callable[[Path], T]) -> T | None:
        """Read a file; None if it is missing or damaged."""
        if not path.is_file():
            return None
        try:
            return read(path)
        except NnunetError as error:
            self.damage.append(str(error))
            return None

    def store(self, name: str) -> tuple[PreparedCase, ...]:
        """Read what the records of a configuration's prepared cases say."""
        folder = prepared_folder(self.work.path) / name
        store = Store(folder)
        found = [self.read(store.path(case), partial(_prepared_case, folder, case)) for case in store.names()]
        return tuple(case for case in found if case is not None)

    def trainings(self) -> list[Training]:
        """Read every fold's folder, whether its training is finished or not."""
        models = [model for name in self.work.configurations() for model in self.work.models(name)]
        order = list(self.plan.configurations)
        found = [self.training(model, model.fold) for model in models if isinstance(model.fold, int)]
        place = {name: number for number, name in enumerate(order)}
        return sorted(found, key=lambda t: (place.get(t.configuration, len(order)), t.configuration, t.fold))

    def training(self, model: ModelFolder, fold: int) -> Training:
        """Read what one fold's folder holds."""
        metadata = self.read(model.metadata_file, lambda _: read_metadata(model.path))
        classes = (metadata.plan if metadata else self.plan).labels.score_names
        return Training(
            configuration=model.configuration,
            fold=fold,
            model=model,
            history=self.read(model.metrics_file, lambda path: History.read(path, classes)) or History(classes),
            metadata=metadata,
            config=metadata.config
            if metadata
            else self.read(model.checkpoint_file, lambda path: read_config(path.parent)),
            summary=self.read(model.summary_file, read_summary),
        )


def _prepared_case(folder: Path, name: str, path: Path) -> PreparedCase:
    store = Store(folder)  # one a case: it would keep every case's file mapped
    record = store.record(name)
    geometry = record.geometry
    extent = math.prod(n * mm for n, mm in zip(geometry.cropped_shape, geometry.working_spacing, strict=True))
    voxel = extent / math.prod(geometry.resampled) / 1000
    volumes = {index: count * voxel for index, count in record.voxels.items() if index > 0}
    return PreparedCase(name, geometry.resampled, volumes, path.stat().st_size)
