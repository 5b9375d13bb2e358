"""What a checkpoint says of itself: the header of resume.safetensors, read without its tensors. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_rs.core.document import Kind, decode
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.types import FoldName, Shape
from nnunet_rs.core.workspace import ModelFolder
from nnunet_rs.model.config import TrainingConfig
from nnunet_rs.model.earlier import checkpoint_of_version_1
from nnunet_rs.model.metadata import read_metadata

ADVICE = "train anew with --fresh, which keeps it aside"
TRAINING = Kind(
    "training",
    dict,
    CheckpointError,
    f"use the nnunet_rs that began it, or {ADVICE}",
    version=2,
    migrations={1: checkpoint_of_version_1},
)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a training learns from: with other values, or another configuration, it would be another training."""

    configuration: str
    plan: str  # digest of the configuration, labels and normalisation
    fold: FoldName
    cases: str  # digest of the fold's cases
    mirror_axes: Shape | None = None  # of the patch, where others are asked for than the augmentation's
    first_stage: str | None = None  # of a cascade: digest of what made the first segmentations


def read_config(folder: Path) -> TrainingConfig | None:
    """Return what the training in a fold's folder is: by its checkpoint, else by its model; None if there is neither.

    Raises
    ------
    CheckpointError
        Checkpoint or model.json are damaged, or of a later version.
    """
    model = ModelFolder(folder)
    if model.has_checkpoint():
        return config_of(read_header(model.checkpoint_file), model.checkpoint_file)
    return read_metadata(folder).config if model.is_finished() else None


def read_header(path: Path) -> dict[str, Any]:
    """Read the JSON in a checkpoint's header, in today's form; not its tensors.

    Raises
    ------
    CheckpointError
        The file is damaged, or of a later version.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            text = (file.metadata() or {}).get("nnunet_rs", "").partition("\n")[0]
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: is damaged: {error}; {ADVICE}") from error
    return parse_header(text, path)


def parse_header(text: str, path: Path) -> dict[str, Any]:
    """Parse the text in a checkpoint's header; errors as `read_header`."""
    try:
        document = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its header is not JSON ({error}); {ADVICE}") from error
    return TRAINING.unwrap(document, str(path))


def config_of(document: dict[str, Any], path: Path) -> TrainingConfig:
    """Return what a checkpoint's header says of the training."""
    return decode(TrainingConfig, document.get("config"), f"{path}: config", CheckpointError)


def identity_of(document: dict[str, Any], path: Path) -> Identity:
    """Return what a checkpoint's header says that the training learns from."""
    return decode(Identity, document.get("identity"), f"{path}: identity", CheckpointError)
