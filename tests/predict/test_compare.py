import math
from dataclasses import replace

import numpy as np
import pytest
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.predict.compare import compare, p_value
from nnunet_rs.predict.scores import METRICS, Score, Target
from nnunet_rs.predict.summary import CaseScores, Summary

EMPTY = Score(**dict.fromkeys(METRICS, 0))


def summary(dices, names=None):
    targets = tuple(Target(str(i + 1), f"class{i + 1}", (i + 1,)) for i in range(len(dices[0])))
    names = names or [f"case{i}" for i in range(len(dices))]
    cases = tuple(
        CaseScores(name, "p", "r", tuple(replace(EMPTY, dice=d) for d in row))
        for name, row in zip(names, dices, strict=True)
    )
    return Summary(targets, cases, 1.0)


def test_two_cases_by_hand():
    # differences -.1 and -.3: of the four sign patterns, ++ and -- are as extreme
    (row, mean) = compare(summary([[0.5], [0.6]]), summary([[0.6], [0.9]]))
    assert (row.cases, row.first, row.second) == (2, pytest.approx(0.55), pytest.approx(0.75))
    assert row.difference == pytest.approx(-0.2)
    assert row.p_value == mean.p_value == 0.5


def test_agrees_with_scipy():
    from scipy.stats import permutation_test

    differences = np.random.default_rng(0).normal(0.02, 0.05, 10)
    expected = permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    ).pvalue
    assert p_value(differences) == pytest.approx(expected)
    many = np.random.default_rng(1).normal(0.02, 0.05, 40)
    expected = permutation_test((many,), np.mean, permutation_type="samples", n_resamples=20000, rng=0).pvalue
    assert p_value(many) == pytest.approx(expected, abs=0.01)


def test_cases_are_paired_by_name_and_undefined_ones_left_out():
    first = summary([[0.5, math.nan], [0.6, 0.2]], ["a", "b"])
    second = summary([[0.6, 0.4], [0.5, 0.9]], ["b", "a"])
    one, two, mean = compare(first, second)
    assert one.difference == 0.0
    assert one.p_value == 1.0
    assert (two.cases, two.difference) == (1, pytest.approx(-0.2))
    assert mean.cases == 2


def test_what_cannot_be_compared_is_said():
    with pytest.raises(DatasetError, match="case a"):
        compare(summary([[0.5]], ["a"]), summary([[0.5]], ["b"]))
    with pytest.raises(DatasetError, match="same classes"):
        compare(summary([[0.5]]), summary([[0.5, 0.5]]))
    with pytest.raises(DatasetError, match="metric 'volume'"):
        compare(summary([[0.5]]), summary([[0.5]]), "volume")
