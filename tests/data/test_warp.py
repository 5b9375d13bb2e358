"""The spatial transform on the warp kernel: chance, regions, and batchgenerators' own transform beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from batchgenerators.augmentations.utils import (
    create_zero_centered_coordinate_mesh,
    interpolate_img,
    rotate_coords_2d,
    rotate_coords_3d,
    scale_coords,
)
from nnunet_rs.core.kernels import Elastic
from nnunet_rs.data.spatial import SpatialRange, SpatialRule
from nnunet_rs.data.warp import Deformation, Warp, WarpSpatial

RULE = SpatialRule(p_rotation=0.2, p_scaling=0.2, angle=0.26, scale=(0.85, 1.25), p_elastic=0.2)
ALWAYS = replace(RULE, p_rotation=1.0, p_scaling=1.0, p_elastic=1.0)


def batch(size: tuple[int, ...], channels: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((2, channels, *size)).astype(np.float32)
    return {"data": data, "seg": rng.integers(0, 3, (2, 1, *size)).astype(np.float32)}


def spatial(patch: tuple[int, ...], rule: SpatialRule = RULE, in_plane: bool = False) -> WarpSpatial:
    return WarpSpatial(SpatialRange.of(rule, patch, in_plane))


def test_chances_and_ranges_are_the_papers():
    rng = np.random.default_rng(0)
    one = spatial((16, 20, 24))
    drawn = [one.draw(rng) for _ in range(4000)]
    moved = [d for d in drawn if d is not None]
    assert len(moved) / 4000 == pytest.approx(1 - 0.8**3, abs=0.03)
    for share in (
        sum(d.elastic is not None for d in moved),
        sum(any(d.angles) for d in moved),
        sum(d.scale != 1 for d in moved),
    ):
        assert share / 4000 == pytest.approx(0.2, abs=0.03)
    angles = np.array([d.angles for d in moved])
    assert angles.shape[1] == 3
    assert 0.25 < np.abs(angles).max() <= 0.26
    scales = np.array([d.scale for d in moved if d.scale != 1])
    assert 0.85 <= scales.min() < 0.87
    assert 1.23 < scales.max() <= 1.25
    assert np.mean(scales < 1) == pytest.approx(0.5, abs=0.1)  # as often smaller as larger
    fields = [d.elastic for d in moved if d.elastic is not None]
    assert all(0 <= f.alpha <= 900 and 9 <= f.sigma <= 13 for f in fields)
    assert len({f.seed for f in fields}) == len(fields)


def test_the_plane_has_ranges_of_its_own():
    rng = np.random.default_rng(0)
    for one in (spatial((64, 64), ALWAYS), spatial((4, 64, 64), ALWAYS, in_plane=True)):
        drawn = [one.draw(rng) for _ in range(300)]
        assert all(len(d.angles) == 1 for d in drawn)
        assert max(abs(d.angles[0]) for d in drawn) > 2.5
        assert max(d.elastic.alpha for d in drawn) <= 200


@pytest.mark.parametrize(("patch", "angles"), [((12, 10, 14), (0.2, -0.1, 0.25)), ((12, 14), (0.7,))])
def test_equals_batchgenerators_at_the_same_angles(patch, angles):
    size = tuple(n + 8 for n in patch)
    sample = {key: value[:1] for key, value in batch(size).items()}
    one = spatial(patch, ALWAYS)
    result = one.apply(Deformation(angles, 1.1, None), sample)
    turn = rotate_coords_3d if len(patch) == 3 else rotate_coords_2d
    # batchgenerators turns about the second axis the other way round.
    signs = (1, -1, 1) if len(patch) == 3 else (1,)
    where = turn(create_zero_centered_coordinate_mesh(patch), *np.multiply(angles, signs))
    where = scale_coords(where, 1.1) + (np.array(size) / 2 - 0.5).reshape(-1, *[1] * len(patch))
    for channel in range(2):
        expected = interpolate_img(sample["data"][0, channel], where, 3, "constant")
        np.testing.assert_allclose(result["data"][0, channel], expected, atol=1e-4)
    expected = interpolate_img(sample["seg"][0, 0], where, 1, "constant", is_seg=True)
    assert np.mean(result["seg"][0, 0] != expected) < 1e-3


@pytest.mark.parametrize("in_plane", [False, True])
def test_the_region_shows_no_border(in_plane):
    patch = (6, 20, 24) if in_plane else (16, 20, 24)
    one = spatial(patch, replace(ALWAYS, order=1), in_plane)
    rng = np.random.default_rng(3)
    for _ in range(12):
        drawn = one.draw(rng)
        region = one.region(drawn)
        assert len(region) == 3
        assert not in_plane or region[0] == patch[0]
        sample = {"data": np.ones((1, 1, *region), np.float32), "seg": np.ones((1, 1, *region), np.uint8)}
        result = one.apply(drawn, sample)
        assert result["data"].shape == (1, 1, *patch)
        assert np.mean(result["data"] == 0) < 1e-3
        assert np.mean(result["seg"] == 0) < 1e-3
    assert one.region(None) == patch


def test_slices_of_a_plane_move_alike():
    one = spatial((3, 16, 16), ALWAYS, in_plane=True)
    sample = batch((3, 30, 30))
    sample["data"][:, :, 1] = sample["data"][:, :, 0]
    result = one.apply(Deformation((0.3,), 0.9, Elastic(50.0, 9.0, 7)), sample)
    assert result["data"].shape == (2, 2, 3, 16, 16)
    assert result["seg"].shape == (2, 1, 3, 16, 16)
    np.testing.assert_array_equal(result["data"][:, :, 1], result["data"][:, :, 0])
    assert (result["data"][:, :, 2] != result["data"][:, :, 0]).any()


def test_nothing_drawn_is_the_middle():
    sample = batch((9, 12, 10))
    result = spatial((5, 12, 7)).apply(None, sample)
    np.testing.assert_array_equal(result["data"], sample["data"][:, :, 2:7, :, 1:8])
    np.testing.assert_array_equal(result["seg"], sample["seg"][:, :, 2:7, :, 1:8])
    with pytest.raises(ValueError, match=r"data must be at least the patch \(10, 12, 7\)"):
        spatial((10, 12, 7)).apply(None, sample)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i8", "f4"])
def test_as_a_transform_of_batchgenerators(dtype):
    transform = Warp(ALWAYS, (8, 10, 12))
    sample = batch((16, 18, 20))
    sample["seg"] = sample["seg"].astype(dtype)
    results = [transform(**sample, keys=["a", "b"], rng=np.random.default_rng(4)) for _ in range(2)]
    assert results[0]["keys"] == ["a", "b"]
    assert results[0]["data"].shape == (2, 2, 8, 10, 12)
    assert results[0]["data"].dtype == np.float32
    assert results[0]["seg"].shape == (2, 1, 8, 10, 12)
    assert results[0]["seg"].dtype == np.dtype(dtype)
    np.testing.assert_array_equal(results[0]["data"], results[1]["data"])
    np.testing.assert_array_equal(results[0]["seg"], results[1]["seg"])


def test_without_a_generator_the_global_one_decides():
    transform = Warp(ALWAYS, (8, 10))
    sample = batch((16, 18))
    results = []
    for seed in (5, 5, 6):
        np.random.seed(seed)
        results.append(transform(**sample)["data"])
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()
