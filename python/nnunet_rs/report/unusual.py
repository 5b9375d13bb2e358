"""Which of many segmentations to look at first where no reference says which is worst: those unlike the others.

Compared is, structure by structure, what a glance would notice: a structure that is missing, or there though it is
hardly ever, a volume or a number of components far from those of the other cases, how unsure the network was, and how
far the folds disagree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.evaluate.structures import StructureStatistics
from nnunet_rs.evaluate.structures_folder import CaseStructures

LEAST = 5  # cases, from which on one can be unlike the others
FAR = 3.5  # robust standard deviations from which on a case is reported as unusual (Iglewicz and Hoaglin, 1993)
_MAD = 1.4826  # the standard deviation of a normal distribution, in median absolute deviations
# Standard deviations of logarithms at least: of few cases what is less is chance.
_VOLUMES, _PARTS, _ENTROPIES, _DOUBTS = 0.15, 0.3, 0.15, 0.3
_MISSING = 6.0  # standard deviations that a structure counts which is missing though all others have it
_RARE, _COMMON = 0.2, 0.8  # parts of the cases
_ALIKE = 0.02  # of a Dice: folds differ by so much at every border


@dataclass(frozen=True, slots=True)
class Unusual:
    """How far a case is from the others."""

    case: str
    score: float  # robust standard deviations, of what is farthest
    reasons: tuple[str, ...]  # what is FAR, the farthest first


def by_unusualness(
    cases: Sequence[CaseStructures],
    entropy: Mapping[str, float] | None = None,
    fold_dice: Mapping[str, Mapping[str, float]] | None = None,
) -> tuple[Unusual, ...]:
    """Order cases, the most unusual first.

    Of fewer than LEAST nothing is usual: the one comes first on which the folds agree least, or by their names.

    Parameters
    ----------
    cases
        With the same structures.
    entropy
        Of each case that has probabilities: the mean over its foreground, 0 to 1.
    fold_dice
        Of each case that several folds predicted: the Dice between them, by structure.
    """
    agreed = fold_dice or {}
    found: dict[str, list[tuple[float, str]]] = {case.case: [] for case in cases}
    if len(cases) >= LEAST:
        for place in range(len(cases[0].structures)):
            column = {case.case: case.structures[place] for case in cases}
            doubt = _disagreement(cases[0].structures[place].name, agreed)
            for name, score, reason in (*_structure(column), *doubt):
                found[name].append((score, reason))
        for name, score, reason in _entropy(entropy or {}):
            found[name].append((score, reason))
    rows = [_unusual(name, sorted(scored, key=lambda row: -row[0])) for name, scored in found.items()]
    means = {name: sum(dice.values()) / len(dice) for name, dice in agreed.items() if dice}
    return tuple(sorted(rows, key=lambda row: (-row.score, means.get(row.case, 1.0), row.case)))


def _unusual(name: str, scored: Sequence[tuple[float, str]]) -> Unusual:
    reasons = tuple(reason for score, reason in scored if score >= FAR)
    return Unusual(name, scored[0][0] if scored else 0.0, reasons)


def _structure(column: Mapping[str, StructureStatistics]) -> Iterator[tuple[str, float, str]]:
    """Give (case, score, reason) of one structure in all cases."""
    there = {name: structure for name, structure in column.items() if structure.voxels}
    part = len(there) / len(column)
    if part < _RARE:
        for name, structure in there.items():
            yield name, _MISSING * (1 - part), f"{structure.name} is there, in {len(there)} of {len(column)} cases"
        return
    if part >= _COMMON:
        for name in column.keys() - there.keys():
            text = f"{column[name].name} is missing, in {len(column) - len(there)} of {len(column)} cases"
            yield name, _MISSING * part, text
    if len(there) < LEAST:
        return
    volumes = np.array([structure.volume / 1000 for structure in there.values()])
    parts = np.array([structure.components for structure in there.values()], np.float64)
    usual, several = float(np.median(volumes)), float(np.median(parts))
    scores = zip(there.items(), _robust(np.log(volumes), _VOLUMES), _robust(np.log(parts), _PARTS), strict=True)
    for (name, structure), size, pieces in scores:
        volume = structure.volume / 1000
        yield name, abs(size), f"{structure.name} has {_ml(volume)} ml, the median is {_ml(usual)}"
        if pieces > 0:
            yield name, pieces, f"{structure.name} is in {structure.components} parts, the median is {several:.0f}"


def _disagreement(structure: str, fold_dice: Mapping[str, Mapping[str, float]]) -> Iterator[tuple[str, float, str]]:
    known = {name: dice[structure] for name, dice in fold_dice.items() if structure in dice}
    if len(known) < LEAST:
        return
    values = np.array(list(known.values()))
    usual = float(np.median(values))
    for (name, value), score in zip(known.items(), _robust(np.log(1 - values + _ALIKE), _DOUBTS), strict=True):
        if score > 0:
            yield name, float(score), f"the folds agree on {structure} by Dice {value:.2f}, the median is {usual:.2f}"


def _entropy(entropy: Mapping[str, float]) -> Iterator[tuple[str, float, str]]:
    if len(entropy) < LEAST:
        return
    values = np.array(list(entropy.values()))
    usual = float(np.median(values))
    for (name, value), score in zip(entropy.items(), _robust(np.log(values + 1e-3), _ENTROPIES), strict=True):
        if score > 0:
            yield name, float(score), f"the mean entropy is {value:.3f}, the median is {usual:.3f}"


def _robust(values: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Return each value's distance from the median in robust standard deviations, which are `least` at least."""
    distance = values - np.median(values)
    spread = _MAD * float(np.median(np.abs(distance)))
    scores: NDArray[np.float64] = distance / max(spread, least)
    return scores


def _ml(volume: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(volume))) if volume > 0 else 0
    return f"{volume:.{min(digits, 4)}f}"
