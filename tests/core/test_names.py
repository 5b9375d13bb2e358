from __future__ import annotations

import pytest
from nnunet_rs.core.names import ending_of, has_ending, strip_ending
from nnunet_rs.core.text import examples


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.b.nii.gz", "a.b"),
        ("a.NII.GZ", "a"),
        ("a.tif", "a"),
        ("a.TIFF", "a"),
        ("a.tif.gz", "a"),
        ("a.Tif.GZ", "a"),
        ("a.seg.nrrd", "a"),
        ("a.seg.nii", "a.seg"),
        ("a.x.y", "a.x"),
        ("a", "a"),
        (".nii", ".nii"),
    ],
)
def test_names_without_their_ending(name: str, stem: str) -> None:
    assert strip_ending(name) == stem
    assert stem + ending_of(name) == name


def test_endings_in_capitals_are_endings() -> None:
    assert has_ending("a.NII.gz", ".nii.gz")
    assert has_ending("a.nii.gz", ".NII.GZ")
    assert not has_ending("a.nii", ".nii.gz")


def test_a_segmentation_of_slicer_is_no_nrrd_image() -> None:
    assert not has_ending("a.seg.nrrd")
    assert not has_ending("a.seg.nrrd", ".nrrd")
    assert has_ending("a.seg.nrrd", ".seg.nrrd")


def test_examples_are_few() -> None:
    assert examples(["b", "a"]) == "a, b"
    assert examples("edcba") == "a, b, c and 2 more"
