import numpy as np
import pytest
from nnunet_rs.core.io import write_labels
from nnunet_rs.core.types import Header, LabelSet, Region
from nnunet_rs.evaluate.folders import CasePair, evaluate_pairs
from nnunet_rs.select.postprocessing import PostProcessing, choose_postprocessing

LABELS = LabelSet(("background", "liver", "tumour"), (0, 1, 2))
REGIONS = LabelSet(("background", "oedema", "core"), (0, 1, 2), (Region("whole", (1, 2), 1), Region("core", (2,), 2)))
HEADER = Header("itk", ((1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 1.0, 0), (0, 0, 0, 1.0)))


def row(*values):
    return np.array([[values]], np.uint8)


def test_largest_component_by_hand():
    labels = row(1, 1, 2, 0, 2, 0, 1, 0, 2, 2)
    before = labels.copy()
    keep_one = PostProcessing(((1,),)).apply(labels)
    np.testing.assert_array_equal(keep_one, row(1, 1, 2, 0, 2, 0, 0, 0, 2, 2))
    keep_foreground = PostProcessing(((1, 2),)).apply(labels)
    np.testing.assert_array_equal(keep_foreground, row(1, 1, 2, 0, 0, 0, 0, 0, 0, 0))
    np.testing.assert_array_equal(labels, before)


def test_corners_connect_and_ties_keep_the_first():
    labels = np.zeros((2, 2, 5), np.uint8)
    labels[0, 0, 0] = labels[1, 1, 1] = 1  # share a corner
    labels[0, 0, 3:] = 1  # as large
    expected = np.zeros_like(labels)
    expected[0, 0, 0] = expected[1, 1, 1] = 1
    np.testing.assert_array_equal(PostProcessing(((1,),)).apply(labels), expected)


def test_agrees_with_skimage():
    from skimage.measure import label

    labels = (np.random.default_rng(0).random((9, 10, 11)) < 0.12).astype(np.uint8)
    components = label(labels, connectivity=3)
    largest = 1 + np.bincount(components.ravel())[1:].argmax()
    np.testing.assert_array_equal(PostProcessing(((1,),)).apply(labels), components == largest)


def test_absent_classes_are_left_alone():
    labels = row(0, 0, 1)
    np.testing.assert_array_equal(PostProcessing(((2,), (1,))).apply(labels), labels)


@pytest.fixture
def pairs(tmp_path):
    def make(*cases):
        made = []
        for i, (prediction, reference) in enumerate(cases):
            pair = CasePair(f"case{i}", tmp_path / f"p{i}.nrrd", tmp_path / f"r{i}.nrrd")
            write_labels(pair.prediction, prediction, HEADER)
            write_labels(pair.reference, reference, HEADER)
            made.append(pair)
        return made

    return make


def test_adopted_where_it_helps_and_hurts_no_class(pairs):
    # the stray tumour voxel is wrong, the second liver piece is right
    prediction = row(1, 1, 1, 0, 1, 0, 2, 2, 0, 2)
    reference = row(1, 1, 1, 0, 1, 0, 2, 2, 0, 0)
    chosen = choose_postprocessing(pairs((prediction, reference), (prediction, reference)), LABELS)
    assert chosen.keep_largest == ((2,),)
    assert [reason.endswith(": adopted") for reason in chosen.reasons] == [False, False, True]


def test_foreground_first(pairs):
    prediction = row(1, 2, 2, 0, 1, 2, 0, 0)
    reference = row(1, 2, 2, 0, 0, 0, 0, 0)
    chosen = choose_postprocessing(pairs((prediction, reference)), LABELS)
    assert chosen.keep_largest == ((1, 2),)


def test_predicted_gain_is_the_measured_gain(pairs, tmp_path):
    rng = np.random.default_rng(3)
    cases = []
    for _ in range(3):
        reference = np.zeros((6, 8, 8), np.uint8)
        reference[1:4, 2:6, 2:4], reference[1:4, 2:6, 4:6] = 1, 2
        stray = (rng.random(reference.shape) < 0.06) * rng.integers(1, 3, reference.shape)
        cases.append((np.where(reference, reference, stray).astype(np.uint8), reference))
    files = pairs(*cases)
    chosen = choose_postprocessing(files, LABELS)
    assert chosen.keep_largest
    better = [chosen.apply(prediction) for prediction, _ in cases]
    again = pairs(*zip(better, (reference for _, reference in cases), strict=True))
    told = max(float(r.split("-> ")[1].split(",")[0]) for r in chosen.reasons if r.endswith(": adopted"))
    assert evaluate_pairs(again, LABELS, tolerance=None).foreground_mean() >= told - 1e-3


def test_regions_are_decided_one_after_the_other(pairs):
    prediction = row(1, 2, 2, 1, 0, 2, 0, 2)
    reference = row(1, 2, 2, 1, 0, 0, 0, 0)
    chosen = choose_postprocessing(pairs((prediction, reference)), REGIONS)
    assert chosen.keep_largest == ((1, 2),)  # then nothing is left for the core
    np.testing.assert_array_equal(chosen.apply(prediction), reference)
