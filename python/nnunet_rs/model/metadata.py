"""What is known of a trained model besides its weights: model.json. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_rs.core.document import Kind, decode, encode
from nnunet_rs.core.errors import CheckpointError, PlanError
from nnunet_rs.core.files import read_json
from nnunet_rs.core.orientation import is_orientation
from nnunet_rs.core.types import FoldName, Shape
from nnunet_rs.core.workspace import MODEL_JSON, ModelFolder
from nnunet_rs.data.folds import Fold
from nnunet_rs.model.config import TrainingConfig
from nnunet_rs.model.earlier import model_of_version_2
from nnunet_rs.model.history import Epoch
from nnunet_rs.model.network_options import NetworkOptions, network_channels
from nnunet_rs.model.plugins import plain_name
from nnunet_rs.plan.files import plan_from_json, plan_to_json
from nnunet_rs.plan.schema import Configuration, Plan


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """All that is known of a trained model besides its weights."""

    plan: Plan  # labels, channels, normalisation, spacing, patch size: with the overrides it was trained with
    configuration: str
    fold: FoldName
    config: TrainingConfig  # recipe, network, loss, optimiser, seed and all else that the training was
    iterations: int
    end: Epoch | None  # the last epoch
    best: Epoch | None  # by Dice on validation patches; the weights are the last epoch's all the same
    # Axes of the patch, 0 the first, along which training mirrored, and prediction does; None: not known (by an earlier
    # version, with a function of the user's own).
    mirror_axes: Shape | None = None
    cases: Fold | None = None  # what it was trained on, and what was held out
    # Of the training cases' images, how many were stored in which orientation, as {"LPS": 20}; None: not known (by an
    # earlier version, by nnU-Net, or their files do not say it).
    orientations: dict[str, int] | None = None
    first_stage: dict[str, str] | None = None  # of a cascade's second: digests of the models whose segmentations it saw
    source: str = ""  # of a model that another program trained: which, and what it said of it
    ending: str = ""  # of the training images' files, as .nrrd; empty: as the work folder's dataset.json says
    unfinished: str = ""  # of a checkpoint that is predicted with before the training is done: how far it is
    library: str = ""  # version of nnunet_rs that trained it
    digest: str = ""  # SHA-256 of weights.safetensors

    @property
    def plan_configuration(self) -> Configuration:
        """The configuration that was trained."""
        return self.plan.configurations[self.configuration]

    @property
    def network(self) -> NetworkOptions:
        """What the network is besides what the plan says."""
        return self.config.network_options

    @property
    def own_network(self) -> str | None:
        """The function of the user's own that built the network, module:function; None: it is the plan's U-Net."""
        return None if self.config.network is None else plain_name(self.config.network)

    @property
    def channels(self) -> tuple[int, int]:
        """Input channels (with those of the previous stage's segmentation) and outputs of the network."""
        return network_channels(self.plan, self.plan_configuration)


def known_mirror_axes(augmentation: str, dims: int) -> Shape | None:
    """Return along which axes of the patch a training of an earlier version mirrored, by its augmentation's name.

    Those that recorded no name mirrored along all. None: it is a function of the user's own, of which nobody knows.
    """
    if not augmentation:
        return tuple(range(dims))
    from nnunet_rs.data.augment import AUGMENTATIONS, default_mirror_axes

    return default_mirror_axes(augmentation, dims) if augmentation in AUGMENTATIONS else None


def _with_mirror_axes(body: dict[str, Any]) -> dict[str, Any]:
    """Version 1 did not say what training mirrored."""
    dims = len(body["plan"]["configurations"][body["configuration"]]["patch_size"])
    return {**body, "mirror_axes": encode(known_mirror_axes(body.get("augmentation", ""), dims))}


MODEL = Kind(
    "model",
    ModelMetadata,
    CheckpointError,
    "use the nnunet_rs that trained it, or train again",
    version=3,
    migrations={1: _with_mirror_axes, 2: model_of_version_2},
)


def read_metadata(folder: Path) -> ModelMetadata:
    """Read model.json of a model folder (WORK/models/CONFIGURATION/fold_K).

    Raises
    ------
    CheckpointError
        There is no finished model, or model.json is damaged or of another version.
    """
    path = ModelFolder(folder).metadata_file
    if not path.is_file():
        raise CheckpointError(_missing(folder))
    metadata = _decoded(MODEL.unwrap(read_json(path, CheckpointError), str(path)), path)
    if metadata.configuration not in metadata.plan.configurations:
        names = ", ".join(metadata.plan.configurations)
        raise CheckpointError(f'{path}: configuration is "{metadata.configuration}": must be one of {names}')
    _require_axes(metadata, path)
    _require_orientations(metadata, path)
    return metadata


def metadata_to_json(metadata: ModelMetadata) -> dict[str, Any]:
    """Return the document of a model's metadata; the plan in it is a document too."""
    return MODEL.wrap({**encode(metadata), "plan": plan_to_json(metadata.plan)})


def common_mirror_axes(all_metadata: Sequence[ModelMetadata]) -> Shape:
    """Return along which axes of the patch all of these models were trained mirrored; not known counts as none."""
    return tuple(sorted(set.intersection(*(set(metadata.mirror_axes or ()) for metadata in all_metadata))))


def _require_axes(metadata: ModelMetadata, path: Path) -> None:
    axes, dims = metadata.mirror_axes or (), metadata.plan_configuration.dims
    if list(axes) != sorted(set(axes) & set(range(dims))):
        raise CheckpointError(
            f"{path}: mirror_axes is {list(axes)}: must be axes of the patch in ascending order, of 0 to {dims - 1}"
        )


def _require_orientations(metadata: ModelMetadata, path: Path) -> None:
    for codes, count in (metadata.orientations or {}).items():
        if not is_orientation(codes) or count < 1:
            raise CheckpointError(
                f'{path}: orientations has "{codes}": {count}: must be a code of three letters, as "LPS", and how many '
                "training cases are stored so"
            )


def _decoded(body: dict[str, Any], path: Path) -> ModelMetadata:
    try:
        plan = plan_from_json(body.get("plan"), f"{path}: plan")  # checked, and brought to this release's version
    except PlanError as error:
        raise CheckpointError(str(error)) from error
    return decode(ModelMetadata, {**body, "plan": encode(plan)}, f"{path}:", CheckpointError)


def _missing(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder}: no such folder; train this configuration and fold first"
    if ModelFolder(folder).has_checkpoint():
        return f"{folder}: its training is not finished; go on with train --resume"
    return f"{folder}: holds no model ({MODEL_JSON} is missing); give the folder of a fold that has been trained"
