"""How well one predicted segmentation agrees with its reference, class by class."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.types import IntArray, LabelSet
from nnunet_rs.evaluate.distances import UNDEFINED, SurfaceDistances, surface_distances

CHUNK = 1 << 22  # voxels counted at a time: bincount works on 8-byte copies


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that is scored: a class, or a region (a union of classes)."""

    key: str  # as nnU-Net's summary.json names it: the file value, or the tuple of file values of a region
    name: str
    classes: tuple[int, ...]  # class indices


@dataclass(frozen=True, slots=True)
class Score:
    """Agreement on one target in one case.

    Absent from both prediction and reference: all ratios and distances are undefined (NaN) and left out of means.
    Absent from one of them: the ratios are 0, a missed target's precision too, but sensitivity is undefined where the
    reference has nothing to find; HD95 and ASD do not exist (NaN), NSD is 0. So Metrics Reloaded has it, and nnU-Net
    of Dice. Voxels that the reference marks as ignored count nowhere.
    """

    dice: float
    iou: float
    sensitivity: float
    precision: float
    tp: int  # voxels
    fp: int
    fn: int
    tn: int
    n_pred: int
    n_ref: int
    volume_pred: float  # ml
    volume_ref: float  # ml
    hd95: float  # mm, see SurfaceDistances
    asd: float  # mm
    nsd: float

    @property
    def one_sided(self) -> bool:
        """Whether prediction or reference has the target, and the other has not: no distance exists."""
        return (self.n_pred == 0) != (self.n_ref == 0)


METRICS = tuple(field.name for field in fields(Score))
UNKNOWN = Score(nan, nan, nan, nan, 0, 0, 0, 0, 0, 0, nan, nan, nan, nan, nan)  # of what a reference says nothing of


def scored_targets(labels: LabelSet) -> tuple[Target, ...]:
    """List what is scored: every region where the labels have regions, else every class but the background."""
    if labels.regions:
        return tuple(
            Target(_region_key([labels.values[index] for index in region.classes]), region.name, region.classes)
            for region in labels.regions
        )
    return tuple(Target(str(labels.values[i]), labels.names[i], (i,)) for i in range(1, labels.count))


def _region_key(values: Sequence[int]) -> str:
    return str(tuple(values)) if len(values) > 1 else str(values[0])


def count_pairs(prediction: IntArray, reference: IntArray, count: int) -> NDArray[np.int64]:
    """Count the voxels of every pair (predicted class, reference class): (count + 1, count + 1).

    Both hold class indices 0 … count, where `count` stands for ignored.
    """
    flat = np.ascontiguousarray(prediction).reshape(-1), np.ascontiguousarray(reference).reshape(-1)
    pairs = np.zeros((count + 1) ** 2, np.int64)
    for start in range(0, flat[0].size, CHUNK):
        ours, theirs = (part[start : start + CHUNK] for part in flat)
        pairs += np.bincount(ours.astype(np.intp) * (count + 1) + theirs, minlength=pairs.size)
    return pairs.reshape(count + 1, count + 1)


def overlap(pairs: NDArray[np.int64], classes: Sequence[int]) -> tuple[int, int, int, int]:
    """Read tp, fp, fn, tn of a union of classes off the counted pairs, ignored voxels left out."""
    seen, chosen = pairs[:, :-1], list(classes)
    tp = int(seen[np.ix_(chosen, chosen)].sum())
    fp, fn = int(seen[chosen].sum()) - tp, int(seen[:, chosen].sum()) - tp
    return tp, fp, fn, int(seen.sum()) - tp - fp - fn


def dice(tp: int, fp: int, fn: int) -> float:
    """Dice coefficient; NaN where there is nothing to find and nothing was found."""
    return _ratio(2 * tp, 2 * tp + fp + fn, present=bool(tp + fp + fn))


def score_case(
    prediction: IntArray,
    reference: IntArray,
    labels: LabelSet,
    spacing: tuple[float, ...],
    tolerance: float | None,
) -> tuple[Score, ...]:
    """Score every target of `scored_targets(labels)` in one case.

    Parameters
    ----------
    prediction, reference
        Class indices, (z, y, x); `labels.count` stands for ignored.
    spacing
        Of z, y, x, in mm.
    tolerance
        Of the normalised surface Dice, in mm; None measures no distances (NaN).
    """
    targets = scored_targets(labels)
    pairs = count_pairs(prediction, reference, labels.count)
    voxel = float(np.prod(spacing)) / 1000.0
    if tolerance is None:
        distances = [UNDEFINED] * len(targets)
    else:
        distances = _distances(prediction, reference, labels.count, targets, spacing, tolerance)
    return tuple(
        _score(*overlap(pairs, target.classes), voxel, apart) for target, apart in zip(targets, distances, strict=True)
    )


def without(scores: Sequence[Score], targets: Collection[int]) -> tuple[Score, ...]:
    """Leave out what a reference is not annotated for: nothing is known of it, and it counts in no mean."""
    return tuple(UNKNOWN if index in targets else score for index, score in enumerate(scores))


def _score(tp: int, fp: int, fn: int, tn: int, voxel: float, apart: SurfaceDistances) -> Score:
    present = bool(tp + fp + fn)
    return Score(
        dice=dice(tp, fp, fn),
        iou=_ratio(tp, tp + fp + fn, present),
        sensitivity=_ratio(tp, tp + fn, present=bool(tp + fn)),
        precision=_ratio(tp, tp + fp, present),
        tp=tp,
        fp=fp,
        fn=fn,
        tn=tn,
        n_pred=tp + fp,
        n_ref=tp + fn,
        volume_pred=(tp + fp) * voxel,
        volume_ref=(tp + fn) * voxel,
        hd95=apart.hd95,
        asd=apart.asd,
        nsd=apart.nsd,
    )


def _ratio(part: int, whole: int, present: bool) -> float:
    if not present:
        return nan
    return part / whole if whole else 0.0


def _distances(
    prediction: IntArray,
    reference: IntArray,
    count: int,
    targets: Sequence[Target],
    spacing: tuple[float, ...],
    tolerance: float,
) -> list[SurfaceDistances]:
    """Measure every target within the smallest box that holds it, so that many small classes stay cheap."""
    if (reference == count).any():
        prediction = np.where(reference == count, count, prediction)
    boxes = [_boxes(labels, count) for labels in (prediction, reference)]
    flat = tuple(size == 1 for size in reference.shape)
    results = []
    for target in targets:
        found = [box[index] for box in boxes for index in target.classes if box[index] is not None]
        if not found:
            results.append(UNDEFINED)
            continue
        box = _hull(found)
        ours, theirs = (np.isin(labels[box], target.classes) for labels in (prediction, reference))
        results.append(surface_distances(ours, theirs, spacing, tolerance, flat))
    return results


def _boxes(labels: IntArray, count: int) -> list[Any]:
    """Slices around each class 0 … count-1, None where it is absent (and for the background, which no one scores)."""
    from scipy.ndimage import find_objects  # a fifth of a second to import

    found = list(find_objects(labels, max_label=max(count - 1, 1)))
    return [None, *found][:count]


def _hull(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    return tuple(
        slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes))
        for axis in range(len(boxes[0]))
    )
