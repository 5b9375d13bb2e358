from __future__ import annotations

import numpy as np
import pytest
from nnunet_rs.core.types import Header
from nnunet_rs.report.detail import PAGE, draw_within, share
from nnunet_rs.report.slices import Drawing, Scene

AFFINE = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


@pytest.fixture(scope="module")
def drawing() -> Drawing:
    """Noise, which packs badly, with a class in it."""
    image = np.random.default_rng(0).normal(0, 1, (40, 60, 50)).astype(np.float32)
    labels = np.zeros(image.shape, np.uint8)
    labels[10:30, 20:40, 10:30] = 1
    return Drawing.of(Scene((image,), None, labels, (1, 1, 1), Header("nifti", AFFINE), ((-2, 2),)))


@pytest.mark.parametrize("most", [3_000_000, 300_000, 60_000])
def test_what_is_drawn_fits(drawing: Drawing, most: int) -> None:
    views = draw_within(drawing, most)
    assert [view.plane for view in views] == ["axial", "coronal", "sagittal"]
    assert sum(view.bytes for view in views) <= most
    assert sum(view.bytes for view in views) > most / 8


def test_more_room_means_more_slices(drawing: Drawing) -> None:
    few, many = draw_within(drawing, 60_000), draw_within(drawing, 600_000)
    assert len(few[0].indices) < len(many[0].indices)
    assert few[0].size < many[0].size


def test_slices_can_be_limited(drawing: Drawing) -> None:
    assert len(draw_within(drawing, 3_000_000, 3)[0].indices) == 3


def test_there_is_always_something(drawing: Drawing) -> None:
    (view,) = draw_within(drawing, 10)
    assert (view.plane, len(view.indices)) == ("axial", 1)
    assert (view.reference, view.difference) == ((), ())


def test_shares_fill_a_page() -> None:
    assert 0.8 * PAGE < 50 * share(50) < PAGE
    assert share(0) > 0
