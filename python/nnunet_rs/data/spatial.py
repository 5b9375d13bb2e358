"""Elastic deformation, rotation and scaling: how far, how often, and what region of the case they need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.types import Shape
from nnunet_rs.data.transform import Range, Transform, check_parameters, run_seeded

_ELONGATED = 1.5  # patch sides' ratio above which a 2-D patch is turned only a little


@dataclass(frozen=True, slots=True)
class SpatialRule:
    """Probabilities and ranges of a spatial transform; those of nnU-Net's paper where not given.

    Parameters
    ----------
    p_rotation, p_scaling, p_elastic
        Probability of rotating, of scaling, of deforming elastically; each is drawn for itself.
    angle
        Largest rotation about each axis of a 3-D patch, radians.
    scale
        Range of the factor: above 1 more of the image is seen, smaller. Below and above 1 are equally likely.
    alpha, alpha_plane
        Ranges of the elastic deformation's strength, in space and in a plane; see `core.kernels.Elastic`.
    sigma
        Range of its smoothness, voxels.
    angle_plane, angle_elongated
        Largest rotation within a plane, radians; that of a patch whose sides differ by more than half.
    order
        Of the image's interpolation: 0 nearest, 1 linear, 3 cubic. Labels are interpolated linearly, label by label.

    Raises
    ------
    ValueError
        A probability lies outside 0 … 1, a range does not ascend from 0 or more.
    """

    p_rotation: float = 0.2
    p_scaling: float = 0.2
    angle: float = math.radians(15)
    scale: Range = (0.85, 1.25)
    p_elastic: float = 0.2
    alpha: Range = (0.0, 900.0)
    alpha_plane: Range = (0.0, 200.0)
    sigma: Range = (9.0, 13.0)
    angle_plane: float = math.pi
    angle_elongated: float = math.radians(15)
    order: int = 3

    def __post_init__(self) -> None:
        check_parameters(self)


@dataclass(frozen=True, slots=True)
class SpatialRange:
    """A rule as it applies to one configuration."""

    patch: Shape  # what comes out: two or three axes
    in_plane: bool  # a 3-D patch whose slices are moved within their plane
    angle: float
    alpha: Range
    rule: SpatialRule
    region: Shape  # to read about the patch's centre, so that no rotation or scaling looks beyond it

    @classmethod
    def of(cls, rule: SpatialRule, patch: Sequence[int], in_plane: bool) -> SpatialRange:
        """Choose the ranges: those of three dimensions, or those of two for 2-D patches and slices."""
        whole, moved = tuple(patch), tuple(patch[1:] if in_plane else patch)
        if len(moved) == 3:
            return cls(whole, False, rule.angle, rule.alpha, rule, region_size(moved, rule.angle, rule.scale))
        angle = (
            rule.angle_plane if max(moved) / min(moved) <= _ELONGATED else min(rule.angle_plane, rule.angle_elongated)
        )
        region = (*whole[: len(whole) - 2], *region_size(moved, angle, rule.scale))
        return cls(whole, in_plane, angle, rule.alpha_plane, rule, region)


class Spatial(Protocol):
    """The first step of an augmentation: from a region of a case to a patch."""

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw what will be done to one sample; None: nothing."""

    def region(self, drawn: Any) -> Shape:
        """Return the size of the region that `drawn` needs, centred on the patch."""

    def apply(self, drawn: Any, sample: dict[str, Any]) -> dict[str, Any]:
        """Turn a region (1, c, *region) into a patch (1, c, *patch)."""


def region_size(patch: Sequence[int], angle: float, scale: Range) -> Shape:
    """Return the size of a box that holds a patch however it is rotated and scaled about its centre.

    Parameters
    ----------
    patch
        Two or three axes.
    angle
        Largest rotation about each axis, radians.
    scale
        Range of the scaling factor; factors above 1 look further out.

    Notes
    -----
    nnU-Net's `get_patch_size` does the same by a rule of thumb (one corner, one axis at a time, divided by the smallest
    factor) that lets corners of a patch show the zeros around the region.
    """
    turns = np.linspace(-min(angle, math.pi / 2), min(angle, math.pi / 2), 9).tolist()
    axes = 3 if len(patch) == 3 else 1
    reach = np.max([np.abs(rotation(angles)) @ patch for angles in product(turns, repeat=axes)], axis=0)
    return tuple(math.ceil(size * max(1.0, *scale)) for size in reach.tolist())


def rotation(angles: Sequence[float]) -> NDArray[np.float64]:
    """Return the rotation matrix of one angle in the plane, or of three about z, y, x in space (their product)."""
    if len(angles) == 1:
        c, s = math.cos(angles[0]), math.sin(angles[0])
        return np.array([[c, -s], [s, c]])
    (cz, cy, cx), (sz, sy, sx) = map(math.cos, angles), map(math.sin, angles)
    about_z = np.array([[1, 0, 0], [0, cz, -sz], [0, sz, cz]])
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_x = np.array([[cx, -sx, 0], [sx, cx, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


@dataclass(frozen=True, slots=True)
class BatchgeneratorsSpatial:
    """batchgenerators' SpatialTransform: the reference, slow and one sample at a time."""

    ranges: SpatialRange

    def draw(self, rng: np.random.Generator) -> np.random.Generator:
        """Draw nothing yet: SpatialTransform draws while it works."""
        return rng

    def region(self, drawn: Any) -> Shape:  # noqa: ARG002
        """Return the size that whatever it draws will need."""
        return self.ranges.region

    def apply(self, drawn: np.random.Generator, sample: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Draw and transform."""
        return run_seeded(self._transform(), sample)

    def _transform(self) -> Transform:
        from batchgenerators.transforms.spatial_transforms import SpatialTransform  # imports much of SciPy

        ranges, rule = self.ranges, self.ranges.rule
        angle = (-ranges.angle, ranges.angle)
        moved: Transform = SpatialTransform(
            ranges.patch[1:] if ranges.in_plane else ranges.patch,
            patch_center_dist_from_border=None,
            do_elastic_deform=rule.p_elastic > 0,
            alpha=ranges.alpha,
            sigma=rule.sigma,
            do_rotation=rule.p_rotation > 0,
            angle_x=angle,
            angle_y=angle,
            angle_z=angle,
            do_scale=rule.p_scaling > 0,
            scale=rule.scale,
            border_mode_data="constant",
            order_data=rule.order,
            border_mode_seg="constant",
            order_seg=1,
            random_crop=False,
            p_el_per_sample=rule.p_elastic,
            p_rot_per_sample=rule.p_rotation,
            p_scale_per_sample=rule.p_scaling,
        )
        return _Slices(moved) if ranges.in_plane else moved


@dataclass(frozen=True, slots=True)
class _Slices:
    """A 2-D transform that moves all slices of a 3-D patch alike: they are its channels."""

    transform: Transform

    def __call__(self, **sample: Any) -> dict[str, Any]:
        flat = {key: _as_channels(sample[key]) for key in ("data", "seg")}
        moved = self.transform(**{**sample, **flat})
        parted = {key: _as_slices(moved[key], sample[key].shape[1]) for key in ("data", "seg")}
        return {**moved, **parted}


def _as_channels(volume: Any) -> Any:
    b, c, z, y, x = volume.shape
    return volume.reshape(b, c * z, y, x)


def _as_slices(planes: Any, channels: int) -> Any:
    b, planes_in_all, y, x = planes.shape
    return planes.reshape(b, channels, planes_in_all // channels, y, x)
