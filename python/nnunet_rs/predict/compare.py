"""Is one set of predictions better than another? A paired test over the same cases."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.predict.summary import KEYS, Summary, mean_of_known

EXACT = 14  # up to so many cases all 2^n sign patterns are enumerated (16 384)
DRAWS = 10_000  # sign patterns drawn beyond that
SEED = 12345


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of one target, first predictions against second, over the cases where both are defined."""

    name: str
    cases: int
    first: float  # mean
    second: float  # mean
    difference: float  # mean of first - second
    p_value: float  # two-sided; NaN without cases


def compare(first: Summary, second: Summary, metric: str = "dice") -> tuple[Comparison, ...]:
    """Compare two predictions of the same cases, target by target and over the foreground mean of each case (last).

    The test is a paired permutation test: if neither were better, each case's difference could as well have had the
    other sign; the p-value is the share of sign patterns whose mean difference is at least as far from zero.
    All patterns are enumerated for up to 14 cases, 10 000 seeded ones drawn beyond.

    Raises
    ------
    DatasetError
        If the two do not score the same cases and targets, or the metric is unknown.
    """
    if metric not in KEYS:
        raise DatasetError(f"metric {metric!r}: is not one of {', '.join(KEYS)}")
    ours, theirs = _aligned(first, second, metric)
    rows = [_compare(target.name, ours[:, i], theirs[:, i]) for i, target in enumerate(first.targets)]
    return (*rows, _compare("mean", mean_of_known(ours.T), mean_of_known(theirs.T)))


def _aligned(first: Summary, second: Summary, metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    keys = [[target.key for target in summary.targets] for summary in (first, second)]
    if keys[0] != keys[1]:
        raise DatasetError(f"classes {', '.join(keys[0])} against {', '.join(keys[1])}: compare the same classes")
    names = [[case.name for case in summary.cases] for summary in (first, second)]
    only = sorted(set(names[0]) ^ set(names[1]))
    if only:
        raise DatasetError(
            f"case {only[0]} ({len(only)} in all) is scored in one of the two only: compare the same cases"
        )
    order = [names[1].index(name) for name in names[0]]
    return first.values(metric), second.values(metric)[order]


def _compare(name: str, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Comparison:
    known = ~np.isnan(ours) & ~np.isnan(theirs)
    if not known.any():
        return Comparison(name, 0, np.nan, np.nan, np.nan, np.nan)
    ours, theirs = ours[known], theirs[known]
    difference = ours - theirs
    means = float(ours.mean()), float(theirs.mean()), float(difference.mean())
    return Comparison(name, int(known.sum()), *means, p_value(difference))


def p_value(differences: NDArray[np.float64]) -> float:
    """Two-sided paired permutation test of mean zero."""
    count = len(differences)
    if count <= EXACT:
        signs = np.asarray(list(product((1.0, -1.0), repeat=count)))
    else:
        drawn = np.random.default_rng(SEED).choice((1.0, -1.0), (DRAWS, count))
        signs = np.concatenate([np.ones((1, count)), drawn])  # the observed pattern belongs to the draw: p is never 0
    sums = np.abs(signs @ differences)
    return float((sums >= sums[0] * (1 - 1e-12)).mean())
