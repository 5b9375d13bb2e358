"""One case, from the file's grid to the network's: transpose, crop, normalise, resample (method §3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import cc3d
import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import DatasetError, PlanError, among
from nnunet_rs.core.geometry import Geometry, lowres_axis, new_shape, nonzero_box
from nnunet_rs.core.kernels import resample_image, resample_labels
from nnunet_rs.core.types import Box, FloatArray, Header, IntArray, Shape3, Spacing3, Volume
from nnunet_rs.data.normalize import normalize
from nnunet_rs.plan.schema import Configuration, Plan

Mask = NDArray[np.bool_]


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

    image: FloatArray  # (c, z, y, x), may be a view of the volume
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

    Raises
    ------
    PlanError
        The plan has no such configuration, or was made for another number of channels.
    DatasetError
        Labels of another shape than the image, or intensities that contradict the channel's normalisation.

    References
    ----------
    nnU-Net v2.8.1 `DefaultPreprocessor.run_case_npy`, the same steps in the same order.
    """
    normal = normalized(crop(volume, labels), plan, overwrite=overwrite)
    return prepare_crop(normal, find_configuration(plan, configuration), threads=threads)


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


@dataclass(frozen=True, slots=True, eq=False)
class Normalized:
    """A cropped case in working axes, its intensities normalised, not yet resampled."""

    image: FloatArray  # (c, z, y, x) working axes, contiguous
    labels: IntArray | None
    mask: Mask | None
    geometry: Geometry  # `resampled` still the cropped shape


def normalized(cropped: Cropped, plan: Plan, *, overwrite: bool = False) -> Normalized:
    """Transpose a cropped case to the plan's axes and normalise its intensities: a copy, unless it may overwrite."""
    axes = plan.transpose
    turned = cropped.image.transpose(0, *(axis + 1 for axis in axes))
    image = np.ascontiguousarray(turned, np.float32) if overwrite else np.array(turned, np.float32, order="C")
    labels = None if cropped.labels is None else np.ascontiguousarray(cropped.labels.transpose(axes))
    mask = nonzero_mask(image) if any(rule.use_mask for rule in plan.normalization) else None
    normalize(image, plan.normalization, mask)
    box = tuple(cropped.box[axis] for axis in axes)
    geometry = Geometry(cropped.shape, cropped.spacing, axes, box, _shape3(image), cropped.header)
    return Normalized(image, labels, mask, geometry)


def prepare_crop(case: Normalized, configuration: Configuration, *, threads: int | None = None) -> Prepared:
    """Resample a normalised case to a configuration's spacing (of a 2-D one: within the slices only)."""
    spacing = case.geometry.working_spacing
    target = target_spacing(configuration, spacing)
    shape = cast("Shape3", new_shape(_shape3(case.image), spacing, target))
    if shape == _shape3(case.image):
        return Prepared(case.image, case.labels, case.mask, case.geometry)
    axis = lowres_axis(spacing, target)
    geometry = case.geometry
    return Prepared(
        resample_image(case.image, shape, order=3, lowres_axis=axis, threads=threads),
        _votes(case.labels, shape, axis, threads),
        None if case.mask is None else _votes(case.mask.view(np.uint8), shape, axis, threads).view(np.bool_),
        Geometry(geometry.shape, geometry.spacing, geometry.transpose, geometry.box, shape, geometry.header),
    )


def target_spacing(configuration: Configuration, spacing: Spacing3) -> Spacing3:
    """Return the spacing to resample to, mm, working axes; `spacing` is the case's own, kept between 2-D slices."""
    if configuration.dims == 2:
        return (spacing[0], configuration.spacing[-2], configuration.spacing[-1])
    z, y, x = configuration.spacing
    return z, y, x


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


def _shape3(image: FloatArray) -> Shape3:
    z, y, x = image.shape[1:]
    return z, y, x
