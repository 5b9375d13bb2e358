"""Where each file of a work folder lies and what it is called: no other module spells these names.

    WORK/
        dataset.json  survey.json  fingerprint.json  plan.json  splits.json  best.json
        prepared/CONFIGURATION/CASE.zip      or prepared.json, which says where the prepared cases lie instead
        previous/CONFIGURATION/              what a cascade's second stage sees of the first
        models/CONFIGURATION/fold_K/         a ModelFolder
        ensembles/A+B/fold_K/                predictions of held-out cases by a pair of configurations
        jobs/                                logs of jobs on a cluster, and which they are
        report.html

Paths are given whether or not anything is there. What a file holds is read by the module that owns its content.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line names files before it needs NumPy
    from nnunet_rs.core.types import FoldName

DATASET_JSON = "dataset.json"  # of a dataset's own folder too, and of nnU-Net's results
SCAN_JSON = "survey.json"  # what scanning the dataset found; the name is that of version 0.1
FINGERPRINT_JSON = "fingerprint.json"
PLAN_JSON = "plan.json"
SPLITS_JSON = "splits.json"
BEST_JSON = "best.json"
PREPARED_JSON = "prepared.json"
REPORT_HTML = "report.html"

MODEL_JSON = "model.json"
WEIGHTS = "weights.safetensors"
CHECKPOINT = "resume.safetensors"
METRICS = "metrics.jsonl"
CURVES = "progress.png"
PATCH = "patch.npz"

PREDICTION_JSON = "prediction.json"  # beside segmentations: what they were made with
SUMMARY_JSON = "summary.json"  # beside segmentations: their scores
POSTPROCESSING_JSON = "postprocessing.json"  # beside segmentations: the steps that made them

LOCK = ".lock"  # in every folder in which processes take turns
RECORD = ".nnunet-rs"  # a hidden folder beside outputs: which of them this tool wrote
KEPT_ASIDE = "previous"  # beside outputs: what stood in their place, in a numbered folder a run
PREPARED_CASE = ".zip"  # the ending of a prepared case

ENSEMBLES = "ensembles"  # in nnU-Net's results too
_PREPARED, _PREVIOUS_STAGE, _MODELS = "prepared", "previous", "models"
_VALIDATION, _PICTURES, _JOBS = "validation", "pictures", "jobs"
_BEST, _NEXT = "best", "next"  # in a fold's folder: the best epoch's model, and a training on top of the finished one
_TAKING = ".taking"  # what was `next` and finished, on its way to be the fold's model
_ASIDE = "previous_"  # and a number: what a fold's folder held before
_MOVING = ".keeping"  # becomes the next of these as soon as everything is in it
_FOLD = re.compile(r"fold_(\d+|all)")


def jobs_beside(outputs: Path) -> Path:
    """Return where the jobs of a folder of results are kept: as `WorkFolder.jobs_folder`, among hidden files."""
    return outputs / RECORD / _JOBS


def fold_name(fold: FoldName | str) -> str:
    """Return what the folder of a fold is called, here and in nnU-Net's results: fold_0, fold_all."""
    return f"fold_{fold}"


def fold_of(name: str) -> FoldName | None:
    """Return the fold whose folder has this name; None: it is no fold's."""
    found = _FOLD.fullmatch(name)
    if found is None:
        return None
    return "all" if found[1] == "all" else int(found[1])


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """A dataset's work folder: all that this tool makes of it."""

    path: Path

    @classmethod
    def holding(cls, models: Path) -> WorkFolder | None:
        """Return the work folder in which a configuration's models lie; None: they lie elsewhere, as copies do."""
        home = _named(models).parent
        return cls(home.parent) if home.name == _MODELS else None

    @property
    def dataset_file(self) -> Path:
        """Channels, labels, and where each case's files are."""
        return self.path / DATASET_JSON

    @property
    def scan_file(self) -> Path:
        """What reading each case found."""
        return self.path / SCAN_JSON

    @property
    def fingerprint_file(self) -> Path:
        """Sizes, spacings and intensities."""
        return self.path / FINGERPRINT_JSON

    @property
    def plan_file(self) -> Path:
        """Every decision."""
        return self.path / PLAN_JSON

    @property
    def splits_file(self) -> Path:
        """The cases of each fold; `data.folds.read_folds` reads it."""
        return self.path / SPLITS_JSON

    @property
    def best_file(self) -> Path:
        """The configurations that predict uses, and the post-processing."""
        return self.path / BEST_JSON

    @property
    def report_file(self) -> Path:
        """The page of the report, unless another name is given."""
        return self.path / REPORT_HTML

    @property
    def jobs_folder(self) -> Path:
        """Scripts, logs and the list of jobs that were handed to a cluster."""
        return self.path / _JOBS

    @property
    def own_prepared_folder(self) -> Path:
        """The prepared cases of each configuration, unless `placement_file` leads elsewhere."""
        return self.path / _PREPARED

    @property
    def placement_file(self) -> Path:
        """Where the prepared cases lie instead; `data.placement` reads it."""
        return self.path / PREPARED_JSON

    def previous_stage_folder(self, configuration: str) -> Path:
        """Return where lies what the second stage of a cascade sees of the first."""
        return self.path / _PREVIOUS_STAGE / configuration

    @property
    def models_folder(self) -> Path:
        """All models, a folder a configuration."""
        return self.path / _MODELS

    def configuration_folder(self, configuration: str) -> Path:
        """Return the folder of a configuration's models, in it a folder a fold."""
        return self.models_folder / configuration

    def model(self, configuration: str, fold: FoldName) -> ModelFolder:
        """Return where a fold's model is."""
        return ModelFolder(self.configuration_folder(configuration) / fold_name(fold))

    def configurations(self) -> tuple[str, ...]:
        """Names of the folders of models that are there, sorted."""
        home = self.models_folder
        return tuple(sorted(path.name for path in home.iterdir() if path.is_dir())) if home.is_dir() else ()

    def models(self, configuration: str) -> tuple[ModelFolder, ...]:
        """Return the models of a configuration that are there, finished or not, by fold."""
        return model_folders(self.configuration_folder(configuration))

    def ensemble_folder(self, configurations: Sequence[str], fold: FoldName) -> Path:
        """Predictions of the cases that a fold holds out, by several configurations together."""
        return self.path / ENSEMBLES / "+".join(configurations) / fold_name(fold)

    def ensemble_folders(self, configurations: Sequence[str]) -> tuple[Path, ...]:
        """Return those of `ensemble_folder` that are there, sorted by name."""
        home = self.ensemble_folder(configurations, 0).parent
        return tuple(path for path in sorted(home.iterdir()) if fold_of(path.name) is not None) if home.is_dir() else ()


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A fold's model: of WORK/models/CONFIGURATION/fold_K, or of a copy of that folder elsewhere."""

    path: Path

    @property
    def metadata_file(self) -> Path:
        """All that prediction needs besides the weights; written last."""
        return self.path / MODEL_JSON

    @property
    def weights_file(self) -> Path:
        """The network's weights."""
        return self.path / WEIGHTS

    @property
    def checkpoint_file(self) -> Path:
        """What an unfinished training resumes from."""
        return self.path / CHECKPOINT

    @property
    def metrics_file(self) -> Path:
        """A line an epoch."""
        return self.path / METRICS

    @property
    def curves_file(self) -> Path:
        """A picture of the epochs' losses and scores."""
        return self.path / CURVES

    @property
    def patch_file(self) -> Path:
        """A validation patch as the training last saw it."""
        return self.path / PATCH

    @property
    def validation_folder(self) -> Path:
        """Predictions of the held-out cases."""
        return self.path / _VALIDATION

    @property
    def summary_file(self) -> Path:
        """Scores of the held-out cases."""
        return self.validation_folder / SUMMARY_JSON

    @property
    def pictures_folder(self) -> Path:
        """Pictures of the best, the median and the worst held-out case."""
        return self.path / _PICTURES

    @property
    def best(self) -> ModelFolder:
        """The model of the epoch with the best Dice on validation patches, where that was asked for."""
        return ModelFolder(self.path / _BEST)

    @property
    def next_cycle(self) -> ModelFolder:
        """Where the finished model is trained further, until that is finished too."""
        return ModelFolder(self.path / _NEXT)

    @property
    def taking_folder(self) -> Path:
        """Where the finished next cycle lies while it takes the model's place."""
        return self.path / _TAKING

    def is_finished(self) -> bool:
        """Whether there is a whole model to predict with: its metadata is written last, and removed first.

        A checkpoint beside it means that its training was killed between the two, and is resumed to end properly.
        """
        return self.metadata_file.is_file()

    def has_checkpoint(self) -> bool:
        """Whether there is a training to resume."""
        return self.checkpoint_file.is_file()

    @property
    def fold(self) -> FoldName | None:
        """By the folder's name; None: it has another."""
        return fold_of(_fold_folder(self.path).name)

    @property
    def home(self) -> Path:
        """The folder of the configuration's models."""
        return _fold_folder(self.path).parent

    @property
    def configuration(self) -> str:
        """By the name of the folder above."""
        return self.home.name

    @property
    def work(self) -> WorkFolder | None:
        """The work folder it lies in; None: it lies elsewhere, as a copy does."""
        return WorkFolder.holding(self.home)

    def beside(self, configuration: str) -> tuple[ModelFolder, ...]:
        """Return the models of another configuration of the same work folder, or copy, by fold."""
        return model_folders(self.home.parent / configuration)

    @property
    def moving_folder(self) -> Path:
        """Where all that is kept aside is collected."""
        return self.path / _MOVING

    def next_aside(self) -> Path:
        """Return the free name for what is kept aside: previous_N."""
        numbers = (path.name.removeprefix(_ASIDE) for path in self.path.glob(f"{_ASIDE}*"))
        last = max((int(number) for number in numbers if number.isdecimal()), default=0)
        return self.path / f"{_ASIDE}{last + 1}"

    def contents(self, stay: Collection[str] = ()) -> list[Path]:
        """List what belongs to the model: not what was kept aside before, nor the lock, nor what is to stay."""
        out = (LOCK, _MOVING, _TAKING, *stay)
        return sorted(path for path in self.path.iterdir() if path.name not in out and not path.name.startswith(_ASIDE))


def model_folders(folder: Path) -> tuple[ModelFolder, ...]:
    """Return the folds' folders in a configuration's, by number, that of all cases last; none if it is not there."""
    found = [path for path in folder.iterdir() if fold_of(path.name) is not None] if folder.is_dir() else []
    return tuple(ModelFolder(path) for path in sorted(found, key=_by_fold) if path.is_dir())


def _named(path: Path) -> Path:
    """Return a path that names the folders above it, which `fold_0` and `../fold_0` do not."""
    return path if len(path.parents) > 2 and ".." not in path.parts else path.resolve()


def _fold_folder(path: Path) -> Path:
    """Return the fold's folder of a model that lies in it: the best, the next or a previous one."""
    named = _named(path)
    inside = named.name in (_BEST, _NEXT) or named.name.startswith(_ASIDE)
    return named.parent if inside and fold_of(named.parent.name) is not None else named


def _by_fold(path: Path) -> tuple[bool, int]:
    fold = fold_of(path.name)
    return (False, fold) if isinstance(fold, int) else (True, 0)
