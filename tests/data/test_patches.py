from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.data.class_locations import sample_locations
from nnunet_rs.data.patches import PatchRule, choose_start, oversamples_foreground

PLAIN = LabelSet(("background", "a", "b"), (0, 1, 2))


def test_at_least_a_third_and_one_of_a_batch() -> None:
    for size, foreground in ((2, 1), (3, 1), (4, 2), (6, 2), (9, 3), (12, 4), (50, 17)):
        found = [oversamples_foreground(sample, size, index=5) for sample in range(size)]
        assert found == [False] * (size - foreground) + [True] * foreground


def test_of_batches_of_one_every_second() -> None:
    assert [oversamples_foreground(0, 1, index) for index in range(4)] == [False, True, False, True]


def test_rule_of_classes_regions_and_ignore() -> None:
    assert PatchRule.of((8, 9), PLAIN) == PatchRule((1, 8, 9), ((1,), (2,)))
    regions = LabelSet(PLAIN.names, PLAIN.values, (Region("whole", (1, 2), 1), Region("core", (2,), 2)))
    assert PatchRule.of((7, 8, 9), regions) == PatchRule((7, 8, 9), ((1, 2), (2,)))
    ignore = LabelSet(PLAIN.names, PLAIN.values, ignore=3)
    assert PatchRule.of((7, 8, 9), ignore).annotated == (0, 1, 2)


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    patch=st.tuples(*[st.integers(1, 9)] * 3),
    seed=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_random_patches_stay_inside_or_are_centred(shape, patch, seed) -> None:
    found = sample_locations(np.zeros(shape, np.uint8), [1, 2])
    for foreground in (False, True):  # no foreground: foreground patches lie anywhere
        start = choose_start(PatchRule.of(patch, PLAIN), found, foreground, np.random.default_rng(seed))
        for s, size, length in zip(start, patch, shape, strict=True):
            if size <= length:
                assert 0 <= s <= length - size
            else:
                before, after = -s, s + size - length
                assert abs(before - after) <= 1
                assert min(before, after) >= 0


def test_random_patches_reach_both_ends() -> None:
    found = sample_locations(np.zeros((1, 6, 6), np.uint8), [1])
    rng = np.random.default_rng(0)
    starts = {choose_start(PatchRule.of((4, 4), PLAIN), found, False, rng) for _ in range(200)}
    assert starts == {(0, y, x) for y in range(3) for x in range(3)}


def test_forced_patches_are_centred_on_a_random_present_class() -> None:
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[10, 10, 10] = 1
    labels[2, 12, 19] = 2
    found, rng = sample_locations(labels, [1, 2]), np.random.default_rng(0)
    rule = PatchRule.of((6, 6, 6), PLAIN)
    starts = [choose_start(rule, found, True, rng) for _ in range(100)]
    # Centred on (10, 10, 10); on (2, 12, 19) it would begin at -1 along z, which is moved inside, and hangs over x.
    assert set(starts) == {(7, 7, 7), (0, 9, 16)}
    assert 30 < starts.count((7, 7, 7)) < 70


def test_with_an_ignore_label_every_patch_is_centred_on_an_annotated_voxel() -> None:
    labels = np.full((1, 30, 30), 3, np.uint8)
    labels[0, 15, 15] = 0
    rule = PatchRule.of((4, 4), LabelSet(PLAIN.names, PLAIN.values, ignore=3))
    found = sample_locations(labels, [0, 1, 2])
    assert choose_start(rule, found, False, np.random.default_rng(0)) == (0, 13, 13)


@pytest.mark.parametrize("foreground", [False, True])
def test_the_same_generator_gives_the_same_patch(foreground: bool) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (9, 30, 30)).astype(np.uint8)
    found, rule = sample_locations(labels, [1, 2]), PatchRule.of((5, 9, 9), PLAIN)
    starts = {choose_start(rule, found, foreground, np.random.default_rng(7)) for _ in range(3)}
    assert len(starts) == 1
