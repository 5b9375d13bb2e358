"""What a case becomes at a configuration's spacing, told, and refused where it cannot be meant, before it is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.geometry import Geometry, lowres_axis, new_shape
from nnunet_rs.core.kernels import resample_image
from nnunet_rs.core.outliers import far_off, mm, times
from nnunet_rs.core.resources import available_memory
from nnunet_rs.core.types import FloatArray, Shape3, Spacing3
from nnunet_rs.plan.schema import Configuration, Plan, Resampling

# Along each axis, on average. A case of that many more voxels than its file, and than the plan's median case, would be
# worked at for hours, and be of no use: its spacing is wrong, or of another unit.
COARSEST = 5.0  # voxels that one of the file's becomes
LARGEST = 5.0  # times the median case's
FINEST = 8.0  # voxels of the file that a case of a single voxel is made of


def _resampled_spacing(configuration: Configuration, spacing: Spacing3) -> Spacing3:
    """Return the spacing to resample to, mm, working axes; `spacing` is the case's own, kept between 2-D slices."""
    if configuration.resampling.skip:
        return spacing
    if configuration.dims == 2:
        return (spacing[0], configuration.spacing[-2], configuration.spacing[-1])
    z, y, x = configuration.spacing
    return z, y, x


def resampled_shape(shape: Sequence[int], spacing: Spacing3, configuration: Configuration) -> Shape3:
    """Return the shape that a cropped case of this shape and spacing has at a configuration's spacing; working axes."""
    return cast("Shape3", new_shape(tuple(shape), spacing, _resampled_spacing(configuration, spacing)))


def coarse_axis(geometry: Geometry, configuration: Configuration) -> int | None:
    """Return which working axis of a case, if any, is resampled by itself."""
    spacing = geometry.working_spacing
    return lowres_axis(spacing, _resampled_spacing(configuration, spacing), configuration.resampling.separate_z)


def scores_axis(geometry: Geometry, configuration: Configuration) -> int | None:
    """Return which working axis takes the nearest plane of the network's scores on the way back.

    There the network's spacing comes first and the case's own second: where both are anisotropic, along different axes,
    it is another axis than on the way there.
    """
    if configuration.resampling.scores_order_z == 1:
        return None  # linear within slices and between them: linear throughout
    spacing = geometry.working_spacing
    return lowres_axis(_resampled_spacing(configuration, spacing), spacing, configuration.resampling.separate_z)


def resampled_image(
    image: FloatArray, shape: Shape3, resampling: Resampling, axis: int | None, threads: int | None
) -> FloatArray:
    """Resample an image (c, z, y, x) to `shape` as a plan says; `axis` is resampled by itself."""
    order, along = resampling.order, resampling.order_z
    if axis is None or along == 0:
        return resample_image(image, shape, order=order, lowres_axis=axis, threads=threads)
    within = cast("Shape3", tuple(image.shape[1 + a] if a == axis else shape[a] for a in range(3)))
    slices = resample_image(image, within, order=order, lowres_axis=axis, threads=threads)
    return resample_image(slices, shape, order=along, threads=threads)


def described(shape: Sequence[int], spacing: Spacing3, configuration: Configuration) -> str:
    """Say what resampling makes of a cropped case: sizes before and after, and both spacings; working axes."""
    there, target = resampled_shape(shape, spacing, configuration), _resampled_spacing(configuration, spacing)
    return f"{tuple(shape)} voxels of {mm(spacing)} become {there} of {mm(target)} for {configuration.name}"


def require_resampling(geometry: Geometry, configuration: Configuration, voxel_bytes: int) -> Shape3:
    """Return `resampled_shape`, where a case of it can be meant and made.

    Parameters
    ----------
    geometry
        Of the cropped case.
    configuration
        Whose spacing it is resampled to.
    voxel_bytes
        That a resampled voxel takes: of all channels, labels and mask.

    Raises
    ------
    DatasetError
        The case would become a single voxel, or many times larger than its file and than the cases that were planned
        for, or does not fit into the memory that is free.
    """
    spacing, dims = geometry.working_spacing, configuration.dims
    shape = resampled_shape(geometry.cropped_shape, spacing, configuration)
    before, after = (math.prod(size[-dims:]) for size in (geometry.cropped_shape, shape))
    said = described(geometry.cropped_shape, spacing, configuration)
    if after == 1 and before >= FINEST**dims:
        raise DatasetError(f"{said}: a single voxel{'' if dims == 3 else ' a slice'}; {_ADVICE}")
    usual, needed = math.prod(configuration.median_shape[-dims:]), voxel_bytes * math.prod(shape)
    if after >= COARSEST**dims * before and after >= LARGEST**dims * usual:
        larger = f"{times(after / usual)} the plan's median case"
        raise DatasetError(f"{said}: {larger}, {needed / 1e9:.3g} GB of memory; {_ADVICE}")
    require_memory(needed, said)
    return shape


def require_memory(needed: int, said: str) -> None:
    """Refuse what does not fit into the memory that is free now; `said` tells what is to be made.

    Raises
    ------
    DatasetError
        Names the bytes that it takes and that there are.
    """
    free = available_memory()
    if needed > free:
        raise DatasetError(f"{said}: takes {needed / 1e9:.3g} GB of memory, {free / 1e9:.3g} GB are free; {_ADVICE}")


def spacing_remark(shape: Shape3, spacing: Spacing3, plan: Plan) -> str | None:
    """Say that an image's spacing is far from those that a plan was made for; None where it is not.

    Parameters
    ----------
    shape, spacing
        Of the image, z, y, x; mm.
    plan
        Its largest 3-D configuration tells the usual spacing and extent, or where there is none the 2-D one's slices.
    """
    axes = plan.transpose
    at = max(plan.configurations.values(), key=lambda c: (c.dims, math.prod(c.median_shape)))
    own, size = ([row[axis] for axis in axes][-at.dims :] for row in (spacing, shape))
    extent = [edge * count for edge, count in zip(at.spacing, at.median_shape, strict=True)]
    if not far_off(size, own, at.spacing, extent):
        return None
    return f"spacing {mm(own)} is far from {mm(at.spacing)}, which the model was trained for; {_ADVICE}"


_ADVICE = "see that the spacing in the header is right, and in mm"
