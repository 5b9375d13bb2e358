from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from batchgenerators.transforms.noise_transforms import GaussianNoiseTransform
from nnunet_rs.core.errors import PlanError
from nnunet_rs.data.augment import AUGMENTATIONS, LATER_PASSES, Augmentation, build_augmentation, with_mirror_axes
from nnunet_rs.data.mirroring import mirrored_axes
from nnunet_rs.plan.schema import Configuration, Normalization


def _configuration(patch: tuple[int, ...], in_plane: bool = False) -> Configuration:
    ones = ((1,) * len(patch),)
    return Configuration(
        "c", (1.0,) * len(patch), patch, 2, patch, ones, ones, (8,), (2,), (), False, False, in_plane, memory_estimate=1
    )


def _run(augmentation: Augmentation, seed: int, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Augment made-up voxels, the same around the patch's centre whatever the region's size."""
    rng = np.random.default_rng(seed)
    drawn = augmentation.draw(rng)
    size = augmentation.region(drawn)
    whole = np.random.default_rng(99).standard_normal((2, 80, 80, 80)[: 1 + len(size)], dtype=np.float32)
    starts = [40 - p // 2 - (n - p) // 2 for p, n in zip(augmentation.patch, size, strict=True)]
    centred = tuple(slice(start, start + n) for start, n in zip(starts, size, strict=True))
    image = whole[(slice(None), *centred)].copy()
    seg = np.stack([(image[0] > 0).astype(np.int16)] * channels)
    return augmentation.apply(drawn, image, seg, rng)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize(("patch", "in_plane"), [((10, 12, 8), False), ((4, 16, 14), True), ((16, 14), False)])
def test_shapes_values_and_repeatability(name: str, patch: tuple[int, ...], in_plane: bool) -> None:
    augmentation = build_augmentation(name, _configuration(patch, in_plane))
    changed = 0
    still = _run(Augmentation(patch), 0)
    for seed in range(8):
        image, labels = _run(augmentation, seed)
        assert image.shape == (2, *patch)
        assert labels.shape == patch
        assert image.dtype == np.float32
        assert np.isfinite(image).all()
        assert set(np.unique(labels)) <= {0, 1}
        again = _run(augmentation, seed)
        np.testing.assert_array_equal(image, again[0])
        np.testing.assert_array_equal(labels, again[1])
        changed += not np.array_equal(image, still[0])
    assert changed >= 6 if name != "none" else changed == 0


def test_progressive_begins_light_and_ends_strong() -> None:
    """Both mirror what the training mirrors, and make the channels of a second stage alike."""
    first = replace(_configuration((10, 12, 8)), previous="3d_lowres")
    for configuration, classes in ((_configuration((10, 12, 8)), 0), (first, 3)):
        made = build_augmentation("progressive", configuration, (), classes, mirror_axes=(0, 2))
        assert made.later == build_augmentation("strong", configuration, (), classes, mirror_axes=(0, 2))
        light = build_augmentation("light", configuration, (), classes, mirror_axes=(0, 2))
        assert replace(made, later=None, later_passes=math.inf) == light
        rng = np.random.default_rng(0)
        assert {made.at(0.0, rng) is made.later for _ in range(20)} == {False}
        assert {made.at(LATER_PASSES, rng) is made.later for _ in range(20)} == {True}
    own = with_mirror_axes(Augmentation((4, 4), later=Augmentation((4, 4))), (1,))
    assert own.later is not None
    assert own.later.mirror_axes == (1,)
    assert mirrored_axes(Augmentation((4, 4), later=Augmentation((4, 4), mirror_axes=(0,)))) == (0,)


def test_unknown_name() -> None:
    with pytest.raises(PlanError, match="augmentation 'heavy' is unknown: allowed are paper, "):
        build_augmentation("heavy", _configuration((8, 8, 8)))


def test_masked_channels_are_zero_outside_after_augmentation() -> None:
    rules = [Normalization("zscore", True, None), Normalization("zscore", False, None)]
    augmentation = build_augmentation("paper", _configuration((8, 8, 8)), rules)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        drawn = augmentation.draw(rng)
        size = augmentation.region(drawn)
        seg = np.zeros((2, *size), np.int16)
        image, _ = augmentation.apply(drawn, np.ones((2, *size), np.float32), seg, rng)
        assert not image[0].any()
        assert image[1].any()


def test_any_batchgenerators_transform_fits() -> None:
    augmentation = Augmentation((8, 8), None, (GaussianNoiseTransform(p_per_sample=1),))
    first, second, again = (_run(augmentation, seed)[0] for seed in (0, 1, 0))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)


def test_margins_of_the_region_are_equal() -> None:
    class Wide:
        def region(self, drawn: object) -> tuple[int, ...]:
            return (11, 7)

    assert Augmentation((8, 8), Wide()).region(object()) == (12, 8)
    assert Augmentation((8, 8), Wide()).region(None) == (8, 8)


def test_batchgenerators_is_loaded_only_by_the_augmentation_that_uses_it() -> None:
    """It brings scikit-image, scikit-learn and pandas; every module and every other augmentation does without."""
    code = """
import importlib, pkgutil, sys
import nnunet_rs
from nnunet_rs.data.augment import AUGMENTATIONS, build_augmentation
from nnunet_rs.plan.schema import Configuration
for module in pkgutil.walk_packages(nnunet_rs.__path__, "nnunet_rs."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
ones = ((1, 1),)
plane = Configuration(
    "2d", (1.0, 1.0), (8, 8), 2, (8, 8), ones, ones, (8,), (2,), (), False, False, False, memory_estimate=1
)
for name in (*(set(AUGMENTATIONS) - {"paper-batchgenerators"}), "paper-batchgenerators"):
    build_augmentation(name, plane)
    print(name, "batchgenerators" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = dict(line.split() for line in ran.stdout.splitlines())
    assert loaded.pop("paper-batchgenerators") == "True"
    assert set(loaded.values()) == {"False"}
    assert set(loaded) == set(AUGMENTATIONS) - {"paper-batchgenerators"}
