from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from batchgenerators.transforms.noise_transforms import GaussianNoiseTransform
from nnunet_rs.data.intensity import Brightness, Contrast, Gamma, GaussianBlur, GaussianNoise, Mirror
from nnunet_rs.data.transform import run, run_seeded


def _sample(seed: int) -> dict[str, Any]:
    return {
        "data": np.zeros((1, 1, 9, 9), np.float32),
        "seg": np.zeros((1, 1, 9, 9)),
        "rng": np.random.default_rng(seed),
    }


def test_borrowed_transforms_are_repeatable_in_any_thread() -> None:
    noise = GaussianNoiseTransform(p_per_sample=1)
    expected = [run_seeded(noise, _sample(seed))["data"] for seed in range(20)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: run_seeded(noise, _sample(seed))["data"], range(20)))
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(expected[0], expected[1])


def test_borrowed_transforms_leave_the_global_generators_alone() -> None:
    np.random.seed(5)
    random.seed(5)
    run_seeded(GaussianNoiseTransform(p_per_sample=1), _sample(0))
    after = np.random.random(), random.random()
    np.random.seed(5)
    random.seed(5)
    assert after == (np.random.random(), random.random())


def test_our_own_take_whole_batches_too() -> None:
    sample = {**_sample(0), "data": np.zeros((3, 2, 9, 9), np.float32), "seg": np.zeros((3, 1, 9, 9))}
    found = GaussianNoise(1.0)(**sample)
    assert found["data"].shape == (3, 2, 9, 9)
    assert found["seg"].shape == (3, 1, 9, 9)
    assert found["rng"] is sample["rng"]


def test_run_takes_either_kind() -> None:
    for transform in (GaussianNoise(1.0), GaussianNoiseTransform(p_per_sample=1)):
        sample = _sample(3)
        image, seg = run([transform], sample["data"][0], sample["seg"][0], sample["rng"])
        assert image.shape == seg.shape == (1, 9, 9)
        assert image.any()


def test_a_run_is_its_transforms_in_turn() -> None:
    foreign = GaussianNoiseTransform(noise_variance=(0, 0.01), p_per_sample=1)
    chain = [GaussianNoise(1.0), Gamma(1.0), foreign, Contrast(1.0), Mirror((0, 1)), GaussianBlur(1.0), Brightness(1.0)]
    for seed in range(4):
        image = np.random.default_rng(9).normal(3, 2, (2, 9, 9)).astype(np.float32)
        seg = (image[:1] > 3).astype(np.int16)
        together = run(chain, image.copy(), seg.copy(), np.random.default_rng(seed))
        rng, by_itself = np.random.default_rng(seed), (image.copy(), seg.copy())
        for transform in chain:
            by_itself = run([transform], *by_itself, rng)
        np.testing.assert_array_equal(together[0], by_itself[0])
        np.testing.assert_array_equal(together[1], by_itself[1])
