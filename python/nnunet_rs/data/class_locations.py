"""Where the classes of a prepared case lie: a seeded sample of their voxels, for oversampling."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.types import IntArray, Shape3

MAX_VOXELS = 10_000  # voxels kept of a class, or
SHARE = 0.01  # of its voxels, if that is more
_SEED = 1234
_SLAB = 1 << 20  # voxels looked at together, so that no index array grows with the case


@dataclass(frozen=True, slots=True, eq=False)
class ClassLocations:
    """Sampled voxels of the classes of one prepared case."""

    shape: Shape3  # of the prepared case, working axes
    flat: NDArray[np.unsignedinteger]  # flat index into `shape`, ascending within a class, one class after the other
    spans: Mapping[int, tuple[int, int]]  # class → [start, stop) in `flat`; classes that do not occur are missing
    voxels: Mapping[int, int]  # class → how many voxels it has, sampled or not

    def pick(self, classes: Sequence[int], rng: np.random.Generator) -> Shape3:
        """Return a sampled voxel of a union of classes, one of which occurs; all its voxels are equally likely."""
        present = [c for c in classes if c in self.spans]
        chosen = present[0]
        if len(present) > 1:
            counts = np.array([self.voxels[c] for c in present], np.float64)
            chosen = present[rng.choice(len(present), p=counts / counts.sum())]
        start, stop = self.spans[chosen]
        z, y, x = np.unravel_index(int(self.flat[rng.integers(start, stop)]), self.shape)
        return int(z), int(y), int(x)


def sample_locations(labels: IntArray, classes: Collection[int]) -> ClassLocations:
    """Sample voxels of each class: all of them up to 10 000, else the greater of 10 000 and 1 %, without replacement.

    Parameters
    ----------
    labels
        Class indices (z, y, x).
    classes
        The classes to sample.

    Returns
    -------
    ClassLocations
        The same for the same labels. uint32 indices where they suffice.

    References
    ----------
    nnU-Net v2 `DefaultPreprocessor._sample_foreground_locations`, with other random numbers.
    """
    wanted = np.array(sorted(classes), labels.dtype)
    flat = labels.reshape(-1)
    slabs = [_voxels_by_class(flat, start, wanted) for start in range(0, flat.size, _SLAB)]
    parts: list[NDArray[np.unsignedinteger]] = [np.empty(0, _kind(flat.size))]
    spans, voxels, end = {}, {}, 0
    for number, c in enumerate(wanted.tolist()):
        found = np.concatenate([slab[number] for slab in slabs])
        if found.size:
            parts.append(_sampled(found, c))
            voxels[c] = found.size
            spans[c] = (end, end + len(parts[-1]))
            end = spans[c][1]
    z, y, x = labels.shape
    return ClassLocations((z, y, x), np.concatenate(parts), spans, voxels)


def _kind(size: int) -> type[np.uint32 | np.uint64]:
    """Return the type of flat indices into an array of `size` voxels."""
    return np.uint32 if size <= np.iinfo(np.uint32).max else np.uint64


def _voxels_by_class(flat: IntArray, start: int, wanted: IntArray) -> list[NDArray[np.unsignedinteger]]:
    """Return, for each wanted class, its voxels in the slab that begins at `start`, ascending."""
    slab = flat[start : start + _SLAB]
    here = np.flatnonzero(slab) if wanted.size and wanted[0] > 0 else np.arange(slab.size)
    values = slab[here]
    order = np.argsort(values, kind="stable")
    values = values[order]
    indices: NDArray[np.unsignedinteger] = (here[order] + start).astype(_kind(flat.size))
    bounds = zip(np.searchsorted(values, wanted, "left"), np.searchsorted(values, wanted, "right"), strict=True)
    return [indices[first:last] for first, last in bounds]


def _sampled(voxels: NDArray[np.unsignedinteger], c: int) -> NDArray[np.unsignedinteger]:
    """Return the voxels of class `c` that are kept, in ascending order."""
    keep = max(MAX_VOXELS, math.ceil(SHARE * voxels.size))
    if voxels.size <= keep:
        return voxels
    chosen = np.random.default_rng((_SEED, c)).choice(voxels.size, keep, replace=False, shuffle=False)
    return voxels[np.sort(chosen)]
