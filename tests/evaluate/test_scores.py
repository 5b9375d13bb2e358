import math

import numpy as np
import pytest
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.evaluate.distances import surface_distances
from nnunet_rs.evaluate.scores import count_pairs, overlap, score_case, scored_targets

PLAIN = LabelSet(("background", "liver", "tumour"), (0, 1, 5))
REGIONS = LabelSet(
    ("background", "oedema", "core"), (0, 1, 2), (Region("whole", (1, 2), 1), Region("core", (2,), 2)), ignore=3
)


def flat(*rows):
    return np.array([rows], dtype=np.uint8)


def test_targets_are_named_as_nnunet_names_them():
    assert [(t.key, t.name) for t in scored_targets(PLAIN)] == [("1", "liver"), ("5", "tumour")]
    assert [(t.key, t.name) for t in scored_targets(REGIONS)] == [("(1, 2)", "whole"), ("2", "core")]


def test_overlap_by_hand():
    prediction = flat([0, 1, 1, 2], [0, 0, 1, 2])
    reference = flat([0, 1, 2, 2], [1, 0, 1, 0])
    one, two = score_case(prediction, reference, PLAIN, (2.0, 10.0, 10.0), tolerance=1.0)
    assert (one.tp, one.fp, one.fn, one.tn) == (2, 1, 1, 4)
    assert (one.n_pred, one.n_ref) == (3, 3)
    assert (one.dice, one.iou, one.sensitivity, one.precision) == pytest.approx((4 / 6, 2 / 4, 2 / 3, 2 / 3))
    assert one.volume_pred == pytest.approx(0.6)  # three voxels of 0.2 ml
    assert (two.tp, two.fp, two.fn, two.tn) == (1, 1, 1, 5)


def test_absent_from_both_is_left_out_absent_from_one_counts_zero():
    nothing = flat([0, 0], [0, 0])
    one, _ = score_case(nothing, nothing, PLAIN, (1.0, 1.0, 1.0), tolerance=1.0)
    assert all(math.isnan(value) for value in (one.dice, one.iou, one.sensitivity, one.precision, one.hd95))
    for prediction, reference in ((flat([1, 0]), flat([0, 0])), (flat([0, 0]), flat([1, 0]))):
        one, _ = score_case(prediction, reference, PLAIN, (1.0, 1.0, 1.0), tolerance=1.0)
        assert (one.dice, one.iou, one.precision, one.nsd) == (0.0, 0.0, 0.0, 0.0)
        assert all(math.isnan(value) for value in (one.hd95, one.asd))
        assert one.one_sided


def test_there_is_no_sensitivity_where_there_is_nothing_to_find():
    """0/0, whatever was predicted; what was missed is 0, of precision too (Metrics Reloaded)."""
    found, _ = score_case(flat([1, 0]), flat([0, 0]), PLAIN, (1.0, 1.0, 1.0), tolerance=None)
    missed, _ = score_case(flat([0, 0]), flat([1, 0]), PLAIN, (1.0, 1.0, 1.0), tolerance=None)
    assert math.isnan(found.sensitivity)
    assert (missed.sensitivity, missed.precision) == (0.0, 0.0)
    assert math.isnan(missed.nsd)  # not measured


def test_what_lies_on_ignored_voxels_alone_is_not_found():
    missed, _ = score_case(flat([0, 0, 1]), flat([1, 1, 3]), REGIONS, (1.0, 1.0, 1.0), tolerance=1.0)
    assert (missed.n_pred, missed.n_ref, missed.nsd) == (0, 2, 0.0)
    assert math.isnan(missed.hd95)


def test_regions_are_unions_and_ignored_voxels_count_nowhere():
    prediction = flat([1, 2, 2, 0], [1, 2, 1, 0])
    reference = flat([2, 2, 1, 0], [3, 3, 1, 1])
    whole, core = score_case(prediction, reference, REGIONS, (1.0, 1.0, 1.0), tolerance=1.0)
    assert (whole.tp, whole.fp, whole.fn, whole.tn) == (4, 0, 1, 1)
    assert (core.tp, core.fp, core.fn, core.tn) == (1, 1, 1, 3)


def test_ignored_voxels_have_no_surface():
    prediction = flat([2, 0, 0, 0, 2])
    reference = flat([2, 0, 0, 0, 3])
    _, core = score_case(prediction, reference, REGIONS, (1.0, 1.0, 1.0), tolerance=1.0)
    assert (core.hd95, core.asd, core.nsd) == (0.0, 0.0, 1.0)


def test_distances_are_those_of_the_whole_masks():
    rng = np.random.default_rng(0)

    prediction, reference = rng.integers(0, 3, (2, 5, 6, 7)).astype(np.uint8)
    prediction[:, :2] = reference[3:] = 0
    scores = score_case(prediction, reference, PLAIN, (3.0, 1.0, 0.5), tolerance=0.7)
    for index, score in enumerate(scores, start=1):
        whole = surface_distances(prediction == index, reference == index, (3.0, 1.0, 0.5), 0.7)
        assert (score.hd95, score.asd, score.nsd) == (whole.hd95, whole.asd, whole.nsd)


def test_without_tolerance_there_are_no_distances():
    one, _ = score_case(flat([1, 1]), flat([1, 1]), PLAIN, (1.0, 1.0, 1.0), tolerance=None)
    assert one.dice == 1.0
    assert math.isnan(one.hd95)


def test_pairs_agree_with_sklearn(monkeypatch):
    from sklearn.metrics import confusion_matrix

    monkeypatch.setattr("nnunet_rs.evaluate.scores.CHUNK", 7)  # several chunks, the last one short
    prediction, reference = np.random.default_rng(1).integers(0, 4, (2, 3, 5, 4)).astype(np.uint8)
    pairs = count_pairs(prediction.transpose(2, 0, 1), reference.transpose(2, 0, 1), 3)
    expected = confusion_matrix(prediction.ravel(), reference.ravel(), labels=range(4))
    np.testing.assert_array_equal(pairs, expected)
    assert sum(overlap(pairs, (1, 2))) == (reference < 3).sum()
