"""What planning decides from, and what it decides: fingerprint and plan."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_rs.core.choices import Activation, Norm
from nnunet_rs.core.types import ChannelStats as ChannelStats
from nnunet_rs.core.types import LabelSet, Shape3, Spacing3
from nnunet_rs.plan.normalization import Normalization as Normalization


@dataclass(frozen=True, slots=True)
class CasePrint:
    """What the planner needs to know of one case; axes as in the file (z, y, x)."""

    name: str
    shape: Shape3  # before the crop to non-zero
    shape_after_crop: Shape3
    spacing: Spacing3
    orientation: str = ""  # that its first file is stored in, as "LPS"; empty: not known


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What the planner needs to know of a dataset."""

    cases: tuple[CasePrint, ...]
    channels: tuple[ChannelStats, ...]
    relative_size_after_crop: float  # median over cases of (voxels after crop) / (voxels before)


@dataclass(frozen=True, slots=True)
class Resampling:
    """How cases are brought to the target spacing and back; the defaults are nnU-Net's."""

    order: int = 3  # of the spline for images: 3, 1 or 0
    order_z: int = 0  # the same along a coarse axis that is resampled by itself
    scores_order_z: int = 0  # 0 or 1: of the network's scores along that axis; within slices they are linear
    separate_z: bool | None = None  # whether the coarsest axis is resampled by itself; None: where spacing says so
    skip: bool = False  # nothing is resampled


@dataclass(frozen=True, slots=True)
class Configuration:
    """One network to train. Sizes are in the working axis order (the file's, permuted by Plan.transpose).

    2-D configurations have two-element sizes (the last two working axes) and are never resampled along the first.
    """

    name: str  # 2d, 3d_fullres, 3d_lowres, 3d_cascade_fullres
    spacing: tuple[float, ...]  # target spacing, mm
    patch_size: tuple[int, ...]
    batch_size: int
    median_shape: tuple[float, ...]  # of the resampled cases; v2 keeps the half between two middle cases
    strides: tuple[tuple[int, ...], ...]  # per stage; the first is all ones
    kernels: tuple[tuple[int, ...], ...]  # per stage
    features: tuple[int, ...]  # per stage
    blocks_encoder: tuple[int, ...]  # convolutions (plain) or residual blocks per stage
    blocks_decoder: tuple[int, ...]  # convolutions per decoder stage, one fewer than stages
    residual: bool  # residual encoder
    batch_dice: bool
    inplane_augmentation: bool  # spatial augmentation within the last two axes only
    memory_estimate: int  # the planner's feature-map elements of one sample; compare with Planner references
    memory_gb: float = 0.0  # the same for the whole batch, scaled to GB by the planner's reference
    previous: str | None = None  # cascade: the configuration whose segmentation is an extra input
    resampling: Resampling = Resampling()
    norm: Norm = "instance"
    activation: Activation = "leaky_relu"
    reasons: tuple[str, ...] = ()  # the rule and the numbers behind each choice

    @property
    def dims(self) -> int:
        """2 or 3."""
        return len(self.patch_size)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that was decided about a dataset."""

    dataset: str
    recipe: str  # the planner: paper, v2, v2-resenc-m ...; named as in the plan.json of version 0.1
    transpose: tuple[int, int, int]  # working axis i is the file's axis transpose[i]
    channels: tuple[str, ...]
    labels: LabelSet
    normalization: tuple[Normalization, ...]  # per channel
    configurations: dict[str, Configuration]
    reasons: tuple[str, ...] = ()
    reorient: bool = False  # images are turned to the axes R, A, S first, as some of nnU-Net's readers do
