import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.evaluate.scores import METRICS, Score, Target
from nnunet_rs.evaluate.summary import KEYS, CaseScores, Summary, read_summary, together

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


def lesions():
    """Two cases found, one missed, one found where there is none, one rightly without."""
    found = {"dice": 0.5, "iou": 1 / 3, "sensitivity": 0.5, "precision": 0.5, "n_pred": 4, "n_ref": 4}
    ratios = ("dice", "iou", "sensitivity", "precision", "hd95", "asd", "nsd")
    missed = dict.fromkeys(ratios, 0.0) | {"n_ref": 4, "hd95": NAN, "asd": NAN}
    invented = missed | {"n_ref": 0, "n_pred": 4, "sensitivity": NAN}
    none = dict.fromkeys(ratios, NAN)
    rows = [found | {"hd95": 2.0, "asd": 1.0, "nsd": 1.0}, found | {"hd95": 4.0, "asd": 1.0, "nsd": 0.5}]
    return summary(*((row, none) for row in (*rows, missed, invented, none)))


def test_the_table_shows_on_how_many_cases_a_mean_rests():
    head, lesion, whole, mean = lesions().table()
    row = dict(zip(head, lesion, strict=True))
    assert row["cases"] == "4"
    assert (row["Dice"], row["NSD"], row["prec."]) == ("0.2500", "0.375", "0.250")
    assert (row["sens."], row["HD95 mm"], row["ASD mm"]) == ("0.333 (3/4)", "3.00 (2/4)", "1.00 (2/4)")
    assert set(whole[1:-1]) == {"-"}
    assert whole[-1] == "0"
    assert dict(zip(head, mean, strict=True))["HD95 mm"] == "3.00 (2/4)"
    assert mean[-1] == "4"
    assert lesions().rests_on_fewer()
    assert not summary(({"n_pred": 1, "n_ref": 1}, {})).rests_on_fewer()


def test_json_counts_the_cases_in_each_mean():
    content = lesions().to_json()
    counts = content["cases_in_mean"]["1"]
    assert {name: counts[name] for name in ("Dice", "Sensitivity", "Precision", "HD95", "NSD")} == {
        "Dice": 4, "Sensitivity": 3, "Precision": 4, "HD95": 2, "NSD": 4,
    }  # fmt: skip
    assert content["cases_in_mean"]["(1, 2)"]["Dice"] == 0
    assert content["missing_distances"]["1"] == 2


def test_summaries_of_the_first_version_are_brought_up(tmp_path):
    """There a missed structure had no NSD, and sensitivity was 0 where there was nothing to find."""
    path = tmp_path / "summary.json"
    lesions().write(path)
    content = json.loads(path.read_text())
    content["version"] = 1
    del content["cases_in_mean"]
    for case in content["metric_per_case"]:
        del case["diagonal_mm"]
        scores = case["metrics"]["1"]
        if (scores["n_pred"] == 0) != (scores["n_ref"] == 0):
            scores |= {"NSD": None, "Sensitivity": 0.0}
    path.write_text(json.dumps(content))
    back = read_summary(path)
    for metric in ("nsd", "sensitivity", "dice", "hd95"):
        np.testing.assert_array_equal(back.values(metric), lesions().values(metric))
    path.write_text(json.dumps(content | {"tolerance_mm": None}))
    assert np.isnan(read_summary(path).values("nsd")[2, 0])


def test_folds_come_together():
    one, two = summary(({"dice": 0.5}, {})), summary(({"dice": 0.7}, {}), ({"dice": 0.9}, {}))
    assert together([one, two]).mean("dice")[0] == pytest.approx(0.7)
    assert together([one, replace(two, tolerance=2.0)]).tolerance is None
    assert [case.name for case in THREE.of_cases({"case1"}).cases] == ["case1"]


@pytest.mark.parametrize("folder", [".", "/", ".."])
def test_a_summary_is_not_written_in_a_folders_place(folder):
    with pytest.raises(NnunetError, match="is a folder"):
        Summary.files(Path(folder))
