"""Labels of one case made while a device predicts the next: order, results, errors, interruptions."""

import threading
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.progress import Silent
from nnunet_rs.core.workspace import RECORD
from nnunet_rs.predict.engines.torch_engine import TorchEngine
from nnunet_rs.predict.ensemble import Ensemble
from nnunet_rs.predict.export import ScoreConverter
from nnunet_rs.predict.exporter import Exporter
from nnunet_rs.predict.folder import FolderOptions, predict_folder
from nnunet_rs.predict.probabilities import read_probabilities

WAIT = 20  # seconds, after which what should have happened will not
SAVED = FolderOptions(save_probabilities=True)


class Elsewhere(TorchEngine):
    """Processors that stand for a device of its own."""

    computes_elsewhere = True


@pytest.fixture
def images(tmp_path, save_nifti, made_up_case):
    for index in range(3):
        image, _ = made_up_case(index, (6, 11 + index, 9))
        save_nifti(tmp_path / "images" / f"case_{index}_0000.nii.gz", image[0], (2.0, 1.0, 1.0))
    return tmp_path / "images"


def elsewhere(predictor):
    return replace(predictor, engine=Elsewhere(predictor.engine.networks, predictor.engine.compute))


class Cases:
    """Hears of every case that is begun, and calls `last` before the last labels of the first one are made."""

    def __init__(self, monkeypatch, predictor, last):
        self.begun, self.second_begun, self.ended = 0, threading.Event(), 0
        predict, labels_of = type(predictor).predict_windows, ScoreConverter.labels_of

        def begin(itself, *arguments):
            self.begun += 1
            if self.begun > 1:
                self.second_begun.set()
            return predict(itself, *arguments)

        def convert(converter, slab, scores):
            if (slab.planes[1], slab.rows[1]) == slab.output.shape[:2]:
                self.ended += 1
                if self.ended == 1:
                    last(self)
            return labels_of(converter, slab, scores)

        monkeypatch.setattr(type(predictor), "predict_windows", begin)
        monkeypatch.setattr(ScoreConverter, "labels_of", convert)


def until_the_next_begins(cases):
    assert cases.second_begun.wait(WAIT)


def segmentations(folder):
    return {path.name: np.asarray(nibabel.load(path).dataobj) for path in folder.glob("[!.]*.nii.gz")}


@pytest.mark.parametrize("options", [FolderOptions(), SAVED])
def test_labels_of_a_case_are_made_while_the_next_is_predicted(images, tmp_path, make_predictor, monkeypatch, options):
    predictor = make_predictor(folds=2)
    predict_folder(predictor, images, tmp_path / "plain", options)
    beside = elsewhere(predictor)
    Cases(monkeypatch, beside, until_the_next_begins)  # which only overlapping can pass
    predict_folder(beside, images, tmp_path / "out", options)
    expected = segmentations(tmp_path / "plain")
    assert len(expected) == 3
    for name, labels in segmentations(tmp_path / "out").items():
        np.testing.assert_array_equal(labels, expected.pop(name))
    assert not expected
    for index in range(3 if options.save_probabilities else 0):
        saved = [read_probabilities(tmp_path / place / f"case_{index}.b2nd") for place in ("out", "plain")]
        np.testing.assert_array_equal(*saved)


def test_those_of_an_ensemble_too(images, tmp_path, make_predictor, monkeypatch):
    members = make_predictor(patch_size=(8, 8), spacing=(1.0, 1.3, 1.2)), make_predictor()
    beside, calls = Ensemble(tuple(map(elsewhere, members))), []
    original = ScoreConverter.labels_same_grid

    def convert(converter, mean):
        calls.append(1)
        if len(calls) == last:
            until_the_next_begins(cases)
        return original(converter, mean)

    monkeypatch.setattr(ScoreConverter, "labels_same_grid", convert)
    last = 0
    predict_folder(beside, images, tmp_path / "plain")
    last = len(calls) // 3  # cases have equally many planes, and so parts
    calls.clear()
    cases = Cases(monkeypatch, beside, until_the_next_begins)
    predict_folder(beside, images, tmp_path / "out")
    expected = segmentations(tmp_path / "plain")
    for name, labels in segmentations(tmp_path / "out").items():
        np.testing.assert_array_equal(labels, expected.pop(name))
    assert (expected, cases.begun) == ({}, 3)


def test_processors_finish_a_case_before_they_begin_with_the_next(images, tmp_path, make_predictor, monkeypatch):
    predictor, begun = make_predictor(), []
    cases = Cases(monkeypatch, predictor, lambda cases: begun.append(cases.begun))
    predict_folder(predictor, images, tmp_path / "out")
    assert (begun, cases.begun, cases.ended) == ([1], 3, 3)


@pytest.mark.parametrize("options", [FolderOptions(), SAVED])
def test_an_error_while_the_next_is_predicted_fails_its_case_only(
    images, tmp_path, make_predictor, monkeypatch, options
):
    def fail(cases):
        until_the_next_begins(cases)
        raise OSError(f"no room in {tmp_path}")

    said = []

    class Listener(Silent):
        def say(self, text):
            said.append(text)

    predictor, out = elsewhere(make_predictor()), tmp_path / "out"
    Cases(monkeypatch, predictor, fail)
    with pytest.raises(NnunetError, match=r"1 of 3 cases failed, the other 2 are .*case_[0-2]: OSError: no room"):
        predict_folder(predictor, images, out, options, Listener())
    assert [line.split(": ", 1)[1] for line in said] == [f"OSError: no room in {tmp_path}"]
    assert len(segmentations(out)) == 2
    assert len(list(out.glob("*.b2nd"))) == (2 if options.save_probabilities else 0)
    assert [path.name for path in out.glob(".*")] == [RECORD]


def test_an_interruption_meanwhile_leaves_whole_files_only(images, tmp_path, make_predictor, monkeypatch):
    predictor, out, interrupted = elsewhere(make_predictor()), tmp_path / "out", threading.Event()
    cases = Cases(monkeypatch, predictor, lambda _: interrupted.wait(WAIT))

    def interrupt(*_):
        if cases.second_begun.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    predictor.engine.networks[0].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        predict_folder(predictor, images, out, SAVED)
    predictor.engine.networks[0]._forward_pre_hooks.clear()
    assert [path.name for path in out.glob(".*")] == [RECORD]
    finished = {name.partition(".")[0] for name in segmentations(out)}
    assert {path.stem for path in out.glob("*.b2nd")} == finished
    assert len(finished) < 3
    for name in finished:
        read_probabilities(out / f"{name}.b2nd")
    assert len(predict_folder(predictor, images, out, SAVED).skipped) == len(finished)


def test_where_memory_is_short_the_case_before_is_waited_for(make_predictor, make_volume, monkeypatch):
    predictor, gate, done = elsewhere(make_predictor()), threading.Event(), []

    def short():
        gate.set()
        return 0

    def make_labels():
        assert gate.wait(WAIT)
        done.append("labels of the case before")

    monkeypatch.setattr("nnunet_rs.predict.predictor.available_memory", short)
    seen = []
    predictor.engine.networks[0].register_forward_pre_hook(lambda *_: seen.append(list(done)))
    with Exporter() as exporter:
        exporter.submit(make_labels)
        predictor.predict_windows(predictor.prepare(make_volume((9, 11, 10))), exporter)()
    assert seen[0] == ["labels of the case before"]
