"""Elastic deformation, rotation and scaling by the Rust kernel: chance first, then one deterministic action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.kernels import Elastic, SpatialWarp, warp
from nnunet_rs.core.types import Shape
from nnunet_rs.data.spatial import Range, SpatialRange, SpatialRule, rotation

_DEVIATIONS = 3.0  # an elastic displacement is rarely larger, in its standard deviations
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
        scale = _draw_scale(rule.scale, rng)
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


class WarpTransform:
    """A transform of the batchgenerators kind, in place of its `SpatialTransform`.

    It is called with keywords `data` float32 (b, c, *size) and `seg` (b, s, *size), integer or float32 label maps, and
    returns the dictionary with both replaced by patches about the centre (`random_crop=False`), borders 0. Each entry
    of the batch gets a deformation of its own, drawn from `rng` in the dictionary, a `numpy.random.Generator`, or else
    from NumPy's global generator, which batchgenerators seeds.

    Parameters
    ----------
    patch_size : sequence of int
        (z, y, x) or (y, x).
    rule : SpatialRule
        Chances and ranges.
    in_plane : bool
        Deform the slices of a 3-D patch within their plane, all alike.
    """

    def __init__(self, patch_size: Sequence[int], rule: SpatialRule, *, in_plane: bool = False) -> None:
        self.spatial = WarpSpatial(SpatialRange.of(rule, patch_size, in_plane))

    def __call__(self, **sample: Any) -> dict[str, Any]:
        """Deform every entry of a batch."""
        rng = sample.get("rng")
        if rng is None:
            rng = np.random.default_rng(np.random.randint(1 << 32, dtype=np.uint64))
        pairs = zip(sample["data"], sample["seg"], strict=True)
        moved = [
            self.spatial.apply(self.spatial.draw(rng), {"data": image[None], "seg": seg[None]}) for image, seg in pairs
        ]
        return {**sample, **{key: np.concatenate([entry[key] for entry in moved]) for key in ("data", "seg")}}


def _draw_elastic(ranges: SpatialRange, rng: np.random.Generator) -> Elastic:
    alpha, sigma = rng.uniform(*ranges.alpha), rng.uniform(*ranges.rule.sigma)
    return Elastic(float(alpha), float(sigma), int(rng.integers(_SEEDS)))


def _draw_scale(scale: Range, rng: np.random.Generator) -> float:
    """Draw smaller and larger equally often, as batchgenerators does."""
    low, high = scale
    shrink = rng.random() < 0.5 and low < 1
    return float(rng.uniform(low, 1) if shrink else rng.uniform(max(low, 1), high))


def _displacement(elastic: Elastic | None, axes: int) -> float:
    """Return how far an elastic deformation moves voxels, but for rare exceptions.

    Uniform noise has a variance of 1/3; a Gaussian of deviation sigma divides it by (2 sqrt(pi) sigma) an axis.
    """
    if elastic is None:
        return 0.0
    variance = (2 * np.pi**0.5 * elastic.sigma) ** -axes / 3
    return float(_DEVIATIONS * elastic.alpha * variance**0.5)


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
