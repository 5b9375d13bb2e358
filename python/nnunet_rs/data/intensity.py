"""Augmentations that leave every voxel in its place, or mirror them; batchgenerators' arithmetic, other chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.ndimage import gaussian_filter

from nnunet_rs.core.kernels import resample_image
from nnunet_rs.core.types import FloatArray, IntArray
from nnunet_rs.data.transform import SeededTransform

Range: TypeAlias = tuple[float, float]
Augmented: TypeAlias = tuple[FloatArray, IntArray]


@dataclass(frozen=True, slots=True)
class Mirror(SeededTransform):
    """Mirror along each axis with probability ½."""

    axes: tuple[int, ...]  # spatial axes, 0 the first

    def apply(self, image: FloatArray, seg: IntArray, rng: np.random.Generator) -> Augmented:
        """Return flipped views."""
        flipped = tuple(axis + 1 for axis in self.axes if rng.random() < 0.5)
        return np.flip(image, flipped), np.flip(seg, flipped)


@dataclass(frozen=True, slots=True)
class Gamma(SeededTransform):
    """Raise intensities, scaled to 0 … 1, to a power, each channel to its own; mean and deviation are kept."""

    probability: float
    exponent: Range = (0.7, 1.5)
    invert: bool = False  # bend the bright end instead of the dark one

    def apply(self, image: FloatArray, seg: IntArray, rng: np.random.Generator) -> Augmented:
        """Change the image in place."""
        if rng.random() < self.probability:
            for channel in image:
                correct_gamma(channel, _factor(self.exponent, rng), self.invert)
        return image, seg


@dataclass(frozen=True, slots=True)
class Brightness(SeededTransform):
    """Multiply the intensities of each channel by a factor."""

    probability: float
    factor: Range = (0.75, 1.25)

    def apply(self, image: FloatArray, seg: IntArray, rng: np.random.Generator) -> Augmented:
        """Change the image in place."""
        if rng.random() < self.probability:
            for channel in image:
                channel *= np.float32(_factor(self.factor, rng))
        return image, seg


@dataclass(frozen=True, slots=True)
class Contrast(SeededTransform):
    """Stretch or squeeze each channel about its mean, within its range."""

    probability: float
    factor: Range = (0.75, 1.25)

    def apply(self, image: FloatArray, seg: IntArray, rng: np.random.Generator) -> Augmented:
        """Change the image in place."""
        if rng.random() < self.probability:
            for channel in image:
                stretch(channel, _factor(self.factor, rng))
        return image, seg


@dataclass(frozen=True, slots=True)
class Noise(SeededTransform):
    """Add Gaussian noise of one deviation to all channels."""

    probability: float
    deviation: Range = (0.0, 0.1)  # nnU-Net calls it variance, and uses it as a deviation

    def apply(self, image: FloatArray, seg: IntArray, rng: np.random.Generator) -> Augmented:
        """Change the image in place."""
        if rng.random() < self.probability:
            image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(*self.deviation))
        return image, seg


@dataclass(frozen=True, slots=True)
class Blur(SeededTransform):
    """Smooth some channels by a Gaussian, each by its own."""

    probability: float
    sigma: Range = (0.5, 1.0)  # voxels
    per_channel: float = 0.5  # probability for each channel

    def apply(self, image: FloatArray, seg: IntArray, rng: np.random.Generator) -> Augmented:
        """Change the image in place."""
        if rng.random() < self.probability:
            for channel in image:
                if rng.random() < self.per_channel:
                    gaussian_filter(channel, rng.uniform(*self.sigma), output=channel)
        return image, seg


@dataclass(frozen=True, slots=True)
class LowResolution(SeededTransform):
    """Show some channels as if scanned more coarsely: nearest neighbour down, linear up."""

    probability: float
    zoom: Range = (0.5, 1.0)
    per_channel: float = 0.5  # probability for each channel
    in_plane: bool = False  # leave the first axis as it is

    def apply(self, image: FloatArray, seg: IntArray, rng: np.random.Generator) -> Augmented:
        """Change the image in place."""
        if rng.random() < self.probability:
            for channel in image:
                if rng.random() < self.per_channel:
                    channel[...] = coarsened(channel, rng.uniform(*self.zoom), self.in_plane)
        return image, seg


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


def correct_gamma(channel: FloatArray, exponent: float, invert: bool = False) -> None:
    """Do what batchgenerators' `augment_gamma` does with `retain_stats`, in place."""
    if invert:
        np.negative(channel, out=channel)
    mean, deviation, low = channel.mean(), channel.std(), channel.min()
    span = np.float32(channel.max() - low + 1e-7)
    channel -= low
    channel /= span
    _raise_to(channel, np.float32(exponent))
    channel -= channel.mean()
    channel *= deviation / (channel.std() + np.float32(1e-8))
    channel += mean
    if invert:
        np.negative(channel, out=channel)


def _raise_to(channel: FloatArray, exponent: np.float32) -> None:
    """Raise 0 … 1 to a power in place; NumPy's exponential and logarithm use wide registers, its power does not."""
    with np.errstate(divide="ignore"):  # 0 becomes exp(-inf) = 0
        np.log(channel, out=channel)
    channel *= exponent
    np.exp(channel, out=channel)


def stretch(channel: FloatArray, factor: float) -> None:
    """Do what batchgenerators' `augment_contrast` does with `preserve_range`, in place."""
    mean, low, high = channel.mean(), channel.min(), channel.max()
    channel -= mean
    channel *= np.float32(factor)
    channel += mean
    np.clip(channel, low, high, out=channel)


def coarsened(channel: FloatArray, zoom: float, in_plane: bool) -> FloatArray:
    """Resample a channel to `zoom` times its size and back."""
    kept = int(in_plane)
    small = (*channel.shape[:kept], *(max(1, round(size * zoom)) for size in channel.shape[kept:]))
    coarse = resample_image(channel[None], small, order=0, threads=1)
    return np.asarray(resample_image(coarse, channel.shape, order=1, threads=1)[0])


def _factor(span: Range, rng: np.random.Generator) -> float:
    """Draw a factor: below and above 1 equally often, whatever the span on either side."""
    low, high = span
    if low < 1 and rng.random() < 0.5:
        return rng.uniform(low, 1)
    return rng.uniform(max(low, 1), high)
