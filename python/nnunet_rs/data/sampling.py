"""Which case a training sample is of, and which class it is centred on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nnunet_rs.core.choices import ClassSamplingName, names
from nnunet_rs.core.errors import PlanError, among
from nnunet_rs.core.types import LabelSet
from nnunet_rs.data.patches import PatchRule

if TYPE_CHECKING:  # a training is described without opening prepared cases
    from nnunet_rs.data.store import Store


@dataclass(frozen=True, slots=True)
class Sampling:
    """How often samples are centred on foreground, and on what of it."""

    # Share of the samples, over many batches. None: as nnU-Net, a third of each batch, rounded up to whole samples.
    foreground: float | None = None
    # uniform: a case, then one of the classes in it, as nnU-Net. Else a class, then one of the cases that have it:
    # classes equally often (balanced), in inverse proportion to their voxels in the training cases
    # (inverse_frequency), or by weights (what is not named has the weight 1).
    classes: str | Mapping[str, float] = "uniform"


AS_NNUNET = Sampling()


class CaseSampler:
    """Draws the case of a sample, and the classes it is centred on where the case does not decide that.

    Parameters
    ----------
    store
        The prepared cases.
    cases
        Names of those to draw from, each equally likely.
    rule
        Its `foreground_classes` are what is drawn.
    labels
        Their names.
    sampling
        How they are drawn.
    """

    def __init__(
        self, store: Store, cases: Sequence[str], rule: PatchRule, labels: LabelSet, sampling: Sampling
    ) -> None:
        self._cases, self._targets = tuple(cases), rule.foreground_classes
        self._holding: list[list[str]] = []  # of each target, the cases that have it
        self._chances: list[float] = []  # of each target; empty: the case is drawn first
        if sampling.classes != "uniform":
            self._count(store, target_weights(labels, sampling.classes))

    def _count(self, store: Store, weights: Sequence[float] | None) -> None:
        """Look which cases have which targets; weights of None are one over the voxels."""
        voxels = {name: store.record(name).voxels for name in self._cases}
        self._holding = [
            [name for name, found in voxels.items() if any(c in found for c in target)] for target in self._targets
        ]
        if weights is None:
            totals = [sum(found.get(c, 0) for found in voxels.values() for c in target) for target in self._targets]
            weights = [1 / max(total, 1) for total in totals]
        there = [weight * bool(cases) for weight, cases in zip(weights, self._holding, strict=True)]
        self._chances = [weight / sum(there) for weight in there] if sum(there) > 0 else []

    def draw(self, foreground: bool, rng: np.random.Generator) -> tuple[str, tuple[int, ...] | None]:
        """Return a sample's case, and the classes to centre it on; None: a random one of those that the case has."""
        if foreground and self._chances:
            target = int(rng.choice(len(self._chances), p=self._chances))
            cases = self._holding[target]
            return cases[rng.integers(len(cases))], self._targets[target]
        return self._cases[rng.integers(len(self._cases))], None


def target_weights(labels: LabelSet, classes: str | Mapping[str, float]) -> list[float] | None:
    """Return how often each class (or region) is drawn, not yet as probabilities; None: as their voxels are rare.

    Raises
    ------
    PlanError
        There is no such way to draw classes, no such class, or no weight above 0.
    """
    if isinstance(classes, str):
        if classes not in names(ClassSamplingName):
            raise PlanError(f"class sampling {classes!r} is unknown; {among(classes, names(ClassSamplingName))}")
        return None if classes == "inverse_frequency" else [1.0] * len(labels.score_names)
    require_weights("class sampling", classes, labels.score_names)
    weights = [float(classes.get(name, 1.0)) for name in labels.score_names]
    if not sum(weights) > 0:
        raise PlanError("class sampling: every class has the weight 0; give one of them more")
    return weights


def require_weights(what: str, weights: Mapping[str, float], known: Sequence[str]) -> None:
    """Check weights by name.

    Raises
    ------
    PlanError
        A name is not known, or a weight is no number from 0.
    """
    for name, weight in weights.items():
        if name not in known:
            raise PlanError(f"{what}: {name!r} is unknown; {among(name, known)}")
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < float("inf"):
            raise PlanError(f"{what}: {name} is {weight!r}: must be a number from 0")
