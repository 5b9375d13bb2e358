"""Elastic deformation, rotation and scaling by the Rust kernel: what was drawn first, then one deterministic action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.kernels import Elastic, SpatialWarp, warp
from nnunet_rs.core.types import FloatArray, IntArray, Shape
from nnunet_rs.data.spatial import SpatialRange, SpatialRule, rotation
from nnunet_rs.data.transform import SeededTransform, draw_factor

__all__ = ["SpatialRule", "Warp"]

_STDS = 3.0  # an elastic displacement is rarely larger, in its standard deviations
_SEEDS = 1 << 63


@dataclass(frozen=True, slots=True)
class Deformation:
    """What was drawn for one sample."""

    angles: tuple[float, ...]  # radians: one in the plane, three about z, y, x in space
    scale: float  # above 1: more of the image is seen, smaller
    elastic: Elastic | None

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Input voxels per output voxel: batchgenerators turns rows, which transposes the rotation."""
        return self.scale * rotation(self.angles).T


@dataclass(frozen=True, slots=True)
class WarpSpatial:
    """The spatial step of an augmentation on the `warp` kernel; parameters and chances as batchgenerators draws them.

    It reads only the region that the drawn deformation needs.
    """

    ranges: SpatialRange

    def draw(self, rng: np.random.Generator) -> Deformation | None:
        """Draw a deformation; None: the patch is taken as it is."""
        ranges, rule = self.ranges, self.ranges.rule
        elastic = _draw_elastic(ranges, rng) if rng.random() < rule.p_elastic else None
        turned, scaled = rng.random() < rule.p_rotation, rng.random() < rule.p_scaling
        if elastic is None and not turned and not scaled:
            return None
        angles = rng.uniform(-ranges.angle, ranges.angle, 3 if len(self._moved) == 3 else 1)
        scale = draw_factor(rule.scale, rng)
        return Deformation(tuple((angles * turned).tolist()), scale if scaled else 1.0, elastic)

    def region(self, drawn: Deformation | None) -> Shape:
        """Return the size of the box about the patch's centre that holds every position that is read."""
        if drawn is None:
            return self.ranges.patch
        sides = np.array(self._moved) - 1 + 2 * _displacement(drawn.elastic, len(self._moved))
        needed = np.ceil(np.abs(drawn.matrix) @ sides).astype(int) + 1
        return (*self.ranges.patch[: len(self.ranges.patch) - len(self._moved)], *needed.tolist())

    def apply(self, drawn: Deformation | None, sample: dict[str, Any]) -> dict[str, Any]:
        """Turn `data` (b, c, *region) and `seg` (b, s, *region) into patches."""
        if drawn is None:
            return {**sample, **{key: _centre_crop(sample[key], self.ranges.patch) for key in ("data", "seg")}}
        pairs = [self._warp(drawn, *pair) for pair in zip(sample["data"], sample["seg"], strict=True)]
        data, seg = (np.stack(arrays) if len(arrays) > 1 else arrays[0][None] for arrays in zip(*pairs, strict=True))
        return {**sample, "data": data, "seg": seg}

    @property
    def _moved(self) -> Shape:
        """The patch's axes that are deformed."""
        return self.ranges.patch[1:] if self.ranges.in_plane else self.ranges.patch

    def _warp(self, drawn: Deformation, image: NDArray[Any], seg: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        moved, inner = self._moved, len(self._moved)
        # Slices that move alike are channels of one plane.
        flat_image, flat_seg = (a.reshape(-1, *a.shape[-inner:]) for a in (image, seg))
        centre = tuple((n - 1) / 2 for n in image.shape[-inner:])
        matrix = tuple(tuple(row) for row in drawn.matrix.tolist())
        parameters = SpatialWarp(moved, matrix, centre, drawn.elastic)
        new_image, new_seg = warp(flat_image, _narrow(flat_seg), parameters, order=self.ranges.rule.order, threads=1)
        assert new_seg is not None  # labels went in
        shapes = [(*a.shape[:-inner], *moved) for a in (image, seg)]
        return new_image.reshape(shapes[0]), new_seg.astype(seg.dtype, copy=False).reshape(shapes[1])


@dataclass(frozen=True, slots=True)
class Warp(SeededTransform):
    """Rotate, scale and deform image and labels elastically; takes the place of batchgenerators' `SpatialTransform`.

    What comes out is a patch about the image's centre. Voxels that are read from beyond the image are 0.

    Parameters
    ----------
    rule
        Probabilities and ranges; those of nnU-Net's paper where not given.
    patch_size
        (z, y, x) or (y, x); None: the image's own.
    in_plane
        Move the slices of a 3-D image within their plane, all alike, as nnU-Net does where slices are thick.

    Notes
    -----
    batchgenerators 0.25 `SpatialTransform` with `random_crop=False` and borders of zeros.
    """

    rule: SpatialRule = field(default_factory=SpatialRule)
    patch_size: Sequence[int] | None = None
    in_plane: bool = False

    def apply(self, image: FloatArray, seg: IntArray, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
        """Draw a deformation and carry it out; neither array is changed."""
        patch = tuple(image.shape[1:] if self.patch_size is None else self.patch_size)
        if len(patch) != image.ndim - 1:
            raise ValueError(f"patch_size must have {image.ndim - 1} axes, as the image has; got {patch}")
        if self.in_plane and len(patch) != 3:
            raise ValueError(f"in_plane is for 3-D images; the patch is {patch}")
        spatial = WarpSpatial(_ranges(self.rule, patch, self.in_plane))
        image, seg = (_sized(array, patch, self.in_plane) for array in (image, seg))
        moved = spatial.apply(spatial.draw(rng), {"data": image[None], "seg": seg[None]})
        return moved["data"][0], moved["seg"][0]


@lru_cache(maxsize=64)
def _ranges(rule: SpatialRule, patch: Shape, in_plane: bool) -> SpatialRange:
    return SpatialRange.of(rule, patch, in_plane)


def _sized(array: NDArray[Any], patch: Shape, in_plane: bool) -> NDArray[Any]:
    """Return (c, *size) with zeros around it up to the patch; in a plane, with as many slices as the patch."""
    lacking = [max(0, want - have) for have, want in zip(array.shape[1:], patch, strict=True)]
    if any(lacking):
        array = np.pad(array, [(0, 0), *((less // 2, less - less // 2) for less in lacking)])
    return _centre_crop(array[None], (patch[0], *array.shape[2:]))[0] if in_plane else array


def _draw_elastic(ranges: SpatialRange, rng: np.random.Generator) -> Elastic:
    alpha, sigma = rng.uniform(*ranges.alpha), rng.uniform(*ranges.rule.sigma)
    return Elastic(float(alpha), float(sigma), int(rng.integers(_SEEDS)))


def _displacement(elastic: Elastic | None, axes: int) -> float:
    """Return how far an elastic deformation moves voxels, but for rare exceptions.

    Uniform noise has a variance of 1/3; a Gaussian of deviation sigma divides it by (2 sqrt(pi) sigma) an axis.
    """
    if elastic is None:
        return 0.0
    variance = (2 * np.pi**0.5 * elastic.sigma) ** -axes / 3
    return float(_STDS * elastic.alpha * variance**0.5)


def _narrow(labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels of at most 32 bits, as the kernel takes them."""
    return labels.astype(np.int32) if labels.dtype.itemsize > 4 else labels


def _centre_crop(volume: NDArray[Any], patch: Shape) -> NDArray[Any]:
    """Return the middle of (b, c, *size)."""
    if any(have < want for have, want in zip(volume.shape[2:], patch, strict=True)):
        raise ValueError(f"data must be at least the patch {patch} along every axis; got {volume.shape[2:]}")
    for axis, (have, want) in enumerate(zip(volume.shape[2:], patch, strict=True), start=2):
        start = (have - want) // 2
        volume = volume.swapaxes(0, axis)[start : start + want].swapaxes(0, axis)
    return volume
