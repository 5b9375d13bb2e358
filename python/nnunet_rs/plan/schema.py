"""What planning reads and writes: fingerprint and plan, as JSON that a person can read and edit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_rs.core.choices import Activation, Norm
from nnunet_rs.core.document import Kind, render
from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.files import read_json, write_bytes
from nnunet_rs.core.types import ChannelStats as ChannelStats
from nnunet_rs.core.types import LabelSet, Shape3, Spacing3
from nnunet_rs.plan.normalization import Normalization as Normalization
from nnunet_rs.plan.validation import check_fingerprint, check_plan


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
    memory_estimate: int  # the planner's feature-map elements of one sample; compare with PlanRecipe references
    memory_gb: float = 0.0  # the same for the whole batch, scaled to GB by the recipe's reference
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
    recipe: str  # paper, v2, v2-resenc-m, v2-resenc-l, v2-resenc-xl
    transpose: tuple[int, int, int]  # working axis i is the file's axis transpose[i]
    channels: tuple[str, ...]
    labels: LabelSet
    normalization: tuple[Normalization, ...]  # per channel
    configurations: dict[str, Configuration]
    reasons: tuple[str, ...] = ()
    reorient: bool = False  # images are turned to the axes R, A, S first, as some of nnU-Net's readers do


_ADVICE = "use the nnunet_rs that wrote it, or move it away and run preprocess again"
PLAN = Kind("plan", Plan, PlanError, _ADVICE)
FINGERPRINT = Kind("fingerprint", Fingerprint, PlanError, _ADVICE)


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return the JSON document of a plan: tables, lists, texts and numbers."""
    return PLAN.to_json(plan)


def plan_from_json(document: Any, source: str = "plan") -> Plan:
    """Read a plan's JSON document, of this or any earlier version, and check that it can be followed.

    Parameters
    ----------
    document
        What the JSON parser returned.
    source
        The file it came from, for error messages.

    Raises
    ------
    PlanError
        Unknown version, missing or unknown key, value of another type, or values that contradict each other: the text
        names file, key, value and what is allowed.
    """
    plan = PLAN.from_json(document, source)
    check_plan(plan, source)
    return plan


def fingerprint_to_json(fingerprint: Fingerprint) -> dict[str, Any]:
    """Return the JSON document of a fingerprint."""
    return FINGERPRINT.to_json(fingerprint)


def fingerprint_from_json(document: Any, source: str = "fingerprint") -> Fingerprint:
    """Read a fingerprint's JSON document, of this or any earlier version.

    Raises
    ------
    PlanError
        As `plan_from_json`.
    """
    fingerprint = FINGERPRINT.from_json(document, source)
    check_fingerprint(fingerprint, source)
    return fingerprint


def plan_text(plan: Plan) -> str:
    """Return the text of plan.json: indented, small lists on one line."""
    return render(plan_to_json(plan)) + "\n"


def fingerprint_text(fingerprint: Fingerprint) -> str:
    """Return the text of fingerprint.json: one line a case."""
    return render(fingerprint_to_json(fingerprint)) + "\n"


def write_plan(path: str | Path, plan: Plan) -> None:
    """Write plan.json; the file is whole or not there."""
    path = Path(path)
    write_bytes(path, plan_text(plan).encode())


def read_plan(path: str | Path) -> Plan:
    """Read plan.json as written by `write_plan` and perhaps edited by hand.

    Raises
    ------
    PlanError
        The file is not there, is no JSON, or `plan_from_json` refuses it.
    """
    path = Path(path)
    if not path.exists():
        raise PlanError(f"{path}: no such file; nnunet-rs preprocess DATA -o {path.parent} makes it (plan alone too)")
    return plan_from_json(read_json(path, PlanError), str(path))


def write_fingerprint(path: Path, fingerprint: Fingerprint) -> None:
    """Write fingerprint.json; the file is whole or not there."""
    write_bytes(path, fingerprint_text(fingerprint).encode())


def read_fingerprint(path: str | Path) -> Fingerprint:
    """Read fingerprint.json.

    Raises
    ------
    PlanError
        The file is not there, is no JSON, or `fingerprint_from_json` refuses it.
    """
    path = Path(path)
    return fingerprint_from_json(read_json(path, PlanError), str(path))
