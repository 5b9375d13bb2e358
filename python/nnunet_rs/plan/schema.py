"""What planning reads and writes: fingerprint and plan, as JSON that a person can read and edit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nnunet_rs.core.types import LabelSet, Shape3, Spacing3

SCHEMA_VERSION = 1

Scheme = Literal["zscore", "ct", "none", "rescale_to_0_1", "rgb_to_0_1"]


@dataclass(frozen=True, slots=True)
class ChannelStats:
    """Intensities of all foreground voxels of all training cases, one channel."""

    mean: float
    std: float
    median: float
    min: float
    max: float
    percentile_00_5: float
    percentile_99_5: float


@dataclass(frozen=True, slots=True)
class CasePrint:
    """What the planner needs to know of one case; axes as in the file (z, y, x)."""

    name: str
    shape: Shape3  # before the crop to non-zero
    shape_after_crop: Shape3
    spacing: Spacing3


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What the planner needs to know of a dataset."""

    cases: tuple[CasePrint, ...]
    channels: tuple[ChannelStats, ...]
    relative_size_after_crop: float  # median over cases of (voxels after crop) / (voxels before)


@dataclass(frozen=True, slots=True)
class Normalization:
    """How one channel's intensities are brought to a common scale."""

    scheme: Scheme
    use_mask: bool  # statistics inside the non-zero mask only, zero outside (zscore)
    stats: ChannelStats | None  # the dataset's foreground statistics (used by ct)


@dataclass(frozen=True, slots=True)
class Configuration:
    """One network to train. Sizes are in the working axis order (the file's, permuted by Plan.transpose).

    2-D configurations have two-element sizes (the last two working axes) and are never resampled along the first.
    """

    name: str  # 2d, 3d_fullres, 3d_lowres, 3d_cascade_fullres
    spacing: tuple[float, ...]  # target spacing, mm
    patch_size: tuple[int, ...]
    batch_size: int
    median_shape: tuple[int, ...]  # of the resampled cases
    strides: tuple[tuple[int, ...], ...]  # per stage; the first is all ones
    kernels: tuple[tuple[int, ...], ...]  # per stage
    features: tuple[int, ...]  # per stage
    blocks_encoder: tuple[int, ...]  # convolutions (plain) or residual blocks per stage
    blocks_decoder: tuple[int, ...]  # convolutions per decoder stage, one fewer than stages
    residual: bool  # residual encoder
    batch_dice: bool
    inplane_augmentation: bool  # spatial augmentation within the last two axes only
    memory_estimate: int  # the planner's feature-map elements of one sample; compare with Recipe references
    previous: str | None = None  # cascade: the configuration whose segmentation is an extra input
    reasons: tuple[str, ...] = ()  # the rule and the numbers behind each choice

    @property
    def dims(self) -> int:
        """2 or 3."""
        return len(self.patch_size)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that was decided about a dataset."""

    dataset: str
    recipe: str  # paper, v2, v2-resenc-m, v2-resenc-l
    transpose: tuple[int, int, int]  # working axis i is the file's axis transpose[i]
    channels: tuple[str, ...]
    labels: LabelSet
    normalization: tuple[Normalization, ...]  # per channel
    configurations: dict[str, Configuration]
    reasons: tuple[str, ...] = ()
