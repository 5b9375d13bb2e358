"""Augmentation by name: from a region of a case to a patch that training sees (method §6)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from nnunet_rs.core.choices import AugmentationName, complete
from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.types import FloatArray, IntArray, Shape
from nnunet_rs.data.cascade_augmentation import CascadeAugmentation, CascadeAugmentationRule, MoveSegAsOneHot
from nnunet_rs.data.intensity import (
    Brightness,
    Contrast,
    Gamma,
    GaussianBlur,
    GaussianNoise,
    Mirror,
    SimulateLowResolution,
    ZeroOutside,
    is_mirror,
)
from nnunet_rs.data.spatial import BatchgeneratorsSpatial, Spatial, SpatialRange, SpatialRule
from nnunet_rs.data.transform import Transform, run
from nnunet_rs.data.warp import WarpSpatial
from nnunet_rs.plan.schema import Configuration, Normalization

NNUNET_CASCADE_AUGMENTATION = CascadeAugmentationRule()
LATER_PASSES = 100.0  # over the cases, until all samples are augmented as `AugmentationRecipe.later` says

Chain: TypeAlias = Callable[[SpatialRange], tuple[Transform, ...]]


@dataclass(frozen=True, slots=True)
class AugmentationRecipe:
    """One way to augment."""

    spatial: SpatialRule | None
    chain: Chain  # the transforms that follow
    engine: Callable[[SpatialRange], Spatial] = WarpSpatial
    mirror: Callable[[Shape], Transform] = Mirror  # of axes of the patch; the last of the chain
    mirrored: bool = True  # along every axis, unless others are asked for
    cascade_augmentation: CascadeAugmentationRule | None = (
        NNUNET_CASCADE_AUGMENTATION  # in the first segmentation, of a cascade's second stage
    )
    later: AugmentationName | None = None  # what more and more of the samples have instead, see `Augmentation.at`


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What happens to a sample between store and network: `draw` draws the parameters, `apply` applies them."""

    patch: Shape  # two axes for 2-D
    spatial: Spatial | None = None
    transforms: tuple[Transform, ...] = ()  # ours, or any of batchgenerators
    # Axes of the patch, 0 the first, that samples are mirrored along: prediction mirrors along the same. None: those of
    # the transforms that are known to mirror (`mirroring.mirrored_axes`).
    mirror_axes: Shape | None = None
    later: Augmentation | None = None  # what takes this one's place in more and more of the samples
    later_passes: float = math.inf  # over the cases, after which it does so in all of them

    def at(self, passes: float, rng: np.random.Generator) -> Augmentation:
        """Return how to augment a sample after so many passes over the cases: in this way, or as `later`."""
        if self.later is None or rng.random() * self.later_passes >= passes:
            return self
        return self.later

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw how a sample will be moved; None: it will not."""
        return None if self.spatial is None else self.spatial.draw(rng)

    def region(self, drawn: Any) -> Shape:
        """Return the size of what must be read, centred on the patch; its margins are equal on both sides."""
        if self.spatial is None or drawn is None:
            return self.patch
        needed = self.spatial.region(drawn)
        return tuple(p + 2 * max(0, -(-(n - p) // 2)) for p, n in zip(self.patch, needed, strict=True))

    def apply(
        self, drawn: Any, image: FloatArray, seg: IntArray, rng: np.random.Generator
    ) -> tuple[FloatArray, IntArray]:
        """Turn a region into a patch.

        Parameters
        ----------
        drawn
            What `draw` returned.
        image
            float32 (c, *region); may be overwritten.
        seg
            Class indices, and the non-zero mask where there is one: (1 or 2, *region).
        rng
            The sample's generator.

        Returns
        -------
        image
            (c, *patch).
        labels
            (*patch), class indices of any number type.
        """
        if self.spatial is not None and drawn is not None:
            moved = self.spatial.apply(drawn, {"data": image[None], "seg": seg[None], "rng": rng})
            image, seg = moved["data"][0], moved["seg"][0]
        image, seg = run(self.transforms, image, seg, rng)
        return image, seg[0]


# (configuration, normalization of its channels) -> Augmentation
AugmentationFunction: TypeAlias = Callable[[Configuration, Sequence[Normalization]], Augmentation]


def build_augmentation(
    name: str,
    configuration: Configuration,
    normalization: Sequence[Normalization] = (),
    classes: int = 0,
    mirror_axes: Shape | None = None,
) -> Augmentation:
    """Return an augmentation for a configuration.

    Parameters
    ----------
    name
        Of `AUGMENTATIONS`.
    configuration
        Its patch, and whether spatial transforms stay within the slices.
    normalization
        Of the channels: those that used the non-zero mask are 0 outside it after augmentation too.
    classes
        For the second stage of a cascade: the classes of the first segmentation with background. It comes as the
        last channel of `seg`, and leaves as channels of the image.
    mirror_axes
        Axes of the patch, 0 the first, along which samples are mirrored; None: the augmentation's own.

    Raises
    ------
    PlanError
        There is no augmentation of this name.
    """
    if name not in AUGMENTATIONS:
        raise PlanError(f"augmentation {name!r} is unknown: allowed are {', '.join(AUGMENTATIONS)}")
    recipe = AUGMENTATIONS[name]
    ranges = SpatialRange.of(recipe.spatial or _STILL, configuration.patch_size, configuration.inplane_augmentation)
    masked = tuple(channel for channel, rule in enumerate(normalization) if rule.use_mask)
    chain = recipe.chain(ranges)
    axes = default_mirror_axes(name, configuration.dims) if mirror_axes is None else mirror_axes
    chain = (*chain, recipe.mirror(axes)) if axes else chain
    if masked and chain:
        chain = (*chain, ZeroOutside(masked))
    spatial = None if recipe.spatial is None else recipe.engine(ranges)
    augmentation = Augmentation(patch=ranges.patch, spatial=spatial, transforms=chain)
    if configuration.previous is not None:
        augmentation = with_first_stage_channels(augmentation, classes, recipe.cascade_augmentation)
    if recipe.later is None:
        return augmentation
    later = build_augmentation(recipe.later, configuration, normalization, classes, axes)
    return replace(augmentation, later=later, later_passes=LATER_PASSES)


def default_mirror_axes(name: str, dims: int) -> Shape:
    """Return the axes of a patch along which one of `AUGMENTATIONS` mirrors by default."""
    return tuple(range(dims)) if AUGMENTATIONS[name].mirrored else ()


def with_mirror_axes(augmentation: Augmentation, axes: Shape) -> Augmentation:
    """Let a user's own augmentation mirror along these axes of the patch, in place of those that it mirrors.

    Raises
    ------
    PlanError
        It says what it mirrors otherwise than by a transform that could be replaced.
    """
    if augmentation.mirror_axes not in (None, axes):
        raise PlanError(
            f"mirror axes {list(axes)} are asked for, but the augmentation says that it mirrors "
            f"{list(augmentation.mirror_axes or ())} (axes of the patch): change it there, or leave the option out"
        )
    kept = tuple(transform for transform in augmentation.transforms if not is_mirror(transform))
    later = None if augmentation.later is None else with_mirror_axes(augmentation.later, axes)
    return replace(augmentation, transforms=(*kept, Mirror(axes)) if axes else kept, mirror_axes=axes, later=later)


def with_first_stage_channels(
    augmentation: Augmentation,
    classes: int,
    cascade_augmentation: CascadeAugmentationRule | None = NNUNET_CASCADE_AUGMENTATION,
) -> Augmentation:
    """Append the step that turns a first segmentation into channels, after cascade augmentation (None: unchanged)."""
    made = () if cascade_augmentation is None else (CascadeAugmentation(cascade_augmentation, classes),)
    later = augmentation.later
    if later is not None:
        later = with_first_stage_channels(later, classes, cascade_augmentation)
    return replace(augmentation, transforms=(*augmentation.transforms, *made, MoveSegAsOneHot(classes)), later=later)


_STILL = SpatialRule(p_rotation=0, p_scaling=0, angle=0, scale=(1, 1), p_elastic=0)
_PAPER = SpatialRule()
_V2 = SpatialRule(angle=math.radians(30), scale=(0.7, 1.4), p_elastic=0, order=1)
_LIGHT = SpatialRule(p_rotation=0.15, p_scaling=0.15, scale=(0.85, 1.2), p_elastic=0, order=1)
_STRONG = SpatialRule(p_rotation=0.6, p_scaling=0.6, angle=math.radians(30), scale=(0.7, 1.4), p_elastic=0, order=1)


def _paper(ranges: SpatialRange) -> tuple[Transform, ...]:  # noqa: ARG001
    return (Gamma(0.3),)


def _paper_batchgenerators(ranges: SpatialRange) -> tuple[Transform, ...]:  # noqa: ARG001
    from batchgenerators.transforms.color_transforms import GammaTransform  # imports much of SciPy

    return (GammaTransform((0.7, 1.5), invert_image=False, per_channel=True, retain_stats=True, p_per_sample=0.3),)


def _mirror_batchgenerators(axes: Shape) -> Transform:
    from batchgenerators.transforms.spatial_transforms import MirrorTransform

    mirror: Transform = MirrorTransform(axes)
    return mirror


def _v2(ranges: SpatialRange) -> tuple[Transform, ...]:
    return (
        GaussianNoise(0.1),
        GaussianBlur(0.2),
        Brightness(0.15),
        Contrast(0.15),
        SimulateLowResolution(0.25, in_plane=ranges.in_plane),
        Gamma(0.1, invert=True),
        Gamma(0.3),
    )


def _light(ranges: SpatialRange) -> tuple[Transform, ...]:  # noqa: ARG001
    return (Brightness(0.15), Contrast(0.15), Gamma(0.15))


def _none(ranges: SpatialRange) -> tuple[Transform, ...]:  # noqa: ARG001
    return ()


_RECIPES = {
    "paper": AugmentationRecipe(_PAPER, _paper),
    "paper-batchgenerators": AugmentationRecipe(
        _PAPER, _paper_batchgenerators, BatchgeneratorsSpatial, _mirror_batchgenerators
    ),
    "v2": AugmentationRecipe(_V2, _v2, cascade_augmentation=replace(NNUNET_CASCADE_AUGMENTATION, p_class=0.5)),
    # Ours: the lighter, the sooner a network learns; the stronger, the later it overfits.
    "light": AugmentationRecipe(_LIGHT, _light),
    "strong": AugmentationRecipe(_STRONG, _light),
    "progressive": AugmentationRecipe(_LIGHT, _light, later="strong"),
    "none": AugmentationRecipe(None, _none, mirrored=False, cascade_augmentation=None),
}
AUGMENTATIONS = complete(AugmentationName, _RECIPES)
