"""Models of ours as a results folder or zip that nnU-Net v2's own commands load and predict the same with."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from nnunet_rs.core.dataset_json import declared, read_document
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.files import write_atomically, write_json
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.workspace import fold_name
from nnunet_rs.model.checkpoint import load_model
from nnunet_rs.model.metadata import ModelMetadata
from nnunet_rs.model.nnunet_models import DATASET, FINAL, PLANS
from nnunet_rs.model.nnunet_weights import nnunet_weights
from nnunet_rs.plan.nnunet import as_nnunet, reader_of
from nnunet_rs.plan.schema import Configuration

TRAINER = "nnUNetTrainer"


def nnunet_obstacle(metadata: ModelMetadata) -> str | None:
    """Say what a model has that nnU-Net cannot express; None: nothing."""
    network, configuration = metadata.network, metadata.plan_configuration
    if metadata.own_network is not None:
        return f"its network is {metadata.own_network}"
    if network.downsampling != "strided":
        return f"it is pooled by {network.downsampling}, nnU-Net's networks by strided convolutions"
    if network.decoder_kernels == "below" and not _alike(configuration):
        return "its decoder has the kernels of the level below (the planner paper), nnU-Net's those of its own level"
    return None


def difference(metadata: ModelMetadata) -> str | None:
    """Say in what nnU-Net will predict a little differently; None: in nothing."""
    if metadata.plan.recipe == "paper":
        return "probabilities are averaged here (planner paper), logits there: labels may differ where two are close"
    return None


def export_nnunet(
    folders: Sequence[Path],
    target: Path,
    *,
    checkpoint: str = FINAL,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Write models as nnU-Net's results: TARGET/DatasetXXX_Name/nnUNetTrainer__nnUNetPlans__CONFIG/fold_K.

    Parameters
    ----------
    folders
        Of folds: WORK/models/CONFIGURATION/fold_K.
    target
        The folder of results, made if it is not there.
    checkpoint
        What the weights' files are called.
    overwrite
        Keep files aside that this tool did not make, as results of nnU-Net's own, instead of refusing.
    progress
        Where every fold is reported, and what was kept aside.

    Returns
    -------
    tuple of Path
        The folders of the models.

    Raises
    ------
    CheckpointError
        A model has what nnU-Net cannot express, or is damaged; nothing is written then.
    NnunetError
        Other files are there; or the folder cannot be written.
    """
    progress = progress or Silent()
    models = [_Exported.of(folder) for folder in folders]
    with (
        Outputs(target, overwrite=overwrite, say=progress.say) as outputs,
        progress.task("export", len(models)) as task,
    ):
        for model in models:
            outputs.require([target / name for name in model.files(checkpoint)], _files_of(folders))
        for model in models:
            with outputs.new_files(FINAL) as staged:
                model.write(staged, checkpoint)
            task.advance(1, f"{model.metadata.configuration}, fold {model.metadata.fold}")
    return tuple(dict.fromkeys(target / model.home for model in models))


@dataclass(frozen=True, slots=True, eq=False)
class _Exported:
    """A model and the documents that nnU-Net keeps beside it."""

    metadata: ModelMetadata
    weights: dict[str, NDArray[Any]]
    plans: dict[str, Any]
    dataset: dict[str, Any]

    @classmethod
    def of(cls, folder: Path) -> _Exported:
        network, metadata = load_model(folder)
        obstacle = nnunet_obstacle(metadata)
        if obstacle is not None:
            raise CheckpointError(f"{folder}: cannot be written for nnU-Net: {obstacle}")
        ending = _ending(folder, metadata)
        weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        return cls(metadata, weights, _plans(metadata, ending), _dataset_json(metadata, ending))

    @property
    def home(self) -> str:
        """The model's folder within the results."""
        dataset = _dataset_name(self.metadata)
        return f"{dataset}/{TRAINER}__{self.plans['plans_name']}__{self.metadata.configuration}"

    def files(self, checkpoint: str) -> list[str]:
        """List what is written, within the results."""
        return [f"{self.home}/{name}" for name in (PLANS, DATASET, f"{fold_name(self.metadata.fold)}/{checkpoint}")]

    def write(self, results: Path, checkpoint: str) -> None:
        plans, dataset, weights = (results / name for name in self.files(checkpoint))
        weights.parent.mkdir(parents=True)
        write_json(plans, self.plans)
        write_json(dataset, self.dataset)
        with write_atomically(weights) as temporary:
            torch.save(_checkpoint(self.metadata, self.weights, self.plans, self.dataset), temporary)


def zip_results(dataset: Path, target: Path) -> None:
    """Pack a dataset's results for `nnUNetv2_install_pretrained_model_from_zip`."""
    with write_atomically(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(dataset.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(dataset.parent))


def _alike(configuration: Configuration) -> bool:
    """Whether a level's kernels are those of the level below wherever a decoder has one."""
    return all(
        above == below for above, below in zip(configuration.kernels[:-1], configuration.kernels[1:], strict=True)
    )


def _plans(metadata: ModelMetadata, ending: str) -> dict[str, Any]:
    return as_nnunet(
        metadata.plan, None, reader_of(ending), norm=metadata.network.norm, activation=metadata.network.activation
    )


def _files_of(folders: Sequence[Path]) -> list[Path]:
    return [path for folder in folders for path in folder.iterdir() if path.is_file()]


def _dataset_name(metadata: ModelMetadata) -> str:
    name = metadata.plan.dataset
    number, _, rest = name.removeprefix("Dataset").partition("_")
    return name if name.startswith("Dataset") and number.isdecimal() and rest else f"Dataset999_{name}"


def _ending(folder: Path, metadata: ModelMetadata) -> str:
    """Return the ending of the images' files: nnU-Net predicts no others."""
    if metadata.ending:
        return metadata.ending
    path = folder.parents[2] / DATASET if len(folder.parents) > 2 else folder / DATASET
    return str(read_document(path).get("file_ending", ".nii.gz")) if path.is_file() else ".nii.gz"


def _dataset_json(metadata: ModelMetadata, ending: str) -> dict[str, Any]:
    cases = 0 if metadata.cases is None else len({*metadata.cases.train, *metadata.cases.validation})
    channels = {str(number): name for number, name in enumerate(metadata.plan.channels)}
    return {"channel_names": channels, **declared(metadata.plan.labels), "numTraining": cases, "file_ending": ending}


def _checkpoint(
    metadata: ModelMetadata, weights: dict[str, NDArray[Any]], plans: dict[str, Any], dataset: dict[str, Any]
) -> dict[str, Any]:
    """Return what nnU-Net's trainer saves, without the state of an optimiser."""
    fold = metadata.fold
    return {
        "network_weights": _tensors(nnunet_weights(weights, metadata.plan_configuration)),
        "optimizer_state": {},
        "grad_scaler_state": None,
        "logging": {},
        "_best_ema": None,
        "current_epoch": metadata.end.epoch if metadata.end is not None else 0,
        "init_args": {"plans": plans, "configuration": metadata.configuration, "fold": fold, "dataset_json": dataset},
        "trainer_name": TRAINER,
        "inference_allowed_mirroring_axes": metadata.mirror_axes or None,
    }


def _tensors(weights: dict[str, NDArray[Any]]) -> dict[str, Tensor]:
    """Return tensors that share memory where arrays are the same, so that a file holds them once."""
    made = {id(array): torch.from_numpy(array) for array in weights.values()}
    return {name: made[id(array)] for name, array in weights.items()}
