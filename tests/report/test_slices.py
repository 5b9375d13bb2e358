import base64
import io

import numpy as np
import pytest
from nnunet_rs.core.types import Header
from nnunet_rs.report.palette import class_colour
from nnunet_rs.report.slices import EXTRA, MISSED, Detail, Scene, Slices, swatch
from nnunet_rs.report.slices import draw_slices as draw_planes
from numpy.typing import NDArray
from PIL import Image

AFFINE = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
PLAIN = Header("nifti", AFFINE)


def draw_slices(scene: Scene, most: int) -> Slices:
    (drawn,) = draw_planes(scene, Detail(most))
    return drawn


def picture(uri: str) -> NDArray[np.uint8]:
    """Decode a data URI: (rows, columns, red green blue opacity)."""
    kind, content = uri.split(",", 1)
    assert kind in ("data:image/webp;base64", "data:image/png;base64", "data:image/gif;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGBA"))


def scene(truth: NDArray[np.uint8], found: NDArray[np.uint8], spacing: tuple[float, float, float] = (1, 1, 1)) -> Scene:
    image = np.stack([np.broadcast_to(np.arange(truth.shape[0], dtype=np.float32)[:, None, None], truth.shape)] * 2)
    windows = ((0.0, truth.shape[0] - 1.0), (-5.0, -4.0))
    return Scene(image, truth, found, spacing, PLAIN, windows)


def cube(depth: int = 12, planes: tuple[int, int] = (4, 8)) -> NDArray[np.uint8]:
    labels = np.zeros((depth, 20, 20), np.uint8)
    labels[planes[0] : planes[1], 5:15, 5:15] = 1
    return labels


def has(drawn: NDArray[np.uint8], colour: tuple[float, ...]) -> bool:
    shown = drawn[drawn[..., 3] > 0][:, :3].astype(int)
    return bool((np.abs(shown - np.asarray(colour)).max(axis=-1) <= 1).any()) if shown.size else False


def test_each_plane_has_a_picture_in_each_layer() -> None:
    drawn = draw_slices(scene(cube(), cube()), 40)
    assert (drawn.plane, drawn.count, drawn.indices) == ("axial", 12, tuple(range(1, 13)))
    for layer in (*drawn.channels, drawn.reference, drawn.prediction, drawn.difference):
        assert len(layer) == 12
    assert drawn.first in range(4, 8)
    assert picture(drawn.channels[0][0]).shape[:2] == drawn.size[::-1]
    grey = [int(picture(uri)[0, 0, 0]) for uri in drawn.channels[0]]
    assert grey == sorted(grey)
    assert (grey[0], grey[-1]) == (0, 255)
    assert int(picture(drawn.channels[1][3]).min()) == 255  # above the window of the second channel


def test_the_reference_is_an_outline_and_the_prediction_covers_its_area() -> None:
    drawn = draw_slices(scene(cube(), cube()), 40)
    outline, veil = picture(drawn.reference[5]), picture(drawn.prediction[5])
    middle = outline.shape[0] // 2
    assert outline[middle, middle, 3] == 0
    assert (outline[..., 3] > 0).sum() < 0.2 * (veil[..., 3] > 0).sum()
    assert (veil[..., 3] > 0).mean() == pytest.approx(0.25, abs=0.01)
    assert len(np.unique(veil[..., 3])) == 3  # nothing, the area, its hatching
    for layer in (outline, veil):
        assert has(layer, tuple(255 * part for part in class_colour(1)))
    assert picture(drawn.reference[0]).shape[:2] == (1, 1)  # nothing there: one transparent pixel
    assert picture(drawn.reference[0])[0, 0, 3] == 0


def test_differences_tell_missed_from_too_much() -> None:
    truth, found = cube(), cube()
    found[:, :, 5:8] = 0
    found[4:8, 5:15, 15:18] = 1
    drawn = picture(draw_slices(scene(truth, found), 40).difference[5])
    left, right = drawn[:, : drawn.shape[1] // 2], drawn[:, drawn.shape[1] // 2 :]
    # Columns run from the patient's right, where x is greatest.
    assert has(left, EXTRA)
    assert not has(left, MISSED)
    assert has(right, MISSED)
    assert not has(right, EXTRA)
    assert picture(draw_slices(scene(truth, truth), 40).difference[5]).shape[:2] == (1, 1)


@pytest.mark.parametrize(
    ("depth", "planes", "most", "chosen"),
    [
        (12, (4, 8), 40, range(12)),
        (100, (40, 48), 10, range(39, 49)),  # all with foreground, and what is around
        (100, (0, 4), 10, range(7)),
        (100, (0, 100), 4, [12, 37, 62, 87]),  # every n-th
    ],
)
def test_planes_with_foreground_are_preferred(
    depth: int, planes: tuple[int, int], most: int, chosen: range | list[int]
) -> None:
    drawn = draw_slices(scene(cube(depth, planes), cube(depth, planes)), most)
    assert [index - 1 for index in drawn.indices] == pytest.approx(list(chosen), abs=1)
    assert len(drawn.indices) <= most


def test_proportions_are_those_of_the_body() -> None:
    labels = cube(12)
    wide = draw_slices(scene(labels, labels, (1.0, 1.0, 1.5)), 4)
    assert wide.size == (400, 267)
    flat = draw_slices(scene(labels[:1], labels[:1]), 4)
    assert (flat.plane, flat.count) == ("axial", 1)


def test_many_classes_fit_into_a_picture() -> None:
    labels = np.arange(400, dtype=np.uint16).reshape(1, 20, 20)
    drawn = draw_slices(Scene(np.zeros((1, 1, 20, 20), np.float32), labels, labels, (1, 1, 1), PLAIN, ((0, 1),)), 4)
    assert (picture(drawn.prediction[0])[..., 3] > 0).mean() > 0.99


def test_swatches_show_their_class() -> None:
    for layer in ("reference", "prediction"):
        drawn = picture(swatch(2, layer))
        assert drawn.shape == (18, 28, 4)
        assert has(drawn, tuple(255 * part for part in class_colour(2)))
