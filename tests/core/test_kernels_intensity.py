"""Changes of intensities against batchgenerators 0.25, SciPy (checked with 1.17) and plain NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from batchgenerators.augmentations.color_augmentations import augment_contrast, augment_gamma
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.core.kernels import IntensityChanges, resample_image
from scipy.ndimage import gaussian_filter

sides = st.integers(1, 12)
sizes = st.integers(2, 3).flatmap(lambda n: st.tuples(*[sides] * n))
Note = Callable[[IntensityChanges, int], None]


def image_of(size: tuple[int, ...], seed: int, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(3, 2, (channels, *size)).astype(np.float32)


def changed(image: np.ndarray, *notes: Note, threads: int | None = 1) -> np.ndarray:
    """Make changes of every channel of a copy."""
    image = image.copy()
    changes = IntensityChanges()
    for note in notes:
        for channel in range(len(image)):
            note(changes, channel)
    assert len(changes) == len(notes) * len(image)
    changes.apply(image, threads=threads)
    return image


@settings(max_examples=30, deadline=None)
@given(size=sizes, seed=st.integers(0, 99), exponent=st.floats(0.5, 1.9), invert=st.booleans())
def test_gamma_is_batchgenerators(size, seed, exponent, invert):
    image = image_of((*size[:-1], size[-1] + 8), seed)
    with patch("numpy.random.uniform", return_value=exponent):
        expected = augment_gamma(image.copy(), invert_image=invert, per_channel=True, retain_stats=True)
    found = changed(image, lambda changes, channel: changes.gamma(channel, exponent, invert=invert))
    np.testing.assert_allclose(found, expected, atol=5e-4)


@settings(max_examples=30, deadline=None)
@given(size=sizes, seed=st.integers(0, 99), factor=st.floats(0.5, 1.9))
def test_stretch_is_batchgenerators(size, seed, factor):
    image = image_of(size, seed)
    expected = augment_contrast(image.copy(), lambda: factor, preserve_range=True, per_channel=True)
    found = changed(image, lambda changes, channel: changes.contrast(channel, factor))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(size=sizes, seed=st.integers(0, 99), sigma=st.floats(0, 5))
def test_blur_is_scipys(size, seed, sigma):
    image = image_of(size, seed)
    expected = [gaussian_filter(channel.astype(np.float64), sigma) for channel in image]
    found = changed(image, lambda changes, channel: changes.blur(channel, sigma))
    np.testing.assert_allclose(found, expected, atol=2e-5)


@settings(max_examples=30, deadline=None)
@given(size=sizes, coarse=st.tuples(sides, sides, sides), seed=st.integers(0, 99), factor=st.floats(-2, 2))
def test_low_resolution_and_scale(size, coarse, seed, factor):
    image = image_of(size, seed)
    small = resample_image(image, coarse[-len(size) :], order=0)
    grid = (1, *coarse[1:]) if len(size) == 2 else coarse
    found = changed(image, lambda changes, channel: changes.simulate_low_resolution(channel, grid))
    np.testing.assert_array_equal(found, resample_image(small, size, order=1))
    scaled = changed(image, lambda changes, channel: changes.scale(channel, factor))
    np.testing.assert_array_equal(scaled, image * np.float32(factor))


def test_noise_has_its_std_and_its_seed():
    image = np.zeros((2, 20, 60, 70), np.float32)

    def noise(changes: IntensityChanges, channel: int) -> None:
        changes.noise(channel, 0.5, seed=channel)

    found = changed(image, noise)
    assert np.std(found) == pytest.approx(0.5, rel=0.02)
    assert abs(np.mean(found)) < 0.01
    assert abs(np.corrcoef(found.reshape(2, -1))[0, 1]) < 0.02
    np.testing.assert_array_equal(found, changed(image, noise, threads=3))
    quiet = changed(image, lambda changes, channel: changes.noise(channel, 0, 2**64 - 1))
    np.testing.assert_array_equal(quiet, image)


EVERY: list[Note] = [
    lambda changes, channel: changes.noise(channel, 0.1, 5),
    lambda changes, channel: changes.blur(channel, 0.7),
    lambda changes, channel: changes.scale(channel, 1.2),
    lambda changes, channel: changes.contrast(channel, 0.8),
    lambda changes, channel: changes.simulate_low_resolution(channel, (1, 2, 3)),
    lambda changes, channel: changes.gamma(channel, 0.8),
    lambda changes, channel: changes.gamma(channel, 1.3, invert=True),
]


@settings(max_examples=20, deadline=None)
@given(size=sizes, seed=st.integers(0, 99))
def test_threads_and_strides_do_not_matter(size, seed):
    image = image_of(size, seed)
    expected = changed(image, *EVERY)
    np.testing.assert_array_equal(changed(image, *EVERY, threads=3), expected)
    changes = IntensityChanges()
    for note in EVERY:
        for channel in range(2):
            note(changes, channel)
    for layout in (np.asfortranarray(image), image[:, ::-1].copy()[:, ::-1], np.repeat(image, 2, -1)[..., ::2]):
        strided = layout if layout.flags.writeable else layout.copy()
        changes.apply(strided)
        np.testing.assert_array_equal(strided, expected)


@pytest.mark.parametrize("note", EVERY[1:2] + EVERY[3:])
def test_a_constant_channel_stays_as_it_is(note):
    image = np.full((1, 3, 4, 5), 2.3, np.float32)
    np.testing.assert_array_equal(changed(image, note), image)


IMAGE = np.zeros((1, 2, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("note", "error", "message"),
    [
        (lambda c: c.noise(0, -1, 0), ValueError, "std must be between 0 and 1e30; got -1.0"),
        (lambda c: c.noise(0, np.nan, 0), ValueError, "std must"),
        (lambda c: c.noise(0, 1, -1), ValueError, "must be between 0 and"),
        (lambda c: c.noise(0, 1, 2**64), ValueError, "must be between 0 and"),
        (lambda c: c.blur(0, -1), ValueError, "sigma must be between 0 and 1000 voxels; got -1.0"),
        (lambda c: c.blur(0, np.inf), ValueError, "sigma must"),
        (lambda c: c.blur(-1, 1), ValueError, "must be between 0"),
        (lambda c: c.blur("a", 1), TypeError, "must be integers"),
        (lambda c: c.blur(0, "a"), TypeError, "sigma"),
        (lambda c: c.scale(0, np.inf), ValueError, "factor must be a finite number; got inf"),
        (lambda c: c.contrast(0, np.nan), ValueError, "factor must"),
        (
            lambda c: c.simulate_low_resolution(0, (1, 2)),
            ValueError,
            r"shape must hold three numbers, of z, y and x; got \[1, 2\]",
        ),
        (lambda c: c.simulate_low_resolution(0, (1, 0, 2)), ValueError, "shape must have between 1 and"),
        (lambda c: c.simulate_low_resolution(0, 3), TypeError, "shape"),
        (lambda c: c.gamma(0, 0), ValueError, "exponent must be above 0 and at most 100; got 0.0"),
        (lambda c: c.gamma(0, 1, invert="a"), TypeError, "invert"),
    ],
)
def test_changes_that_cannot_be(note, error, message):
    changes = IntensityChanges()
    with pytest.raises(error, match=message):
        note(changes)
    assert len(changes) == 0


@pytest.mark.parametrize(
    ("image", "options", "error", "message"),
    [
        (IMAGE[0, 0], {}, ValueError, "image must have 3 or 4 axes"),
        (np.array(1, np.float32), {}, ValueError, "image must have 3 or 4 axes"),
        (IMAGE[:, :0], {}, ValueError, "image must have between 1 and"),
        (IMAGE[:0], {}, ValueError, "channel must be below the image's 0 channels; got 0"),
        (IMAGE.astype(np.float64), {}, TypeError, "image must be float32, .*; got float64"),
        (IMAGE.tolist(), {}, TypeError, "image must be a numpy array"),
        (np.broadcast_to(np.float32(1), (1, 2, 2)), {}, ValueError, "must not be read-only"),
        (IMAGE, {"threads": 0}, ValueError, "threads must be between 1 and 1024; got 0"),
    ],
)
def test_images_that_cannot_be(image: Any, options: Any, error: Any, message: str):
    changes = IntensityChanges()
    changes.scale(0, 2)
    with pytest.raises(error, match=message):
        changes.apply(image, **options)


def test_a_channel_that_there_is_not():
    changes = IntensityChanges()
    changes.scale(1, 2)
    with pytest.raises(ValueError, match="channel must be below the image's 1 channel; got 1"):
        changes.apply(IMAGE)
