"""What a network can be besides what the plan says; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from nnunet_rs.core.choices import Activation, Downsampling, Norm
from nnunet_rs.core.errors import PlanError
from nnunet_rs.plan.schema import Configuration, Plan

LEAKY_SLOPE = 0.01
NORM_EPS = 1e-5


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """What the plan leaves open: the options of the paper's Figure 2, and where its code and v2 differ."""

    activation: Activation = "leaky_relu"
    norm: Norm = "instance"
    deep_supervision: bool = False  # outputs at every decoder resolution but the lowest, while training
    downsampling: Downsampling = "strided"
    # A decoder level has the kernel of the encoder level of the same resolution (v2), or of the one below (the code
    # of 2019, whose plans hold one kernel more than poolings and which counts them from the bottom).
    decoder_kernels: Literal["same", "below"] = "same"


def network_channels(plan: Plan, configuration: Configuration) -> tuple[int, int]:
    """Return the network's input and output channels.

    Inputs are the image channels and, in a cascade, one channel per foreground class of the previous segmentation.
    """
    previous = plan.labels.count - 1 if configuration.previous else 0
    return len(plan.channels) + previous, plan.labels.outputs


def require_more_than_a_voxel(c: Configuration, options: NetworkOptions) -> None:
    """Check that instance norm leaves something at the lowest stage.

    Raises
    ------
    PlanError
        The patch has a single voxel there.
    """
    total = [prod(stride[axis] for stride in c.strides) for axis in range(c.dims)]
    if options.norm == "instance" and prod(c.patch_size) <= prod(total):
        raise PlanError(
            f"configuration {c.name}: the lowest stage has a single voxel (patch {list(c.patch_size)}, strides "
            f"{total}), which instance norm sets to zero; use fewer stages or a larger patch"
        )


def activation_slope(options: NetworkOptions) -> float:
    """Return by what the activation multiplies what is negative."""
    return 0.0 if options.activation == "relu" else LEAKY_SLOPE
