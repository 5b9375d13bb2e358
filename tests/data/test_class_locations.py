from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.data import class_locations
from nnunet_rs.data.class_locations import ClassLocations, sample_locations


def _labels() -> np.ndarray:
    labels = np.zeros((2, 2, 3), np.uint8)
    labels[0, 1, 2] = 2  # flat 5
    labels[1, 0, 0] = 1  # flat 6
    labels[1, 0, 2] = 2  # flat 8
    return labels


def test_small_classes_are_kept_whole() -> None:
    found = sample_locations(_labels(), [1, 2, 3])
    assert found.flat.tolist() == [6, 5, 8]
    assert found.spans == {1: (0, 1), 2: (1, 3)}
    assert found.voxels == {1: 1, 2: 2}
    assert found.flat.dtype == np.uint32


def test_only_the_wanted_classes() -> None:
    labels = _labels()
    labels[0, 0, 0] = 4
    found = sample_locations(labels, [1, 4])
    assert found.flat.tolist() == [6, 0]
    assert sample_locations(labels, []).flat.size == 0
    assert sample_locations(np.zeros((2, 2, 2), np.uint8), [1]).spans == {}


def test_the_background_when_asked_for() -> None:
    assert sample_locations(_labels(), [0, 1]).voxels == {0: 9, 1: 1}


@given(st.integers(0, 5))
@settings(max_examples=5, deadline=None)
def test_large_classes_are_sampled(seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, (20, 60, 61)).astype(np.uint8)
    found = sample_locations(labels, [1, 2])
    for c, (start, stop) in found.spans.items():
        assert stop - start == class_locations.MAX_VOXELS < found.voxels[c] == (labels == c).sum()
        picked = found.flat[start:stop]
        assert (labels.ravel()[picked] == c).all()
        assert (np.diff(picked.astype(np.int64)) > 0).all()
    again = sample_locations(labels, [1, 2])
    np.testing.assert_array_equal(found.flat, again.flat)


def test_one_percent_of_huge_classes(monkeypatch) -> None:
    monkeypatch.setattr(class_locations, "MAX_VOXELS", 10)
    monkeypatch.setattr(class_locations, "_SLAB", 100)
    found = sample_locations(np.ones((1, 40, 50), np.uint8), [1])
    assert found.spans == {1: (0, 20)}  # 1 % of 2000
    assert found.flat.max() > 1000  # from more than the first slab


def test_pick_is_uniform_over_a_region() -> None:
    found = ClassLocations((1, 2, 4), np.array([0, 5, 6, 7]), {1: (0, 1), 2: (1, 4)}, {1: 1, 2: 3})
    rng = np.random.default_rng(0)
    picks = [found.pick((1, 2, 9), rng) for _ in range(400)]
    assert set(picks) == {(0, 0, 0), (0, 1, 1), (0, 1, 2), (0, 1, 3)}
    assert 60 < sum(pick == (0, 0, 0) for pick in picks) < 140
    assert found.pick((1,), rng) == (0, 0, 0)
