"""prediction.json: what the segmentations of a folder were made with, and what their labels are called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_rs.core.dataset_json import declared, read_labels
from nnunet_rs.core.document import Kind
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.files import read_json, write_json
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.types import LabelSet
from nnunet_rs.core.workspace import PREDICTION_JSON

PREDICTION = Kind("prediction", dict, advice="predict again", marked=False)
_MODELS = {"models", "average_of"}  # one of them stands in every prediction.json


def prediction_content(made_with: Mapping[str, Any], labels: LabelSet) -> dict[str, Any]:
    """Return the content of prediction.json."""
    return {**made_with, **declared(labels)}


def says_the_same(found: Mapping[str, Any] | None, content: Mapping[str, Any]) -> bool:
    """Whether a prediction.json says this; those of earlier releases name no mirror axes, for they had all or none."""
    return found is not None and (found == content or found == _without_axes(content))


def _without_axes(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_axes(item) for key, item in value.items() if key != "mirror_axes"}
    return [_without_axes(item) for item in value] if isinstance(value, list) else value


def require_prediction_json(outputs: Outputs, content: Mapping[str, Any]) -> None:
    """Check that prediction.json may be written, where it has to be; errors as `Outputs.require`."""
    found = read_prediction_json(outputs.folder)
    if not says_the_same(found, content) and not _of_before(outputs, found):
        outputs.require([outputs.folder / PREDICTION_JSON])


def write_prediction_json(outputs: Outputs, content: Mapping[str, Any]) -> None:
    """Say what the segmentations of a folder are made with; an unchanged file stays as it is."""
    found = read_prediction_json(outputs.folder)
    if says_the_same(found, content):
        return
    if _of_before(outputs, found):
        outputs.adopt(outputs.folder / PREDICTION_JSON)
    with outputs.new_files(PREDICTION_JSON) as folder:
        write_json(folder / PREDICTION_JSON, content)


def _of_before(outputs: Outputs, found: Mapping[str, Any] | None) -> bool:
    """Whether prediction.json is of a release that kept no record."""
    return (
        found is not None
        and bool(_MODELS & found.keys())
        and not outputs.record.knows(outputs.folder / PREDICTION_JSON)
    )


def read_prediction_json(folder: Path) -> dict[str, Any] | None:
    """Return what `write_prediction_json` wrote; None where there is nothing, or nothing that can be read."""
    try:
        content = read_json(folder / PREDICTION_JSON) if (folder / PREDICTION_JSON).is_file() else None
    except DatasetError:
        return None
    return content if isinstance(content, dict) else None


def labels_of(folder: Path) -> LabelSet | None:
    """Return the labels of the segmentations of a folder; None where no prediction says what they are called."""
    content = read_prediction_json(folder)
    return read_labels(folder / PREDICTION_JSON, content) if content and "labels" in content else None
