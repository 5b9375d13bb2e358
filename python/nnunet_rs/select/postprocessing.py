"""Keep the largest connected component."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.types import IntArray

CONNECTIVITY = 26  # voxels that share a face, an edge or a corner belong together, as in nnU-Net

Classes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PostProcessing:
    """Steps in order; each keeps the largest component of a union of classes and makes the rest background."""

    keep_largest: tuple[Classes, ...] = ()  # class indices
    reasons: tuple[str, ...] = ()  # what was tried, with the numbers

    def apply(self, labels: IntArray) -> IntArray:
        """Return the class indices (z, y, x) after all steps; the argument stays as it is."""
        result = labels.copy() if self.keep_largest else labels
        for classes in self.keep_largest:
            for box, rest in smaller_components(result, classes):
                result[box][rest] = 0
        return result


def smaller_components(labels: IntArray, classes: Classes) -> list[tuple[Any, NDArray[np.bool_]]]:
    """Box and mask, within it, of all components of a union of classes but the largest; none if it is in one piece.

    Of equally large components the first in memory order is kept.
    """
    import cc3d

    mask = np.isin(labels, classes)
    if not mask.any():
        return []
    box = tuple(
        slice(int(used[0]), int(used[-1]) + 1)
        for used in (np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3))
    )
    # The margin is for cc3d 4.1, whose table of provisional labels is too small for volumes of a few voxels.
    padded = np.pad(mask[box], 1)
    components, count = cc3d.connected_components(padded, connectivity=CONNECTIVITY, return_N=True)
    if count < 2:
        return []
    components = components[1:-1, 1:-1, 1:-1]
    sizes = np.bincount(components.reshape(-1), minlength=count + 1)
    largest = 1 + int(np.argmax(sizes[1:]))
    return [(box, (components != 0) & (components != largest))]
