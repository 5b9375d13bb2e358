import numpy as np
import pytest
from nnunet_rs.core.types import Header
from nnunet_rs.report.planes import canonical, canonical_spacing, cut_across, cutting_axis, fullest


def header(*rows: tuple[float, ...]) -> Header:
    return Header("nifti", (*rows, (0.0, 0.0, 0.0, 1.0)))


RIGHT = header((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0))  # the file's x grows to the right, y to the front, z upwards
TURNED = header((0, 0, -2.0, 0), (0, 3.0, 0, 0), (-5.0, 0, 0, 0))  # the file's x grows downwards, its z to the left


def test_the_patients_right_is_at_the_left_and_the_front_above() -> None:
    volume = np.zeros((1, 2, 3), np.uint8)  # z, y, x
    volume[0, 1, 2] = 7  # right, front
    plane = cut_across(2, 0, (3, 2, 1), np.ones(3)).take(canonical(volume, RIGHT))
    assert plane.tolist() == [[7, 0, 0], [0, 0, 0]]


def test_the_head_is_above_in_coronal_planes() -> None:
    volume = np.zeros((2, 1, 2), np.uint8)
    volume[1, 0, 0] = 7  # up, left
    plane = cut_across(1, 0, (2, 1, 2), np.ones(3)).take(canonical(volume, RIGHT))
    assert plane.tolist() == [[0, 7], [0, 0]]


def test_axes_and_spacing_follow_the_affine() -> None:
    volume = np.arange(24).reshape(2, 3, 4)  # z, y, x of the file
    turned = canonical(volume, TURNED)
    assert turned.shape == (2, 3, 4)  # right, front, up
    assert turned[0, 0, 0] == volume[1, 0, 3]
    assert canonical_spacing((2.0, 3.0, 5.0), TURNED).tolist() == [2, 3, 5]
    assert canonical_spacing((5.0, 3.0, 2.0), RIGHT).tolist() == [2, 3, 5]


@pytest.mark.parametrize(
    ("shape", "spacing", "axis"),
    [
        ((30, 40, 50), (1, 1, 1), 2),
        ((30, 40, 50), (1, 1, 1.9), 2),
        ((30, 12, 50), (1, 5, 1), 1),  # scanned slice by slice from front to back
        ((30, 12, 12), (1, 5, 5), 2),  # two coarse axes: no slices
        ((1, 40, 50), (1, 1, 1), 0),  # a single slice
    ],
)
def test_cuts_are_those_that_were_scanned(shape: tuple[int, ...], spacing: tuple[float, ...], axis: int) -> None:
    assert cutting_axis(shape, np.array(spacing)) == axis


def test_the_fullest_plane() -> None:
    foreground = np.zeros((4, 5, 6), np.bool_)
    assert fullest(foreground, 2) == 3
    foreground[1, :, 2] = foreground[:3, 0, 4] = True
    assert fullest(foreground, 2) == 2
    assert fullest(foreground, 0) == 1


def test_sizes_are_in_millimetres() -> None:
    cut = cut_across(1, 0, (10, 20, 30), np.array([1.0, 2.0, 3.0]))
    assert (cut.width, cut.height, cut.name) == (10.0, 90.0, "coronal")
