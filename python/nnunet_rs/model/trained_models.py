"""Which trained models a folder holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from nnunet_rs.core.errors import CheckpointError, DatasetError
from nnunet_rs.core.types import FoldName
from nnunet_rs.core.workspace import MODEL_JSON, ModelFolder, WorkFolder, fold_name, model_folders
from nnunet_rs.data.folds import count_folds
from nnunet_rs.model.nnunet_models import ANY, BEST, FINAL, NnunetChoice, find_nnunet_models, holds_nnunet_models


def find_models(
    folder: Path,
    configuration: str | None = None,
    folds: Sequence[FoldName] | None = None,
    choice: NnunetChoice = ANY,
    *,
    unfinished: bool = False,
) -> tuple[Path, ...]:
    """List the fold folders to load.

    Parameters
    ----------
    folder
        A work folder (WORK), a configuration's models (WORK/models/3d_fullres) or one fold's model; or such folders of
        nnU-Net v2.
    configuration
        Which configuration of a work folder; None: the only one that is trained.
    folds
        Which folds; None: all that are trained, but for the network of all cases where there are others.
    choice
        Of models of nnU-Net's: which. Its checkpoint also of ours: the last epoch's, or the best one's.
    unfinished
        Also folds whose training is not finished, by their last checkpoint.

    Returns
    -------
    tuple of Path
        In order of the folds; at least one.

    Raises
    ------
    CheckpointError
        No finished model there, several configurations to choose from, or a fold that is not trained.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; give a work folder or a model folder")
    if _is_model(folder, unfinished):
        return _chosen(_single(folder, configuration, folds), choice)
    if holds_nnunet_models(folder):
        return find_nnunet_models(folder, configuration, folds, choice)
    home = folder if _trained(folder, unfinished) else _configuration_folder(folder, configuration, unfinished)
    if configuration is not None and home.name != configuration:
        raise CheckpointError(f"{home}: holds models of {home.name}, not of {configuration}; give the work folder")
    trained = _trained(home, unfinished)
    if not trained:
        raise CheckpointError(f"{home}: holds no finished model ({fold_name('K')}/{MODEL_JSON}); train first")
    if folds is not None and list(folds) == ["all"] and "all" not in trained:
        folds = None  # each of them, where no network has seen every case
    wanted = list(folds or [fold for fold in trained if fold != "all"] or trained)
    missing = [fold for fold in wanted if fold not in trained]
    if missing:
        raise CheckpointError(
            f"{home}: fold {missing[0]} is not trained; there {_are(trained)}; train it, or name others"
        )
    return _chosen([trained[fold] for fold in sorted(set(wanted), key=str)], choice)


def trained_configurations(work: Path, *, unfinished: bool = False) -> tuple[str, ...]:
    """Names of the configurations of a work folder with at least one finished fold (or one that is begun)."""
    files = WorkFolder(work)
    return tuple(name for name in files.configurations() if _trained(files.configuration_folder(name), unfinished))


def trained_folds(work: Path, configuration: str) -> tuple[int, ...]:
    """Finished folds of a configuration of a work folder; a network of all cases is none."""
    home = WorkFolder(work).configuration_folder(configuration)
    return tuple(sorted(fold for fold in _trained(home) if fold != "all"))


def missing_folds(home: Path) -> tuple[int, ...]:
    """Folds that WORK/models/CONFIGURATION lacks: of splits.json, or begun and not finished."""
    work = WorkFolder.holding(home)
    wanted: set[FoldName] = {model.fold for model in model_folders(home) if model.fold is not None}
    if work is not None and work.splits_file.is_file():
        with suppress(DatasetError):  # whoever needs the folds says what is wrong with them
            wanted.update(range(count_folds(work.splits_file)))
    return tuple(sorted(fold for fold in wanted - _trained(home).keys() if fold != "all"))


def _chosen(folders: Sequence[Path], choice: NnunetChoice) -> tuple[Path, ...]:
    """Return the models of folds by their last epoch, or by the best one where that is asked for."""
    if choice.checkpoint == FINAL:
        return tuple(folders)
    if choice.checkpoint != BEST:
        raise CheckpointError(
            f"{folders[0]}: checkpoint {choice.checkpoint!r} is of models of nnU-Net's; here there are final and best"
        )
    for folder in folders:
        if not ModelFolder(folder).best.is_finished():
            raise CheckpointError(
                f"{folder}: the best checkpoint was not kept; train with --keep-best, or leave --checkpoint out"
            )
    return tuple(ModelFolder(folder).best.path for folder in folders)


def _single(folder: Path, configuration: str | None, folds: Sequence[FoldName] | None) -> tuple[Path, ...]:
    model = ModelFolder(folder)
    if folds and model.fold is not None and set(map(str, folds)) != {str(model.fold)}:
        raise CheckpointError(f"{folder}: is the model of fold {model.fold}; give {folder.parent} for other folds")
    if configuration is not None and model.fold is not None and model.configuration != configuration:
        raise CheckpointError(f"{folder}: is no model of {configuration}; give the work folder")
    return (folder,)


def _configuration_folder(work: Path, configuration: str | None, unfinished: bool) -> Path:
    there = trained_configurations(work, unfinished=unfinished)
    if configuration is not None:
        return WorkFolder(work).configuration_folder(configuration)
    if len(there) > 1:
        raise CheckpointError(f"{work}: has models of {', '.join(there)}; name the configuration to use")
    return WorkFolder(work).configuration_folder(there[0]) if there else work


def _trained(home: Path, unfinished: bool = False) -> dict[FoldName, Path]:
    """Finished folds of a configuration's folder, or also those that have a checkpoint."""
    found = (model for model in model_folders(home) if _is_model(model.path, unfinished))
    return {model.fold: model.path for model in found if model.fold is not None}


def _is_model(folder: Path, unfinished: bool) -> bool:
    model = ModelFolder(folder)
    return model.is_finished() or (unfinished and model.has_checkpoint())


def _are(folds: Iterable[FoldName]) -> str:
    names = sorted(str(fold) for fold in folds)
    return f"is fold {names[0]}" if len(names) == 1 else f"are folds {', '.join(names)}"
