"""The cases of an image, a folder of predictions, or a work folder, for the viewer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.dicom.references import is_label_file
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.io import read_label_scan, read_scan
from nnunet_rs.core.types import Case, LabelSet
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.evaluate.folders import label_files
from nnunet_rs.plan.files import read_plan
from nnunet_rs.predict.probabilities import open_probabilities
from nnunet_rs.report.predictions import Predictions
from nnunet_rs.report.viewer.layers import Layer, LayerKind, ViewCase, Voxels, difference, of_file


def of_image(images: Sequence[Path], segmentation: Path | None, labels: LabelSet | None) -> tuple[ViewCase, ...]:
    """Show one image, of one file or one a channel."""
    case = Case(images[0].name, tuple(images), segmentation)
    return (ViewCase(case.name, partial(_layers, case, (), labels), labels),)


def of_predictions(found: Predictions, labels: LabelSet | None) -> tuple[ViewCase, ...]:
    """Show every case of a folder of predictions."""

    def layers(case: Case) -> tuple[Layer, ...]:
        channels, name = found.channels, case.name
        return _layers(case, channels, labels, found.references.get(name), found.probabilities.get(name))

    return tuple(ViewCase(case.name, partial(layers, case), labels) for case in found.cases)


def of_work(work: Path) -> tuple[ViewCase, ...]:
    """Show a work folder's cases with their references, and the predictions of held-out cases that there are.

    Raises
    ------
    PlanError, DatasetError
        The folder has no plan or no dataset.json that can be read.
    """
    plan, dataset = read_plan(WorkFolder(work).plan_file), read_dataset(work)
    predicted = _held_out(work, tuple(plan.configurations))
    cases = []
    for case in dataset.training:
        shown = Case(case.name, case.images, predicted.get(case.name))
        cases.append(ViewCase(case.name, partial(_layers, shown, plan.channels, plan.labels, case.label), plan.labels))
    return tuple(cases)


def _held_out(work: Path, configurations: Sequence[str]) -> dict[str, Path]:
    """Find predictions of held-out cases; of several configurations that of the plan's last, which has most detail."""
    found: dict[str, Path] = {}
    for name in configurations:
        for model in WorkFolder(work).models(name):
            with suppress(NnunetError):  # nothing is predicted there yet
                found |= label_files(model.validation_folder)
    return found


def _layers(
    case: Case,
    channels: Sequence[str],
    labels: LabelSet | None = None,
    reference: Path | None = None,
    probabilities: Path | None = None,
) -> tuple[Layer, ...]:
    found = list(_images(case, channels))
    label, image = case.label, case.images[0] if case.images else None
    beside = label or image
    if reference is not None:
        kind: LayerKind = "labels" if label is None else "outline"  # over a segmentation: both are to be seen
        found.append(Layer("reference", "Reference", kind, partial(_labels, reference, beside, labels)))
    if label is not None:
        found.append(Layer("prediction", "Segmentation", "labels", partial(_labels, label, image, labels)))
    if label is not None and reference is not None:
        read = partial(_difference, label, reference, image, labels)
        found.append(Layer("difference", "Differences", "difference", read))
    if probabilities is not None and label is not None:
        found += _probabilities(probabilities, label)
    return tuple(found)


def _images(case: Case, channels: Sequence[str]) -> Iterator[Layer]:
    if len(case.images) > 1 or len(channels) <= 1:
        for number, path in enumerate(case.images):
            name = channels[number] if number < len(channels) else path.name
            yield Layer(f"image{number}", name, "image", partial(_first, path))
        return
    for path in case.images:
        for number, name in enumerate(channels):
            yield Layer(f"image{number}", name, "image", partial(_channel, path, number))


def _first(path: Path) -> Voxels:
    return of_file(read_scan(path))


def _labels(path: Path, beside: Path | None, labels: LabelSet | None) -> Voxels:
    """Read labels; SEG and RTSTRUCT files onto the grid of what they are shown beside."""
    grid = read_scan(beside).grid if beside is not None and is_label_file(path) else None
    return of_file(read_label_scan(path, grid, labels))


def _difference(label: Path, reference: Path, image: Path | None, labels: LabelSet | None) -> Voxels:
    return difference(_labels(label, image, labels), _labels(reference, label, labels))


def _channel(path: Path, number: int) -> Voxels:
    return of_file(read_scan(path), number)


def _probabilities(path: Path, label: Path) -> Iterator[Layer]:
    try:
        labels = open_probabilities(path).labels
    except NnunetError:
        return
    names = [region.name for region in labels.regions] or labels.names
    for number, name in enumerate(names):
        if labels.regions or number:
            yield Layer(f"p{number}", f"P({name})", "probability", partial(_probability, path, number, label))


def _probability(path: Path, number: int, label: Path) -> Voxels:
    values = np.asarray(open_probabilities(path).array[number])
    return Voxels((values * 255).round().astype(np.uint8), _first(label).affine, 1 / 255)
