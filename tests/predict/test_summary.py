import json
import math
from dataclasses import replace

import numpy as np
import pytest
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.predict.scores import METRICS, Score, Target
from nnunet_rs.predict.summary import KEYS, CaseScores, Summary, read_summary

EMPTY = Score(**dict.fromkeys(METRICS, 0))
NAN = math.nan


def summary(*rows):
    targets = (Target("1", "liver", (1,)), Target("(1, 2)", "whole", (1, 2)))
    cases = tuple(
        CaseScores(f"case{i}", f"p/{i}.nii.gz", f"r/{i}.nii.gz", tuple(replace(EMPTY, **score) for score in row))
        for i, row in enumerate(rows)
    )
    return Summary(targets, cases, 1.0)


THREE = summary(
    ({"dice": 0.8, "hd95": 2.0, "n_pred": 3, "n_ref": 3}, {"dice": 0.5}),
    ({"dice": 0.6, "hd95": 4.0, "n_pred": 3, "n_ref": 1}, {"dice": NAN, "hd95": NAN}),
    ({"dice": 0.0, "hd95": NAN, "n_pred": 0, "n_ref": 2}, {"dice": NAN, "hd95": NAN}),
)


def test_means_leave_out_what_is_undefined():
    np.testing.assert_allclose(THREE.mean("dice"), [1.4 / 3, 0.5])
    np.testing.assert_allclose(THREE.median("dice"), [0.6, 0.5])
    assert THREE.foreground_mean() == pytest.approx((1.4 / 3 + 0.5) / 2)
    assert THREE.mean("hd95")[0] == 3.0


def test_every_metric_has_a_key():
    assert set(KEYS) == set(METRICS)


def test_interval_is_the_bootstrap_of_the_mean():
    from scipy.stats import bootstrap

    dices = np.random.default_rng(0).uniform(0.5, 1.0, 30)
    many = summary(*(({"dice": d}, {"dice": NAN}) for d in dices))
    limits, foreground = many.interval()
    expected = bootstrap((dices,), np.mean, method="percentile", n_resamples=5000, rng=0).confidence_interval
    np.testing.assert_allclose(limits[0], expected, atol=0.005)
    assert np.isnan(limits[1]).all()
    np.testing.assert_allclose(foreground, limits[0])
    assert many.interval()[1] == foreground  # seeded


def test_json_has_nnunets_keys_and_is_strict(tmp_path):
    THREE.write(tmp_path / "summary.json")
    content = json.loads((tmp_path / "summary.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert content["foreground_mean"]["Dice"] == pytest.approx(THREE.foreground_mean())
    assert content["mean"]["(1, 2)"]["Dice"] == 0.5
    case = content["metric_per_case"][1]
    assert case["metrics"]["(1, 2)"]["Dice"] is None
    assert (case["prediction_file"], case["reference_file"]) == ("p/1.nii.gz", "r/1.nii.gz")
    assert {"Dice", "IoU", "TP", "FP", "FN", "TN", "n_pred", "n_ref"} <= case["metrics"]["1"].keys()
    assert content["missing_distances"] == {"1": 1, "(1, 2)": 0}


def test_written_summaries_are_read_back(tmp_path):
    THREE.write(tmp_path / "summary.json")
    back = read_summary(tmp_path / "summary.json")
    assert back.targets == THREE.targets
    np.testing.assert_array_equal(back.values("hd95"), THREE.values("hd95"))
    lines = (tmp_path / "summary.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * 2
    assert lines[0].startswith("case,label,name,Dice,IoU")


@pytest.mark.parametrize("content", ["{}", '{"version": 99}', "[1]"])
def test_other_json_is_refused(tmp_path, content):
    path = tmp_path / "summary.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=r"summary\.json"):
        read_summary(path)


def test_table_has_a_row_per_target_and_the_mean():
    head, liver, _, mean = THREE.table()
    assert len(head) == len(liver) == len(mean)
    assert liver[:2] == ["liver", "0.4667"]
    assert liver[-1] == "3"
    assert mean[1] == "0.4833"


def test_a_summary_without_cases_is_empty_not_broken():
    empty = Summary(THREE.targets, (), None)
    assert math.isnan(empty.foreground_mean())
    assert empty.to_json()["mean"]["1"]["Dice"] is None
    assert empty.table()[1][1] == "-"
