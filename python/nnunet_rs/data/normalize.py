"""Bring the intensities of each channel to a common scale (method §3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import DatasetError, PlanError
from nnunet_rs.core.types import FloatArray
from nnunet_rs.plan.schema import Normalization, Scheme

Mask: TypeAlias = NDArray[np.bool_]
_EPSILON = 1e-8
_BLOCK = 1 << 18  # voxels whose float64 copy is held at once while summing squares


def normalize(image: FloatArray, rules: Sequence[Normalization], mask: Mask | None = None) -> None:
    """Normalise an image in place, each channel by its rule. A constant channel becomes zero.

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
    for number, (channel, rule) in enumerate(zip(image, rules, strict=True)):
        try:
            _SCHEMES[rule.scheme](channel, rule, mask if rule.use_mask else None)
        except (DatasetError, PlanError) as error:
            raise type(error)(f"channel {number}: {error}") from None


def _ct(channel: FloatArray, rule: Normalization, mask: Mask | None) -> None:  # noqa: ARG001
    """Clip to the dataset's 0.5 and 99.5 percentiles, then use the dataset's foreground mean and deviation."""
    stats = rule.stats
    if stats is None:
        raise PlanError("normalised as ct, but the plan holds no intensity statistics for it; plan again")
    np.clip(channel, stats.percentile_00_5, stats.percentile_99_5, out=channel)
    channel -= np.float32(stats.mean)
    channel /= np.float32(max(stats.std, _EPSILON))


def _zscore(channel: FloatArray, rule: Normalization, mask: Mask | None) -> None:  # noqa: ARG001
    """Use the case's own mean and deviation, inside the mask where there is one."""
    inside = channel if mask is None else channel[mask]
    if inside.size == 0 or inside.min() == inside.max():
        channel[...] = 0
        return
    mean = float(inside.mean(dtype=np.float64))
    deviation = np.sqrt(_sum_of_squares(inside, mean) / inside.size)
    channel -= np.float32(mean)
    channel /= np.float32(max(deviation, _EPSILON))
    if mask is not None:
        channel[~mask] = 0


def _rescale(channel: FloatArray, rule: Normalization, mask: Mask | None) -> None:  # noqa: ARG001
    """Map the case's range to 0 … 1."""
    low, high = channel.min(), channel.max()
    channel -= low
    channel /= np.float32(max(float(high) - float(low), _EPSILON))


def _rgb(channel: FloatArray, rule: Normalization, mask: Mask | None) -> None:  # noqa: ARG001
    """Map 0 … 255 to 0 … 1."""
    low, high = float(channel.min()), float(channel.max())
    if low < 0 or high > 255:
        raise DatasetError(
            f"values from {low:g} to {high:g}, rgb_to_0_1 expects 0 … 255; name the channel otherwise in dataset.json"
        )
    channel /= np.float32(255)


def _none(channel: FloatArray, rule: Normalization, mask: Mask | None) -> None:
    """Leave the values as they are."""


def _sum_of_squares(values: FloatArray, mean: float) -> float:
    """Sum (value - mean)² in float64 without a float64 copy of the whole."""
    flat = values.reshape(-1)
    total = 0.0
    for start in range(0, flat.size, _BLOCK):
        centred = flat[start : start + _BLOCK].astype(np.float64)
        centred -= mean
        total += float(np.square(centred, out=centred).sum())  # a dot product would wake the threads of a BLAS
    return total


_SCHEMES: dict[Scheme, Callable[[FloatArray, Normalization, Mask | None], None]] = {
    "ct": _ct,
    "zscore": _zscore,
    "rescale_to_0_1": _rescale,
    "rgb_to_0_1": _rgb,
    "none": _none,
}
