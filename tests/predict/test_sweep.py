import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.predict.sweep import plan_sweep


def test_windows_by_hand():
    # z has 8 voxels (2 tiles), y 10 (2.5 tiles), x 3 (padded to 4): the sweep goes along y, in steps of at most 2
    sweep = plan_sweep((8, 10, 3), (4, 4, 4))
    assert sweep.axes == (1, 0, 2)
    assert (sweep.size, sweep.padded, sweep.before, sweep.tile) == ((10, 8, 3), (10, 8, 4), (0, 0, 0), (4, 4, 4))
    assert [start[0] for start in sweep.starts[::3]] == [0, 2, 4, 6]
    assert sweep.starts[:3] == ((0, 0, 0), (0, 2, 0), (0, 4, 0))
    assert sweep.to_working(sweep.size) == (8, 10, 3)


def test_slices_are_swept_one_by_one():
    sweep = plan_sweep((3, 5, 9), (4, 4))
    assert sweep.axes == (0, 1, 2)
    assert sweep.tile == (1, 4, 4)
    assert [start for start in sweep.starts if start[0] == 1] == [(1, y, x) for y in (0, 1) for x in (0, 2, 3, 5)]


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(1, 30)] * 3), st.tuples(*[st.integers(1, 12)] * 3), st.sampled_from([0.25, 0.5, 1.0]))
def test_windows_cover_the_volume_in_order(size, tile, step):
    sweep = plan_sweep(size, tile, step)
    covered = np.zeros(sweep.padded, bool)
    for start in sweep.starts:
        place = tuple(slice(s, s + n) for s, n in zip(start, sweep.tile, strict=True))
        assert covered[place].shape == sweep.tile
        covered[place] = True
    assert covered.all()
    layers = [start[0] for start in sweep.starts]
    assert layers == sorted(layers)
    assert sweep.to_working(sweep.size) == size
    assert max(sweep.size[i] / sweep.tile[i] for i in range(3)) == sweep.size[0] / sweep.tile[0]


def test_impossible_steps_are_refused():
    with pytest.raises(ValueError, match="step"):
        plan_sweep((8, 8, 8), (4, 4, 4), 0.0)
