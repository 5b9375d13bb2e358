import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.predict.window_grid import sliding_window_grid


def test_windows_by_hand():
    # z has 8 voxels (2 tiles), y 10 (2.5 tiles), x 3 (padded to 4): the sweep goes along y, in steps of at most 2
    window_grid = sliding_window_grid((8, 10, 3), (4, 4, 4))
    assert window_grid.axes == (1, 0, 2)
    assert (window_grid.size, window_grid.padded, window_grid.before, window_grid.tile) == (
        (10, 8, 3),
        (10, 8, 4),
        (0, 0, 0),
        (4, 4, 4),
    )
    assert [start[0] for start in window_grid.starts[::3]] == [0, 2, 4, 6]
    assert window_grid.starts[:3] == ((0, 0, 0), (0, 2, 0), (0, 4, 0))
    assert tuple(window_grid.size[axis] for axis in window_grid.back) == (8, 10, 3)


def test_slices_are_swept_one_by_one():
    window_grid = sliding_window_grid((3, 5, 9), (4, 4))
    assert window_grid.axes == (0, 1, 2)
    assert window_grid.tile == (1, 4, 4)
    assert [start for start in window_grid.starts if start[0] == 1] == [(1, y, x) for y in (0, 1) for x in (0, 2, 3, 5)]


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(1, 30)] * 3), st.tuples(*[st.integers(1, 12)] * 3), st.sampled_from([0.25, 0.5, 1.0]))
def test_windows_cover_the_volume_in_order(size, tile, step):
    window_grid = sliding_window_grid(size, tile, step)
    covered = np.zeros(window_grid.padded, bool)
    for start in window_grid.starts:
        place = tuple(slice(s, s + n) for s, n in zip(start, window_grid.tile, strict=True))
        assert covered[place].shape == window_grid.tile
        covered[place] = True
    assert covered.all()
    layers = [start[0] for start in window_grid.starts]
    assert layers == sorted(layers)
    assert tuple(window_grid.size[axis] for axis in window_grid.back) == size
    assert max(window_grid.size[i] / window_grid.tile[i] for i in range(3)) == window_grid.size[0] / window_grid.tile[0]


def test_impossible_steps_are_refused():
    with pytest.raises(ValueError, match="step"):
        sliding_window_grid((8, 8, 8), (4, 4, 4), 0.0)
