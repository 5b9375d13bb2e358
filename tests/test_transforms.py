"""The public transforms: batchgenerators' dictionaries, arrays, tensors, and what it takes to add one."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunet_rs import transforms
from nnunet_rs.data.augment import AUGMENTATIONS, build_augmentation
from nnunet_rs.data.intensity import Gamma
from nnunet_rs.data.transform import IntensityTransform, SeededTransform
from nnunet_rs.plan.schema import Configuration
from nnunet_rs.transforms import Brightness, Compose, GaussianNoise, Mirror, SpatialRule, Warp

ROOT = Path(__file__).parents[1]
MAKE: dict[str, SeededTransform] = {
    "Compose": Compose([GaussianNoise(std=(0.1, 0.1)), Mirror((0, 1))]),
    "GaussianBlur": transforms.GaussianBlur(per_channel=1),
    "GaussianNoise": GaussianNoise(std=(0.1, 0.1)),
    "Mirror": Mirror((0, 1)),
    "SimulateLowResolution": transforms.SimulateLowResolution(zoom=(0.4, 0.6), per_channel=1),
    "Warp": Warp(SpatialRule(p_rotation=1, p_scaling=1, p_elastic=1)),
}
NAMES = [name for name in transforms.__all__ if name != "SpatialRule"]


def made(name: str) -> SeededTransform:
    return MAKE[name] if name in MAKE else getattr(transforms, name)()


def case(shape: tuple[int, ...] = (9, 12, 10)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.normal(2, 1, (2, *shape)).astype(np.float32), rng.integers(0, 4, shape)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(9, 12, 10), (12, 10)])
def test_arrays_tensors_and_dictionaries_agree(name: str, shape: tuple[int, ...]) -> None:
    image, labels = case(shape)
    before = image.copy(), labels.copy()
    transform, changed = made(name), 0
    for seed in range(4):
        rng = [np.random.default_rng(seed) for _ in range(4)]
        new, moved = transform(image, labels, rng=rng[0])
        alone = transform(image, rng=rng[1])
        tensor, tensor_labels = transform(torch.from_numpy(image), torch.from_numpy(labels), rng=rng[2])
        sample = transform(data=image[None].copy(), seg=labels[None, None].copy(), rng=rng[3], keys=["a"])
        np.testing.assert_array_equal(alone, new)
        np.testing.assert_array_equal(tensor.numpy(), new)
        np.testing.assert_array_equal(tensor_labels.numpy(), moved)
        np.testing.assert_array_equal(sample["data"][0], new)
        np.testing.assert_array_equal(sample["seg"][0, 0], moved)
        assert sample["keys"] == ["a"]
        assert (new.shape, moved.shape, moved.dtype) == (image.shape, labels.shape, labels.dtype)
        assert isinstance(tensor, torch.Tensor)
        assert tensor_labels.dtype == torch.int64
        changed += not np.array_equal(new, image)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(labels, before[1])
    assert changed >= 2


def test_they_stand_among_batchgenerators_own() -> None:
    from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
    from batchgenerators.transforms.abstract_transforms import Compose as TheirCompose
    from batchgenerators.transforms.color_transforms import GammaTransform

    image, labels = case()
    batches = iter([{"data": image[None].copy(), "seg": labels[None, None].astype(np.float32)}])
    chain = TheirCompose([Warp(SpatialRule(p_elastic=1), (8, 8, 8)), GammaTransform(p_per_sample=1), Mirror((0,))])
    found = next(SingleThreadedAugmenter(batches, chain))
    assert found["data"].shape == (1, 2, 8, 8, 8)
    assert set(np.unique(found["seg"])) <= {0, 1, 2, 3}
    ours = Compose([GammaTransform(p_per_sample=1), Mirror((0,))])
    np.testing.assert_array_equal(*(ours(image, rng=np.random.default_rng(2)) for _ in range(2)))


def test_a_batch_without_labels() -> None:
    images = np.stack([case()[0]] * 2)
    found = Gamma()(data=images.copy(), rng=np.random.default_rng(0))
    assert set(found) == {"data", "rng"}
    assert not np.array_equal(found["data"][0], found["data"][1])  # each entry for itself


def test_without_a_generator_numpys_global_one_decides() -> None:
    image, _ = case()
    found = []
    for seed in (5, 5, 6):
        np.random.seed(seed)
        found.append(Gamma()(image))
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_a_warp_gives_a_patch_about_the_centre_however_small_the_image() -> None:
    image, labels = case((5, 8, 30))
    still = Warp(SpatialRule(p_rotation=0, p_scaling=0, p_elastic=0), (9, 8, 10))
    new, moved = still(image, labels)
    assert new.shape == (2, 9, 8, 10)
    np.testing.assert_array_equal(new[:, 2:7], image[:, :, :, 10:20])
    np.testing.assert_array_equal(moved[2:7], labels[:, :, 10:20])
    assert not new[:, :2].any()
    assert not new[:, 7:].any()
    turned = Warp(SpatialRule(p_rotation=1), (3, 8, 10), in_plane=True)(image)
    assert turned.shape == (2, 3, 8, 10)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: Gamma()(np.zeros((1, 4, 4))), TypeError, "image must be of float32; got float64"),
        (lambda: Gamma()(np.zeros((4, 4), np.float32)), ValueError, r"image must be \(c, z, y, x\) or \(c, y, x\)"),
        (lambda: Mirror((0,))(*case()[:1], np.zeros((9, 12, 9))), ValueError, r"labels must be of the image's size"),
        (lambda: Gamma()(seg=1), TypeError, r"Gamma is called with an image, or with data=...; got \['seg'\]"),
        (lambda: Gamma(probability=1.5), ValueError, "Gamma: probability must lie in 0 … 1; got 1.5"),
        (lambda: Gamma(exponent=(2, 1)), ValueError, r"Gamma: exponent must be \(low, high\) .*; got \(2, 1\)"),
        (lambda: Brightness(factor=0.5), ValueError, "Brightness: factor must be"),
        (lambda: SpatialRule(p_elastic=-1), ValueError, "SpatialRule: p_elastic must lie in"),
        (lambda: Warp(patch_size=(4, 4))(case()[0]), ValueError, "patch_size must have 3 axes, as the image has"),
        (lambda: Warp(in_plane=True)(case((4, 4))[0]), ValueError, "in_plane is for 3-D images"),
    ],
)
def test_what_cannot_be_is_told(call: Any, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_arrays_need_no_torch() -> None:
    code = (
        "import sys, numpy, nnunet_rs; x = numpy.ones((1, 8, 8), 'f4'); nnunet_rs.transforms.Warp()(x, x[0]); "
        "assert 'torch' not in sys.modules and 'batchgenerators' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_each_is_documented_and_shown() -> None:
    page = (ROOT / "docs/reference/transforms.md").read_text(encoding="utf-8")
    for name in transforms.__all__:
        assert f"::: nnunet_rs.transforms.{name}\n" in page
        assert len(inspect.getdoc(getattr(transforms, name)) or "") > 60
    for name in {*NAMES} - {"Compose"}:
        picture = f"images/transforms/{name}.webp"
        assert f"](../{picture})" in page
        assert (ROOT / "docs" / picture).stat().st_size < 100_000


@dataclass(frozen=True, slots=True)
class Negative(IntensityTransform):
    """What a new transform is: one class; here, the negative of an image."""

    probability: float = 1.0

    def note(self, shape: Any, changes: Any, rng: np.random.Generator) -> None:
        for channel in range(shape[0]):
            changes.scale(channel, -1.0)


def test_a_new_one_takes_a_class_and_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files: the class beside the others (`data/intensity.py`), its place in a recipe (`data/augment.py`)."""
    recipe = replace(AUGMENTATIONS["none"], chain=lambda ranges: (Negative(),))
    monkeypatch.setitem(AUGMENTATIONS, "negative", recipe)
    ones = ((1, 1),)
    plane = Configuration(
        "2d", (1.0, 1.0), (4, 4), 2, (4, 4), ones, ones, (8,), (2,), (), False, False, False, memory_estimate=1
    )
    augmentation = build_augmentation("negative", plane)
    image, _ = augmentation.apply(None, np.ones((1, 4, 4), np.float32), np.zeros((1, 4, 4)), np.random.default_rng(0))
    np.testing.assert_array_equal(image, -np.ones((1, 4, 4)))
    np.testing.assert_array_equal(Negative()(np.ones((1, 4, 4), np.float32)), -np.ones((1, 4, 4)))
    listed = {name for module in (transforms.intensity, transforms.warp) for name in module.__all__}
    assert listed <= set(transforms.__all__)  # the public module lists nothing by hand
