import itertools

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from nnunet_rs.core import pictures, tiff
from nnunet_rs.core.orientation import (
    count_orientations,
    is_orientation,
    lies_in,
    stored_orientation,
    turn_towards,
)
from nnunet_rs.core.types import Header

PAIRS = ("RL", "AP", "SI")
ALL = ["".join(codes) for pairs in itertools.permutations(PAIRS) for codes in itertools.product(*pairs)]


def affine_of(codes, spacing=(1.0, 1.0, 1.0), degrees=0.0):
    """The affine of axes x, y, z that run as the codes say, rotated about the body's long axis."""
    affine, turn = np.eye(4), np.deg2rad(degrees)
    run = {
        code: np.eye(3)[axis] * sign
        for axis, pair in enumerate(PAIRS)
        for code, sign in zip(pair, (1, -1), strict=True)
    }
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine[:3, :3] = rotation @ np.column_stack([run[code] for code in codes]) @ np.diag(spacing)
    return affine


def header(affine, name="nrrd", nifti=b""):
    return Header(name, tuple(map(tuple, np.asarray(affine).tolist())), nifti)


@pytest.mark.parametrize("codes", ALL)
def test_an_orientation_is_what_nibabel_calls_it(codes):
    assert "".join(nibabel.aff2axcodes(affine_of(codes))) == codes
    assert stored_orientation(header(affine_of(codes, (1.0, 2.0, 5.0), 20))) == codes
    assert is_orientation(codes)


@given(st.sampled_from(ALL), st.sampled_from(ALL), st.floats(-40, 40))
def test_a_turn_is_nibabels(stored, wanted, degrees):
    voxels, affine = np.arange(24).reshape(2, 3, 4), affine_of(stored, (1.0, 2.0, 5.0), degrees)  # x, y, z
    axes, flipped = turn_towards(header(affine), wanted)
    turned = np.flip(voxels.T.transpose(axes), [axis for axis in range(3) if flipped[axis]])
    expected = apply_orientation(voxels, ornt_transform(io_orientation(affine), axcodes2ornt(wanted)))
    np.testing.assert_array_equal(turned, expected.T)


@pytest.mark.parametrize("codes", ALL)
def test_towards_its_own_orientation_nothing_is_turned(codes):
    assert turn_towards(header(affine_of(codes)), codes) == ((0, 1, 2), (False, False, False))


@pytest.mark.parametrize("codes", ["", "RA", "RAR", "RLS", "ras", "RASS", "XYZ", "R,S"])
def test_other_letters_are_no_orientation(codes):
    assert not is_orientation(codes)


@pytest.mark.parametrize("name", [pictures.NAME, tiff.NAME, "array"])
def test_formats_that_place_nothing_have_none(name):
    assert stored_orientation(header(np.eye(4), name)) is None


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_nifti_without_sform_and_qform_has_none(kind):
    image = kind(np.zeros((2, 3, 4), np.uint8), affine_of("LPS"))
    for sform, qform, expected in ((0, 0, None), (2, 0, "LPS"), (0, 1, "LPS"), (1, 1, "LPS")):
        image.set_sform(affine_of("LPS"), code=sform)
        image.set_qform(affine_of("LPS"), code=qform)
        found = header(image.header.get_best_affine(), "nifti", image.header.binaryblock)
        assert stored_orientation(found) == expected


def test_an_image_lies_in_one_orientation_where_axes_are_not_far_turned():
    for codes in ALL:
        for degrees in (0, 20, 34):
            assert [other for other in ALL if lies_in(header(affine_of(codes, degrees=degrees)), other)] == [codes]
    halfway = header(affine_of("RAS", (1.0, 2.0, 5.0), degrees=50))  # its axes are nearest to A, L and S
    assert stored_orientation(halfway) == "ALS"
    assert [codes for codes in ALL if lies_in(halfway, codes)] == ["RAS", "ALS"]


def test_counts_are_by_frequency_and_alphabet():
    headers = [header(affine_of(codes)) for codes in ("RAS", "LPS", "SPL", "LPS", "ASL", "RAS")]
    assert list(count_orientations([*headers, header(np.eye(4), "array")]).items()) == [
        ("LPS", 2),
        ("RAS", 2),
        ("ASL", 1),
        ("SPL", 1),
    ]
