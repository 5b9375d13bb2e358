"""Is one set of predictions better than another? A paired test over the same cases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.evaluate.summary import DISTANCES, KEYS, Summary, mean_of_known

EXACT = 14  # up to so many cases all 2^n sign patterns are enumerated (16 384)
DRAWS = 10_000  # sign patterns drawn beyond that
SEED = 12345


BEST = {"hd95": 0.0, "asd": 0.0, "nsd": 1.0, "dice": 1.0, "iou": 1.0, "sensitivity": 1.0, "precision": 1.0}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of one target, first predictions against second, over the same cases."""

    name: str
    cases: int  # in which the reference or either prediction has the target
    first: float  # mean
    second: float  # mean
    difference: float  # mean of first - second
    p_value: float  # two-sided; NaN without cases
    missing: tuple[int, int] = (0, 0)  # HD95 and ASD: distances of the first, of the second, that do not exist


def compare(first: Summary, second: Summary, metric: str = "dice") -> tuple[Comparison, ...]:
    """Compare two predictions of the same cases, target by target and over the foreground mean of each case (last).

    The test is a paired permutation test: if neither were better, each case's difference could as well have had the
    other sign; the p-value is the share of sign patterns whose mean difference is at least as far from zero.
    All patterns are enumerated for up to 14 cases, 10 000 seeded ones drawn beyond.

    Both means are over the same cases. A target that is missed, or found where there is none, counts as the worst:
    ratios and NSD are 0 there; HD95 and ASD, which do not exist, are set to the image's diagonal, longer than any
    distance in it. Where one prediction finds a target that is not there and the other rightly does not, the other,
    whose score is undefined, counts as the best. Cases without the target in all three are left out.

    Raises
    ------
    DatasetError
        If the two do not score the same cases and targets, the metric is unknown, distances were not measured, or not
        with one tolerance.
    """
    if metric not in KEYS:
        raise DatasetError(f"metric {metric!r}: is not one of {', '.join(KEYS)}")
    second = _aligned(first, second)
    _require_measured(first, second, metric)
    ours, theirs = (_with_worst(summary, metric) for summary in (first, second))
    ours, theirs = _with_best(ours, theirs, second, metric), _with_best(theirs, ours, first, metric)
    both = np.isnan(ours) | np.isnan(theirs)
    ours[both] = theirs[both] = np.nan
    missing = [_missing(summary, metric) for summary in (first, second)]
    rows = [
        _compare(target.name, ours[:, i], theirs[:, i], (missing[0][i], missing[1][i]))
        for i, target in enumerate(first.targets)
    ]
    return (*rows, _compare("mean", mean_of_known(ours.T), mean_of_known(theirs.T), (sum(missing[0]), sum(missing[1]))))


def _aligned(first: Summary, second: Summary) -> Summary:
    """Return the second with its cases in the order of the first."""
    keys = [[target.key for target in summary.targets] for summary in (first, second)]
    if keys[0] != keys[1]:
        raise DatasetError(f"classes {', '.join(keys[0])} against {', '.join(keys[1])}: compare the same classes")
    cases = {case.name: case for case in second.cases}
    names = [case.name for case in first.cases]
    only = sorted(set(names) ^ set(cases))
    if only:
        raise DatasetError(
            f"case {only[0]} ({len(only)} in all) is scored in one of the two only: compare the same cases"
        )
    return replace(second, cases=tuple(cases[name] for name in names))


def _require_measured(first: Summary, second: Summary, metric: str) -> None:
    if metric not in DISTANCES:
        return
    if first.tolerance is None or second.tolerance is None:
        raise DatasetError(f"metric {metric}: no surface distances were measured; evaluate with them")
    if metric == "nsd" and first.tolerance != second.tolerance:
        raise DatasetError(
            f"metric nsd: measured with tolerances of {first.tolerance:g} and {second.tolerance:g} mm; use one"
        )


def _with_worst(summary: Summary, metric: str) -> NDArray[np.float64]:
    """Return one metric of every case and target, distances that do not exist replaced by the image's diagonal."""
    values = summary.values(metric)
    if metric in ("hd95", "asd"):
        for row, case in zip(values, summary.cases, strict=True):
            missing = [score.one_sided for score in case.scores]
            if any(missing) and np.isnan(case.diagonal):
                raise DatasetError(f"metric {metric}: {case.name} was scored without its size; evaluate again")
            row[missing] = case.diagonal
    return values


def _with_best(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], other: Summary, metric: str
) -> NDArray[np.float64]:
    """Let what is undefined count as the best where the other prediction has found what is not there."""
    wrong = (other.values("n_ref") == 0) & (other.values("n_pred") > 0) & ~np.isnan(theirs)
    return np.where(np.isnan(ours) & wrong, BEST.get(metric, np.nan), ours)


def _missing(summary: Summary, metric: str) -> list[int]:
    counts = [sum(case.scores[i].one_sided for case in summary.cases) for i in range(len(summary.targets))]
    return counts if metric in ("hd95", "asd") else [0] * len(counts)


def _compare(name: str, ours: NDArray[np.float64], theirs: NDArray[np.float64], missing: tuple[int, int]) -> Comparison:
    known = ~np.isnan(ours) & ~np.isnan(theirs)
    if not known.any():
        return Comparison(name, 0, np.nan, np.nan, np.nan, np.nan)
    ours, theirs = ours[known], theirs[known]
    difference = ours - theirs
    means = float(ours.mean()), float(theirs.mean()), float(difference.mean())
    return Comparison(name, int(known.sum()), *means, p_value(difference), missing)


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
