import errno
import json
import os
import threading
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import tifffile
from nnunet_rs.core import files
from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.core.io import read_volume
from nnunet_rs.core.progress import Silent
from nnunet_rs.core.workspace import RECORD
from nnunet_rs.predict import pipeline, results
from nnunet_rs.predict.folder import FolderOptions, predict_folder
from nnunet_rs.predict.predictor import PredictOptions
from nnunet_rs.predict.probabilities import open_probabilities


@pytest.fixture
def images(tmp_path, save_nifti, made_up_case):
    place = tmp_path / "images"
    for index in range(4):
        image, _ = made_up_case(index, (6, 11 + index, 9))
        save_nifti(place / f"case_{index}_0000.nii.gz", image[0], (2.0, 1.0, 1.0))
    return place


def stamps(place):
    return {path.name: path.stat().st_mtime_ns for path in place.glob("[!.]*.nii.gz")}  # no temporaries


def hidden(place):
    return [path.name for path in place.iterdir() if path.name.startswith(".")]


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
    assert hidden(tmp_path / "out") == [RECORD]


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
        NnunetError,
        match=r"2 of 4 cases failed, the other 2 are .*case_1: .*case_3: .*case_3_0000\.nii\.gz: .*zero everywhere",
    ):
        predict_folder(make_predictor(), images, tmp_path / "out")
    assert sorted(stamps(tmp_path / "out")) == ["case_0.nii.gz", "case_2.nii.gz"]


def test_a_failing_network_fails_its_case_only(images, tmp_path, make_predictor):
    predictor = make_predictor()
    network = predictor.engine.networks[0]
    calls = []

    def fail_once(module, arguments):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("no such luck")

    network.register_forward_pre_hook(fail_once)
    with pytest.raises(NnunetError, match=r"1 of 4 cases failed.*case_[0-3]: RuntimeError: no such luck"):
        predict_folder(predictor, images, tmp_path / "out", FolderOptions(save_probabilities=True))
    assert len(stamps(tmp_path / "out")) == 3
    assert len(list((tmp_path / "out").glob("*.b2nd"))) == 3


WAIT = 20  # seconds, after which what should have happened will not


def waiting_first(monkeypatch, name, event, first, module=pipeline):
    """Let `module.<name>` wait for the event where its arguments are of the case `first`."""
    original = getattr(module, name)

    def slow(*arguments):
        if first in str(arguments[0]):
            assert event.wait(WAIT)
        return original(*arguments)

    monkeypatch.setattr(module, name, slow)


def test_a_case_that_is_slow_to_read_holds_up_no_other(images, tmp_path, make_predictor, monkeypatch):
    others_written = threading.Event()
    waiting_first(monkeypatch, "read_volume", others_written, "case_0")
    original = pipeline.Staged.commit

    def commit(self):
        original(self)
        if len(stamps(tmp_path / "out")) == 3:
            others_written.set()

    monkeypatch.setattr(pipeline.Staged, "commit", commit)
    predict_folder(make_predictor(), images, tmp_path / "out")
    assert others_written.is_set()
    assert len(stamps(tmp_path / "out")) == 4


def test_predicting_goes_on_while_cases_are_read_and_written(images, tmp_path, make_predictor, monkeypatch):
    predictor, two_predicted, seen = make_predictor(), threading.Event(), []
    original = type(predictor).predict_windows

    def predict(self, prepared, *arguments):
        result = original(self, prepared, *arguments)
        seen.append(prepared.geometry.shape)
        if len(seen) == 2:
            two_predicted.set()
        return result

    monkeypatch.setattr(type(predictor), "predict_windows", predict)
    waiting_first(monkeypatch, "write_labels", two_predicted, "case_0", results)
    predict_folder(predictor, images, tmp_path / "out")
    assert len(stamps(tmp_path / "out")) == 4


def test_an_interruption_leaves_whole_files_only(images, tmp_path, make_predictor):
    predictor, out = make_predictor(), tmp_path / "out"

    def interrupt(module, arguments):
        if stamps(out):
            raise KeyboardInterrupt

    predictor.engine.networks[0].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        predict_folder(predictor, images, out, FolderOptions(save_probabilities=True))
    predictor.engine.networks[0]._forward_pre_hooks.clear()
    names = {path.name for path in out.iterdir()}
    assert hidden(out) == [RECORD]
    finished = [name.removesuffix(".nii.gz") for name in names if name.endswith(".nii.gz")]
    assert 1 <= len(finished) < 4
    for case in finished:
        nibabel.load(out / f"{case}.nii.gz").get_fdata()
        open_probabilities(out / f"{case}.b2nd")
    assert len(predict_folder(predictor, images, out, FolderOptions(save_probabilities=True)).skipped) == len(finished)


def test_what_a_killed_run_left_goes_but_not_another_parts(images, tmp_path, make_predictor):
    out = tmp_path / "out"
    out.mkdir()
    for case in ("case_0.nii.gz", "case_1.nii.gz"):
        (out / f".tmp-01234567-{case}").mkdir()
        (out / f".tmp-01234567-{case}" / case).touch()
    (out / ".tmp-01234567-case_2.nii.gz").touch()  # a release before this one
    predict_folder(make_predictor(), images, out, FolderOptions(part=(0, 2)))
    assert sorted(hidden(out)) == [RECORD, ".tmp-01234567-case_1.nii.gz"]


@pytest.mark.parametrize("probabilities", [False, True])
def test_a_full_disk_is_told_and_leaves_no_partial_file(probabilities, images, tmp_path, make_predictor, monkeypatch):
    out = tmp_path / "out"
    original = files._sync

    def full(path):
        if "case_2" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(path)

    monkeypatch.setattr(files, "_sync", full)
    said = r"1 of 4 cases failed, .*case_2: .*case_2\..*No space left on device; free space"
    with pytest.raises(NnunetError, match=said):
        predict_folder(make_predictor(), images, out, FolderOptions(save_probabilities=probabilities))
    assert sorted(stamps(out)) == ["case_0.nii.gz", "case_1.nii.gz", "case_3.nii.gz"]
    assert hidden(out) == [RECORD]


@pytest.mark.parametrize("what", ["empty", "NDArray.__setitem__"])
def test_probabilities_that_cannot_be_written(what, images, tmp_path, make_predictor, monkeypatch):
    def full(*arguments, **options):
        raise RuntimeError("Error while setting the slice")

    monkeypatch.setattr(f"blosc2.{what}", full)
    with pytest.raises(NnunetError, match=r"case_0: .*out: cannot be written; [\d.]+ MB of the disk are free"):
        predict_folder(make_predictor(), images, tmp_path / "out", FolderOptions(save_probabilities=True))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [RECORD, "prediction.json"]


def test_failures_are_told_when_they_happen(images, tmp_path, make_predictor, save_nifti):
    said = []

    class Listener(Silent):
        def say(self, text):
            said.append(text)

    save_nifti(images / "case_3_0000.nii.gz", np.zeros((5, 5, 5), np.int16))
    with pytest.raises(NnunetError):
        predict_folder(make_predictor(), images, tmp_path / "out", progress=Listener())
    assert [text[:13] for text in said if not text.startswith("warning: ")] == ["case_3 failed"]


def test_warnings_of_the_images_are_told_once_a_kind(images, tmp_path, make_predictor):
    said = []

    class Listener(Silent):
        def say(self, text):
            said.append(text)

    stacks = tmp_path / "stacks"
    stacks.mkdir()
    for path in images.iterdir():
        pixels = read_volume(path).data[0].astype(np.int16)
        tifffile.imwrite(stacks / path.name.replace(".nii.gz", ".tif"), pixels, photometric="minisblack")
    predict_folder(make_predictor(), stacks, tmp_path / "out", progress=Listener())
    assert len(said) == 2
    assert "spacing-assumed: there is no file of the stack's spacing, 1 x 1 x 1 mm is assumed" in said[0]
    assert said[1] == f"warning: spacing-assumed: {len(list(stacks.iterdir())) - 1} more files"


def test_a_case_with_a_channel_missing_fails_alone(images, tmp_path, make_predictor):
    channels = ("T1", "T2")
    for index in range(4):
        file = images / f"case_{index}_0000.nii.gz"
        (images / f"case_{index}_0001.nii.gz").write_bytes(file.read_bytes())
    (images / "case_2_0000.nii.gz").unlink()
    predictor = make_predictor(channels=channels)
    with pytest.raises(NnunetError, match=r"1 of 4 cases failed, .*case_2: .*channels 0001, 2 expected"):
        predict_folder(predictor, images, tmp_path / "out")
    assert sorted(stamps(tmp_path / "out")) == ["case_0.nii.gz", "case_1.nii.gz", "case_3.nii.gz"]
    rest = predict_folder(predictor, images, tmp_path / "rest", FolderOptions(part=(1, 2)))
    assert rest.written == ("case_1",)  # told by the first part alone


def test_channels_in_another_order_are_refused(images, tmp_path, make_predictor):
    (images / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T2", "1": "T1"}}))
    with pytest.raises(DatasetError, match="the channels are T2, T1, the model takes T1, T2"):
        predict_folder(make_predictor(channels=("T1", "T2")), images, tmp_path / "out")


@pytest.mark.parametrize("pixdim", [0.0, -2.0])
def test_a_spacing_that_is_none_fails_its_case(pixdim, images, tmp_path, make_predictor):
    file = images / "case_1_0000.nii.gz"
    image = nibabel.load(file)
    bare = nibabel.Nifti1Image(np.asarray(image.dataobj), None)
    bare.header["pixdim"][3] = pixdim
    bare.header["sform_code"] = bare.header["qform_code"] = 0
    nibabel.save(bare, file)
    with pytest.raises(NnunetError, match=r"1 of 4 cases failed.*case_1: .*spacing"):
        predict_folder(make_predictor(), images, tmp_path / "out")
    assert len(stamps(tmp_path / "out")) == 3


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
    for index in range(4):
        save_nifti(images / f"case_{index}_0001.nii.gz", np.ones((6, 11, 9), np.int16))
    with pytest.raises(DatasetError, match="0000, 0001"):
        predict_folder(make_predictor(), images, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_4d_file_where_3d_is_meant_fails_with_clear_words(tmp_path, make_predictor, save_nifti):
    save_nifti(tmp_path / "in" / "a.nii.gz", np.ones((2, 5, 6, 7), np.int16))
    said = r"1 of 1 case failed, none is written: a: \S+a\.nii\.gz: .* 2 channels, the model takes 1 .*of a 4-D file"
    with pytest.raises(NnunetError, match=said):
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


def test_a_spacing_in_another_unit_is_named_and_nothing_is_asked_for(tmp_path, make_predictor, save_nifti):
    said = []

    class Listener(Silent):
        def say(self, text):
            said.append(text)

    rng = np.random.default_rng(0)
    spacings = {"large": (1e3,) * 3, "usual": (1, 1, 1), "small": (1e-3,) * 3, "thick": (8, 1, 1)}
    for name, spacing in spacings.items():
        voxels = rng.integers(1, 99, (9, 9, 9)).astype(np.int16)
        save_nifti(tmp_path / "in" / f"{name}.nii.gz", voxels, spacing)
    with pytest.raises(NnunetError, match=r"2 of 4 cases failed"):
        predict_folder(make_predictor(), tmp_path / "in", tmp_path / "out", progress=Listener())
    told = {name: [text for text in said if name in text] for name in spacings}
    assert [len(texts) for texts in told.values()] == [2, 0, 2, 1]
    assert "large.nii.gz: (9, 9, 9) voxels of (1000, 1000, 1000) mm become (9000, 9000, 9000)" in told["large"][-1]
    assert "small.nii.gz: (9, 9, 9) voxels of (0.001, 0.001, 0.001) mm become (1, 1, 1)" in told["small"][-1]
    assert "thick.nii.gz: spacing (8, 1, 1) mm is far from (1, 1, 1) mm, which the model" in told["thick"][0]


def test_what_the_input_folder_holds_besides_is_told(images, tmp_path, make_predictor):
    said = []

    class Listener(Silent):
        def say(self, text):
            said.append(text)

    (images / "notes.txt").write_text("")
    for part in range(2):
        predict_folder(make_predictor(), images, tmp_path / "out", FolderOptions(part=(part, 2)), Listener())
    assert [text for text in said if "left out" in text] == [
        f"warning: {images}: left-out: 1 file is left out (notes.txt): not of a format that is read; "
        "move away what does not belong here"
    ]
