"""One object used from several Python threads: calls wait for one another, and none is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from nnunet_rs.core.kernels import Blend, IntensityChanges, WindowAccumulator

SIZE, TILE = (16, 64, 64), (16, 32, 32)
PATCH = np.random.default_rng(0).normal(size=(2, *TILE)).astype(np.float32)
STARTS = [(0, y, x) for y in (0, 16, 32) for x in (0, 16, 32)] * 3


def in_four_threads(work, items):
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(work, items))


def test_windows_are_added_to_a_blend():
    for dtype in ("float32", "float16"):
        alone, shared = (Blend(2, SIZE, TILE, dtype=dtype) for _ in range(2))
        for start in STARTS:
            alone.add(PATCH, start)
        in_four_threads(lambda start, blend=shared: blend.add(PATCH, start), STARTS)
        np.testing.assert_allclose(shared.finish(), alone.finish(), atol=1e-2 if dtype == "float16" else 1e-5)


def test_windows_are_added_to_sums_and_read_meanwhile():
    alone, shared = WindowAccumulator(2, SIZE, TILE), WindowAccumulator(2, SIZE, TILE)
    for start in STARTS:
        alone.add(PATCH, start)
        shared.add(PATCH, start)
    stop = SIZE

    def work(start):
        shared.add(PATCH, start)
        return shared.mean((0, 0, 0), stop)

    for mean in in_four_threads(work, STARTS):
        assert np.isfinite(mean).all()
    np.testing.assert_allclose(shared.mean((0, 0, 0), stop), alone.mean((0, 0, 0), stop), atol=1e-5)


def test_changes_are_noted_and_made():
    changes = IntensityChanges()

    def work(_):
        image = np.ones((1, 8, 8), np.float32)
        changes.scale(0, 2.0)
        changes.apply(image)
        return np.log2(image.flat[0])

    made = in_four_threads(work, range(64))
    assert len(changes) == 64
    assert all(1 <= count <= 64 for count in made)
