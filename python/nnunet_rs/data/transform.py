"""What an augmentation is: a callable in batchgenerators' form, with its chance in a generator that it is handed."""

from __future__ import annotations

import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from nnunet_rs.core.kernels import IntensityChanges
from nnunet_rs.core.types import FloatArray, IntArray, Shape

_GLOBAL_CHANCE = threading.Lock()


class Transform(Protocol):
    """Anything that batchgenerators calls a transform.

    It is called with `data` float32 (b, c, *size) and `seg` (b, s, *size), and returns a dictionary with the same keys.
    Channel 0 of `seg` holds the class indices; the next, where there is one, the non-zero mask; in a cascade, the last
    holds the class indices of the first segmentation.
    """

    def __call__(self, **sample: Any) -> dict[str, Any]:
        """Transform a sample, in place or not."""


class SeededTransform(ABC):
    """A transform that draws from the generator in the sample (`rng`), so that any number of threads may run it."""

    def __call__(self, **sample: Any) -> dict[str, Any]:
        """Transform each entry of a batch."""
        data, seg = sample["data"], sample["seg"]
        results = [self.apply(image, labels, sample["rng"]) for image, labels in zip(data, seg, strict=True)]
        return {**sample, "data": _stacked([r[0] for r in results]), "seg": _stacked([r[1] for r in results])}

    @abstractmethod
    def apply(self, image: FloatArray, seg: IntArray, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
        """Transform one image (c, *size), which may be overwritten, and its seg (s, *size)."""


class IntensityTransform(SeededTransform):
    """A transform that changes nothing but intensities: it notes what is to be done, and a kernel does all in one go.

    A dozen short calls of NumPy a sample, between which threads wait for the interpreter, cost more than what they do.
    """

    @abstractmethod
    def note(self, shape: Shape, changes: IntensityChanges, rng: np.random.Generator) -> None:
        """Draw what is done to an image of a shape (c, *size)."""

    def apply(self, image: FloatArray, seg: IntArray, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
        """Change the image in place."""
        changes = IntensityChanges()
        self.note(image.shape, changes, rng)
        return _changed(image, changes), seg


def run(
    transforms: Sequence[Transform], image: FloatArray, seg: IntArray, rng: np.random.Generator
) -> tuple[FloatArray, IntArray]:
    """Run transforms in turn on one image (c, *size) and its seg (s, *size); chance comes from `rng` alone."""
    changes = IntensityChanges()
    for transform in transforms:
        if isinstance(transform, IntensityTransform):
            transform.note(image.shape, changes, rng)
            continue
        image, changes = _changed(image, changes), IntensityChanges()
        if isinstance(transform, SeededTransform):
            image, seg = transform.apply(image, seg, rng)
        else:
            moved = borrowed(transform, {"data": image[None], "seg": seg[None], "rng": rng})
            image, seg = moved["data"][0], moved["seg"][0]
    return _changed(image, changes), seg


def _changed(image: FloatArray, changes: IntensityChanges) -> FloatArray:
    """Make what was noted: in place, unless a transform has left another type than float32."""
    if len(changes):
        image = image.astype(np.float32, copy=False)
        changes.apply(image, threads=1)
    return image


def borrowed(transform: Transform, sample: dict[str, Any]) -> dict[str, Any]:
    """Run one of batchgenerators' own transforms so that its result depends on the sample and its `rng` alone.

    They draw from the global generators of `numpy.random` and `random`. These are seeded from the sample's generator,
    one transform runs at a time, and the global state is put back.
    """
    seed = int(sample["rng"].integers(1 << 32))
    with _GLOBAL_CHANCE:
        before = np.random.get_state(), random.getstate()
        np.random.seed(seed)
        random.seed(seed)
        try:
            return transform(**sample)
        finally:
            np.random.set_state(before[0])
            random.setstate(before[1])


def _stacked(parts: list[Any]) -> Any:
    """Stack along a new first axis; one part, the usual case, is not copied."""
    return parts[0][None] if len(parts) == 1 else np.stack(parts)
