"""The names that people choose by: recipes, losses, augmentations, networks, devices. Imports nothing.

The command line, its completion and the tables of what the names stand for share these lists. A table is made by
`complete`, so that the module which holds it cannot be imported where the two differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeVar, get_args

TrainRecipeName = Literal["paper", "v2", "fast"]
OptimiserName = Literal["adam_amsgrad", "muon", "sgd_nesterov"]
ScheduleName = Literal["plateau", "polynomial", "one_cycle"]
LossTerms = Literal["ce_dice", "ce", "dice"]
ClassSamplingName = Literal["uniform", "balanced", "inverse_frequency"]  # which class a foreground patch is centred on
AugmentationName = Literal["paper", "paper-batchgenerators", "v2", "light", "strong", "progressive", "none"]
Activation = Literal["leaky_relu", "relu"]
Norm = Literal["instance", "batch"]
Downsampling = Literal["strided", "max_pool"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
EngineName = Literal["auto", "torch", "openvino"]  # what computes the networks of a prediction
ClusterEngine = Literal["slurm", "ray"]  # what runs jobs elsewhere
DeviceName = Literal["auto", "cpu", "cuda", "mps"]  # a device may also carry a number: cuda:1
ConfigurationName = Literal["2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"]  # that a plan may have
ComparedMetric = Literal["dice", "iou", "sensitivity", "precision", "hd95", "asd", "nsd"]  # have a better and a worse

_Value = TypeVar("_Value")


class NnunetNames(NamedTuple):
    """What nnU-Net v2 calls a planner."""

    planner: str  # its class
    plans: str
    shared: str  # prefix of the prepared data of 2d and 3d_fullres, which planners of one family share
    same: bool = True  # plans by this planner are read as made by ours


PLANNER_NAMES: Mapping[str, NnunetNames] = {
    "paper": NnunetNames("ExperimentPlanner", "nnUNetPaperPlans", "nnUNetPaperPlans", same=False),
    "v2": NnunetNames("ExperimentPlanner", "nnUNetPlans", "nnUNetPlans"),
    "v2-resenc-m": NnunetNames("nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans", "nnUNetPlans"),
    "v2-resenc-l": NnunetNames("nnUNetPlannerResEncL", "nnUNetResEncUNetLPlans", "nnUNetPlans"),
    "v2-resenc-xl": NnunetNames("nnUNetPlannerResEncXL", "nnUNetResEncUNetXLPlans", "nnUNetPlans"),
}


def names(kind: Any) -> tuple[str, ...]:
    """List the names of one of the kinds above, in the order in which they are shown."""
    return get_args(kind) or tuple(kind)


def complete(kind: Any, table: Mapping[str, _Value]) -> dict[str, _Value]:
    """Return a table of what the names of a kind stand for, in their order.

    Raises
    ------
    TypeError
        The table lacks a name, or has another.
    """
    wanted = names(kind)
    if set(wanted) != table.keys():
        raise TypeError(f"names without an entry, or entries without a name: {sorted(set(wanted) ^ table.keys())}")
    return {name: table[name] for name in wanted}


def planner_of_nnunet(name: str) -> str | None:
    """Return the planner that goes by the rules of one of nnU-Net's planner classes; None: there is none."""
    return next((planner for planner, known in PLANNER_NAMES.items() if known.same and known.planner == name), None)
