"""Models of ours as a results folder or zip that nnU-Net v2's own commands load and predict the same with."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnunet_rs.core.declaration import declared, read_document
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.files import write_atomically, write_json
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.types import Progress, Silent
from nnunet_rs.model.card import ModelCard
from nnunet_rs.model.checkpoint import load_model
from nnunet_rs.model.nnunet_models import DATASET, FINAL, PLANS
from nnunet_rs.model.nnunet_weights import nnunet_weights
from nnunet_rs.plan.nnunet import as_nnunet, reader_of
from nnunet_rs.plan.schema import Configuration

TRAINER = "nnUNetTrainer"


def nnunet_obstacle(card: ModelCard) -> str | None:
    """Say what a model has that nnU-Net cannot express; None: nothing."""
    network, settings = card.network, card.settings
    if card.custom_network is not None:
        return f"its network is {card.custom_network}"
    if network.downsampling != "strided":
        return f"it is pooled by {network.downsampling}, nnU-Net's networks by strided convolutions"
    if network.decoder_kernels == "below" and not _alike(settings):
        return "its decoder has the kernels of the level below (the recipe paper), nnU-Net's those of its own level"
    return None


def difference(card: ModelCard) -> str | None:
    """Say in what nnU-Net will predict a little differently; None: in nothing."""
    if card.plan.recipe == "paper":
        return "probabilities are averaged here (the recipe paper), logits there: labels may differ where two are close"
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
        Told of every fold, and of what was kept aside.

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
    loaded = [(folder, *load_model(folder)) for folder in folders]
    for folder, _, card in loaded:
        obstacle = nnunet_obstacle(card)
        if obstacle is not None:
            raise CheckpointError(f"{folder}: cannot be written for nnU-Net: {obstacle}")
    endings = [_ending(folder, card) for folder, _, card in loaded]
    places = [_home(card, _plans(card, ending)) for (_, _, card), ending in zip(loaded, endings, strict=True)]
    with (
        Outputs(target, overwrite=overwrite, say=progress.say) as outputs,
        progress.task("export", len(loaded)) as task,
    ):
        for (_, _, card), home in zip(loaded, places, strict=True):
            names = (PLANS, DATASET, f"fold_{card.fold}/{checkpoint}")
            outputs.require([target / home / name for name in names], _files_of(folders))
        for (_, network, card), home, ending in zip(loaded, places, endings, strict=True):
            plans, dataset = _plans(card, ending), _dataset_json(card, ending)
            content = _checkpoint(card, dict(network.state_dict()), plans, dataset)
            with outputs.new_files(FINAL) as staged:
                fold = staged / home / f"fold_{card.fold}"
                fold.mkdir(parents=True)
                write_json(staged / home / PLANS, plans)
                write_json(staged / home / DATASET, dataset)
                with write_atomically(fold / checkpoint) as temporary:
                    torch.save(content, temporary)
            task.advance(1, f"{card.configuration}, fold {card.fold}")
    return tuple(dict.fromkeys(target / home for home in places))


def zip_results(dataset: Path, target: Path) -> None:
    """Pack a dataset's results for `nnUNetv2_install_pretrained_model_from_zip`."""
    with write_atomically(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(dataset.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(dataset.parent))


def _alike(settings: Configuration) -> bool:
    """Whether a level's kernels are those of the level below wherever a decoder has one."""
    return all(above == below for above, below in zip(settings.kernels[:-1], settings.kernels[1:], strict=True))


def _plans(card: ModelCard, ending: str) -> dict[str, Any]:
    return as_nnunet(card.plan, None, reader_of(ending), norm=card.network.norm, activation=card.network.activation)


def _home(card: ModelCard, plans: dict[str, Any]) -> str:
    return f"{_dataset_name(card)}/{TRAINER}__{plans['plans_name']}__{card.configuration}"


def _files_of(folders: Sequence[Path]) -> list[Path]:
    return [path for folder in folders for path in folder.iterdir() if path.is_file()]


def _dataset_name(card: ModelCard) -> str:
    name = card.plan.dataset
    number, _, rest = name.removeprefix("Dataset").partition("_")
    return name if name.startswith("Dataset") and number.isdecimal() and rest else f"Dataset999_{name}"


def _ending(folder: Path, card: ModelCard) -> str:
    """Return the ending of the images' files: nnU-Net predicts no others."""
    if card.ending:
        return card.ending
    path = folder.parents[2] / DATASET if len(folder.parents) > 2 else folder / DATASET
    return str(read_document(path).get("file_ending", ".nii.gz")) if path.is_file() else ".nii.gz"


def _dataset_json(card: ModelCard, ending: str) -> dict[str, Any]:
    cases = 0 if card.cases is None else len({*card.cases.train, *card.cases.validation})
    channels = {str(number): name for number, name in enumerate(card.plan.channels)}
    return {"channel_names": channels, **declared(card.plan.labels), "numTraining": cases, "file_ending": ending}


def _checkpoint(
    card: ModelCard, weights: dict[str, Tensor], plans: dict[str, Any], dataset: dict[str, Any]
) -> dict[str, Any]:
    """Return what nnU-Net's trainer saves, without the state of an optimiser."""
    fold = card.fold
    return {
        "network_weights": nnunet_weights(weights, card.settings),
        "optimizer_state": {},
        "grad_scaler_state": None,
        "logging": {},
        "_best_ema": None,
        "current_epoch": card.end.epoch if card.end is not None else 0,
        "init_args": {"plans": plans, "configuration": card.configuration, "fold": fold, "dataset_json": dataset},
        "trainer_name": TRAINER,
        "inference_allowed_mirroring_axes": card.mirror_axes or None,
    }
