"""Bring the intensities of each channel to a common scale (method §3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import DatasetError, PlanError
from nnunet_rs.core.types import FloatArray
from nnunet_rs.core.workspace import DATASET_JSON
from nnunet_rs.plan.schema import Normalization, Scheme

Mask: TypeAlias = NDArray[np.bool_]
_EPSILON = 1e-8
_BLOCK = 1 << 18  # voxels whose float64 copy is held at once while summing squares


@dataclass(frozen=True, slots=True)
class IntensityMap:
    """How the intensities of one channel of one case become a network's: clipped, less `shift`, over `scale`."""

    shift: float = 0.0
    scale: float = 1.0
    clip: tuple[float, float] | None = None
    masked: bool = False  # 0 outside the non-zero region

    def apply(self, channel: FloatArray, mask: Mask | None) -> None:
        """Change a channel, or a part of it, in place; `mask` is of the same part."""
        if self.clip is not None:
            np.clip(channel, *self.clip, out=channel)
        if self.shift != 0:
            channel -= np.float32(self.shift)
        if self.scale != 1:
            channel /= np.float32(self.scale)
        if self.masked and mask is not None:
            channel[~mask] = 0


def normalize(image: FloatArray, rules: Sequence[Normalization], mask: Mask | None = None) -> None:
    """Normalise an image in place: `intensity_maps`, applied. Parameters and errors as there."""
    for channel, found in zip(image, intensity_maps(image, rules, mask), strict=True):
        found.apply(channel, mask)


def intensity_maps(
    image: FloatArray, rules: Sequence[Normalization], mask: Mask | None = None
) -> tuple[IntensityMap, ...]:
    """Find how each channel of an image is normalised. A constant channel becomes zero.

    Parameters
    ----------
    image
        float32 (c, z, y, x), contiguous, cropped to its non-zero box.
    rules
        One per channel.
    mask
        Boolean (z, y, x), the non-zero region with its holes filled; rules with `use_mask` take mean and deviation
        inside it and set the outside to 0. None: the region fills the box.

    Raises
    ------
    PlanError
        A rule is missing for a channel, or a `ct` rule holds no statistics.
    DatasetError
        An `rgb_to_0_1` channel has values outside 0 … 255.

    References
    ----------
    The paper, section "Preprocessing"; nnU-Net v2 `default_normalization_schemes.py`, whose z-score divides by
    max(deviation, 1e-8) as here.
    """
    if len(rules) != len(image):
        raise PlanError(f"the plan normalises {len(rules)} channels, the image has {len(image)}")
    maps = []
    for number, (channel, rule) in enumerate(zip(image, rules, strict=True)):
        try:
            maps.append(_SCHEMES[rule.scheme](channel, rule, mask if rule.use_mask else None))
        except (DatasetError, PlanError) as error:
            raise type(error)(f"channel {number}: {error}") from None
    return tuple(maps)


def _ct(channel: FloatArray, rule: Normalization, mask: Mask | None) -> IntensityMap:  # noqa: ARG001
    """Clip to the dataset's 0.5 and 99.5 percentiles, then use the dataset's foreground mean and deviation."""
    stats = rule.stats
    if stats is None:
        raise PlanError("normalised as ct, but the plan holds no intensity statistics for it; plan again")
    return IntensityMap(stats.mean, max(stats.std, _EPSILON), (stats.percentile_00_5, stats.percentile_99_5))


def _zscore(channel: FloatArray, rule: Normalization, mask: Mask | None) -> IntensityMap:  # noqa: ARG001
    """Use the case's own mean and deviation, inside the mask where there is one."""
    inside = channel if mask is None else channel[mask]
    if inside.size == 0 or inside.min() == inside.max():
        constant = 0.0 if inside.size == 0 else float(inside.flat[0])
        return IntensityMap(constant, masked=mask is not None)
    mean = float(inside.mean(dtype=np.float64))
    deviation = np.sqrt(_sum_of_squares(inside, mean) / inside.size)
    return IntensityMap(mean, max(float(deviation), _EPSILON), masked=mask is not None)


def _rescale(channel: FloatArray, rule: Normalization, mask: Mask | None) -> IntensityMap:  # noqa: ARG001
    """Map the case's range to 0 … 1."""
    low, high = float(channel.min()), float(channel.max())
    return IntensityMap(low, max(high - low, _EPSILON))


def _rgb(channel: FloatArray, rule: Normalization, mask: Mask | None) -> IntensityMap:  # noqa: ARG001
    """Map 0 … 255 to 0 … 1."""
    low, high = float(channel.min()), float(channel.max())
    if low < 0 or high > 255:
        raise DatasetError(
            f"values from {low:g} to {high:g}, rgb_to_0_1 expects 0 … 255; name the channel otherwise in {DATASET_JSON}"
        )
    return IntensityMap(scale=255)


def _none(channel: FloatArray, rule: Normalization, mask: Mask | None) -> IntensityMap:  # noqa: ARG001
    """Leave the values as they are."""
    return IntensityMap()


def _sum_of_squares(values: FloatArray, mean: float) -> float:
    """Sum (value - mean)² in float64 without a float64 copy of the whole."""
    flat = values.reshape(-1)
    total = 0.0
    for start in range(0, flat.size, _BLOCK):
        centred = flat[start : start + _BLOCK].astype(np.float64)
        centred -= mean
        total += float(np.square(centred, out=centred).sum())  # a dot product would wake the threads of a BLAS
    return total


_SCHEMES: dict[Scheme, Callable[[FloatArray, Normalization, Mask | None], IntensityMap]] = {
    "ct": _ct,
    "zscore": _zscore,
    "rescale_to_0_1": _rescale,
    "rgb_to_0_1": _rgb,
    "none": _none,
}
