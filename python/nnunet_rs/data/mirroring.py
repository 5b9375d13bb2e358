"""Along which axes a training mirrors its samples, and what these axes are called; prediction must mirror no others.

A patch's axes are counted from 0, as the network sees them: those of the image after the plan's transpose, without the
first in 2-D. A user names axes of the image: z, y, x of the array, or 0, 1, 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.types import Shape, Shape3

if TYPE_CHECKING:
    from nnunet_rs.data.augment import Augmentation

AXES = "zyx"  # of an image's array


def image_axes(patch_axes: Sequence[int], dims: int, transpose: Shape3) -> Shape:
    """Return which axes of the image these axes of a patch of 2 or 3 dimensions are, in ascending order."""
    return tuple(sorted(transpose[axis + 3 - dims] for axis in patch_axes))


def patch_axes(image_axes: Iterable[int], dims: int, transpose: Shape3) -> Shape:
    """Return which axes of a patch these axes of the image are; the one across slices is none of a 2-D patch."""
    wanted = set(image_axes)
    return tuple(axis for axis in range(dims) if transpose[axis + 3 - dims] in wanted)


def axes_named(image_axes: Iterable[int]) -> str:
    """Name axes of the image for a person: "z, y, x", or "no axis"."""
    return ", ".join(AXES[axis] for axis in image_axes) or "no axis"


def mirrored_axes(augmentation: Augmentation) -> Shape:
    """Return the axes of the patch along which an augmentation mirrors, at first or later.

    What it says itself (`Augmentation.mirror_axes`) holds; else the axes of those of its transforms that are known to
    mirror: `Mirror`, and batchgenerators' MirrorTransform.

    Raises
    ------
    PlanError
        It names an axis that the patch does not have.
    """
    declared, dims = augmentation.mirror_axes, len(augmentation.patch)
    found = _found(augmentation.transforms) if declared is None else set(declared)
    if not found <= set(range(dims)):
        raise PlanError(
            f"the augmentation mirrors axes {sorted(found)}: those of the patch are counted from 0 to {dims - 1}"
        )
    later = () if augmentation.later is None else mirrored_axes(augmentation.later)
    return tuple(sorted({*found, *later}))


def declares_mirror_axes(augmentation: Augmentation) -> bool:
    """Whether an augmentation names its mirror axes, or holds a transform that is known to mirror."""
    return augmentation.mirror_axes is not None or bool(_found(augmentation.transforms))


def _found(transforms: Iterable[Any]) -> set[int]:
    """Collect the axes of all mirror transforms, those within others (batchgenerators' Compose) included."""
    from nnunet_rs.data.intensity import is_mirror  # which prediction has no use for

    axes: set[int] = set()
    for transform in transforms:
        axes |= set(transform.axes) if is_mirror(transform) else _found(getattr(transform, "transforms", ()))
    return axes
