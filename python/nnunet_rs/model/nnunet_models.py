"""Models in the folders that nnU-Net v2 writes: which there are, and one of them as a network and metadata of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.types import FoldName
from nnunet_rs.core.unzip import is_zip, unpacked
from nnunet_rs.core.workspace import DATASET_JSON, ModelFolder, fold_name, fold_of
from nnunet_rs.model.config import TrainingConfig, usual_config
from nnunet_rs.model.metadata import ModelMetadata
from nnunet_rs.model.recipe import V2
from nnunet_rs.model.weights import digest_of, require_weights, weight_shapes

if TYPE_CHECKING:
    from nnunet_rs.model.nnunet_weights import NnunetCheckpoint

PLANS, DATASET, FINAL = "plans.json", DATASET_JSON, "checkpoint_final.pth"
BEST = "checkpoint_best.pth"
_MODEL = re.compile(r"(?P<trainer>.+?)__(?P<plans>.+)__(?P<configuration>.+)")
_KNOWN = ("recipe", "epochs", "network", "features", "norm", "activation", "downsampling", "decoder_kernels", "unknown")
_UNKNOWN = tuple(field.name for field in fields(TrainingConfig) if field.name not in _KNOWN)  # of their trainings


@dataclass(frozen=True, slots=True)
class NnunetChoice:
    """Which of the models that nnU-Net left in a folder."""

    trainer: str | None = None  # None: the only one there is
    plans: str | None = None  # the same
    checkpoint: str = FINAL


ANY = NnunetChoice()  # the only one there is


@dataclass(frozen=True, slots=True)
class NnunetFolder:
    """A model's folder: plans.json, dataset.json and a folder for every fold."""

    path: Path
    trainer: str  # "" where the folder has another name than nnU-Net gives it
    plans: str
    named: str = ""  # the configuration, by the folder's name

    @property
    def configuration(self) -> str:
        """The configuration; where the folder has another name, as a checkpoint in it says, which is read for that."""
        from nnunet_rs.model.nnunet_weights import read_nnunet_checkpoint

        first = None if self.named else next(iter(self.folds().values()), None)
        return self.named if first is None else read_nnunet_checkpoint(first / FINAL).configuration

    def folds(self, checkpoint: str = FINAL) -> dict[FoldName, Path]:
        """Folders of the folds that have this checkpoint, by number or "all", in order."""
        found = ((fold_of(path.name), path) for path in self.path.iterdir())
        named = {fold: path for fold, path in found if fold is not None and (path / checkpoint).is_file()}
        every = named.pop("all", None)
        numbered: dict[FoldName, Path] = {int(name): named[name] for name in sorted(named, key=int)}
        return numbered if every is None else numbered | {"all": every}


def holds_nnunet_models(folder: Path) -> bool:
    """Whether a folder holds models of nnU-Net's: a dataset's results, a model's or a fold's folder."""
    if fold_of(folder.name) is not None and (folder.parent / PLANS).is_file():
        return any(folder.glob("checkpoint_*.pth"))
    return bool(_paths(folder))


def is_nnunet_folder(path: Path) -> bool:
    """Whether a folder is a model's folder of nnU-Net v2."""
    return (path / PLANS).is_file() and any(fold_of(entry.name) is not None for entry in path.iterdir())


def nnunet_folders(source: Path) -> tuple[NnunetFolder, ...]:
    """List the models of a folder: itself, or those of a dataset's results (DatasetXXX_Name/TRAINER__PLANS__CONFIG).

    Empty where there is none.
    """
    return tuple(map(_folder, _paths(source)))


def _paths(source: Path) -> list[Path]:
    """List the folders of `nnunet_folders`, of which nothing is read yet."""
    if not source.is_dir():
        return []
    if is_nnunet_folder(source):
        return [source]
    return [path for path in sorted(source.iterdir()) if path.is_dir() and is_nnunet_folder(path)]


@contextmanager
def results_folder(source: Path) -> Iterator[Path]:
    """Give the folder that holds the models of a source; a zip is unpacked for as long as that.

    Raises
    ------
    CheckpointError
        There is no model of nnU-Net's, or results of several datasets.
    """
    if is_zip(source):
        with unpacked(source) as folder:
            yield _down_to_models(folder, source)
    elif source.is_dir():
        yield _down_to_models(source, source)
    elif source.is_file():
        raise CheckpointError(f"{source}: is no zip, or a part of one; copy it again")
    else:
        raise CheckpointError(f"{source}: no such folder or zip")


def find_nnunet_models(
    folder: Path,
    configuration: str | None = None,
    folds: Sequence[FoldName] | None = None,
    choice: NnunetChoice = ANY,
) -> tuple[Path, ...]:
    """List the fold folders to load from a folder with models of nnU-Net's.

    Parameters
    ----------
    folder
        A dataset's results, one model's folder, or one fold's.
    configuration, folds, choice
        Which; None: the only configuration, every numbered fold (or the one of all cases, where that is all).

    Raises
    ------
    CheckpointError
        Several to choose from, or not what was named.
    """
    if fold_of(folder.name) is not None and (folder.parent / PLANS).is_file():
        return (folder,)
    found = choose_folders(nnunet_folders(folder), choice)
    model = found[0] if configuration is None and len(found) == 1 else _of_configuration(folder, found, configuration)
    trained = model.folds(choice.checkpoint)
    if folds is not None and list(folds) == ["all"] and "all" not in trained:
        folds = None  # each of them, where no network has seen every case
    wanted = list(folds or [fold for fold in trained if fold != "all"] or trained)
    missing = [fold for fold in wanted if fold not in trained]
    if missing or not wanted:
        where = f"{fold_name(missing[0] if missing else 'K')}/{choice.checkpoint}"
        known = ", ".join(map(str, trained)) or "none"
        raise CheckpointError(f"{model.path}: {where} is missing; folds with {choice.checkpoint}: {known}")
    return tuple(trained[fold] for fold in wanted)


def _of_configuration(folder: Path, found: Sequence[NnunetFolder], configuration: str | None) -> NnunetFolder:
    there = [model.configuration for model in found]
    if configuration is None:
        raise CheckpointError(f"{folder}: has models of {', '.join(there)}; name the configuration to use (-c)")
    if configuration not in there:
        raise CheckpointError(f"{folder}: has no model of {configuration}; there are {', '.join(there)}")
    return found[there.index(configuration)]


def choose_folders(found: Sequence[NnunetFolder], choice: NnunetChoice) -> tuple[NnunetFolder, ...]:
    """Keep the models of one trainer and one kind of plans.

    Raises
    ------
    CheckpointError
        There are several to choose from and none was named, or not the one that was.
    """
    for key, wanted, option in (("trainer", choice.trainer, "-tr"), ("plans", choice.plans, "-p")):
        there = sorted({getattr(folder, key) for folder in found})
        if wanted is None and len(there) > 1:
            home = found[0].path.parent
            raise CheckpointError(f"{home}: has models of the {key} {', '.join(there)}; name one ({option})")
        found = [folder for folder in found if wanted is None or getattr(folder, key) in (wanted, "")]
        if not found:
            raise CheckpointError(f"there is no model of the {key} {wanted}; there are {', '.join(there)} ({option})")
    return tuple(found)


def first_stage_folder(fold_folder: Path, configuration: str) -> Path:
    """Return where the first stage of a cascade lies, whose second stage is this fold: beside it."""
    home = ModelFolder(fold_folder).home
    named = _MODEL.fullmatch(home.name)
    name = configuration if named is None else f"{named['trainer']}__{named['plans']}__{configuration}"
    return home.parent / name


def read_nnunet_model(
    fold_folder: Path, *, checkpoint: str = FINAL, digest: bool = True
) -> tuple[dict[str, NDArray[Any]], ModelMetadata]:
    """Read one fold of a model that nnU-Net v2 trained.

    Parameters
    ----------
    fold_folder
        TRAINER__PLANS__CONFIG/fold_K, with plans.json and dataset.json in the folder above.
    checkpoint
        The file to read.
    digest
        Whether the metadata hold the file's SHA-256.

    Returns
    -------
    weights
        Of our network of that configuration, float32; views of the file.
    metadata
        As if we had trained it, with the axes that nnU-Net mirrors.

    Raises
    ------
    CheckpointError, PlanError, DatasetError
        A file is missing or damaged, or the model wants what cannot be run here; the text names what.
    """
    from nnunet_rs.model.nnunet_weights import read_nnunet_checkpoint
    from nnunet_rs.plan.nnunet_plans import read_nnunet_plans

    home = fold_folder.parent
    for name in (PLANS, DATASET):
        if not (home / name).is_file():
            raise CheckpointError(f"{home}: {name} is missing; copy it from where the model was trained")
    path = fold_folder / checkpoint
    found = read_nnunet_checkpoint(path)
    described = read_nnunet_plans(home / PLANS, home / DATASET)
    plan = described.plan(found.configuration)
    configuration = plan.configurations[found.configuration]
    config = replace(
        usual_config(plan.recipe, configuration, V2),
        norm="batch" if found.batch_norm else configuration.norm,
        decoder_kernels="same",
        epochs=found.epochs or None,
        unknown=_UNKNOWN,
    )
    metadata = ModelMetadata(
        plan=plan,
        configuration=found.configuration,
        fold=found.fold if (fold := fold_of(fold_folder.name)) is None else fold,
        config=config,
        iterations=0,
        end=None,
        best=None,
        mirror_axes=found.mirror_axes,
        source=f"nnU-Net v2, {found.trainer}, {checkpoint}, {found.epochs} epochs",
        ending=described.ending,
        digest=digest_of(path) if digest else "",
    )
    return _checked_weights(found, metadata, path), metadata


def _checked_weights(found: NnunetCheckpoint, metadata: ModelMetadata, path: Path) -> dict[str, NDArray[Any]]:
    from nnunet_rs.model.nnunet_weights import our_weights

    configuration, channels, options = metadata.plan_configuration, metadata.channels, metadata.network
    names = [name for name, _ in weight_shapes(configuration, channels, options)]
    weights = our_weights(found, names, configuration, path)
    require_weights(weights, configuration, channels, options, str(path))
    return weights


def _down_to_models(folder: Path, source: Path) -> Path:
    """Go down to where models lie: results of one dataset may be all that a folder or zip holds."""
    if holds_nnunet_models(folder):
        return folder
    below = [path for path in sorted(folder.iterdir()) if path.is_dir() and nnunet_folders(path)]
    if not below:
        raise CheckpointError(
            f"{source}: holds no model of nnU-Net v2: expected TRAINER__PLANS__CONFIG/ with {PLANS} and "
            f"{fold_name('K')}/{FINAL}"
        )
    if len(below) > 1:
        names = ", ".join(path.name for path in below)
        raise CheckpointError(f"{source}: holds the results of several datasets ({names}); name one of the folders")
    return below[0]


def _folder(path: Path) -> NnunetFolder:
    named = _MODEL.fullmatch(path.name)
    if named is None:
        return NnunetFolder(path, "", "")
    return NnunetFolder(path, named["trainer"], named["plans"], named["configuration"])
