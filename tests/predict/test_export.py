import itertools
import weakref
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.core.geometry import Geometry, lowres_axis
from nnunet_rs.core.kernels import logits_to_labels, resample_probabilities
from nnunet_rs.core.types import Header, LabelSet, Region
from nnunet_rs.predict.export import OutputGrid, ScoreConverter, export_labels, to_probabilities
from nnunet_rs.predict.exporter import Exporter
from nnunet_rs.predict.sliding_window import ScoreBlock as Part
from nnunet_rs.predict.window_grid import sliding_window_grid

HEADER = Header("itk", ((1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 1.0, 0), (0, 0, 0, 1.0)))
LABELS = LabelSet(("background", "a", "b"), (0, 3, 7))
REGIONS = LabelSet(("background", "a", "b"), (0, 1, 2), (Region("all", (1, 2), 1), Region("b", (2,), 300)))


def geometry(cropped, resampled, spacing=(1.0, 1.0, 1.0)):
    return Geometry(cropped, spacing, (0, 1, 2), tuple((0, n) for n in cropped), resampled, HEADER)


class CaseCache:
    def __init__(self):
        self.groups = []

    def put(self, first, values):
        assert first == sum(group.shape[1] for group in self.groups)
        self.groups.append(values)


def parts(scores, window_grid, plane_cuts, row_cuts=()):
    """Cut scores up as a sliding window hands them out; reading what is forgotten or not there yet fails."""
    swept = scores.transpose(0, *(axis + 1 for axis in window_grid.axes))
    planes, rows = ([0, *cuts, n] for cuts, n in zip((plane_cuts, row_cuts), window_grid.size, strict=False))
    for (low, high), (left, right) in itertools.product(itertools.pairwise(planes), itertools.pairwise(rows)):

        def read(planes, rows, low=low, high=high, left=left, right=right):
            assert low - 1 <= planes[0] < planes[1] <= high
            assert left - 1 <= rows[0] < rows[1] <= right
            return partial(np.ascontiguousarray, swept[:, slice(*planes), slice(*rows)])

        yield Part((low, high), (left, right), read)


def draw_cuts(data, size):
    return sorted(cut for cut in data.draw(st.sets(st.integers(1, max(1, size - 1)), max_size=4)) if cut < size)


sizes = st.tuples(*[st.integers(1, 12)] * 3)


@settings(max_examples=80, deadline=None)
@given(sizes, sizes, st.sampled_from([(1.0, 1.0, 1.0), (9.0, 1.0, 1.0), (1.0, 1.0, 9.0)]), st.data())
def test_however_it_is_cut_the_labels_are_those_of_the_whole(size, shape, spacing, data):
    scores = np.random.default_rng(sum(size)).normal(size=(3, *size)).astype(np.float32)
    window_grid = sliding_window_grid(size, (4, 4, 4))
    cuts = draw_cuts(data, window_grid.size[0])
    grid = geometry(shape, size, spacing)
    output = OutputGrid.of(window_grid, grid, lowres_axis(grid.working_spacing, spacing))
    kept = CaseCache()
    result = export_labels(parts(scores, window_grid, cuts), output, grid, ScoreConverter(LABELS, True), kept)()
    coarse = spacing.index(9.0) if 9.0 in spacing else None
    swept = np.ascontiguousarray(scores.transpose(0, *(axis + 1 for axis in window_grid.axes)))
    lowres = None if coarse is None else window_grid.axes.index(coarse)
    whole = logits_to_labels(swept, output.shape, lowres_axis=lowres).transpose(window_grid.back)
    np.testing.assert_array_equal(result, np.array(LABELS.values, np.uint8)[whole])
    smaller = parts(scores, window_grid, cuts, draw_cuts(data, window_grid.size[1]))
    np.testing.assert_array_equal(export_labels(smaller, output, grid, ScoreConverter(LABELS, True))(), result)
    again, beside = parts(scores, window_grid, cuts), CaseCache()
    with Exporter() as exporter:
        decided = export_labels(again, output, grid, ScoreConverter(LABELS, True), beside, exporter)()
    np.testing.assert_array_equal(decided, result)
    np.testing.assert_array_equal(np.concatenate(beside.groups, axis=1), np.concatenate(kept.groups, axis=1))
    np.testing.assert_array_equal(
        np.concatenate(kept.groups, axis=1), resample_probabilities(swept, output.shape, lowres_axis=lowres)
    )


def test_labels_take_the_smallest_type_and_lie_in_the_crop_box():
    size = (2, 2, 2)
    scores = np.zeros((3, *size), np.float32)
    scores[2] = 1
    grid = Geometry((4, 4, 4), (1.0,) * 3, (0, 1, 2), ((1, 3), (1, 3), (2, 4)), size, HEADER)
    window_grid = sliding_window_grid(size, size)
    output = OutputGrid.of(window_grid, grid, None)
    result = export_labels(parts(scores, window_grid, []), output, grid, ScoreConverter(LABELS, True))()
    assert result.dtype == np.uint8
    assert (result == 7).sum() == 8
    assert (result[1:3, 1:3, 2:4] == 7).all()


@pytest.mark.parametrize(("probabilities", "threshold"), [(True, 0.5), (False, 0.0)])
def test_regions_are_painted_in_order_at_one_half(probabilities, threshold):
    size = (1, 1, 4)
    scores = np.full((2, *size), threshold - 1, np.float32)
    scores[0, 0, 0] = threshold, threshold, threshold - 1e-6, threshold + 1
    scores[1, 0, 0] = threshold - 1e-6, threshold, threshold + 0.1, threshold - 1
    grid = geometry(size, size)
    window_grid = sliding_window_grid(size, size)
    output = OutputGrid.of(window_grid, grid, None)
    result = export_labels(parts(scores, window_grid, []), output, grid, ScoreConverter(REGIONS, probabilities))()
    assert result.dtype == np.uint16
    assert result[0, 0].tolist() == [1, 300, 300, 1]


@pytest.mark.parametrize("labels", [LABELS, REGIONS])
def test_logits_become_probabilities_after_resampling(labels):
    size, shape = (3, 4, 5), (5, 7, 9)
    logits = 100 * np.random.default_rng(0).normal(size=(labels.outputs, *size)).astype(np.float32)
    grid = geometry(shape, size)
    window_grid = sliding_window_grid(size, (3, 4, 4))
    kept = CaseCache()
    output = OutputGrid.of(window_grid, grid, None)
    export_labels(parts(logits, window_grid, [2]), output, grid, ScoreConverter(labels, False), kept)()
    swept = np.ascontiguousarray(logits.transpose(0, *(axis + 1 for axis in window_grid.axes)))
    whole = resample_probabilities(swept, output.shape).astype(np.float64)
    with np.errstate(over="ignore"):
        expected = 1 / (1 + np.exp(-whole)) if labels.regions else np.exp(whole - whole.max(0))
    if not labels.regions:
        expected /= expected.sum(0)
    np.testing.assert_allclose(np.concatenate(kept.groups, axis=1), expected, atol=1e-6)


def test_probabilities_are_made_in_place():
    logits = np.random.default_rng(0).normal(scale=60, size=(3, 4, 5, 6)).astype(np.float32)
    with np.errstate(over="ignore"):
        sigmoid = 1 / (1 + np.exp(-logits))
    for regions in (True, False):
        values = logits.copy()
        made = to_probabilities(values, regions=regions)
        assert made is values
        if regions:
            np.testing.assert_array_equal(made, sigmoid)
        else:
            np.testing.assert_allclose(made.sum(axis=0), 1, atol=1e-6)


def test_scores_are_gone_before_the_next_are_read():
    scores, window_grid = np.zeros((3, 8, 4, 4), np.float32), sliding_window_grid((8, 4, 4), (4, 4, 4))
    size, held = window_grid.size, []

    def read(planes, rows):
        assert not any(each() is not None for each in held)
        lent = partial(np.ascontiguousarray, scores[:, slice(*planes), slice(*rows)])
        held.append(weakref.ref(lent))
        return lent

    blocks = (Part((first, first + 2), (0, size[1]), read) for first in range(0, size[0], 2))
    grid = geometry((8, 4, 4), (8, 4, 4))
    export_labels(blocks, OutputGrid.of(window_grid, grid, None), grid, ScoreConverter(LABELS, True))()
    assert len(held) == size[0] // 2
