"""What a segmentation holds, structure by structure: volume, components, place, and the intensities under it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_rs.core.types import Box, FloatArray, Header, IntArray, LabelSet, Spacing3
from nnunet_rs.evaluate.scores import Target, scored_targets

CONNECTIVITY = 26  # voxels that share a face, an edge or a corner belong to one component, as in post-processing
PERCENTILES = (5, 25, 50, 75, 95)  # linear between neighbours, as numpy.percentile


@dataclass(frozen=True, slots=True)
class Intensities:
    """Intensities of one channel in the voxels of one structure, in the units of the image file."""

    mean: float
    std: float  # of the population (divided by the number of voxels)
    min: float
    max: float
    percentiles: tuple[float, ...]  # at PERCENTILES


@dataclass(frozen=True, slots=True)
class StructureStatistics:
    """One class, or one region, of one segmentation."""

    name: str
    values: tuple[int, ...]  # of the file; several for a region
    voxels: int
    volume: float  # mm³
    components: int
    centroid: tuple[float, float, float] | None  # of the voxels' centres: x, y, z in mm, RAS+; None: no voxel
    box: Box | None  # half-open voxel indices of z, y, x; None: no voxel
    intensities: tuple[Intensities, ...] = ()  # one a channel; empty without an image, or without a voxel


def measure_structures(
    classes: IntArray, labels: LabelSet, spacing: Spacing3, header: Header, image: FloatArray | None = None
) -> tuple[StructureStatistics, ...]:
    """Measure every region of a segmentation where the labels have regions, else every class but the background.

    Parameters
    ----------
    classes
        Class indices (z, y, x), as `encode_labels` returns them; voxels to ignore belong to no structure.
    labels
        What the indices stand for.
    spacing
        In mm; z, y, x.
    header
        Of the file: its affine turns voxels into mm.
    image
        (c, z, y, x), on the same grid; None: no intensities.

    Returns
    -------
    tuple of StructureStatistics
        In the order of the labels; a structure without a voxel has volume 0 and neither centroid nor box.
    """
    targets = scored_targets(labels)
    alone = all(len(target.classes) == 1 for target in targets)
    boxes = _class_boxes(classes, labels.count)
    around = _union(boxes)
    inside = classes if around is None else classes[tuple(slice(*ends) for ends in around)]
    counts = _components_by_class(np.ascontiguousarray(inside), labels.count) if alone else None
    segmentation = _Segmentation(classes, labels, spacing, header, image, boxes, counts)
    return tuple(segmentation.measure(target) for target in targets)


@dataclass(frozen=True, slots=True, eq=False)
class _Segmentation:
    """What is measured, with what one pass over all voxels tells of every class."""

    classes: IntArray  # (z, y, x)
    labels: LabelSet
    spacing: Spacing3
    header: Header
    image: FloatArray | None  # (c, z, y, x)
    boxes: tuple[Box | None, ...]  # one a class
    components: NDArray[np.int64] | None  # one a class; None: regions share classes, so each is counted by itself

    def measure(self, target: Target) -> StructureStatistics:
        values = tuple(self.labels.values[index] for index in target.classes)
        box = _union([self.boxes[index] for index in target.classes])
        if box is None:
            return StructureStatistics(target.name, values, 0, 0.0, 0, None, None)
        part = tuple(slice(start, stop) for start, stop in box)
        mask = np.isin(self.classes[part], target.classes)
        voxels = int(np.count_nonzero(mask))
        return StructureStatistics(
            name=target.name,
            values=values,
            voxels=voxels,
            volume=voxels * float(np.prod(self.spacing)),
            components=_components(mask) if self.components is None else int(self.components[target.classes[0]]),
            centroid=_to_world(_centre(mask, box), self.header),
            box=box,
            intensities=() if self.image is None else tuple(_intensities(c[part][mask]) for c in self.image),
        )


def _class_boxes(classes: IntArray, count: int) -> tuple[Box | None, ...]:
    """Return the bounding box of every class, from one pass over the voxels."""
    found = ndimage.find_objects(classes, max_label=count - 1)
    boxes = (part and tuple((axis.start, axis.stop) for axis in part) for part in found)
    return (None, *boxes)  # nobody measures the background


def _components_by_class(classes: IntArray, count: int) -> NDArray[np.int64]:
    """Count the components of each class at once: a component holds voxels of one class only."""
    components, number = cc3d.connected_components(classes, connectivity=CONNECTIVITY, return_N=True)
    components, classes = components.reshape(-1), classes.reshape(-1)
    owner = np.zeros(number + 1, classes.dtype)
    begun = np.flatnonzero(components[1:] != components[:-1]) + 1  # every component begins somewhere: few voxels
    owner[components[begun]] = classes[begun]
    owner[components[:1]] = classes[:1]
    return np.bincount(owner[1:], minlength=count + 1)


def _components(mask: NDArray[np.bool_]) -> int:
    _, number = cc3d.connected_components(mask, connectivity=CONNECTIVITY, return_N=True)
    return int(number)


def _union(boxes: Sequence[Box | None]) -> Box | None:
    there = [box for box in boxes if box is not None]
    if not there:
        return None
    return tuple((min(box[axis][0] for box in there), max(box[axis][1] for box in there)) for axis in range(3))


def _centre(mask: NDArray[np.bool_], box: Box) -> Iterator[float]:
    """Give the mean voxel index along z, y, x."""
    for axis, (start, stop) in enumerate(box):
        others = tuple(other for other in range(3) if other != axis)
        profile = np.count_nonzero(mask, axis=others)
        yield float(np.average(np.arange(start, stop), weights=profile))


def _to_world(centre: Iterator[float], header: Header) -> tuple[float, float, float]:
    z, y, x = centre
    world = np.array(header.affine) @ (x, y, z, 1.0)
    return float(world[0]), float(world[1]), float(world[2])


def _intensities(values: FloatArray) -> Intensities:
    percentiles = tuple(float(value) for value in np.percentile(values, PERCENTILES))
    mean, std = (float(value) for value in (values.mean(dtype=np.float64), values.std(dtype=np.float64)))
    return Intensities(mean, std, float(values.min()), float(values.max()), percentiles)
