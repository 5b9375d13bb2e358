"""Augmentations that leave every voxel in its place, or mirror them; batchgenerators' arithmetic, other chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from nnunet_rs.core.kernels import IntensityChanges, mirror
from nnunet_rs.core.types import FloatArray, IntArray, Shape
from nnunet_rs.data.transform import IntensityTransform, SeededTransform

Range: TypeAlias = tuple[float, float]
Augmented: TypeAlias = tuple[FloatArray, IntArray]
_SEEDS = 1 << 63


@dataclass(frozen=True, slots=True)
class Mirror(SeededTransform):
    """Mirror along each axis with probability ½."""

    axes: tuple[int, ...]  # spatial axes, 0 the first

    def apply(self, image: FloatArray, seg: IntArray, rng: np.random.Generator) -> Augmented:
        """Turn both round in place."""
        axes = [axis for axis in self.axes if rng.random() < 0.5]
        mirror(image, axes, threads=1)
        mirror(seg, axes, threads=1)
        return image, seg


@dataclass(frozen=True, slots=True)
class Gamma(IntensityTransform):
    """Raise intensities, scaled to 0 … 1, to a power, each channel to its own; mean and deviation are kept."""

    probability: float
    exponent: Range = (0.7, 1.5)
    invert: bool = False  # bend the bright end instead of the dark one

    def note(self, shape: Shape, changes: IntensityChanges, rng: np.random.Generator) -> None:
        """Draw a power for each channel."""
        if rng.random() < self.probability:
            for channel in range(shape[0]):
                changes.gamma(channel, _factor(self.exponent, rng), invert=self.invert)


@dataclass(frozen=True, slots=True)
class Brightness(IntensityTransform):
    """Multiply the intensities of each channel by a factor."""

    probability: float
    factor: Range = (0.75, 1.25)

    def note(self, shape: Shape, changes: IntensityChanges, rng: np.random.Generator) -> None:
        """Draw a factor for each channel."""
        if rng.random() < self.probability:
            for channel in range(shape[0]):
                changes.scale(channel, _factor(self.factor, rng))


@dataclass(frozen=True, slots=True)
class Contrast(IntensityTransform):
    """Stretch or squeeze each channel about its mean, within its range."""

    probability: float
    factor: Range = (0.75, 1.25)

    def note(self, shape: Shape, changes: IntensityChanges, rng: np.random.Generator) -> None:
        """Draw a factor for each channel."""
        if rng.random() < self.probability:
            for channel in range(shape[0]):
                changes.stretch(channel, _factor(self.factor, rng))


@dataclass(frozen=True, slots=True)
class Noise(IntensityTransform):
    """Add Gaussian noise of one deviation to all channels."""

    probability: float
    deviation: Range = (0.0, 0.1)  # nnU-Net calls it variance, and uses it as a deviation

    def note(self, shape: Shape, changes: IntensityChanges, rng: np.random.Generator) -> None:
        """Draw a deviation, and where each channel's noise comes from."""
        if rng.random() < self.probability:
            deviation = rng.uniform(*self.deviation)
            for channel in range(shape[0]):
                changes.noise(channel, deviation, int(rng.integers(_SEEDS)))


@dataclass(frozen=True, slots=True)
class Blur(IntensityTransform):
    """Smooth some channels by a Gaussian, each by its own."""

    probability: float
    sigma: Range = (0.5, 1.0)  # voxels
    per_channel: float = 0.5  # probability for each channel

    def note(self, shape: Shape, changes: IntensityChanges, rng: np.random.Generator) -> None:
        """Draw channels and their Gaussians."""
        if rng.random() < self.probability:
            for channel in range(shape[0]):
                if rng.random() < self.per_channel:
                    changes.blur(channel, rng.uniform(*self.sigma))


@dataclass(frozen=True, slots=True)
class LowResolution(IntensityTransform):
    """Show some channels as if scanned more coarsely: nearest neighbour down, linear up."""

    probability: float
    zoom: Range = (0.5, 1.0)
    per_channel: float = 0.5  # probability for each channel
    in_plane: bool = False  # leave the first axis as it is

    def note(self, shape: Shape, changes: IntensityChanges, rng: np.random.Generator) -> None:
        """Draw channels and their coarser grids."""
        if rng.random() < self.probability:
            for channel in range(shape[0]):
                if rng.random() < self.per_channel:
                    changes.coarsen(channel, self._coarse(shape[1:], rng.uniform(*self.zoom)))

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


def _factor(span: Range, rng: np.random.Generator) -> float:
    """Draw a factor: below and above 1 equally often, whatever the span on either side."""
    low, high = span
    if low < 1 and rng.random() < 0.5:
        return rng.uniform(low, 1)
    return rng.uniform(max(low, 1), high)
