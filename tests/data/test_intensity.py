from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from batchgenerators.augmentations.color_augmentations import augment_contrast, augment_gamma
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.data.intensity import (
    Blur,
    Brightness,
    Contrast,
    Gamma,
    LowResolution,
    Mirror,
    Noise,
    ZeroOutside,
    coarsened,
    correct_gamma,
    stretch,
)
from nnunet_rs.data.transform import SeededTransform


def _image(seed: int = 0, shape: tuple[int, ...] = (2, 6, 7, 8)) -> np.ndarray:
    return np.random.default_rng(seed).normal(3, 2, shape).astype(np.float32)


@given(st.floats(0.5, 1.9), st.booleans())
@settings(max_examples=20, deadline=None)
def test_gamma_is_batchgenerators(exponent: float, invert: bool) -> None:
    image = _image()
    with patch("numpy.random.uniform", return_value=exponent):
        expected = augment_gamma(image.copy(), invert_image=invert, per_channel=True, retain_stats=True)
    for channel in image:
        correct_gamma(channel, exponent, invert)
    np.testing.assert_allclose(image, expected, atol=2e-4)


@given(st.floats(0.5, 1.9))
@settings(max_examples=20, deadline=None)
def test_contrast_is_batchgenerators(factor: float) -> None:
    image = _image()
    expected = augment_contrast(image.copy(), lambda: factor, preserve_range=True, per_channel=True)
    for channel in image:
        stretch(channel, factor)
    np.testing.assert_allclose(image, expected, atol=1e-4)


def test_a_constant_image_stays_finite() -> None:
    channel = np.full((4, 4), 2, np.float32)
    correct_gamma(channel, 0.7)
    np.testing.assert_allclose(channel, 2)


def test_mirror_moves_image_and_labels_together() -> None:
    image = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    seg = image.astype(np.int16)
    seen = set()
    for seed in range(60):
        moved, labels = Mirror((0, 2)).apply(image, seg, np.random.default_rng(seed))
        np.testing.assert_array_equal(moved, labels)
        seen.add(int(moved[0, 0, 0, 0]))
    assert seen == {0, 3, 12, 15}  # the corners reached by flips of the first and the last axis


def test_brightness_multiplies_each_channel() -> None:
    image = _image()
    before = image.copy()
    Brightness(1.0).apply(image, np.zeros((1, 6, 7, 8)), np.random.default_rng(0))
    ratios = (image / before).reshape(2, -1)
    assert np.ptp(ratios, axis=1).max() < 1e-5
    assert ratios[0, 0] != ratios[1, 0]
    assert ((ratios >= 0.75) & (ratios <= 1.25)).all()


def test_zero_outside_the_mask() -> None:
    image = np.ones((2, 2, 2), np.float32)
    seg = np.array([[[0, 1], [2, 0]], [[1, 1], [0, 0]]])
    ZeroOutside((1,)).apply(image, seg, np.random.default_rng(0))
    assert image.tolist() == [[[1, 1], [1, 1]], [[1, 1], [0, 0]]]
    ZeroOutside((0,)).apply(image, seg[:1], np.random.default_rng(0))
    assert image[0].all()


def test_coarsened_keeps_the_first_axis_in_plane() -> None:
    image = _image(shape=(5, 8, 8))
    both = coarsened(image, 0.5, in_plane=True)
    one = coarsened(image[:1], 0.5, in_plane=True)
    np.testing.assert_array_equal(both[:1], one)  # slices do not mix
    assert both.shape == image.shape
    constant = np.full((5, 8, 8), 2.5, np.float32)
    np.testing.assert_allclose(coarsened(constant, 0.6, in_plane=False), constant)
    assert coarsened(image[0], 0.7, in_plane=False).shape == (8, 8)


CHANGING = [Gamma(1.0), Brightness(1.0), Contrast(1.0), Noise(1.0), Blur(1.0, per_channel=1), LowResolution(1.0)]


@pytest.mark.parametrize("transform", CHANGING, ids=lambda t: type(t).__name__)
def test_the_generator_decides_and_the_labels_stay(transform: SeededTransform) -> None:
    seg = np.ones((1, 6, 7, 8), np.int16)

    def run(seed: int) -> np.ndarray:
        image, labels = transform.apply(_image(), seg.copy(), np.random.default_rng(seed))
        np.testing.assert_array_equal(labels, seg)
        assert image.dtype == np.float32
        return image

    np.testing.assert_array_equal(run(1), run(1))
    assert any(not np.array_equal(run(seed), _image()) for seed in range(4))


@pytest.mark.parametrize("kind", [Gamma, Brightness, Contrast, Noise, Blur, LowResolution])
def test_probability_zero_does_nothing(kind: type) -> None:
    image, _ = kind(0.0).apply(_image(), np.zeros((1, 6, 7, 8)), np.random.default_rng(0))
    np.testing.assert_array_equal(image, _image())
