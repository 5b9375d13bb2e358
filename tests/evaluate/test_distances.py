import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from nnunet_rs.evaluate.distances import surface_distances
from scipy import ndimage


def test_two_voxels_three_apart():
    prediction, reference = np.zeros((2, 1, 3, 6), bool)
    prediction[0, 1, 1] = reference[0, 1, 4] = True
    result = surface_distances(prediction, reference, (1.0, 1.0, 0.5), tolerance=1.0)
    assert (result.hd95, result.asd, result.nsd) == (1.5, 1.5, 0.0)


def test_line_and_longer_line_by_hand():
    # reference: voxels 0-3 of a row, prediction: voxels 0-5; the two voxels too many are 1 and 2 away
    prediction, reference = np.zeros((2, 1, 1, 8), bool)
    prediction[..., :6] = reference[..., :4] = True
    # a row within a flat volume (only x has neighbours): the surface is the two ends
    result = surface_distances(prediction, reference, (1.0, 1.0, 1.0), tolerance=1.0)
    assert result.asd == pytest.approx((0 + 2 + 0 + 2) / 4)
    assert result.nsd == 0.5
    assert result.hd95 == pytest.approx(1.9)  # 95 % of the way from 0 to 2, both directions


def test_identical_masks_touch_everywhere():
    mask = np.ones((3, 4, 5), bool)
    result = surface_distances(mask, mask, (3.0, 1.0, 1.0), tolerance=0.0)
    assert (result.hd95, result.asd, result.nsd) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("absent", ["prediction", "reference", "both"])
def test_empty_masks_have_no_distance_and_nothing_near(absent):
    full, empty = np.ones((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
    prediction = empty if absent in ("prediction", "both") else full
    reference = empty if absent in ("reference", "both") else full
    result = surface_distances(prediction, reference, (1.0, 1.0, 1.0), tolerance=1.0)
    assert math.isnan(result.hd95)
    assert math.isnan(result.asd)
    assert math.isnan(result.nsd) if absent == "both" else result.nsd == 0.0


masks = arrays.arrays(bool, (4, 6, 5), elements=st.booleans())


@settings(max_examples=30, deadline=None)
@given(masks, masks, st.tuples(*[st.sampled_from([0.5, 1.0, 3.0])] * 3))
def test_agrees_with_the_distance_transform(prediction, reference, spacing):
    if not prediction.any() or not reference.any():
        return
    ours, theirs = (mask & ~ndimage.binary_erosion(mask) for mask in (prediction, reference))
    forth = ndimage.distance_transform_edt(~theirs, sampling=spacing)[ours]
    back = ndimage.distance_transform_edt(~ours, sampling=spacing)[theirs]
    both = np.concatenate([forth, back])
    result = surface_distances(prediction, reference, spacing, tolerance=1.0)
    assert result.hd95 == pytest.approx(max(np.percentile(forth, 95), np.percentile(back, 95)))
    assert result.asd == pytest.approx(both.mean())
    assert result.nsd == pytest.approx((both <= 1 + 1e-9).mean())
