from dataclasses import replace

import numpy as np
import pytest
from nnunet_rs.data.augment import AUGMENTATIONS, build_augmentation
from nnunet_rs.data.cascade_augmentation import (
    OPERATIONS,
    CascadeAugmentation,
    CascadeAugmentationRule,
    MoveSegAsOneHot,
    closed,
    dilated,
    eroded,
    opened,
    remove_component,
    reshape_class,
)
from nnunet_rs.plan.schema import Configuration
from scipy import ndimage


def ball(radius: int, dims: int) -> np.ndarray:
    """skimage.morphology.ball and disk."""
    grid = np.meshgrid(*(np.arange(-radius, radius + 1),) * dims, indexing="ij")
    return sum(axis**2 for axis in grid) <= radius**2


def blobs(shape: tuple[int, ...], seed: int, share: float = 0.7) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return noise > np.quantile(noise, share)


@pytest.mark.parametrize("shape", [(13, 18, 11), (25, 30), (2, 9, 9)])
@pytest.mark.parametrize("radius", [1, 2, 5, 13])
def test_morphology_is_that_of_a_ball(shape: tuple[int, ...], radius: int) -> None:
    mask, footprint = blobs(shape, radius), ball(radius, len(shape))
    grown = ndimage.binary_dilation(mask, footprint)
    shrunk = ndimage.binary_erosion(mask, footprint, border_value=1)
    np.testing.assert_array_equal(dilated(mask, radius), grown)
    np.testing.assert_array_equal(eroded(mask, radius), shrunk)
    np.testing.assert_array_equal(closed(mask, radius), ndimage.binary_erosion(grown, footprint, border_value=1))
    np.testing.assert_array_equal(opened(mask, radius), ndimage.binary_dilation(shrunk, footprint))


def test_a_radius_between_two_voxels() -> None:
    mask = np.zeros((5, 5), bool)
    mask[2, 2] = True
    assert dilated(mask, 1.4).sum() == 5
    assert dilated(mask, 1.5).sum() == 9


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_class_is_reshaped_as_channel_by_channel(operation) -> None:
    """The twin: one-hot channels of the whole patch; what a class gains the others lose."""
    rng = np.random.default_rng(1)
    for seed in range(6):
        labels = np.where(blobs((14, 17, 15), seed, 0.85), 1, 0) + np.where(blobs((14, 17, 15), seed + 50, 0.9), 2, 0)
        labels[labels == 3] = 2
        radius = rng.uniform(1, 8)
        channels = {c: labels == c for c in (1, 2)}
        after = operation(channels[1], radius)
        channels[2] &= ~(after & ~channels[1])
        channels[1] = after
        reshape_class(labels, 1, operation, radius)
        for label, channel in channels.items():
            np.testing.assert_array_equal(labels == label, channel)


def test_a_class_that_is_not_there_stays_away() -> None:
    labels = np.zeros((4, 4, 4), np.int16)
    reshape_class(labels, 1, dilated, 3.0)
    remove_component(labels, 1, 0.5, np.random.default_rng(0))
    assert not labels.any()


def test_one_small_component_is_lost() -> None:
    labels = np.zeros((1, 6, 10), np.int16)
    labels[0, :, :4] = 1  # 24 of 60 voxels: too large
    labels[0, 0, 6] = labels[0, 1, 7] = 1  # touch at a corner: one component
    labels[0, 4, 8] = 1
    labels[0, 4, 9] = 2
    results = set()
    for seed in range(20):
        changed = labels.copy()
        remove_component(changed, 1, 0.15, np.random.default_rng(seed))
        assert (changed[0, :, :4] == 1).all()
        assert changed[0, 4, 9] == 2
        results.add((int(changed[0, 0, 6]), int(changed[0, 1, 7]), int(changed[0, 4, 8])))
    assert results == {(0, 0, 1), (1, 1, 0)}


def test_how_often_and_on_what() -> None:
    """About 4 in 10 patches reshaped; the labels of the case itself and the image never."""
    truth = blobs((8, 16, 16), 3).astype(np.int16)
    image = np.ones((1, *truth.shape), np.float32)
    transform, changed = CascadeAugmentation(CascadeAugmentationRule(p_removal=0), 2), 0
    for seed in range(300):
        seg = np.stack([truth, truth])
        new_image, new = transform.apply(image, seg, np.random.default_rng(seed))
        assert new_image is image
        np.testing.assert_array_equal(new[0], truth)
        np.testing.assert_array_equal(seg[1], truth)
        changed += (new[1] != truth).any()
    assert 80 < changed < 135  # 0.4, less what a closing leaves as it was


def test_revealed_as_channels_of_the_image() -> None:
    seg = np.array([[[5, 5, 5]], [[1, 1, 0]], [[0, 2, 1]]], np.int16)
    image, left = MoveSegAsOneHot(3).apply(np.full((1, 1, 3), 7, np.float32), seg, np.random.default_rng(0))
    np.testing.assert_array_equal(image, [[[7, 7, 7]], [[0, 0, 1]], [[0, 1, 0]]])
    np.testing.assert_array_equal(left, seg[:2])


@pytest.mark.parametrize(("name", "share"), [("paper", 1.0), ("v2", 0.5)])
def test_where_components_are_lost_each_class_loses_one_as_often_as_in_nnunet(name: str, share: float) -> None:
    """The code of 2019 removes a component of every class, v2 of every second; both of 2 patches in 10."""
    rule = AUGMENTATIONS[name].cascade_augmentation
    assert rule is not None
    seg = np.zeros((2, 6, 40), np.int16)
    seg[1, 1, 2:38:6], seg[1, 4, 2:38:6] = 1, 2  # six voxels apart: six components a class
    transform, image = CascadeAugmentation(replace(rule, p_morphology=0), 3), np.zeros((1, 6, 40), np.float32)
    lost = np.zeros(3)
    runs = 1500
    for seed in range(runs):
        changed = transform.apply(image, seg, np.random.default_rng(seed))[1][1]
        removed = [int((changed == label).sum()) - 6 for label in (1, 2)]
        assert set(removed) <= {0, -1}
        lost[-sum(removed)] += 1
    both, one = 0.2 * share**2, 0.2 * 2 * share * (1 - share)
    np.testing.assert_allclose(lost[1:] / runs, [one, both], atol=0.03)


def test_without_augmentation_the_first_segmentation_stays_as_it_is() -> None:
    ones = ((1, 1),)
    plane = Configuration(
        "c", (1.0, 1.0), (8, 8), 2, (8, 8), ones, ones, (8,), (2,), (), False, False, False, memory_estimate=1
    )
    augmentation = build_augmentation("none", replace(plane, previous="low"), classes=3)
    first = blobs((8, 8), 3).astype(np.int16)
    for seed in range(30):
        seg = np.stack([np.zeros((8, 8), np.int16), first])
        image, _ = augmentation.apply(None, np.zeros((1, 8, 8), np.float32), seg, np.random.default_rng(seed))
        np.testing.assert_array_equal(image[1], first)
        assert not image[2].any()
