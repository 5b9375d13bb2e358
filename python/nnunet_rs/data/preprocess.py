"""One case, from the file's grid to the network's: transpose, crop, normalise, resample (method §3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import cc3d
import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import DatasetError, PlanError, among
from nnunet_rs.core.geometry import Geometry, nonzero_box
from nnunet_rs.core.kernels import resample_labels
from nnunet_rs.core.orientation import CANONICAL, Turn, turn_towards
from nnunet_rs.core.types import Box, FloatArray, Header, IntArray, Mask, Shape3, Spacing3, Volume
from nnunet_rs.data.normalize import intensity_maps
from nnunet_rs.data.resampling import coarse_axis, require_resampling, resampled_image
from nnunet_rs.plan.normalization import IntensityMap
from nnunet_rs.plan.schema import Configuration, Plan


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A case as a configuration's network sees it, and the way back."""

    image: FloatArray  # (c, z, y, x), working axes, normalised, at the configuration's spacing
    labels: IntArray | None  # (z, y, x) class indices on the same grid
    mask: Mask | None  # (z, y, x) non-zero region; None where no channel's normalisation uses it
    geometry: Geometry
    first: Prepared | None = None  # of a cascade, for prediction: the same case as the first stage's network sees it


@dataclass(frozen=True, slots=True, eq=False)
class Cropped:
    """A case cropped to its non-zero box, in the file's axes and intensities: what all configurations share."""

    image: NDArray[Any]  # (c, z, y, x), may be a view of the volume; float32, or the integers that it holds
    labels: IntArray | None  # (z, y, x) class indices, may be a view
    box: Box  # of z, y, x
    shape: Shape3  # before the crop
    spacing: Spacing3  # mm
    header: Header


def prepare(
    volume: Volume,
    plan: Plan,
    configuration: str,
    labels: IntArray | None = None,
    *,
    threads: int | None = None,
    overwrite: bool = False,
    orientation: str | None = None,
) -> Prepared:
    """Prepare one case for training or prediction.

    Parameters
    ----------
    volume
        The image.
    plan
        Decides the transposition and each channel's normalisation.
    configuration
        Name of the plan's configuration; its spacing is the target.
    labels
        Class indices (z, y, x) on the volume's grid (background 0, the ignore label = number of classes).
    threads
        Of the resampling kernels; None: all processors.
    overwrite
        The image's memory may be used; else it is not changed.
    orientation
        What the image is turned to first, as "LPS"; None: it is taken as stored. Of a plan that reorients it is not
        looked at.

    Raises
    ------
    PlanError
        The plan has no such configuration, or was made for another number of channels.
    DatasetError
        Labels of another shape than the image, intensities that contradict the channel's normalisation, or a spacing by
        which the case would become a single voxel, or larger than can be meant or held.

    References
    ----------
    nnU-Net v2.8.1 `DefaultPreprocessor.run_case_npy`, the same steps in the same order.
    """
    # Cropped first: what is left out costs nothing later. Normalised before it is resampled: statistics are of voxels
    # that were measured, and the mask of the non-zero region fits them; resampled, it would no longer fit the image.
    case = unscaled(crop(volume, labels), plan, overwrite=overwrite, orientation=orientation)
    return prepare_crop(normalized(case), find_configuration(plan, configuration), threads=threads)


def find_configuration(plan: Plan, name: str) -> Configuration:
    """Return a configuration by its name; a PlanError lists those that there are."""
    if name not in plan.configurations:
        raise PlanError(f"the plan has no configuration {name!r}; {among(name, plan.configurations)}")
    return plan.configurations[name]


def crop(volume: Volume, labels: IntArray | None = None, box: Box | None = None) -> Cropped:
    """Crop a case to the box of its non-zero voxels, which may be known already; views, nothing is copied."""
    z, y, x = volume.data.shape[1:]
    if labels is not None and labels.shape != (z, y, x):
        raise DatasetError(f"labels of shape {labels.shape} on an image of shape {(z, y, x)}")
    box = nonzero_box(volume.data) if box is None else box
    inside = tuple(slice(start, stop) for start, stop in box)
    kept = None if labels is None else labels[inside]
    return Cropped(volume.data[(slice(None), *inside)], kept, box, (z, y, x), volume.spacing, volume.header)


def narrowed(cropped: Cropped) -> Cropped:
    """Hold a case's intensities as integers of at most 16 bits, where they are such: half the memory, or a quarter."""
    integers = _integers(cropped.image)
    return cropped if integers is None else replace(cropped, image=integers)


def _integers(image: NDArray[Any]) -> NDArray[Any] | None:
    first = image[:, :1]
    if image.dtype != np.float32 or not np.array_equal(first, np.rint(first)):
        return None  # what most images that are none tell at once
    low, high = float(image.min()), float(image.max())
    kinds = (np.uint8, np.int16, np.uint16)
    kind = next((k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max), None)
    if kind is None:
        return None
    integers = np.empty(image.shape, kind)
    for planes, channel in zip(integers, image, strict=True):
        for plane, values in zip(planes, channel, strict=True):
            plane[...] = values
            if not np.array_equal(plane, values):
                return None
    return integers


@dataclass(frozen=True, slots=True, eq=False)
class Unscaled:
    """A cropped case in working axes, its intensities those of the file, and how they are normalised."""

    image: NDArray[Any]  # (c, z, y, x) working axes, contiguous; float32, or the integers that it holds
    labels: IntArray | None
    mask: Mask | None
    geometry: Geometry  # `resampled` still the cropped shape
    maps: tuple[IntensityMap, ...]  # of each channel


@dataclass(frozen=True, slots=True, eq=False)
class Normalized:
    """A cropped case in working axes, its intensities normalised, not yet resampled."""

    image: FloatArray  # (c, z, y, x) working axes, contiguous
    labels: IntArray | None
    mask: Mask | None
    geometry: Geometry  # `resampled` still the cropped shape


def unscaled(cropped: Cropped, plan: Plan, *, overwrite: bool = False, orientation: str | None = None) -> Unscaled:
    """Bring a cropped case to the plan's axes and see how it is normalised; `orientation` as in `prepare`.

    The image is a copy that may be changed; unless `overwrite`: then it may be the cropped one.
    """
    geometry = _turned(cropped, plan, orientation)
    turned = geometry.turn(cropped.image)
    image = np.ascontiguousarray(turned) if overwrite else np.array(turned, order="C")
    labels = None if cropped.labels is None else np.ascontiguousarray(geometry.turn(cropped.labels))
    mask = nonzero_mask(image) if any(rule.use_mask for rule in plan.normalization) else None
    maps = intensity_maps(image, plan.normalization, mask)
    return Unscaled(image, labels, mask, geometry, maps)


def turn_of(header: Header, plan: Plan, orientation: str | None = None) -> Turn:
    """Return how an image is turned before its axes are transposed: which axis of the file each is, and which flip.

    `orientation` as in `prepare`.
    """
    target = CANONICAL if plan.reorient else orientation
    return ((0, 1, 2), (False, False, False)) if target is None else turn_towards(header, target)


def working_axes(header: Header, plan: Plan, orientation: str | None = None) -> Turn:
    """Return `transpose` and `flipped` of a case's Geometry; `orientation` as in `prepare`."""
    axes, flips = turn_of(header, plan, orientation)
    a, b, c = plan.transpose
    return (axes[a], axes[b], axes[c]), (flips[a], flips[b], flips[c])


def _turned(cropped: Cropped, plan: Plan, orientation: str | None) -> Geometry:
    """Describe a cropped case in the plan's axes, not resampled."""
    transpose, flipped = working_axes(cropped.header, plan, orientation)
    box = []
    for axis, flip in zip(transpose, flipped, strict=True):
        (start, stop), size = cropped.box[axis], cropped.shape[axis]
        box.append((size - stop, size - start) if flip else (start, stop))
    resampled = cast("Shape3", tuple(stop - start for start, stop in box))
    return Geometry(cropped.shape, cropped.spacing, transpose, tuple(box), resampled, cropped.header, flipped)


def normalized(case: Unscaled) -> Normalized:
    """Normalise a case's intensities; if they are float32, in their memory."""
    image = case.image.astype(np.float32, copy=False)
    for channel, found in zip(image, case.maps, strict=True):
        found.apply(channel, case.mask)
    return Normalized(image, case.labels, case.mask, case.geometry)


def prepare_crop(case: Normalized, configuration: Configuration, *, threads: int | None = None) -> Prepared:
    """Resample a normalised case to a configuration's spacing (of a 2-D one: within the slices only).

    Raises
    ------
    DatasetError
        As `require_resampling`: the case becomes a single voxel, or far too large.
    """
    geometry, held = case.geometry, 4 * len(case.image) + (case.labels is not None) + (case.mask is not None)
    shape = require_resampling(geometry, configuration, held)
    if shape == geometry.resampled:
        return Prepared(case.image, case.labels, case.mask, geometry)
    axis = coarse_axis(geometry, configuration)
    return Prepared(
        resampled_image(case.image, shape, configuration.resampling, axis, threads),
        _votes(case.labels, shape, axis, threads),
        None if case.mask is None else _votes(case.mask.view(np.uint8), shape, axis, threads).view(np.bool_),
        replace(geometry, resampled=shape),
    )


def nonzero_mask(image: FloatArray) -> Mask:
    """Return where any channel is not zero, holes filled.

    Parameters
    ----------
    image
        (c, z, y, x), cropped or not: the box cuts no hole open.

    Returns
    -------
    ndarray
        Boolean (z, y, x). A hole is background that no path through faces connects with the border, as
        `scipy.ndimage.binary_fill_holes` has it.
    """
    mask = image[0] != 0
    for channel in image[1:]:
        mask |= channel != 0
    if mask.all():
        return cast("Mask", mask)
    parts = cc3d.connected_components(np.logical_not(mask), connectivity=6)
    faces = [parts[face] for axis in range(3) for face in ((slice(None),) * axis + (end,) for end in (0, -1))]
    outside = np.zeros(int(parts.max()) + 1, np.bool_)
    for face in faces:
        outside[face.ravel()] = True
    outside[0] = False  # component 0 is the mask itself
    return cast("Mask", np.logical_not(outside[parts]))


def _votes(labels: Any, shape: Shape3, axis: int | None, threads: int | None) -> Any:
    return None if labels is None else resample_labels(labels, shape, lowres_axis=axis, threads=threads)
