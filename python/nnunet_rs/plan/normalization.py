"""How intensities are brought to a common scale: the table of schemes, and nothing about one of them elsewhere.

A scheme is one entry of `SCHEMES`: its names, its texts, the statistics it takes, and the function that finds how a
channel of a case is mapped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nnunet_rs.core.errors import DatasetError, PlanError
from nnunet_rs.core.types import ChannelStats, FloatArray, Mask
from nnunet_rs.core.workspace import DATASET_JSON

_EPSILON = 1e-8
_BLOCK = 1 << 18  # voxels whose float64 copy is held at once while summing squares


@dataclass(frozen=True, slots=True)
class Normalization:
    """How one channel's intensities are brought to a common scale."""

    scheme: str  # a key of SCHEMES
    use_mask: bool  # statistics inside the non-zero mask only, zero outside (where the scheme takes the case's)
    stats: ChannelStats | None  # the dataset's foreground statistics


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


@dataclass(frozen=True, slots=True)
class Scheme:
    """One way to bring intensities to a common scale."""

    nnunet_name: str  # nnU-Net's class
    channels: tuple[str, ...]  # names of channels in dataset.json that ask for it, in small letters
    reason: Callable[[Normalization], str]  # what it does and why, for `plan --explain`
    summary: str  # what it does, for whoever is handed a model
    # (channel (z, y, x), its rule, the non-zero region where the rule asks for it) -> the map of this case's channel
    find: Callable[[FloatArray, Normalization, Mask | None], IntensityMap]
    uses_dataset: bool = False  # takes the foreground statistics of the whole dataset
    uses_mask: bool = False  # takes the case's own statistics, which may be those of the non-zero region
    # Clips to the dataset's percentiles 0.5 and 99.5, in this unit: an image without a voxel in between is another's.
    window_unit: str = ""


def window(rule: Normalization) -> tuple[float, float] | None:
    """Return the intensities between which a network tells values apart; None: the scheme does not bound them."""
    if not SCHEMES[rule.scheme].window_unit or rule.stats is None:
        return None
    return rule.stats.percentile_00_5, rule.stats.percentile_99_5


def scheme_of_channel(name: str) -> str:
    """Return the scheme that a channel's name in dataset.json asks for, in capitals or not; all others: zscore."""
    return next((scheme for scheme, known in SCHEMES.items() if name.casefold() in known.channels), DEFAULT)


def scheme_of_class(nnunet_name: object) -> str | None:
    """Return the scheme of one of nnU-Net's classes; None: there is none."""
    return next((scheme for scheme, known in SCHEMES.items() if known.nnunet_name == nnunet_name), None)


def _ct(channel: FloatArray, rule: Normalization, mask: Mask | None) -> IntensityMap:  # noqa: ARG001
    """Clip to the dataset's 0.5 and 99.5 percentiles, then use the dataset's foreground mean and standard deviation."""
    stats = rule.stats
    if stats is None:
        raise PlanError("normalised as ct, but the plan holds no intensity statistics for it; plan again")
    return IntensityMap(stats.mean, max(stats.std, _EPSILON), (stats.percentile_00_5, stats.percentile_99_5))


def _why_ct(rule: Normalization) -> str:
    if rule.stats is None:
        return "ct"
    s = rule.stats
    return (
        f"clipped to the foreground's 0.5 to 99.5 percentiles [{s.percentile_00_5:.4g}, {s.percentile_99_5:.4g}], "
        f"minus its mean {s.mean:.4g}, divided by its deviation {s.std:.4g}, because it is named CT"
    )


def _zscore(channel: FloatArray, rule: Normalization, mask: Mask | None) -> IntensityMap:  # noqa: ARG001
    """Use the case's own mean and standard deviation, inside the mask where there is one."""
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


def _because(text: str) -> Callable[[Normalization], str]:
    return lambda _: text


DEFAULT = "zscore"
SCHEMES: dict[str, Scheme] = {
    "zscore": Scheme(
        nnunet_name="ZScoreNormalization",
        channels=("zscore",),
        reason=_because("each case's own mean and standard deviation (z-score)"),
        summary="each image by its own mean and standard deviation",
        find=_zscore,
        uses_mask=True,
    ),
    "ct": Scheme(
        nnunet_name="CTNormalization",
        channels=("ct",),
        reason=_why_ct,
        summary="CT: clipped and scaled by the training cases' foreground",
        find=_ct,
        uses_dataset=True,
        window_unit="Hounsfield units",
    ),
    "none": Scheme(
        nnunet_name="NoNormalization",
        channels=("nonorm",),
        reason=_because("left as it is, because it is named noNorm"),
        summary="none",
        find=_none,
    ),
    "rescale_to_0_1": Scheme(
        nnunet_name="RescaleTo01Normalization",
        channels=("rescale_to_0_1",),
        reason=_because("each case rescaled to 0 … 1, because it is named so"),
        summary="each image to 0 … 1",
        find=_rescale,
    ),
    "rgb_to_0_1": Scheme(
        nnunet_name="RGBTo01Normalization",
        channels=("rgb_to_0_1",),
        reason=_because("divided by 255, because it is named rgb_to_0_1"),
        summary="divided by 255",
        find=_rgb,
    ),
}
