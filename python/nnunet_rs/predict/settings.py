"""prediction.json: what the segmentations of a folder were made with, and what their labels are called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_rs.core.declaration import declared, read_labels
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.files import read_json, write_json
from nnunet_rs.core.types import LabelSet

SETTINGS = "prediction.json"  # beside the segmentations


def write_settings(folder: Path, made_with: Mapping[str, Any], labels: LabelSet) -> None:
    """Say what the segmentations of a folder are made with; an unchanged file keeps its date."""
    content = {**made_with, **declared(labels)}
    if read_settings(folder) != content:  # damaged or not ours: what lies there is predicted anew
        write_json(folder / SETTINGS, content)


def read_settings(folder: Path) -> dict[str, Any] | None:
    """Return what `write_settings` wrote; None where there is nothing, or nothing that can be read."""
    try:
        return read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else None
    except DatasetError:
        return None


def labels_of(folder: Path) -> LabelSet | None:
    """Return the labels of the segmentations of a folder; None where no prediction says what they are called."""
    content = read_settings(folder)
    return read_labels(folder / SETTINGS, content) if content and "labels" in content else None
