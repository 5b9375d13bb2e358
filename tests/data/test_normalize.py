from __future__ import annotations

import numpy as np
import pytest
from nnunet_rs.core.errors import DatasetError, PlanError
from nnunet_rs.data.normalize import intensity_maps
from nnunet_rs.plan.schema import ChannelStats, Normalization

STATS = ChannelStats(mean=10, std=4, median=9, min=-100, max=900, percentile_00_5=2, percentile_99_5=30)


def normalize(image, rules, mask=None) -> None:
    for channel, found in zip(image, intensity_maps(image, rules, mask), strict=True):
        found.apply(channel, mask)


def _image(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(1, 1, 1, -1)


def _rule(scheme: str, use_mask: bool = False) -> Normalization:
    return Normalization(scheme, use_mask, STATS)


def test_ct_clips_then_uses_the_dataset() -> None:
    image = _image(-50, 2, 10, 14, 500)
    normalize(image, [_rule("ct")])
    np.testing.assert_allclose(image.ravel(), [-2, -2, 0, 1, 5])


def test_zscore_uses_the_case() -> None:
    image = _image(1, 2, 3, 4)  # mean 2.5, variance 1.25
    normalize(image, [_rule("zscore")])
    np.testing.assert_allclose(image.ravel(), np.array([-1.5, -0.5, 0.5, 1.5]) / np.sqrt(1.25), rtol=1e-6)


def test_zscore_inside_the_mask_zeroes_the_outside() -> None:
    image = _image(0, 1, 3, 0)
    mask = np.array([False, True, True, False]).reshape(1, 1, 4)
    normalize(image, [_rule("zscore", use_mask=True)], mask)
    np.testing.assert_allclose(image.ravel(), [0, -1, 1, 0])


def test_zscore_without_use_mask_ignores_the_mask() -> None:
    image, mask = _image(0, 1, 3, 0), np.array([False, True, True, False]).reshape(1, 1, 4)
    normalize(image, [_rule("zscore")], mask)
    assert image[0, 0, 0, 0] != 0


def test_zscore_is_exact_for_large_offsets() -> None:
    values = np.random.default_rng(0).standard_normal((1, 30, 40, 50)).astype(np.float32)
    image = values * 3 + 10_000
    expected = (image.astype(np.float64) - image.mean(dtype=np.float64)) / image.std(dtype=np.float64)
    normalize(image, [_rule("zscore")])
    np.testing.assert_allclose(image, expected, atol=2e-4)


def test_rescale_and_rgb_and_none() -> None:
    image = np.array([[2, 4, 6], [0, 51, 255], [7, 8, 9]], np.float32).reshape(3, 1, 1, 3)
    normalize(image, [_rule("rescale_to_0_1"), _rule("rgb_to_0_1"), _rule("none")])
    np.testing.assert_allclose(image.reshape(3, 3), [[0, 0.5, 1], [0, 0.2, 1], [7, 8, 9]], rtol=1e-6)


@pytest.mark.parametrize("scheme", ["zscore", "rescale_to_0_1"])
def test_a_constant_channel_becomes_zero(scheme: str) -> None:
    image = np.full((1, 7, 11, 13), 1234.567, np.float32)
    normalize(image, [_rule(scheme)])
    assert not image.any()


def test_an_empty_mask_gives_zero() -> None:
    image = _image(1, 2)
    normalize(image, [_rule("zscore", use_mask=True)], np.zeros((1, 1, 2), bool))
    assert not image.any()


def test_faults_name_channel_rule_and_value() -> None:
    with pytest.raises(DatasetError, match=r"channel 0: values from -1 to 300, rgb_to_0_1 expects 0 … 255"):
        normalize(_image(-1, 300), [_rule("rgb_to_0_1")])
    with pytest.raises(PlanError, match="channel 0: normalised as ct, but the plan holds no"):
        normalize(_image(1, 2), [Normalization("ct", False, None)])
    with pytest.raises(PlanError, match="the plan normalises 2 channels, the image has 1"):
        normalize(_image(1, 2), [_rule("none")] * 2)
