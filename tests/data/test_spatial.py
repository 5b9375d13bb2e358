from __future__ import annotations

import math

import numpy as np
import pytest
from nnunet_rs.data.spatial import BatchgeneratorsSpatial, SpatialRange, SpatialRule, region_size, rotation

RULE = SpatialRule(p_rotation=1, p_scaling=1, angle=math.radians(15), scale=(0.85, 1.25), p_elastic=0)


def test_region_by_hand() -> None:
    assert region_size((10, 20), 0, (0.8, 1)) == (10, 20)
    assert region_size((10, 20), 0, (0.8, 1.5)) == (15, 30)
    # A square of 10 turned by up to 180 degrees needs its diagonal, 14.14.
    assert region_size((10, 10), math.pi, (1, 1)) == (15, 15)
    cos, sin = math.cos(0.1), math.sin(0.1)
    assert region_size((100, 40), 0.1, (1, 1)) == (math.ceil(100 * cos + 40 * sin), math.ceil(40 * cos + 100 * sin))


def test_rotations_are_rotations() -> None:
    matrix = rotation((0.1, -0.7, 2.0))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    np.testing.assert_allclose(rotation((0, 0, 0.3))[:2, :2], rotation((0.3,)))


@pytest.mark.parametrize(
    ("patch", "in_plane", "angle", "alpha"),
    [
        ((16, 16, 16), False, 15, 900),
        ((4, 16, 16), True, 180, 200),
        ((4, 16, 30), True, 15, 200),
        ((16, 16), False, 180, 200),
        ((16, 30), False, 15, 200),
    ],
)
def test_ranges_of_dimensions(patch, in_plane, angle, alpha) -> None:
    found = SpatialRange.of(RULE, patch, in_plane)
    assert math.degrees(found.angle) == pytest.approx(angle)
    assert found.alpha[1] == alpha
    assert len(found.region) == len(patch)
    assert all(r >= p for r, p in zip(found.region, patch, strict=True))
    if in_plane:
        assert found.region[0] == patch[0]


@pytest.mark.parametrize(("patch", "in_plane"), [((12, 14, 16), False), ((4, 16, 16), True), ((16, 20), False)])
def test_no_border_shows(patch: tuple[int, ...], in_plane: bool) -> None:
    spatial = BatchgeneratorsSpatial(SpatialRange.of(RULE, patch, in_plane))
    for seed in range(12):
        drawn = spatial.draw(np.random.default_rng(seed))
        size = spatial.region(drawn)
        data, seg = np.ones((1, 2, *size), np.float32), np.ones((1, 1, *size), np.int16)
        moved = spatial.apply(drawn, {"data": data, "seg": seg, "rng": drawn})
        assert moved["data"].shape == (1, 2, *patch)
        np.testing.assert_allclose(moved["data"], 1, atol=1e-3)
        np.testing.assert_array_equal(moved["seg"], 1)


def test_in_plane_moves_all_slices_alike() -> None:
    spatial = BatchgeneratorsSpatial(SpatialRange.of(RULE, (5, 16, 16), True))
    drawn = np.random.default_rng(0)
    size = spatial.region(drawn)
    plane = np.random.default_rng(1).random(size[1:], dtype=np.float32)
    data = np.broadcast_to(plane, (1, 1, *size)).copy()
    moved = spatial.apply(drawn, {"data": data, "seg": data.round().astype(np.int16), "rng": drawn})["data"]
    np.testing.assert_array_equal(moved[0, 0, 0], moved[0, 0, 4])
    assert not np.allclose(moved[0, 0, 0], plane[2:18, 2:18], atol=1e-2)
