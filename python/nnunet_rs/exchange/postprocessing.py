"""What nnU-Net's find_best_configuration decided: post-processing, and the model or the pair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.files import read_json
from nnunet_rs.core.pickled import read_plain_pickle
from nnunet_rs.core.types import LabelSet
from nnunet_rs.core.workspace import POSTPROCESSING_JSON
from nnunet_rs.select.postprocessing import Classes, PostProcessing

_KEEP_LARGEST = "remove_all_but_largest_component_from_segmentation"


def find_postprocessing(folder: Path, labels: LabelSet) -> PostProcessing | None:
    """Read the post-processing of a model's or an ensemble's folder; None where none was decided.

    postprocessing.json says the same as postprocessing.pkl and is preferred.

    Raises
    ------
    DatasetError
        A file is damaged, or wants something else than the largest components of labels.
    """
    for name in (POSTPROCESSING_JSON, "postprocessing.pkl"):
        if (folder / name).is_file():
            return read_nnunet_postprocessing(folder / name, labels)
    return None


def read_nnunet_postprocessing(path: Path, labels: LabelSet) -> PostProcessing:
    """Read nnU-Net's postprocessing.json or postprocessing.pkl; errors as `find_postprocessing`."""
    functions, arguments = _content(path)
    if not isinstance(functions, list) or not isinstance(arguments, list) or len(functions) != len(arguments):
        raise DatasetError(f"{path}: must list as many functions as arguments")
    return PostProcessing(
        tuple(_step(path, function, given, labels) for function, given in zip(functions, arguments, strict=True)),
        (f"decided by nnU-Net: {path.name}",),
    )


def _content(path: Path) -> tuple[Any, Any]:
    if path.suffix == ".pkl":
        content = read_plain_pickle(path)
        if isinstance(content, Sequence) and len(content) == 2:
            return content[0], content[1]
        raise DatasetError(f"{path}: must hold functions and their arguments")
    content = read_json(path)
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: must be an object")
    return content.get("postprocessing_fns"), content.get("postprocessing_kwargs")


def _step(path: Path, function: object, arguments: object, labels: LabelSet) -> Classes:
    name = str(function).rpartition(".")[2]
    if name != _KEEP_LARGEST:
        raise DatasetError(f"{path}: asks for {function}; only {_KEEP_LARGEST} can be done")
    if not isinstance(arguments, dict) or not set(arguments) <= {"labels_or_regions", "background_label"}:
        raise DatasetError(f"{path}: arguments of {name} are {arguments!r}; expected labels_or_regions")
    values = set(_values(arguments.get("labels_or_regions")))
    known = {value: index for index, value in enumerate(labels.values)}
    unknown = values - known.keys()
    if unknown or not values or arguments.get("background_label", 0) != 0:
        raise DatasetError(f"{path}: {arguments!r} names labels that there are not; there are {list(known)[1:]}")
    return tuple(sorted(known[value] for value in values))


def _values(held: object) -> list[Any]:
    """List the values of a label, a region, or several of either: their union is one mask."""
    if isinstance(held, list | tuple):
        return [value for item in held for value in _values(item)]
    return [held]
