import json

import nibabel
import numpy as np
import pytest
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.progress import Silent
from nnunet_rs.predict.ensemble import Ensemble
from nnunet_rs.predict.folder import predict_folder
from nnunet_rs.predict.predictor import PredictOptions, Predictor
from nnunet_rs.select.choice import Candidate, read_choice
from nnunet_rs.select.loading import Chosen, load_predictor
from nnunet_rs.select.postprocessing import PostProcessing
from nnunet_rs.select.selection import _Search, choose_best

FAST = PredictOptions(mirror=False)


@pytest.fixture
def work(make_work):
    return make_work({"2d": (0, 1), "3d_fullres": (0, 1, 2)})


def test_every_configuration_and_pair_is_scored_and_the_best_is_followed(work):
    choice = choose_best(work, device="cpu", options=FAST)
    assert choice.folds == (0, 1)
    assert {candidate.name for candidate in choice.candidates} == {"2d", "3d_fullres", "2d+3d_fullres"}
    dices = [candidate.dice for candidate in choice.candidates]
    assert dices == sorted(dices, reverse=True)
    assert choice.configurations == choice.candidates[0].configurations
    assert set(choice.candidates[0].per_class) == {"large", "small"}
    assert read_choice(work) == choice
    assert len(list((work / "ensembles" / "2d+3d_fullres" / "fold_1").glob("*.nii.gz"))) == 1
    predictor = load_predictor(work, "cpu", options=FAST)
    assert isinstance(predictor, Chosen)
    assert predictor.postprocessing == choice.postprocessing


def test_a_choice_that_was_edited_is_kept_aside(work):
    choose_best(work, device="cpu", options=FAST)
    made = (work / "best.json").read_bytes()
    choose_best(work, device="cpu", options=FAST)
    assert not (work / "previous").exists()
    edited = made.replace(b'"2d+3d_fullres"', b'"2d + 3d_fullres"') + b"\n"
    (work / "best.json").write_bytes(edited)
    choose_best(work, device="cpu", options=FAST)
    assert (work / "best.json").read_bytes() == made
    assert (work / "previous/1/best.json").read_bytes() == edited


def test_configurations_folds_and_pairs_may_be_named(work):
    choice = choose_best(work, folds=[1], pairs=False, device="cpu", options=FAST)
    assert choice.folds == (1,)
    assert {candidate.name for candidate in choice.candidates} == {"2d", "3d_fullres"}
    assert not (work / "ensembles").exists()
    choice = choose_best(work, configurations=["3d_fullres"], device="cpu", options=FAST)
    assert (choice.configurations, choice.folds) == (("3d_fullres",), (0, 1, 2))
    with pytest.raises(CheckpointError, match=r"3d_lowres is not trained, only 2d, 3d_fullres; train it, or leave it"):
        choose_best(work, configurations=["3d_lowres"], device="cpu", options=FAST)
    with pytest.raises(CheckpointError, match=r"fold 2 is not trained in every configuration, only 0, 1; train it"):
        choose_best(work, folds=[0, 2], device="cpu", options=FAST)


def test_a_second_search_predicts_nothing_anew(work):
    first = choose_best(work, device="cpu", options=FAST)
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*.nii.gz")}
    assert choose_best(work, device="cpu", options=FAST) == first
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*.nii.gz")} == before


def test_the_pair_uses_all_folds_and_post_processing_is_applied(work, tmp_path, save_nifti, made_up_case):
    choose_best(work, device="cpu", options=FAST)
    content = json.loads((work / "best.json").read_text())
    content["configurations"] = ["2d", "3d_fullres"]
    content["postprocessing"]["keep_largest"] = [[1, 2]]
    (work / "best.json").write_text(json.dumps(content))
    chosen = load_predictor(work, "cpu", options=FAST)
    assert isinstance(chosen.predictor, Ensemble)
    assert [len(member.engine.networks) for member in chosen.predictor.members] == [2, 3]
    save_nifti(tmp_path / "in" / "a.nii.gz", made_up_case(7, (8, 24, 20))[0][0], (3.0, 1.0, 1.0))
    predict_folder(chosen, tmp_path / "in", tmp_path / "out")
    predict_folder(chosen.predictor, tmp_path / "in", tmp_path / "plain")
    ours, plain = (np.asarray(nibabel.load(tmp_path / name / "a.nii.gz").dataobj).T for name in ("out", "plain"))
    np.testing.assert_array_equal(ours, PostProcessing(((1, 2),)).apply(plain))


class Said(Silent):
    """A Progress that remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        if not text.startswith("computed by "):
            self.lines.append(text)


@pytest.fixture
def said() -> Said:
    return Said()


def test_folds_that_are_not_there_are_told(work, said):
    home = work / "models" / "2d"
    load_predictor(work, "cpu", configuration="2d", options=FAST, progress=said)
    assert said.lines == [f"{home}: folds 2, 3, 4 are not trained, and so not in the average"]
    said.lines.clear()
    load_predictor(work, "cpu", [0], configuration="2d", options=FAST, progress=said)
    load_predictor(home / "fold_0", "cpu", options=FAST, progress=said)
    assert said.lines == []
    (work / "splits.json").unlink()
    (home / "fold_1" / "model.json").unlink()
    load_predictor(home, "cpu", options=FAST, progress=said)
    assert said.lines == [f"{home}: fold 1 is not trained, and so not in the average"]


def test_a_choice_among_other_models_is_told(work, said):
    choose_best(work, device="cpu", options=FAST)
    content = json.loads((work / "best.json").read_text())
    assert set(content["models"]) == set(content["configurations"])
    load_predictor(work, "cpu", options=FAST, progress=said)
    assert not [line for line in said.lines if "chosen" in line]
    name = content["configurations"][0]
    content["models"][name]["fold_1"] = "that of another model"
    (work / "best.json").write_text(json.dumps(content))
    load_predictor(work, "cpu", options=FAST, progress=said)
    assert [line for line in said.lines if "chosen" in line] == [
        f"warning: {work / 'best.json'} was chosen before {name}, fold 1 was trained again: run nnunet-rs best {work}"
    ]


def test_a_named_configuration_is_not_the_chosen_one(work):
    choose_best(work, device="cpu", options=FAST)
    assert isinstance(load_predictor(work, "cpu", configuration="2d", options=FAST), Predictor)
    assert isinstance(load_predictor(work / "models" / "2d", "cpu", options=FAST), Predictor)


def test_what_cannot_be_chosen_is_said(work, tmp_path):
    (tmp_path / "empty").mkdir()
    for fold in (0, 1):
        (work / "models" / "2d" / f"fold_{fold}").rename(work / "models" / "2d" / f"fold_{fold + 3}")
    with pytest.raises(CheckpointError, match=r"no fold is trained in every configuration \(2d: 3, 4; 3d_fullres: 0"):
        choose_best(work, device="cpu", options=FAST)
    with pytest.raises(CheckpointError, match="no such file"):
        read_choice(tmp_path / "empty")
    (work / "best.json").write_text('{"configurations": 3}')
    with pytest.raises(CheckpointError, match=r"best\.json"):
        read_choice(work)


def test_another_version_is_refused(work):
    choose_best(work, device="cpu", options=FAST)
    content = json.loads((work / "best.json").read_text()) | {"version": 7}
    (work / "best.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="version is 7"):
        read_choice(work)


def test_folds_that_are_not_scored_are_told(work, said):
    choose_best(work, pairs=False, device="cpu", options=FAST, progress=said)
    assert "3d_fullres: not scored on fold 2: all are compared on the same cases" in said.lines
    assert not [line for line in said.lines if line.startswith("2d: not scored")]


def test_equal_candidates_the_simpler_one_and_no_score_at_all(work, said, monkeypatch):
    """Rounding decides nothing; and where no class ever occurs, nothing does."""
    dices = {("2d",): 0.5, ("3d_fullres",): 0.5 + 1e-15, ("2d", "3d_fullres"): 0.5 + 2e-15}
    known = {"large": 2}
    monkeypatch.setattr(_Search, "score", lambda _, names, folds: Candidate(names, dices[names], {}, 2, known))
    choice = choose_best(work, device="cpu", options=FAST, progress=said)
    assert choice.configurations == ("2d",)
    assert not [line for line in said.lines if line.startswith("warning: neither")]
    known.clear()
    choose_best(work, device="cpu", options=FAST, progress=said)
    assert [
        line for line in said.lines if line.startswith("warning: neither references nor predictions hold any class")
    ]
