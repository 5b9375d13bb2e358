"""How much work it is to predict and score held-out cases, before any network is there."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nnunet_rs.core.resources import processors
from nnunet_rs.data.store import open_store
from nnunet_rs.plan.schema import Plan
from nnunet_rs.predict.predictor import PredictOptions
from nnunet_rs.predict.window_grid import sliding_window_grid

# Seconds: models and pictures; a case; a voxel of its image, which is read, resampled back, written and scored by
# surfaces. With a margin: 13 s for 42 cases of hippocampus, where one core of a Zen 4 took 4, windows included.
_ALWAYS, _A_CASE, _A_VOXEL = 6.0, 0.1, 1e-6


@dataclass(frozen=True, slots=True)
class ScoringCost:
    """Work to be done."""

    windows: int  # that networks see, in every mirror image
    seconds: float  # of all else, about


def estimate_scoring_cost(
    work: Path, plan: Plan, configuration: str, cases: Iterable[str], options: PredictOptions | None = None
) -> ScoringCost:
    """Estimate how much work it is to predict and score prepared cases by the sliding window.

    Parameters
    ----------
    work
        The work folder, with the cases prepared.
    plan, configuration
        Of the network. A cascade's first stage, which predicts them too, counts as well.
    cases
        Their names.
    options
        As in `Predictor.load`.

    Raises
    ------
    DatasetError
        A case is not prepared.
    """
    step, cases = (options or PredictOptions()).step, tuple(cases)
    planned, store = plan.configurations[configuration], open_store(work, plan, configuration)
    windows, voxels = 0, 0
    for name in cases:
        geometry = store.record(name).geometry
        windows += len(sliding_window_grid(geometry.resampled, planned.patch_size, step).starts)
        voxels += math.prod(geometry.shape)
    seconds = _ALWAYS + (_A_CASE * len(cases) + _A_VOXEL * voxels) * min(1.0, 2 / processors() + 0.25)
    if planned.previous is None:
        return ScoringCost(windows, seconds)
    return ScoringCost(windows + estimate_scoring_cost(work, plan, planned.previous, cases, options).windows, seconds)
