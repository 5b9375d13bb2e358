from __future__ import annotations

import numpy as np
import pytest
from nnunet_rs.data.intensity import (
    Brightness,
    Contrast,
    Gamma,
    GaussianBlur,
    GaussianNoise,
    Mirror,
    SimulateLowResolution,
    ZeroOutside,
)
from nnunet_rs.data.transform import SeededTransform


def _image(seed: int = 0, shape: tuple[int, ...] = (2, 6, 7, 8)) -> np.ndarray:
    return np.random.default_rng(seed).normal(3, 2, shape).astype(np.float32)


def test_mirror_moves_image_and_labels_together() -> None:
    image = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    seg = image.astype(np.int16)
    seen = set()
    for seed in range(60):
        moved, labels = Mirror((0, 2)).apply(image.copy(), seg.copy(), np.random.default_rng(seed))
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


def test_low_resolution_keeps_the_first_axis_in_plane() -> None:
    coarse = SimulateLowResolution(1.0, zoom=(0.5, 0.5), per_channel=1, in_plane=True)
    image = _image(shape=(1, 5, 8, 8))
    whole, _ = coarse.apply(image.copy(), np.zeros((1, 5, 8, 8)), np.random.default_rng(0))
    slices, _ = coarse.apply(image[:, :1].copy(), np.zeros((1, 1, 8, 8)), np.random.default_rng(0))
    np.testing.assert_array_equal(whole[:, :1], slices)  # slices do not mix
    plane, _ = SimulateLowResolution(1.0).apply(image[:, 0].copy(), np.zeros((1, 8, 8)), np.random.default_rng(0))
    assert plane.shape == (1, 8, 8)


CHANGING = [
    Gamma(1.0),
    Brightness(1.0),
    Contrast(1.0),
    GaussianNoise(1.0),
    GaussianBlur(1.0, per_channel=1),
    SimulateLowResolution(1.0),
]


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


@pytest.mark.parametrize("kind", [Gamma, Brightness, Contrast, GaussianNoise, GaussianBlur, SimulateLowResolution])
def test_probability_zero_does_nothing(kind: type) -> None:
    image, _ = kind(0.0).apply(_image(), np.zeros((1, 6, 7, 8)), np.random.default_rng(0))
    np.testing.assert_array_equal(image, _image())
