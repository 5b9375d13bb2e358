"""One predicted case: measured, scored where there is a reference, and drawn, each file read once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import DatasetError, NnunetError, named
from nnunet_rs.core.image_file import Grid, ImageFile, compare_grids
from nnunet_rs.core.io import read_label_scan, read_scan
from nnunet_rs.core.issues import require_none
from nnunet_rs.core.labels import present_classes
from nnunet_rs.core.types import Case, IntArray, Labels, LabelSet
from nnunet_rs.evaluate.folders import encoded
from nnunet_rs.evaluate.scores import score_case
from nnunet_rs.evaluate.structures import measure_structures
from nnunet_rs.evaluate.structures_folder import CaseStructures
from nnunet_rs.evaluate.summary import CaseScores
from nnunet_rs.predict.probabilities import open_probabilities
from nnunet_rs.report.detail import draw_within
from nnunet_rs.report.entropy import mean_entropy
from nnunet_rs.report.slices import Drawing, Scene, Slices, Window

CHANNELS = 4  # of an image shown at most
_AIR = -500.0  # images with such intensities are taken for CT in Hounsfield units
_WIDTH = 350.0  # Hounsfield units of a CT's window at least
_SAMPLED = 1 << 21  # voxels that decide a window


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What is drawn of a case, and how much of a page it may take."""

    most: int  # bytes; 0: nothing is drawn
    slices: int | None = None  # at most, where the user says so


@dataclass(frozen=True, slots=True)
class PredictedCase:
    """What a page tells of a case."""

    name: str
    structures: CaseStructures
    scores: CaseScores | None  # None: there is no reference that could be read
    entropy: float | None  # None: there are no probabilities
    views: tuple[Slices, ...]
    channels: int  # that were drawn
    present: tuple[int, ...]  # classes, by index, in the prediction or the reference
    remarks: tuple[str, ...]  # what could not be shown, and why


def look_at(
    case: Case, labels: LabelSet, look: Look, reference: Path | None = None, probabilities: Path | None = None
) -> PredictedCase:
    """Read a case and draw it.

    An image, a reference or probabilities that cannot be read, or that lie on another grid, are named in `remarks`, and
    the rest is shown.

    Raises
    ------
    DatasetError
        The segmentation cannot be read, or holds a value that is not declared.
    """
    assert case.label is not None
    remarks: list[str] = []
    scan = read_scan(case.label)
    require_none(scan.issues)
    predicted, grid = encoded(scan, labels), scan.grid
    del scan  # its voxels: two cases have to fit into memory
    reading = _Reading(case, labels, predicted, grid, remarks)
    entropy = reading.entropy(probabilities) if probabilities else None
    truth, scores = reading.reference(reference) if reference else (None, None)
    structures = measure_structures(predicted.data, labels, predicted.spacing, predicted.header)
    views, channels = reading.draw(truth, look) if look.most else ((), 0)
    present = present_classes(predicted.data, labels)
    if truth is not None:
        present = tuple(map(max, present, present_classes(truth, labels)))
    return PredictedCase(
        name=case.name,
        structures=CaseStructures(case.name, structures),
        scores=scores,
        entropy=entropy,
        views=views,
        channels=channels,
        present=tuple(index for index in range(1, labels.count) if present[index]),
        remarks=tuple(remarks),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Reading:
    case: Case
    labels: LabelSet
    predicted: Labels  # class indices
    grid: Grid
    remarks: list[str]

    def entropy(self, path: Path) -> float | None:
        """Average the entropy of what `predict --save-probabilities` saved."""
        try:
            probabilities = open_probabilities(path)
            if probabilities.shape[1:] != self.grid.shape:
                raise DatasetError(f"{path}: has {probabilities.shape[1:]} voxels, its segmentation {self.grid.shape}")
            others = tuple(axis for axis in range(3) if axis != probabilities.across)
            return mean_entropy(probabilities, (self.predicted.data > 0).sum(axis=others, dtype=np.int64))
        except (NnunetError, OSError, RuntimeError) as error:
            self.remarks.append(f"The probabilities are left out: {named(error)}")
            return None

    def reference(self, path: Path) -> tuple[IntArray | None, CaseScores | None]:
        """Read the reference, and score the prediction by it, without distances."""
        try:
            scan = read_label_scan(path, self.grid, self.labels)
            require_none((*scan.issues, *compare_grids(self.grid, scan.grid)))
            truth = encoded(scan, self.labels).data
        except (NnunetError, OSError) as error:
            self.remarks.append(f"The reference is left out: {named(error)}")
            return None, None
        scores = score_case(self.predicted.data, truth, self.labels, self.predicted.spacing, None)
        return truth, CaseScores(self.case.name, str(self.case.label), str(path), scores)

    def draw(self, truth: IntArray | None, look: Look) -> tuple[tuple[Slices, ...], int]:
        """Draw the case over its image, or over nothing where that cannot be read."""
        image: tuple[NDArray[Any], ...] = ()
        windows: tuple[Window, ...] = ()
        try:
            if self.case.images:
                image, windows = self._image()
        except (NnunetError, OSError) as error:
            self.remarks.append(f"The image is left out: {named(error)}")
        predicted = self.predicted
        scene = Scene(image or None, truth, predicted.data, predicted.spacing, predicted.header, windows)
        return draw_within(Drawing.of(scene), look.most, look.slices), len(windows)

    def _image(self) -> tuple[tuple[NDArray[Any], ...], tuple[Window, ...]]:
        """Give the channels as they are stored, which takes half of what float32 takes, and what is black and white."""
        channels: list[NDArray[Any]] = []
        windows: list[Window] = []
        for path in self.case.images:
            scan = read_scan(path)
            require_none((*scan.issues, *compare_grids(scan.grid, self.grid)))
            for voxels in scan.voxels[: CHANNELS - len(channels)]:
                channels.append(voxels if scan.slope > 0 else -voxels.astype(np.float32))
                windows.append(_window(voxels, self.predicted.data, scan))
            if len(channels) == CHANNELS:
                break
        return tuple(channels), tuple(windows)


def _window(voxels: NDArray[Any], classes: IntArray, scan: ImageFile) -> Window:
    """Choose what is black and white, in stored units: around the structures of a CT, nearly all that is not zero else.

    Slopes below zero are turned, as the voxels are.
    """
    step = max(1, round((voxels.size / _SAMPLED) ** (1 / 3)))
    sample = voxels[::step, ::step, ::step].astype(np.float32) * scan.slope + scan.intercept
    finite = np.isfinite(sample)
    inside = sample[finite & (classes[::step, ::step, ::step] > 0)]
    every = sample[finite]
    if not every.size:
        return 0.0, 1.0
    if every.min() <= _AIR and inside.size:
        low, high = np.percentile(inside, (0.5, 99.5))
        spare = max(0.3 * (high - low), (_WIDTH - (high - low)) / 2)
        low, high = low - spare, high + spare
    else:
        outside = every[every != 0]
        low, high = np.percentile(outside if outside.size else every, (0.5, 99.5))
    slope = abs(scan.slope) or 1.0
    return float(low - scan.intercept) / slope, float(high - scan.intercept) / slope
