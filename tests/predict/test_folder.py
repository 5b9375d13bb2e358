import json
import os
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.predict.folder import FolderOptions, predict_folder
from nnunet_rs.predict.predictor import PredictOptions
from nnunet_rs.predict.probabilities import open_probabilities


@pytest.fixture
def images(tmp_path, save_nifti, made_up_case):
    folder = tmp_path / "images"
    for index in range(4):
        image, _ = made_up_case(index, (6, 11 + index, 9))
        save_nifti(folder / f"case_{index}_0000.nii.gz", image[0], (2.0, 1.0, 1.0))
    return folder


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.nii.gz")}


def test_every_image_gets_a_segmentation_on_its_grid(images, tmp_path, make_predictor):
    predictor = make_predictor()
    result = predict_folder(predictor, images, tmp_path / "out")
    assert result.written == ("case_0", "case_1", "case_2", "case_3")
    for index in range(4):
        image = nibabel.load(images / f"case_{index}_0000.nii.gz")
        written = nibabel.load(tmp_path / "out" / f"case_{index}.nii.gz")
        assert written.shape == image.shape
        assert written.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(written.affine, image.affine)
        array = np.asarray(image.dataobj).T
        np.testing.assert_array_equal(np.asarray(written.dataobj).T, predictor(array, (2.0, 1.0, 1.0)))
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_a_rerun_skips_what_is_finished(images, tmp_path, make_predictor):
    predictor, out = make_predictor(), tmp_path / "out"
    predict_folder(predictor, images, out)
    before = stamps(out)
    (out / "case_2.nii.gz").unlink()
    again = predict_folder(predictor, images, out)
    assert (again.written, len(again.skipped)) == (("case_2",), 3)
    after = stamps(out)
    assert {name for name in before if before[name] != after[name]} == {"case_2.nii.gz"}
    assert predict_folder(predictor, images, out, FolderOptions(overwrite=True)).skipped == ()


def test_newer_images_and_other_settings_begin_anew(images, tmp_path, make_predictor):
    predictor, out = make_predictor(), tmp_path / "out"
    predict_folder(predictor, images, out)
    newer = max(stamps(out).values()) + 10**9
    os.utime(images / "case_1_0000.nii.gz", ns=(newer, newer))
    assert predict_folder(predictor, images, out).written == ("case_1",)
    other = replace(predictor, options=PredictOptions(mirror=False, step=1.0))
    assert len(predict_folder(other, images, out).written) == 4
    assert json.loads((out / "prediction.json").read_text())["step"] == 1.0


def test_parts_are_disjoint_and_complete(images, tmp_path, make_predictor):
    predictor, out = make_predictor(), tmp_path / "out"
    first = predict_folder(predictor, images, out, FolderOptions(part=(0, 2)))
    second = predict_folder(predictor, images, out, FolderOptions(part=(1, 2)))
    assert first.written == ("case_0", "case_2")
    assert second.written == ("case_1", "case_3")
    with pytest.raises(DatasetError, match="part 2 of 2"):
        predict_folder(predictor, images, out, FolderOptions(part=(2, 2)))


def test_a_failed_case_is_named_after_the_others_are_written(images, tmp_path, make_predictor, save_nifti):
    (images / "case_1_0000.nii.gz").write_bytes((images / "case_1_0000.nii.gz").read_bytes()[:200])
    save_nifti(images / "case_3_0000.nii.gz", np.zeros((5, 5, 5), np.int16))
    with pytest.raises(
        NnunetError, match=r"2 of 4 cases failed, the other 2 are .*case_1: .*case_3: .*zero everywhere"
    ):
        predict_folder(make_predictor(), images, tmp_path / "out")
    assert sorted(stamps(tmp_path / "out")) == ["case_0.nii.gz", "case_2.nii.gz"]


def test_a_failing_network_fails_its_case_only(images, tmp_path, make_predictor):
    predictor = make_predictor()
    network = predictor.networks[0]
    calls = []

    def fail_once(module, arguments):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("no such luck")

    network.register_forward_pre_hook(fail_once)
    with pytest.raises(NnunetError, match=r"1 of 4 cases failed.*case_0: no such luck"):
        predict_folder(predictor, images, tmp_path / "out", FolderOptions(save_probabilities=True))
    assert len(stamps(tmp_path / "out")) == 3
    assert len(list((tmp_path / "out").glob("*.b2nd"))) == 3


def test_an_output_that_cannot_be_written_is_said(images, tmp_path, make_predictor):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(NnunetError, match="out"):
        predict_folder(make_predictor(), images, tmp_path / "out")


def test_input_that_is_no_input_is_said(images, tmp_path, make_predictor, save_nifti):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty"):
        predict_folder(make_predictor(), tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DatasetError, match="nowhere"):
        predict_folder(make_predictor(), tmp_path / "nowhere", tmp_path / "out")
    save_nifti(images / "case_0_0001.nii.gz", np.ones((6, 11, 9), np.int16))
    with pytest.raises(DatasetError, match="0000, 0001"):
        predict_folder(make_predictor(), images, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_4d_file_where_3d_is_meant_fails_with_clear_words(tmp_path, make_predictor, save_nifti):
    save_nifti(tmp_path / "in" / "a.nii.gz", np.ones((2, 5, 6, 7), np.int16))
    with pytest.raises(NnunetError, match="none is written: a: the image has 2 channels, the model takes 1"):
        predict_folder(make_predictor(), tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
def test_saved_probabilities_decide_as_the_labels_do(images, tmp_path, make_predictor, transpose):
    predictor = make_predictor(transpose=transpose, spacing=(1.5, 1.1, 1.0))
    predict_folder(predictor, images, tmp_path / "out", FolderOptions(save_probabilities=True))
    for index in range(4):
        labels = np.asarray(nibabel.load(tmp_path / "out" / f"case_{index}.nii.gz").dataobj).T
        saved = open_probabilities(tmp_path / "out" / f"case_{index}.b2nd")
        assert saved.shape == (3, *labels.shape)
        values = saved.planes(saved.across, 0, labels.shape[saved.across]).astype(np.float32)
        np.testing.assert_allclose(values.sum(axis=0), 1, atol=2e-3)
        best = np.sort(values, axis=0)
        clear = best[-1] - best[-2] > 2e-3
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(np.array([0, 1, 4])[values.argmax(axis=0)][clear], labels[clear])
