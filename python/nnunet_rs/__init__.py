"""nnU-Net as a Rust-accelerated Python library: medical image segmentation that configures itself.

The kernels take and give arrays; the pipeline's steps are functions on arrays and on frozen dataclasses. Everything
here loads with its first use: importing nnunet_rs imports neither NumPy nor PyTorch, and only what trains, or predicts
by it, imports PyTorch at all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnunet_rs import transforms
    from nnunet_rs.core.check import check_dataset
    from nnunet_rs.core.errors import CheckpointError, DatasetError, NnunetError, PlanError, TrainingError
    from nnunet_rs.core.io import read_labels, read_volume, write_labels
    from nnunet_rs.core.kernels import (
        Blend,
        foreground_statistics,
        gaussian_importance,
        logits_to_labels,
        resample_image,
        resample_labels,
        window_starts,
    )
    from nnunet_rs.core.types import ChannelStats, Dataset, Labels, LabelSet, Volume
    from nnunet_rs.data.environment import read_dataset
    from nnunet_rs.data.pipeline import PrepareOptions, plan_dataset, prepare_dataset
    from nnunet_rs.data.prepared_dataset import PreparedDataset
    from nnunet_rs.data.preprocess import Prepared, prepare
    from nnunet_rs.evaluate.folders import evaluate_folders
    from nnunet_rs.evaluate.summary import Summary
    from nnunet_rs.model.options import TrainOptions
    from nnunet_rs.model.recipe import find_recipe
    from nnunet_rs.model.train import train_fold
    from nnunet_rs.plan.files import read_fingerprint, read_plan, write_plan
    from nnunet_rs.plan.planner import PlanOverrides, make_plan
    from nnunet_rs.plan.schema import Fingerprint, Plan
    from nnunet_rs.predict.folder import FolderOptions, predict_folder
    from nnunet_rs.predict.own_network import sliding_window
    from nnunet_rs.predict.predictor import PredictOptions, Predictor
    from nnunet_rs.predict.probabilities import Probabilities, open_probabilities, read_probabilities
    from nnunet_rs.report.viewer.widget import view
    from nnunet_rs.select.cross_validation import validate_fold
    from nnunet_rs.select.loading import load_predictor
    from nnunet_rs.select.selection import choose_best

    __version__: str

__all__ = [
    "Blend",
    "ChannelStats",
    "CheckpointError",
    "Dataset",
    "DatasetError",
    "Fingerprint",
    "FolderOptions",
    "LabelSet",
    "Labels",
    "NnunetError",
    "Plan",
    "PlanError",
    "PlanOverrides",
    "PredictOptions",
    "Predictor",
    "PrepareOptions",
    "Prepared",
    "PreparedDataset",
    "Probabilities",
    "Summary",
    "TrainOptions",
    "TrainingError",
    "Volume",
    "check_dataset",
    "choose_best",
    "evaluate_folders",
    "find_recipe",
    "foreground_statistics",
    "gaussian_importance",
    "load_predictor",
    "logits_to_labels",
    "make_plan",
    "open_probabilities",
    "plan_dataset",
    "predict_folder",
    "prepare",
    "prepare_dataset",
    "read_dataset",
    "read_fingerprint",
    "read_labels",
    "read_plan",
    "read_probabilities",
    "read_volume",
    "resample_image",
    "resample_labels",
    "sliding_window",
    "train_fold",
    "transforms",
    "validate_fold",
    "view",
    "window_starts",
    "write_labels",
    "write_plan",
]

_HOMES = {
    "core.check": "check_dataset",
    "data.environment": "read_dataset",
    "core.errors": "CheckpointError DatasetError NnunetError PlanError TrainingError",
    "core.io": "read_labels read_volume write_labels",
    "core.kernels": "Blend foreground_statistics gaussian_importance logits_to_labels resample_image resample_labels "
    "window_starts",
    "core.types": "ChannelStats Dataset LabelSet Labels Volume",
    "data.pipeline": "PrepareOptions plan_dataset prepare_dataset",
    "data.prepared_dataset": "PreparedDataset",
    "data.preprocess": "Prepared prepare",
    "model.options": "TrainOptions",
    "model.recipe": "find_recipe",
    "model.train": "train_fold",
    "plan.planner": "PlanOverrides make_plan",
    "plan.files": "read_fingerprint read_plan write_plan",
    "plan.schema": "Fingerprint Plan",
    "report.viewer.widget": "view",
    "select.loading": "load_predictor",
    "select.selection": "choose_best",
    "evaluate.folders": "evaluate_folders",
    "predict.folder": "FolderOptions predict_folder",
    "predict.own_network": "sliding_window",
    "predict.predictor": "PredictOptions Predictor",
    "predict.probabilities": "Probabilities open_probabilities read_probabilities",
    "evaluate.summary": "Summary",
    "select.cross_validation": "validate_fold",
}
_SUBMODULES = ("transforms",)
_MODULE_OF = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(import_module(_MODULE_OF[name]), name)
    elif name == "__version__":
        value = import_module(f"{__name__}.core.version").installed_version()
    elif name in _SUBMODULES:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
