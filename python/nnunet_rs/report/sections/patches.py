"""What unfinished trainings see: of each a validation patch, as slices to scroll through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.types import Header, LabelSet, Spacing3
from nnunet_rs.evaluate.scores import scored_targets
from nnunet_rs.model.validation_patch import ValidationPatch
from nnunet_rs.plan.schema import Plan
from nnunet_rs.report.blocks import Block, LegendEntry, Missing, Text, Viewer
from nnunet_rs.report.slices import Detail, Scene, difference_swatch, draw_slices, swatch
from nnunet_rs.report.tables import number
from nnunet_rs.report.workfolder import Training, WorkContents

SLICES, OTHERS = 24, 12  # across the axis that was scanned slice by slice, and across each of the others


def patch_blocks(work: WorkContents) -> Iterator[Block]:
    """Show the patch of every training whose held-out cases are not predicted yet."""
    shown, problems = [], []
    for training in work.trainings:
        path = training.model.patch_file
        planned = training.configuration in work.plan.configurations
        if training.summary is not None or not planned or not path.is_file():
            continue
        try:
            shown.append(_viewer(work, training, ValidationPatch.read(path)))
        except CheckpointError as error:
            problems.append(str(error))
    if shown:
        yield Text(
            "Of each training without scores of whole cases a patch of a validation case, as its network last "
            "segmented it: always the same patch, not mirrored, the image as the network gets it.",
            "Validation patches",
        )
    yield from shown
    for problem in problems:
        yield Missing(f"A patch cannot be shown. {problem}")


def _viewer(work: WorkContents, training: Training, patch: ValidationPatch) -> Viewer:
    plan, labels = work.plan, work.plan.labels
    channels = plan.channels[: len(patch.image)]
    a, b, c = (1.0, *plan.configurations[training.configuration].spacing)[-3:]
    turned, spacing = _turned(plan, (a, b, c))
    z, y, x = spacing
    affine = ((-x, 0.0, 0.0, 0.0), (0.0, -y, 0.0, 0.0), (0.0, 0.0, z, 0.0), (0.0, 0.0, 0.0, 1.0))
    reference, prediction = patch.reference.transpose(turned), patch.prediction.transpose(turned)
    scene = Scene(
        image=tuple(channel.transpose(turned) for channel in patch.image[: len(channels)]),
        reference=np.where(reference == labels.ignore_index, 0, reference),
        prediction=prediction,
        spacing=spacing,
        header=Header("patch", affine),
        windows=((0.0, 255.0),) * len(channels),
    )
    dice = _dice(patch, labels)
    present = [i for i in range(1, labels.count) if (patch.reference == i).any() or (patch.prediction == i).any()]
    known = [value for value in dice.values() if value == value]
    return Viewer(
        rank=f"{training.name}, epoch {patch.epoch}",
        name=patch.case,
        label="mean Dice of the patch",
        value=number(sum(known) / len(known) if known else None),
        channels=channels,
        views=draw_slices(scene, Detail(SLICES, OTHERS)),
        legend=tuple(
            LegendEntry(labels.names[i], swatch(i, "reference"), swatch(i, "prediction"), number(dice.get(i)))
            for i in present
        ),
        measure="Dice",
        missed=difference_swatch(True),
        extra=difference_swatch(False),
    )


def _turned(plan: Plan, spacing: Spacing3) -> tuple[tuple[int, ...], Spacing3]:
    """Return the order for `transpose` that brings working axes back to the files' z, y, x, and the spacing there."""
    order = tuple(plan.transpose.index(axis) for axis in range(3))
    z, y, x = (spacing[axis] for axis in order)
    return order, (z, y, x)


def _dice(patch: ValidationPatch, labels: LabelSet) -> dict[int, float]:
    """Return the Dice of each class that is scored by itself, by index; NaN where it is in neither."""
    counted = patch.reference != (-1 if labels.ignore_index is None else labels.ignore_index)
    return {
        target.classes[0]: _ratio(patch.reference == target.classes[0], patch.prediction == target.classes[0], counted)
        for target in scored_targets(labels)
        if len(target.classes) == 1
    }


def _ratio(truth: NDArray[Any], found: NDArray[Any], counted: NDArray[np.bool_]) -> float:
    both, either = (truth & found & counted).sum(), (truth & counted).sum() + (found & counted).sum()
    return float(2 * both / either) if either else float("nan")
