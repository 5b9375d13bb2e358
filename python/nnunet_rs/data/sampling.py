"""Which case a training sample is of, and which class it is centred on."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.choices import ClassSamplingName, names
from nnunet_rs.core.errors import DatasetError, PlanError, among, meant
from nnunet_rs.core.files import read_json
from nnunet_rs.core.types import LabelSet
from nnunet_rs.core.workspace import SPLITS_JSON
from nnunet_rs.data.folds import read_case_table
from nnunet_rs.data.patches import PatchRule

if TYPE_CHECKING:  # a training is described without opening prepared cases
    from nnunet_rs.data.store import Store


@dataclass(frozen=True, slots=True)
class Sampling:
    """How often samples are of each case, how often they are centred on foreground, and on what of it."""

    # Share of the samples, over many batches. None: as nnU-Net, a third of each batch, rounded up to whole samples.
    foreground: float | None = None
    # uniform: a case, then one of the classes in it, as nnU-Net. Else a class, then one of the cases that have it:
    # classes equally often (balanced), in inverse proportion to their voxels in the training cases
    # (inverse_frequency), or by weights (what is not named has the weight 1).
    classes: str | Mapping[str, float] = "uniform"
    # How often each case is drawn, relative to the others; what is not named has the weight 1. None: equally often.
    cases: Mapping[str, float] | None = None


AS_NNUNET = Sampling()


@dataclass(frozen=True, slots=True)
class _Cases:
    """Cases to draw from."""

    names: tuple[str, ...]
    probabilities: NDArray[np.float64] | None  # None: each is equally likely

    @classmethod
    def of(cls, names: Sequence[str], weights: Mapping[str, float] | None) -> _Cases:
        """Return cases with their weights, of which none is 0."""
        if weights is None or not names:
            return cls(tuple(names), None)
        relative = np.array([weights.get(name, 1.0) for name in names], float)
        relative /= relative.max()  # no sum of large weights is infinite
        return cls(tuple(names), relative / relative.sum())

    def draw(self, rng: np.random.Generator) -> str:
        """Return a random case."""
        if self.probabilities is None:
            return self.names[rng.integers(len(self.names))]
        return self.names[int(rng.choice(len(self.names), p=self.probabilities))]


class CaseSampler:
    """Draws the case of a sample, and the classes it is centred on where the case does not decide that.

    Parameters
    ----------
    store
        The prepared cases.
    cases
        Names of those to draw from.
    rule
        Its `foreground_classes` are what is drawn.
    labels
        Their names.
    sampling
        How cases and classes are drawn.

    Raises
    ------
    PlanError
        Every case has the weight 0; or as `target_weights`.
    """

    def __init__(
        self, store: Store, cases: Sequence[str], rule: PatchRule, labels: LabelSet, sampling: Sampling
    ) -> None:
        self._weights = sampling.cases
        self._cases = _Cases.of(cases_drawn(cases, sampling.cases), sampling.cases)
        self._targets = rule.foreground_classes
        self._holding: list[_Cases] = []  # of each target, the cases that have it
        self._chances: list[float] = []  # of each target; empty: the case is drawn first
        if sampling.classes != "uniform":
            self._count(store, target_weights(labels, sampling.classes))

    def _count(self, store: Store, weights: Sequence[float] | None) -> None:
        """Look which cases have which targets; weights of None are one over the voxels."""
        voxels = {name: store.record(name).voxels for name in self._cases.names}
        self._holding = [
            _Cases.of([name for name, found in voxels.items() if any(c in found for c in target)], self._weights)
            for target in self._targets
        ]
        if weights is None:
            totals = [sum(found.get(c, 0) for found in voxels.values() for c in target) for target in self._targets]
            weights = [1 / max(total, 1) for total in totals]
        there = [weight * bool(cases.names) for weight, cases in zip(weights, self._holding, strict=True)]
        self._chances = [weight / sum(there) for weight in there] if sum(there) > 0 else []

    def draw(self, foreground: bool, rng: np.random.Generator) -> tuple[str, tuple[int, ...] | None]:
        """Return a sample's case, and the classes to centre it on; None: a random one of those that the case has."""
        if foreground and self._chances:
            target = int(rng.choice(len(self._chances), p=self._chances))
            return self._holding[target].draw(rng), self._targets[target]
        return self._cases.draw(rng), None


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
        _require_weight(what, name, weight)


def _require_weight(what: str, name: str, weight: object) -> None:
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight <= sys.float_info.max:
        raise PlanError(f"{what}: {name} is {weight!r}: must be a number from 0")


def cases_drawn(cases: Sequence[str], weights: Mapping[str, float] | None) -> tuple[str, ...]:
    """Return the cases that samples are of: those whose weight is not 0.

    Raises
    ------
    PlanError
        There are cases, and none is left.
    """
    left = tuple(name for name in cases if not weights or weights.get(name, 1.0) > 0)
    if cases and not left:
        raise PlanError("case sampling: every case that the fold trains on has the weight 0; give one of them more")
    return left


def require_case_weights(weights: Mapping[str, float], known: Collection[str]) -> None:
    """Check how often cases shall be drawn.

    Raises
    ------
    PlanError
        A name is no training case of the dataset, or a weight is no number from 0.
    """
    unknown = [name for name in weights if name not in known]
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if unknown[1:] else ""
        raise PlanError(
            f"case sampling: {unknown[0]!r}{more} is no training case of the dataset; {meant(unknown[0], known)}names "
            f"are as in {SPLITS_JSON}"
        )
    for name, weight in weights.items():
        _require_weight("case sampling", name, weight)


def read_case_weights(path: Path) -> dict[str, float]:
    """Read how often cases are drawn: a JSON file {"case": weight, ...}, or a CSV file of case and weight.

    Raises
    ------
    DatasetError
        The file cannot be read, or a weight is no number.
    """
    if path.suffix.lower() == ".json":
        content = read_json(path)
        if not isinstance(content, dict):
            raise DatasetError(f'{path}: expected case names and their weights, {{"case_1": 2.5, ...}}')
        return content
    weights = {}
    for name, text in read_case_table(path).items():
        try:
            weights[name] = float(text)
        except ValueError:
            raise DatasetError(f"{path}: the weight of case {name} is {text!r}: must be a number from 0") from None
    return weights
