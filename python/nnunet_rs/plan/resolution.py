"""A resolution at which a dataset may be segmented."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nnunet_rs.plan.planners import Planner
from nnunet_rs.plan.spacing import Floats


@dataclass(frozen=True, slots=True)
class Resolution:
    """A resolution: its spacing and the median case at it. Working axes."""

    spacing: Floats
    exact: Floats  # median shape with fractions
    median: Floats  # the same as planning takes it

    def voxels(self, planner: Planner) -> float:
        """Voxels of the median case."""
        return math.prod(self.median if planner.round_median else self.exact)
