"""Statistics of structures against arrays worked out by hand, and against the obvious computation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from nnunet_rs.core.types import Header, LabelSet, Region
from nnunet_rs.evaluate.structures import PERCENTILES, measure_structures
from scipy import ndimage

# voxel (x, y, z) → world: x doubled and turned round, y moved by 10, z three mm thick
AFFINE = ((-2.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 10.0), (0.0, 0.0, 3.0, 0.0), (0.0, 0.0, 0.0, 1.0))
HEADER = Header("nifti", AFFINE)
SPACING = (3.0, 1.0, 2.0)
LABELS = LabelSet(("background", "liver", "tumour", "spleen"), (0, 1, 2, 7))
REGIONS = LabelSet(
    ("background", "oedema", "core"), (0, 1, 2), (Region("whole", (1, 2), 1), Region("core", (2,), 2)), ignore=3
)


def two_slices() -> np.ndarray:
    return np.array(
        [
            [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 2]],
            [[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]],
        ],
        np.uint8,
    )


def test_by_hand() -> None:
    image = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    liver, tumour, spleen = measure_structures(two_slices(), LABELS, SPACING, HEADER, image)
    assert (liver.name, liver.values, liver.voxels, liver.volume, liver.components) == ("liver", (1,), 5, 30.0, 1)
    assert liver.box == ((0, 2), (0, 3), (0, 3))
    # voxel centres: z 0 0 0 0 1, y 0 0 1 1 2, x 1 2 1 2 0
    assert liver.centroid == pytest.approx((-2 * 6 / 5, 10 + 4 / 5, 3 * 1 / 5))
    (channel,) = liver.intensities
    assert (channel.min, channel.max, channel.mean) == (1.0, 20.0, pytest.approx((1 + 2 + 5 + 6 + 20) / 5))
    assert channel.percentiles[PERCENTILES.index(50)] == 5.0
    assert (tumour.voxels, tumour.components, tumour.box) == (1, 1, ((0, 1), (2, 3), (3, 4)))
    assert tumour.centroid == (-6.0, 12.0, 0.0)
    assert (spleen.values, spleen.voxels, spleen.volume, spleen.components) == ((7,), 0, 0.0, 0)
    assert (spleen.centroid, spleen.box, spleen.intensities) == (None, None, ())


def test_voxels_that_touch_at_a_corner_are_one_component() -> None:
    classes = np.zeros((2, 2, 2), np.uint8)
    classes[0, 0, 0] = classes[1, 1, 1] = 1
    assert measure_structures(classes, LABELS, SPACING, HEADER)[0].components == 1


def test_regions_are_unions_and_ignored_voxels_belong_to_none() -> None:
    classes = np.array([[[1, 2, 3, 0, 1]]], np.uint8)
    whole, core = measure_structures(classes, REGIONS, (1.0, 1.0, 1.0), HEADER)
    assert (whole.name, whole.values, whole.voxels, whole.components) == ("whole", (1, 2), 3, 2)
    assert whole.box == ((0, 1), (0, 1), (0, 5))
    assert (core.name, core.values, core.voxels, core.components) == ("core", (2,), 1, 1)


def test_nothing_anywhere() -> None:
    found = measure_structures(np.zeros((1, 2, 3), np.uint8), LABELS, SPACING, HEADER)
    assert [(each.voxels, each.components, each.box) for each in found] == [(0, 0, None)] * 3


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(0, 3)))
def test_as_the_obvious_computation(classes: np.ndarray) -> None:
    image = np.random.default_rng(0).normal(size=(2, *classes.shape)).astype(np.float32)
    for index, found in enumerate(measure_structures(classes, LABELS, SPACING, HEADER, image), start=1):
        mask = classes == index
        assert found.voxels == mask.sum()
        assert found.components == ndimage.label(mask, np.ones((3, 3, 3)))[1]
        if not mask.any():
            continue
        places = np.argwhere(mask)
        assert found.box == tuple(
            (low, high + 1) for low, high in zip(places.min(axis=0), places.max(axis=0), strict=True)
        )
        world = np.array(AFFINE) @ (*places.mean(axis=0)[::-1], 1)
        assert found.centroid == pytest.approx(tuple(world[:3]))
        for channel, intensities in zip(image, found.intensities, strict=True):
            assert intensities.std == pytest.approx(channel[mask].std(), abs=1e-6)
            assert intensities.percentiles == pytest.approx(tuple(np.percentile(channel[mask], PERCENTILES)), abs=1e-6)
