"""Transforms of intensities, and mirroring: batchgenerators' arithmetic on the Rust kernels."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from nnunet_rs.core.kernels import IntensityChanges, mirror
from nnunet_rs.core.types import FloatArray, IntArray, Shape
from nnunet_rs.data.transform import IntensityTransform, Range, SeededTransform, draw_factor

__all__ = ["Brightness", "Contrast", "Gamma", "GaussianBlur", "GaussianNoise", "Mirror", "SimulateLowResolution"]

Augmented: TypeAlias = tuple[FloatArray, IntArray]
_SEEDS = 1 << 63


@dataclass(frozen=True, slots=True)
class Mirror(SeededTransform):
    """Mirror image and labels along each of some axes with probability ½.

    Parameters
    ----------
    axes
        Spatial axes, 0 the first: z, or y of a 2-D image.
    """

    axes: tuple[int, ...]

    def apply(self, image: FloatArray, seg: IntArray, rng: np.random.Generator) -> Augmented:
        """Mirror both in place."""
        axes = [axis for axis in self.axes if rng.random() < 0.5]
        mirror(image, axes, threads=1)
        mirror(seg, axes, threads=1)
        return image, seg


@dataclass(frozen=True, slots=True)
class Gamma(IntensityTransform):
    """Raise intensities, scaled to 0 … 1, to a power, drawn for each channel; mean and standard deviation are kept.

    Parameters
    ----------
    probability
        Of changing an image at all.
    exponent
        Range of the power; below and above 1 are equally likely.
    invert
        Do so to the negative: what is bright changes most, instead of what is dark.

    Notes
    -----
    batchgenerators' `GammaTransform` with `per_channel` and `retain_stats`.
    """

    probability: float = 1.0
    exponent: Range = (0.7, 1.5)
    invert: bool = False

    def note(self, shape: Shape, changes: IntensityChanges, rng: np.random.Generator) -> None:
        """Draw a power for each channel."""
        if rng.random() < self.probability:
            for channel in range(shape[0]):
                changes.gamma(channel, draw_factor(self.exponent, rng), invert=self.invert)


@dataclass(frozen=True, slots=True)
class Brightness(IntensityTransform):
    """Multiply the intensities of each channel by a factor of its own.

    Parameters
    ----------
    probability
        Of changing an image at all.
    factor
        Range; below and above 1 are equally likely.

    Notes
    -----
    batchgenerators' `BrightnessMultiplicativeTransform`.
    """

    probability: float = 1.0
    factor: Range = (0.75, 1.25)

    def note(self, shape: Shape, changes: IntensityChanges, rng: np.random.Generator) -> None:
        """Draw a factor for each channel."""
        if rng.random() < self.probability:
            for channel in range(shape[0]):
                changes.scale(channel, draw_factor(self.factor, rng))


@dataclass(frozen=True, slots=True)
class Contrast(IntensityTransform):
    """Multiply each channel's differences from its mean; values stay within the channel's range.

    Parameters
    ----------
    probability
        Of changing an image at all.
    factor
        Range; below and above 1 are equally likely.

    Notes
    -----
    batchgenerators' `ContrastAugmentationTransform` with `preserve_range`.
    """

    probability: float = 1.0
    factor: Range = (0.75, 1.25)

    def note(self, shape: Shape, changes: IntensityChanges, rng: np.random.Generator) -> None:
        """Draw a factor for each channel."""
        if rng.random() < self.probability:
            for channel in range(shape[0]):
                changes.contrast(channel, draw_factor(self.factor, rng))


@dataclass(frozen=True, slots=True)
class GaussianNoise(IntensityTransform):
    """Add Gaussian noise of one standard deviation to all channels.

    Parameters
    ----------
    probability
        Of changing an image at all.
    std
        Range of the standard deviation. nnU-Net calls it variance, and uses it as a standard deviation.
    """

    probability: float = 1.0
    std: Range = (0.0, 0.1)

    def note(self, shape: Shape, changes: IntensityChanges, rng: np.random.Generator) -> None:
        """Draw a standard deviation, and a seed for each channel's noise."""
        if rng.random() < self.probability:
            std = rng.uniform(*self.std)
            for channel in range(shape[0]):
                changes.noise(channel, std, int(rng.integers(_SEEDS)))


@dataclass(frozen=True, slots=True)
class GaussianBlur(IntensityTransform):
    """Smooth some channels by a Gaussian, drawn for each.

    Parameters
    ----------
    probability
        Of changing an image at all.
    sigma
        Range of the Gaussian's standard deviation, voxels.
    per_channel
        Probability of each channel, where the image is changed.
    """

    probability: float = 1.0
    sigma: Range = (0.5, 1.0)
    per_channel: float = 0.5

    def note(self, shape: Shape, changes: IntensityChanges, rng: np.random.Generator) -> None:
        """Draw channels and their Gaussians."""
        if rng.random() < self.probability:
            for channel in range(shape[0]):
                if rng.random() < self.per_channel:
                    changes.blur(channel, rng.uniform(*self.sigma))


@dataclass(frozen=True, slots=True)
class SimulateLowResolution(IntensityTransform):
    """Resample some channels to a coarser grid by the nearest voxel, and back linearly.

    Parameters
    ----------
    probability
        Of changing an image at all.
    zoom
        Range of the coarser grid's size, as a share of the image's.
    per_channel
        Probability of each channel, where the image is changed.
    in_plane
        Leave the first axis of a 3-D image as it is.

    Notes
    -----
    batchgenerators' `SimulateLowResolutionTransform` with `order_downsample=0`, `order_upsample=1`.
    """

    probability: float = 1.0
    zoom: Range = (0.5, 1.0)
    per_channel: float = 0.5
    in_plane: bool = False

    def note(self, shape: Shape, changes: IntensityChanges, rng: np.random.Generator) -> None:
        """Draw channels and their coarser grids."""
        if rng.random() < self.probability:
            for channel in range(shape[0]):
                if rng.random() < self.per_channel:
                    changes.simulate_low_resolution(channel, self._coarse(shape[1:], rng.uniform(*self.zoom)))

    def _coarse(self, size: Shape, zoom: float) -> Shape:
        """Return `zoom` times a size, with all three axes."""
        kept = int(self.in_plane)
        small = (*size[:kept], *(max(1, round(length * zoom)) for length in size[kept:]))
        return (1, *small)[-3:]


@dataclass(frozen=True, slots=True)
class ZeroOutside(SeededTransform):
    """Set channels to 0 outside the non-zero mask, as their normalisation did: augmentation has moved the zero."""

    channels: tuple[int, ...]

    def apply(self, image: FloatArray, seg: IntArray, rng: np.random.Generator) -> Augmented:  # noqa: ARG002
        """Change the image in place; without a mask leave it."""
        if len(seg) > 1:
            outside = seg[1] == 0
            for channel in self.channels:
                image[channel][outside] = 0
        return image, seg


def is_mirror(transform: object) -> bool:
    """Whether this transform is known to mirror."""
    module = sys.modules.get("batchgenerators.transforms.spatial_transforms")  # not loaded: it is none of theirs
    return isinstance(transform, (Mirror, *((module.MirrorTransform,) if module else ())))
