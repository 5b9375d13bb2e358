"""What predictions do to files that are there: the user's stay, ours are made anew where that is due."""

import json
import os
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.core.progress import Silent
from nnunet_rs.core.workspace import RECORD
from nnunet_rs.predict.folder import FolderOptions, predict_cases, predict_folder
from nnunet_rs.predict.predictor import PredictOptions
from nnunet_rs.select.ensemble_folders import ensemble_folders

CASES = ("case_0", "case_1", "case_2")


@pytest.fixture
def images(tmp_path, save_nifti, made_up_case):
    for name in CASES:
        save_nifti(tmp_path / "images" / f"{name}_0000.nii.gz", made_up_case(0, (6, 11, 9))[0][0])
    return tmp_path / "images"


class Listener(Silent):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def edit(path):
    image = nibabel.load(path)
    data = np.asarray(image.dataobj).copy()
    data[0, 0, 0] = 1 - data[0, 0, 0].clip(max=1)
    nibabel.save(nibabel.Nifti1Image(data, image.affine, image.header), path)
    return path.read_bytes()


def other(predictor):
    """The same networks under other settings."""
    return replace(predictor, options=PredictOptions(mirror=True, step=1.0))


@pytest.mark.parametrize("link", [False, True])
def test_labels_survive_being_named_as_output(images, tmp_path, save_nifti, make_predictor, link):
    for name in CASES:
        save_nifti(tmp_path / "labels" / f"{name}.nii.gz", np.ones((6, 11, 9), np.uint8))
    before, out = contents(tmp_path / "labels"), tmp_path / "labels"
    if link:
        out = tmp_path / "link"
        out.symlink_to(tmp_path / "labels")
    with pytest.raises(NnunetError, match=r"3 files there are not known to be .*case_0\.nii\.gz, case_1"):
        predict_folder(make_predictor(), images, out)
    assert contents(tmp_path / "labels") == before
    assert not (tmp_path / "labels" / RECORD).exists()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("link", [False, True])
def test_images_are_not_predicted_in_place(images, tmp_path, make_predictor, link, overwrite):
    for path in images.iterdir():
        path.rename(path.with_name(path.name.replace("_0000", "")))
    before, out = contents(images), images
    if link:
        out = tmp_path / "link"
        out.symlink_to(images)
    with pytest.raises(DatasetError, match="is the folder of the images"):
        predict_folder(make_predictor(), images, out, FolderOptions(overwrite=overwrite))
    assert contents(images) == before


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_an_output_that_is_an_image_by_a_link_is_refused(images, tmp_path, make_predictor, link):
    out, image = tmp_path / "out", images / "case_1_0000.nii.gz"
    out.mkdir()
    link(image, out / "case_1.nii.gz")
    before = image.read_bytes()
    with pytest.raises(DatasetError, match=r"out/case_1\.nii\.gz: would be written, but is the input file"):
        predict_folder(make_predictor(), images, out, FolderOptions(overwrite=True))
    assert image.read_bytes() == before
    assert [path.name for path in out.iterdir()] == ["case_1.nii.gz"]


def test_an_edited_result_survives_other_settings_and_a_rerun_leaves_it(images, tmp_path, make_predictor):
    predictor, out, listener = make_predictor(), tmp_path / "out", Listener()
    predict_folder(predictor, images, out)
    edited = edit(out / "case_1.nii.gz")
    with pytest.raises(NnunetError, match=r"case_1\.nii\.gz: was changed since this tool made it"):
        predict_folder(other(predictor), images, out)
    assert json.loads((out / "prediction.json").read_text())["step"] == 0.5
    again = predict_folder(predictor, images, out, progress=listener)
    assert again.skipped == CASES
    assert listener.said == ["1 result is edited, or not known to be this tool's, and left alone: case_1"]
    assert (out / "case_1.nii.gz").read_bytes() == edited


def test_an_edited_result_survives_a_newer_image(images, tmp_path, make_predictor):
    predictor, out = make_predictor(), tmp_path / "out"
    predict_folder(predictor, images, out)
    edited = edit(out / "case_1.nii.gz")
    newer = (out / "case_1.nii.gz").stat().st_mtime_ns + 10**9
    os.utime(images / "case_1_0000.nii.gz", ns=(newer, newer))
    with pytest.raises(NnunetError, match="was changed since this tool made it"):
        predict_folder(predictor, images, out)
    assert (out / "case_1.nii.gz").read_bytes() == edited


def test_overwrite_keeps_edited_and_foreign_files_aside(images, tmp_path, make_predictor, save_nifti):
    predictor, out, listener = make_predictor(), tmp_path / "out", Listener()
    predict_folder(predictor, images, out)
    edited = edit(out / "case_1.nii.gz")
    (out / "case_2.nii.gz").unlink()
    foreign = save_nifti(out / "case_2.nii.gz", np.ones((6, 11, 9), np.uint8)).read_bytes()
    predict_folder(other(predictor), images, out, FolderOptions(overwrite=True), listener)
    assert contents(out / "previous/1") == {"case_1.nii.gz": edited, "case_2.nii.gz": foreign}
    assert listener.said == [f"2 files that were there are kept in {out}/previous/1"]
    assert predict_folder(other(predictor), images, out).skipped == CASES


def test_results_that_nobody_touched_are_made_anew(images, tmp_path, make_predictor):
    predictor, out = make_predictor(), tmp_path / "out"
    predict_folder(predictor, images, out, FolderOptions(save_probabilities=True))
    assert predict_folder(other(predictor), images, out, FolderOptions(save_probabilities=True)).written == CASES
    assert predict_folder(other(predictor), images, out).skipped == CASES
    assert not (out / "previous").exists()


def test_a_folder_of_a_release_without_record_goes_on_and_is_not_replaced(images, tmp_path, make_predictor):
    predictor, out = make_predictor(), tmp_path / "out"
    predict_folder(predictor, images, out)
    for path in (out / RECORD).iterdir():
        path.unlink()
    (out / "case_1.nii.gz").unlink()
    assert predict_folder(predictor, images, out).written == ("case_1",)
    before = contents(out)
    with pytest.raises(NnunetError, match="2 files there are not known to be made by this tool"):
        predict_folder(other(predictor), images, out)
    assert contents(out) == before


def test_in_folders_of_our_own_nothing_is_refused_and_nothing_lost(images, tmp_path, make_predictor):
    predictor, out, own = make_predictor(), tmp_path / "out", FolderOptions(own=True)
    predict_folder(predictor, images, out, own)
    edited = edit(out / "case_1.nii.gz")
    assert predict_folder(other(predictor), images, out, own).written == CASES
    assert contents(out / "previous/1") == {"case_1.nii.gz": edited}


def test_a_prediction_json_that_is_not_ours_stays(images, tmp_path, make_predictor):
    out = tmp_path / "out"
    out.mkdir()
    (out / "prediction.json").write_text('{"mine": 1}')
    with pytest.raises(NnunetError, match=r"prediction\.json: is not known to be made"):
        predict_folder(make_predictor(), images, out)
    assert contents(out) == {"prediction.json": b'{"mine": 1}'}


@pytest.mark.parametrize("name", ["prediction", "summary", "Prediction"])
@pytest.mark.parametrize("ending", [".tif", ".tiff"])
def test_a_case_whose_file_would_be_one_of_ours_is_refused(images, tmp_path, make_predictor, name, ending):
    SimpleITK = pytest.importorskip("SimpleITK")  # noqa: N806
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.ones((3, 8, 8), np.uint8)), str(images / f"{name}{ending}"))
    with pytest.raises(DatasetError, match=rf"the case's file {name}\.json would replace this tool's"):
        predict_folder(make_predictor(), images, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_case_of_that_name_in_another_format_is_a_case(images, tmp_path, make_predictor):
    (images / "case_0_0000.nii.gz").rename(images / "prediction_0000.nii.gz")
    assert "prediction" in predict_folder(make_predictor(), images, tmp_path / "out").written
    assert {"prediction.nii.gz", "prediction.json"} <= contents(tmp_path / "out").keys()


def test_the_spacing_file_of_a_stack_stays(images, tmp_path, make_predictor):
    SimpleITK = pytest.importorskip("SimpleITK")  # noqa: N806
    stack = np.random.default_rng(0).integers(0, 200, (4, 10, 10)).astype(np.uint8)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(stack), str(tmp_path / "in.tif"))
    (images.parent / "stacks").mkdir()
    (tmp_path / "in.tif").rename(images.parent / "stacks/a.tif")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.json").write_text('{"notes": "mine"}')
    with pytest.raises(NnunetError, match=r"a\.json: is not known to be made"):
        predict_folder(make_predictor(), images.parent / "stacks", out)
    assert contents(out) == {"a.json": b'{"notes": "mine"}'}


def test_ensembles_leave_alone_what_is_not_theirs(images, tmp_path, make_predictor):
    predictor, out = make_predictor(), tmp_path / "both"
    folders = [tmp_path / "one", tmp_path / "two"]
    for each, folder in zip((predictor, other(predictor)), folders, strict=True):
        predict_folder(each, images, folder, FolderOptions(save_probabilities=True))
    before = contents(folders[0])
    with pytest.raises(DatasetError, match="is the input file"):
        ensemble_folders(folders, folders[0], overwrite=True)
    assert contents(folders[0]) == before
    assert ensemble_folders(folders, out).written == CASES
    assert ensemble_folders(folders, out).skipped == CASES
    edited = edit(out / "case_1.nii.gz")
    assert ensemble_folders(folders, out).skipped == CASES
    assert (out / "case_1.nii.gz").read_bytes() == edited
    with pytest.raises(NnunetError, match="was changed since this tool made it"):
        ensemble_folders([folders[1], folders[0]], out)
    ensemble_folders([folders[1], folders[0]], out, overwrite=True)
    assert contents(out / "previous/1") == {"case_1.nii.gz": edited}


def test_parts_side_by_side_know_all_results(images, tmp_path, make_predictor):
    predictor, out = make_predictor(), tmp_path / "out"
    for part in range(3):
        predict_folder(predictor, images, out, FolderOptions(part=(part, 3)))
    assert len(list((out / RECORD).iterdir())) == 3
    assert predict_folder(predictor, images, out).skipped == CASES
    assert predict_folder(other(predictor), images, out).written == CASES


def test_nothing_finished_needs_a_folder_that_can_be_written(images, tmp_path, make_predictor, monkeypatch):
    predictor, out = make_predictor(), tmp_path / "out"
    predict_folder(predictor, images, out)

    def read_only(*_):
        raise AssertionError("written")

    monkeypatch.setattr("nnunet_rs.core.record.Record.begin", read_only)
    assert predict_folder(predictor, images, out).skipped == CASES
    assert predict_cases(predictor, (), out).skipped == ()
