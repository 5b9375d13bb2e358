import math
from dataclasses import replace

import numpy as np
import pytest
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.evaluate.comparison import compare, p_value
from nnunet_rs.evaluate.scores import METRICS, Score, Target
from nnunet_rs.evaluate.summary import CaseScores, Summary

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


def lesions(*rows):
    """Summary of one target, a case a row: (n_pred, n_ref, hd95, nsd); images of diagonal 100 mm."""
    cases = []
    for index, (n_pred, n_ref, hd95, nsd) in enumerate(rows):
        score = replace(EMPTY, n_pred=n_pred, n_ref=n_ref, hd95=hd95, nsd=nsd, dice=0.0 if hd95 != hd95 else 0.5)
        score = replace(score, dice=math.nan if n_pred == n_ref == 0 else score.dice)
        cases.append(CaseScores(f"case{index}", "p", "r", (score,), 100.0))
    return Summary((Target("1", "lesion", (1,)),), tuple(cases), 1.0)


NAN = math.nan
FOUND, MISSED, INVENTED, RIGHTLY_NONE = (5, 5, 2.0, 0.75), (0, 5, NAN, 0.0), (5, 0, NAN, 0.0), (0, 0, NAN, NAN)


@pytest.mark.parametrize("metric", ["dice", "nsd", "hd95"])
@pytest.mark.parametrize("worse", [MISSED, INVENTED])
def test_what_is_missed_or_invented_is_worse_than_what_is_found(metric, worse):
    better = FOUND if worse == MISSED else RIGHTLY_NONE
    row, mean = compare(lesions(*[worse] * 4), lesions(*[better] * 4), metric)
    assert row.cases == mean.cases == 4
    assert row.difference > 0 if metric == "hd95" else row.difference < 0
    assert row.difference == -compare(lesions(*[better] * 4), lesions(*[worse] * 4), metric)[0].difference
    assert mean.difference == row.difference
    assert row.p_value == 2 / 16


def test_a_missing_distance_is_the_images_diagonal():
    """Two cases found 2 mm apart, two missed; against four found 2 mm apart."""
    row, mean = compare(lesions(FOUND, FOUND, MISSED, MISSED), lesions(*[FOUND] * 4), "hd95")
    assert (row.first, row.second, row.difference, row.cases) == (51.0, 2.0, 49.0, 4)
    assert row.missing == mean.missing == (2, 0)
    assert compare(lesions(MISSED), lesions(MISSED), "hd95")[0].difference == 0


def test_what_nobody_has_is_left_out():
    row, _ = compare(lesions(FOUND, RIGHTLY_NONE), lesions(FOUND, RIGHTLY_NONE), "nsd")
    assert row.cases == 1
    row, _ = compare(lesions(FOUND, RIGHTLY_NONE), lesions(FOUND, INVENTED), "nsd")
    assert (row.cases, row.first, row.second) == (2, 0.875, 0.375)  # right that there is none: 1


def test_distances_that_were_not_measured_alike_are_not_compared():
    one = lesions(FOUND)
    with pytest.raises(DatasetError, match="metric hd95: no surface distances were measured"):
        compare(one, replace(one, tolerance=None), "hd95")
    with pytest.raises(DatasetError, match="metric nsd: measured with tolerances of 1 and 2 mm"):
        compare(one, replace(one, tolerance=2.0), "nsd")
    unknown = lesions(MISSED)
    unknown = replace(unknown, cases=(replace(unknown.cases[0], diagonal=NAN),))
    with pytest.raises(DatasetError, match="case0 was scored without its size; evaluate again"):
        compare(unknown, lesions(FOUND), "hd95")
