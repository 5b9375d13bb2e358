from types import SimpleNamespace

import blosc2
import numpy as np
import pytest
from nnunet_rs.core.document import encode
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.geometry import Geometry
from nnunet_rs.core.types import Header
from nnunet_rs.predict.export import OutputGrid
from nnunet_rs.predict.probabilities import ProbabilityFile, open_probabilities, read_probabilities
from nnunet_rs.predict.window_grid import sliding_window_grid

HEADER = Header("itk", ((1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 1.0, 0), (0, 0, 0, 1.0)))


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_planes_land_where_they_belong(tmp_path, make_plan, transpose, axis):
    shape = (4, 5, 6)
    working = tuple(shape[i] for i in transpose)
    box = ((0, working[0]), (1, working[1] - 1), (0, working[2] - 2))
    geometry = Geometry(shape, (1.0, 1.0, 1.0), transpose, box, working, HEADER)
    cropped = geometry.cropped_shape
    window_grid = sliding_window_grid(cropped, cropped, axis=axis)
    output = OutputGrid.of(window_grid, geometry, None)
    plan = make_plan(transpose=transpose)
    values = np.random.default_rng(0).random((3, *cropped)).astype(np.float32)
    swept = values.transpose(0, *(i + 1 for i in window_grid.axes))
    file = ProbabilityFile(tmp_path / "a.b2nd", plan, output, SimpleNamespace(geometry=geometry))
    file.put(0, swept[:, :2])
    file.put(2, swept[:, 2:])
    saved = open_probabilities(tmp_path / "a.b2nd")
    assert saved.shape == (3, *shape)
    assert saved.labels == plan.labels
    assert saved.across == transpose[axis]
    expected = geometry.undo(values.astype(np.float16))
    outside = geometry.undo(np.zeros(cropped, bool), fill=1)
    expected[0][outside] = 1
    whole = saved.planes(saved.across, 0, shape[saved.across])
    assert whole.dtype == np.float16
    np.testing.assert_array_equal(whole, expected)
    part = saved.planes(1, 2, 4)
    np.testing.assert_array_equal(part, expected[:, :, 2:4])


def test_what_is_no_such_file_is_said(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere\.b2nd"):
        open_probabilities(tmp_path / "nowhere.b2nd")
    blosc2.asarray(np.zeros((2, 2)), urlpath=str(tmp_path / "other.b2nd"))
    with pytest.raises(DatasetError, match="holds no probabilities"):
        open_probabilities(tmp_path / "other.b2nd")
    array = blosc2.zeros((2, 2, 2, 2), urlpath=str(tmp_path / "old.b2nd"))
    array.schunk.vlmeta["nnunet_rs"] = {"version": 0}
    with pytest.raises(DatasetError, match="version is 0, this release reads 1"):
        open_probabilities(tmp_path / "old.b2nd")


def test_a_file_of_another_type_or_shape_is_said(tmp_path, make_plan):
    for number, (shape, kind) in enumerate((((3, 2, 2), "f2"), ((3, 2, 2, 2), "f4"), ((2, 2, 2, 2), "f2"))):
        path = tmp_path / f"{number}.b2nd"
        array = blosc2.zeros(shape, dtype=np.dtype(kind), urlpath=str(path))
        array.schunk.vlmeta["nnunet_rs"] = {"version": 1, "labels": encode(make_plan().labels)}
        with pytest.raises(DatasetError, match=r"not float16 \(c, z, y, x\) of 3 channels"):
            read_probabilities(path)


def test_a_damaged_file_is_read_or_said(tmp_path, make_plan):
    whole = tmp_path / "whole.b2nd"
    array = blosc2.asarray(np.random.default_rng(0).random((3, 4, 5, 6)).astype(np.float16), urlpath=str(whole))
    array.schunk.vlmeta["nnunet_rs"] = {"version": 1, "labels": encode(make_plan().labels)}
    del array
    content, rng, told = whole.read_bytes(), np.random.default_rng(0), 0
    assert read_probabilities(whole).shape == (3, 4, 5, 6)
    for cut in rng.integers(0, len(content), 60):
        changed = bytearray(content)
        changed[cut] ^= int(rng.integers(1, 256))
        for damaged in (content[:cut], bytes(changed)):
            (tmp_path / "damaged.b2nd").write_bytes(damaged)
            try:
                assert read_probabilities(tmp_path / "damaged.b2nd").ndim == 4
            except DatasetError:
                told += 1
    assert told > 60
