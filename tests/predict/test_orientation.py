"""Images stored in other orientations than the training's: networks see them turned, results lie as images do."""

import re
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from nnunet_rs.core.io import read_volume
from nnunet_rs.core.types import Header, LabelSet, Region
from nnunet_rs.data.previous_labels import on_grid
from nnunet_rs.predict.ensemble import Ensemble, Pairs
from nnunet_rs.predict.exporter import Exporter
from nnunet_rs.predict.folder import FolderOptions, predict_folder
from nnunet_rs.predict.orientation import seen_orientation
from nnunet_rs.predict.probabilities import probabilities_of, read_probabilities

REGIONS = LabelSet(("background", "oedema", "core"), (0, 1, 2), (Region("whole", (1, 2), 1), Region("core", (2,), 2)))
TRAINED = "LPS"
OTHERS = ("RAS", "LAS", "LPI", "PLS", "SLP", "AIR", "IRA")
SPACING = (1.2, 1.0, 2.0)  # x, y, z


class Lines:
    """A Progress that remembers what is said."""

    def __init__(self):
        self.said = []

    def task(self, *_, **__):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def advance(self, *_):
        pass

    def say(self, text):
        self.said.append(text)


def turned(image, codes):
    """The twin: an image, or what lies on its grid, with its axes stored otherwise, by nibabel."""
    turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(codes))
    array = apply_orientation(np.asarray(image.dataobj), turn)
    return nibabel.Nifti1Image(array, image.affine @ inv_ornt_aff(turn, image.shape[:3]))


def rotated(degrees):
    turn = np.deg2rad(degrees)
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    return about_z @ about_x


@pytest.fixture
def image():
    """`image(degrees=0)`: noise with a margin of zeros on two sides, stored as the training's images."""

    def make(degrees=0, seed=0):
        voxels = np.random.default_rng(seed).normal(100, 30, (13, 11, 9)).astype(np.float32)  # x, y, z
        voxels[:2], voxels[:, -1] = 0, 0
        affine = np.eye(4)
        affine[:3, :3] = rotated(degrees) @ np.diag((-SPACING[0], -SPACING[1], SPACING[2]))
        affine[:3, 3] = 11, -7, 3
        return nibabel.Nifti1Image(voxels, affine)

    return make


def trained(predictor, *orientations):
    """A predictor whose networks were trained on images of these orientations; one for all, or one each."""
    each = orientations if len(orientations) > 1 else orientations * len(predictor.all_metadata)
    metadata = (replace(one, orientations=seen) for one, seen in zip(predictor.all_metadata, each, strict=True))
    return replace(predictor, all_metadata=tuple(metadata))


def volume_of(image, tmp_path, name="a.nii.gz"):
    nibabel.save(image, tmp_path / name)
    return read_volume(tmp_path / name)


@pytest.mark.parametrize("degrees", [0, 17])
@pytest.mark.parametrize(
    "changes",
    [
        {"spacing": (2.0, 1.0, 1.2)},  # nothing is resampled
        {"spacing": (1.5, 1.1, 1.0), "transpose": (2, 0, 1)},
        {"labels": REGIONS, "transpose": (1, 0, 2)},
        {"patch_size": (8, 8), "spacing": (1.0, 1.3, 1.2), "recipe": "v2"},
        {"mirror": True},
    ],
)
def test_labels_and_probabilities_are_those_of_the_image_as_stored_in_training(
    changes, degrees, image, make_predictor, tmp_path
):
    usual, plain = image(degrees), make_predictor(folds=2, **changes)
    predictor = trained(plain, {TRAINED: 3})
    volume = volume_of(usual, tmp_path)
    labels, probabilities = plain.predict_volume(volume).data, probabilities_of(plain, volume)
    assert len(np.unique(labels)) > 1
    np.testing.assert_array_equal(predictor.predict_volume(volume).data, labels)  # as stored: bit for bit
    for codes in OTHERS:
        other = volume_of(turned(usual, codes), tmp_path)
        expected = turned(nibabel.Nifti1Image(labels.T, usual.affine), codes)
        np.testing.assert_array_equal(predictor.predict_volume(other).data.T, np.asarray(expected.dataobj))
        expected = turned(nibabel.Nifti1Image(probabilities.T, usual.affine), codes)
        np.testing.assert_array_equal(probabilities_of(predictor, other).T, np.asarray(expected.dataobj))
        assert not np.array_equal(plain.predict_volume(other).data.T, np.asarray(expected.dataobj))


def test_files_lie_as_their_images_and_it_is_said_once(image, make_predictor, tmp_path):
    predictor, images, lines = trained(make_predictor(), {TRAINED: 3}), tmp_path / "images", Lines()
    images.mkdir()
    stored = {"a": TRAINED, **{f"b{number}": codes for number, codes in enumerate(OTHERS)}}
    for name, codes in stored.items():
        nibabel.save(turned(image(), codes), images / f"{name}_0000.nii.gz")
    options = FolderOptions(save_probabilities=True, probability_forms=("nifti",))
    predict_folder(predictor, images, tmp_path / "out", options, lines)
    reference = nibabel.load(tmp_path / "out" / "a.nii.gz")
    chances = read_probabilities(tmp_path / "out" / "a.b2nd")
    for name, codes in stored.items():
        written = nibabel.load(tmp_path / "out" / f"{name}.nii.gz")
        expected = turned(reference, codes)
        np.testing.assert_array_equal(written.affine, nibabel.load(images / f"{name}_0000.nii.gz").affine)
        np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(expected.dataobj))
        found = read_probabilities(tmp_path / "out" / f"{name}.b2nd")
        expected = np.asarray(
            turned(nibabel.Nifti1Image(chances.astype(np.float32).T, reference.affine), codes).dataobj
        )
        np.testing.assert_array_equal(found.astype(np.float32).T, expected)
        saved = nibabel.load(tmp_path / "out" / "probabilities" / f"{name}.nii.gz")
        np.testing.assert_array_equal(np.asarray(saved.dataobj), expected)
    said = [line for line in lines.said if "orientation" in line]
    assert len(said) == 2
    assert re.search(
        r"is stored (?!LPS)[A-Z]{3}, other than training images \(LPS\)", said[0]
    )  # of whichever was read first
    assert said[1] == f"warning: orientation: {len(OTHERS) - 1} more files"


def test_members_of_an_ensemble_see_one_orientation(image, make_predictor, tmp_path):
    flat = make_predictor(patch_size=(8, 8), spacing=(1.0, 1.3, 1.2))
    members = trained(flat, {"RAS": 5, TRAINED: 1}), trained(make_predictor(spacing=(1.5, 1.1, 1.0)), {TRAINED: 2})
    usual = image()
    volume = volume_of(usual, tmp_path)
    for predictor in (Ensemble(members), Pairs(members)):

        def predict(scan, predictor=predictor):
            with Exporter() as exporter:
                labels = predictor.predict_windows(predictor.prepare(scan), exporter)()
            return labels.reshape(labels.shape[-3:])

        labels = predict(volume)
        for codes in ("RAS", "PLS", "AIR"):  # of RAS only the first has seen images
            expected = turned(nibabel.Nifti1Image(labels.T, usual.affine), codes)
            found = predict(volume_of(turned(usual, codes), tmp_path))
            np.testing.assert_array_equal(found.T, np.asarray(expected.dataobj))


def test_a_cascade_turns_for_each_stage(image, make_predictor, tmp_path):
    """Its first stage has seen other orientations than its second."""
    first = trained(make_predictor(spacing=(2.0, 1.5, 1.5)), {"SLP": 2})
    second = trained(make_predictor(spacing=(1.5, 1.1, 1.0)), {TRAINED: 2})
    cascade = replace(second, previous=first)
    usual = image()
    grids = []
    for codes in (TRAINED, "AIR", "SLP"):
        prepared = cascade.prepare(volume_of(turned(usual, codes), tmp_path))
        found = first.predict_prepared(prepared.first)
        grids.append((prepared.image, on_grid(found, prepared.geometry, cascade.configuration)))
    for image_seen, labels_seen in grids[1:]:
        np.testing.assert_array_equal(image_seen, grids[0][0])
        np.testing.assert_array_equal(labels_seen, grids[0][1])


def _header(codes, name="itk"):
    base = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    return Header(name, tuple(map(tuple, turned(base, codes).affine.tolist())))


@pytest.mark.parametrize(
    ("stored", "seen", "expected"),
    [
        ("LPS", [{"RAS": 1}], "RAS"),
        ("LPS", [{"RAS": 1, "LPS": 9}], "LPS"),
        ("LPS", [{"RAS": 3, "LAS": 9, "ASL": 9}], "ASL"),  # the most frequent, then the alphabet
        ("LPS", [{"RAS": 9, "LPS": 1}, {"RAS": 2}], "RAS"),  # which one fold has seen, the other not
        ("LPS", [{"RAS": 9, "LAS": 1}, {"LAS": 2}], "LAS"),
        ("LPS", [{"RAS": 1}, {"LAS": 2}], "LAS"),  # they share none
        ("LAS", [{"RAS": 1}, {"LAS": 2}], "LAS"),
        ("LPS", [{"RAS": 1}, None], "RAS"),
        ("LPS", [None], None),
        ("LPS", [{}], None),
    ],
)
def test_which_orientation_is_seen(stored, seen, expected, make_predictor, make_volume):
    predictor = trained(make_predictor(folds=len(seen)), *seen)
    volume = replace(make_volume((4, 5, 6)), header=_header(stored))
    assert seen_orientation(volume, predictor.all_metadata) == expected


def test_what_says_no_orientation_or_is_a_slice_stays(make_predictor, make_volume):
    predictor = trained(make_predictor(), {"RAS": 1})
    volume = replace(make_volume((4, 5, 6)), header=_header("LPS"))
    for name in ("array", "picture", "tiff"):
        unplaced = replace(volume, header=replace(volume.header, format=name))
        assert seen_orientation(unplaced, predictor.all_metadata) is None
    one_slice = replace(make_volume((1, 5, 6)), header=_header("LPS"))
    assert seen_orientation(one_slice, predictor.all_metadata) == "LPS"
    plan = replace(predictor.plan, reorient=True)
    reorienting = tuple(replace(metadata, plan=plan) for metadata in predictor.all_metadata)
    assert seen_orientation(volume, reorienting) is None
    array = np.random.default_rng(0).normal(100, 30, (9, 10, 11))
    np.testing.assert_array_equal(predictor(array, (1, 1, 1)), make_predictor()(array, (1, 1, 1)))


def test_an_image_halfway_between_orientations_stays(image, make_predictor, tmp_path):
    """Rotated by 50 degrees its axes are nearest to others than in training, by chance."""
    predictor = trained(make_predictor(), {"LPS": 1})
    turn = np.deg2rad(50)
    usual = image()
    affine = usual.affine.copy()
    affine[:3, :3] = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]] @ affine[:3, :3]
    volume = volume_of(nibabel.Nifti1Image(np.asarray(usual.dataobj), affine), tmp_path)
    assert "".join(nibabel.aff2axcodes(affine)) == seen_orientation(volume, predictor.all_metadata) != "LPS"
    np.testing.assert_array_equal(
        predictor.predict_volume(volume).data, predictor.predict_volume(volume_of(usual, tmp_path)).data
    )


def test_probabilities_of_a_plan_that_reorients_lie_as_the_image(image, make_predictor, tmp_path):
    predictor = make_predictor(reorient=True, spacing=(1.5, 1.1, 1.0), transpose=(2, 0, 1))
    usual, images = image(), tmp_path / "images"
    images.mkdir()
    for codes in ("RAS", "LPS", "AIR"):
        nibabel.save(turned(usual, codes), images / f"{codes}_0000.nii.gz")
    predict_folder(predictor, images, tmp_path / "out", FolderOptions(save_probabilities=True))
    chances = read_probabilities(tmp_path / "out" / "RAS.b2nd").astype(np.float32)
    reference = nibabel.load(tmp_path / "out" / "RAS.nii.gz")
    for codes in ("LPS", "AIR"):
        found = read_probabilities(tmp_path / "out" / f"{codes}.b2nd").astype(np.float32)
        expected = turned(nibabel.Nifti1Image(chances.T, reference.affine), codes)
        np.testing.assert_array_equal(found.T, np.asarray(expected.dataobj))


def test_slices_that_lie_in_another_axis_are_no_reason_for_a_warning(make_predictor, tmp_path):
    predictor = trained(make_predictor(spacing=(50.0, 1.0, 1.0)), {"RAS": 1})
    voxels = np.random.default_rng(0).normal(100, 30, (11, 10, 8)).astype(np.float32)  # x, y, z
    usual = nibabel.Nifti1Image(voxels, np.diag([1.0, 1.0, 50.0, 1.0]))
    (tmp_path / "images").mkdir()
    nibabel.save(turned(usual, "SAR"), tmp_path / "images" / "a_0000.nii.gz")
    lines = Lines()
    predict_folder(predictor, tmp_path / "images", tmp_path / "out", progress=lines)
    assert len([line for line in lines.said if "warning" in line]) == 1  # of the orientation
