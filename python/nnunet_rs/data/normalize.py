"""Bring the intensities of each channel to a common scale (method §3.3)."""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_rs.core.errors import DatasetError, PlanError
from nnunet_rs.core.types import FloatArray, Mask
from nnunet_rs.plan.normalization import SCHEMES, IntensityMap, Normalization


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
            maps.append(SCHEMES[rule.scheme].find(channel, rule, mask if rule.use_mask else None))
        except (DatasetError, PlanError) as error:
            raise type(error)(f"channel {number}: {error}") from None
    return tuple(maps)
