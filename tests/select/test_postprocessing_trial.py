import numpy as np
import pytest
from nnunet_rs.core.io import write_labels
from nnunet_rs.core.types import Header, LabelSet, Region
from nnunet_rs.evaluate.folders import CasePair, evaluate_pairs
from nnunet_rs.select.postprocessing_trial import choose_postprocessing

LABELS = LabelSet(("background", "liver", "tumour"), (0, 1, 2))
REGIONS = LabelSet(("background", "oedema", "core"), (0, 1, 2), (Region("whole", (1, 2), 1), Region("core", (2,), 2)))
HEADER = Header("itk", ((1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 1.0, 0), (0, 0, 0, 1.0)))


def row(*values):
    return np.array([[values]], np.uint8)


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
