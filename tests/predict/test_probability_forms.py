import nibabel
import numpy as np
import pytest
from nnunet_rs import read_probabilities
from nnunet_rs.core.io import read_volume
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.predict import probability_forms
from nnunet_rs.predict.ensemble import Ensemble
from nnunet_rs.predict.folder import FolderOptions, predict_folder
from nnunet_rs.select.ensemble_folders import ensemble_folders

REGIONS = LabelSet(("background", "oedema", "core"), (0, 1, 2), (Region("whole", (1, 2), 1), Region("core", (2,), 2)))


@pytest.fixture
def images(tmp_path, save_nifti, made_up_case):
    for index in range(2):
        image = made_up_case(index, (6, 11 + index, 9))[0][0].copy()
        image[:, :2] = 0  # is cropped away
        save_nifti(tmp_path / "images" / f"case_{index}_0000.nii.gz", image, (2.0, 1.5, 1.0))
    return tmp_path / "images"


@pytest.mark.parametrize("some", [1, 1 << 28])  # bytes at a time: one class, or all
@pytest.mark.parametrize("changes", [{}, {"labels": REGIONS, "transpose": (1, 2, 0), "spacing": (1.5, 1.1, 1.0)}])
def test_all_forms_hold_the_same_on_the_images_grid(images, tmp_path, make_predictor, monkeypatch, some, changes):
    monkeypatch.setattr(probability_forms, "_BYTES", some)
    predictor, out = make_predictor(**changes), tmp_path / "out"
    options = FolderOptions(probability_forms=("nifti", "npz"))
    assert len(predict_folder(predictor, images, out, options).written) == 2
    for index in range(2):
        volume = read_volume(images / f"case_{index}_0000.nii.gz")
        whole = predictor.predict_probabilities(volume.data, volume.spacing)
        assert whole.dtype == np.float32
        assert whole.shape == (predictor.plan.labels.outputs, *volume.data.shape[1:])
        compressed = read_probabilities(out / f"case_{index}.b2nd")
        assert compressed.dtype == np.float16
        np.testing.assert_array_equal(compressed, whole.astype(np.float16))
        with np.load(out / f"case_{index}.npz") as archive:
            assert archive.files == ["probabilities"]
            np.testing.assert_array_equal(archive["probabilities"], compressed)
        image = nibabel.load(images / f"case_{index}_0000.nii.gz")
        nifti = nibabel.load(out / f"probabilities/case_{index}.nii.gz")
        assert nifti.get_data_dtype() == np.float32
        np.testing.assert_array_equal(np.asarray(nifti.dataobj).T, compressed.astype(np.float32))
        np.testing.assert_array_equal(nifti.affine, image.affine)
        np.testing.assert_array_equal(nifti.header.get_zooms(), (*image.header.get_zooms(), 1))
    assert predict_folder(predictor, images, out, options).skipped == ("case_0", "case_1")


def test_probabilities_decide_as_the_labels_do_and_outside_the_crop_is_background(images, make_predictor):
    predictor = make_predictor(transpose=(2, 0, 1))
    volume = read_volume(images / "case_0_0000.nii.gz")
    whole, labels = predictor.predict_probabilities(volume.data, volume.spacing), predictor(volume.data, volume.spacing)
    np.testing.assert_allclose(whole.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(np.array([0, 1, 4])[whole.argmax(axis=0)], labels)
    assert (whole[0, :, :2] == 1).all()
    assert (whole[1:, :, :2] == 0).all()


def test_an_ensembles_probabilities_are_the_mean(images, make_predictor):
    one, two = make_predictor(), make_predictor(folds=2)
    volume = read_volume(images / "case_0_0000.nii.gz")
    mean = Ensemble((one, two)).predict_probabilities(volume.data, volume.spacing)
    each = [member.predict_probabilities(volume.data, volume.spacing) for member in (one, two)]
    np.testing.assert_allclose(mean, (each[0] + each[1]) / 2, atol=1e-6)


def test_folders_with_other_forms_can_be_averaged_and_predicted_again(images, tmp_path, make_predictor):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folds, folder in enumerate(folders, 1):
        predict_folder(make_predictor(folds=folds), images, folder, FolderOptions(probability_forms=("nifti", "npz")))
    assert ensemble_folders(folders, tmp_path / "both").written == ("case_0", "case_1")


def test_the_same_probabilities_make_the_same_bytes(images, tmp_path, make_predictor):
    predictor = make_predictor()
    for name in "ab":
        predict_folder(predictor, images, tmp_path / name, FolderOptions(probability_forms=("nifti", "npz")))
    for file in ("case_0.npz", "probabilities/case_0.nii.gz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
