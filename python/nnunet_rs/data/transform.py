"""What a transform is: called with batchgenerators' dictionaries, or with arrays and tensors; random by a generator."""

from __future__ import annotations

import math
import random
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.kernels import IntensityChanges
from nnunet_rs.core.types import FloatArray, IntArray, Shape

Range: TypeAlias = tuple[float, float]  # low, high

_GLOBAL_RANDOM_STATE = threading.Lock()
_Image = TypeVar("_Image")  # an array or a tensor; what comes back is of the same kind
_Labels = TypeVar("_Labels")


class Transform(Protocol):
    """Anything that batchgenerators calls a transform.

    It is called with `data` float32 (b, c, *size) and `seg` (b, s, *size), and returns a dictionary with the same keys.
    Channel 0 of `seg` holds the class indices; the next, where there is one, the non-zero mask; in a cascade, the last
    holds the class indices of the first segmentation.
    """

    def __call__(self, **sample: Any) -> dict[str, Any]:
        """Transform a sample, in place or not."""


class SeededTransform(ABC):
    """A transform whose random numbers come from one generator, so that any number of threads may run it side by side.

    `transform(image, labels, rng=rng)` takes float32 (c, z, y, x) or (c, y, x), and class indices with or without a
    first axis of their own; it returns both, or the image alone where no labels are given. NumPy arrays and torch
    tensors give the same kind back (a tensor on its device); what was handed in is not changed.

    `transform(data=..., seg=..., rng=...)` is batchgenerators' form: a batch (b, c, *size) and its maps (b, s, *size),
    which may be overwritten; `seg` may be missing. It returns the dictionary with both replaced.

    Without `rng`, a `numpy.random.Generator`, numbers follow from NumPy's global state, which batchgenerators and
    PyTorch's DataLoader seed in each of their workers.
    """

    def __post_init__(self) -> None:
        check_parameters(self)

    @overload
    def __call__(self, image: _Image, /, *, rng: np.random.Generator | None = None) -> _Image: ...
    @overload
    def __call__(
        self, image: _Image, labels: _Labels, /, *, rng: np.random.Generator | None = None
    ) -> tuple[_Image, _Labels]: ...
    @overload
    def __call__(self, **sample: Any) -> dict[str, Any]: ...
    def __call__(self, *arrays: Any, **sample: Any) -> Any:
        """Transform an image and its labels, or each entry of a batch.

        Raises
        ------
        TypeError
            The image is not of float32; there is none.
        ValueError
            The image has other axes, or the labels are of another size.
        """
        rng = sample.get("rng")
        rng = np.random.default_rng(np.random.randint(1 << 32, dtype=np.uint64)) if rng is None else rng
        if arrays:
            return self._one(rng, *arrays)
        if "data" not in sample:
            raise TypeError(f"{type(self).__name__} is called with an image, or with data=...; got {sorted(sample)}")
        return self._batch(sample, rng)

    @abstractmethod
    def apply(self, image: FloatArray, seg: IntArray, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
        """Transform one image (c, *size), which may be overwritten, and its seg (s, *size)."""

    def _one(self, rng: np.random.Generator, image: Any, labels: Any = None) -> Any:
        array = _array(image)
        _check_image(array)
        if labels is None:
            return _like(image, self.apply(np.array(array), _nothing(array.shape[1:]), rng)[0])
        seg, size = np.array(_array(labels)), array.shape[1:]
        if seg.shape[-len(size) :] != size or seg.ndim > array.ndim:
            raise ValueError(f"labels must be of the image's size {size}; got {seg.shape}")
        moved, found = self.apply(np.array(array), seg if seg.ndim == array.ndim else seg[None], rng)
        return _like(image, moved), _like(labels, found if seg.ndim == array.ndim else found[0])

    def _batch(self, sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        data, seg = _array(sample["data"]), sample.get("seg")
        maps = [_nothing(image.shape[1:]) for image in data] if seg is None else _array(seg)
        results = [self.apply(image, labels, rng) for image, labels in zip(data, maps, strict=True)]
        changed = {"data": _like(sample["data"], _stacked([image for image, _ in results]))}
        if seg is not None:
            changed["seg"] = _like(seg, _stacked([labels for _, labels in results]))
        return {**sample, **changed}


class IntensityTransform(SeededTransform):
    """A transform that changes nothing but intensities: it notes what is to be done, and one kernel call does it.

    A dozen short NumPy calls per sample, between which threads wait for the interpreter, cost more than the work.
    """

    @abstractmethod
    def note(self, shape: Shape, changes: IntensityChanges, rng: np.random.Generator) -> None:
        """Draw what is done to an image of a shape (c, *size)."""

    def apply(self, image: FloatArray, seg: IntArray, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
        """Change the image in place."""
        changes = IntensityChanges()
        self.note(image.shape, changes, rng)
        return _changed(image, changes), seg


@dataclass(frozen=True)
class Compose(SeededTransform):
    """Several transforms in turn; intensity transforms that follow each other are computed together.

    Parameters
    ----------
    transforms
        Of `nnunet_rs.transforms`, of batchgenerators, or your own: anything that takes and gives its dictionaries.
    """

    transforms: Sequence[Transform]

    def apply(self, image: FloatArray, seg: IntArray, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
        """Run them on one image (c, *size) and its seg (s, *size)."""
        return run(self.transforms, image, seg, rng)


def check_parameters(transform: Any) -> None:
    """Check the fields of a transform: probabilities lie in 0 … 1, ranges ascend from 0 or more.

    Raises
    ------
    ValueError
        One does not; the text names class, field and value.
    """
    for field in fields(transform):
        value, where = getattr(transform, field.name), f"{type(transform).__name__}: {field.name}"
        if field.name in ("probability", "per_channel") or field.name.startswith("p_"):
            if not 0 <= value <= 1:
                raise ValueError(f"{where} must lie in 0 … 1; got {value!r}")
        elif field.type == "Range" and not _ascends(value):
            raise ValueError(f"{where} must be (low, high) with 0 ≤ low ≤ high; got {value!r}")


def _ascends(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and 0 <= value[0] <= value[1] < math.inf


def draw_factor(span: Range, rng: np.random.Generator) -> float:
    """Draw a factor below 1 and above 1 equally often, however long the span is on either side; as batchgenerators."""
    low, high = span
    below = rng.random() < 0.5 and low < 1
    return rng.uniform(low, 1) if below else rng.uniform(max(low, 1), high)


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
            moved = run_seeded(transform, {"data": image[None], "seg": seg[None], "rng": rng})
            image, seg = moved["data"][0], moved["seg"][0]
    return _changed(image, changes), seg


def _changed(image: FloatArray, changes: IntensityChanges) -> FloatArray:
    """Make what was noted: in place, unless a transform has left another type than float32."""
    if len(changes):
        image = image.astype(np.float32, copy=False)
        changes.apply(image, threads=1)
    return image


def run_seeded(transform: Transform, sample: dict[str, Any]) -> dict[str, Any]:
    """Run one of batchgenerators' own transforms so that its result depends on the sample and its `rng` alone.

    They draw from the global generators of `numpy.random` and `random`. These are seeded from the sample's generator,
    one transform runs at a time, and the global state is put back.
    """
    seed = int(sample["rng"].integers(1 << 32))
    with _GLOBAL_RANDOM_STATE:
        before = np.random.get_state(), random.getstate()
        np.random.seed(seed)
        random.seed(seed)
        try:
            return transform(**sample)
        finally:
            np.random.set_state(before[0])
            random.setstate(before[1])


def _check_image(image: NDArray[Any]) -> None:
    if image.dtype != np.float32:
        raise TypeError(f"image must be of float32; got {image.dtype}")
    if image.ndim not in (3, 4):
        raise ValueError(f"image must be (c, z, y, x) or (c, y, x); got the shape {image.shape}")


def _array(value: Any) -> NDArray[Any]:
    """Return a tensor's numbers as an array, from any device; an array as it is."""
    torch = sys.modules.get("torch")  # not loaded: it is no tensor
    if torch is not None and isinstance(value, torch.Tensor):
        found: NDArray[Any] = value.detach().cpu().numpy()
        return found
    return np.asarray(value)


def _like(value: Any, array: NDArray[Any]) -> Any:
    """Return an array as what `value` is: an array, or a tensor on its device."""
    if isinstance(value, np.ndarray) or not hasattr(value, "detach"):
        return array
    return sys.modules["torch"].from_numpy(np.ascontiguousarray(array)).to(value.device)


def _nothing(size: Shape) -> IntArray:
    """Return the labels of an image without: background."""
    return np.zeros((1, *size), np.uint8)


def _stacked(parts: list[Any]) -> Any:
    """Stack along a new first axis; one part, the usual case, is not copied."""
    return parts[0][None] if len(parts) == 1 else np.stack(parts)
