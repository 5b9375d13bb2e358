"""What a user decides about prediction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rs.core.choices import EngineName, Precision
from nnunet_rs.model.nnunet_models import ANY, NnunetChoice

if TYPE_CHECKING:  # networks of the user's own are PyTorch's, others do without it
    from nnunet_rs.model.plugins import NetworkFunction


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What a user decides about prediction."""

    step: float = 0.5  # between neighbouring windows, as a share of the window
    mirror: bool = True  # average over the mirror images that training saw
    precision: Precision = "auto"  # of the networks' arithmetic; auto: by the device, of nnU-Net's models as it does
    batch: int | None = None  # windows at a time; None: by their size
    threads: int | None = None  # of the kernels, and of OpenVINO; None: all processors
    network: NetworkFunction | None = None  # what builds the network of models whose network is the user's own
    nnunet: NnunetChoice = ANY  # of models of nnU-Net's: which
    unfinished: bool = False  # also folds whose training is not finished, by their last checkpoint
    engine: EngineName = "auto"  # what computes the networks; auto: the faster one of those that can
    cache: Path | None = None  # where OpenVINO keeps compiled networks for the next time; None: nowhere
