import json
from pathlib import Path

import numpy as np
import pytest
from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.io import read_labels
from nnunet_rs.report.sections.cover import best_scored
from nnunet_rs.report.workfolder import read_work_folder


def test_volumes_are_those_of_the_label_files(maker) -> None:
    made = maker(shape=(10, 24, 20), spacing=(1, 1, 1))
    work = read_work_folder(made.prepared())
    for case, prepared in zip(made.dataset.training, work.prepared["3d_fullres"], strict=True):
        truth = read_labels(case.label).data
        assert prepared.name == case.name
        for index in (1, 2):
            assert prepared.volumes[index] == pytest.approx((truth == index).sum() / 1000, rel=0.02)
        assert prepared.bytes == (work.path / "prepared" / "3d_fullres" / f"{case.name}.zip").stat().st_size


def test_trainings_are_found_finished_or_not_in_the_plans_order(maker) -> None:
    made = maker()
    made.trained(folds=(1,))
    made.training("2d", 0, finished=False, epochs=2)
    made.training("3d_fullres", 0)
    (made.work / "models" / "3d_fullres" / "fold_x").mkdir()
    work = read_work_folder(made.work)
    found = [
        (t.configuration, t.fold, t.metadata is not None, len(t.history.epochs), t.summary is not None)
        for t in work.trainings
    ]
    assert found == [("2d", 0, False, 2, False), ("3d_fullres", 0, True, 4, False), ("3d_fullres", 1, True, 4, True)]
    assert [training.fold for training in work.of("3d_fullres")] == [0, 1]
    assert not work.damage


def test_scores_of_folds_come_together(maker) -> None:
    work = read_work_folder(maker().trained())
    (summary,) = work.validated().values()
    each = [training.summary for training in work.trainings]
    assert len(summary.cases) == 2
    expected = np.concatenate([one.values("dice") for one in each if one is not None])
    assert np.array_equal(summary.values("dice"), expected, equal_nan=True)


def test_what_the_survey_saw_is_known_before_anything_is_prepared(maker) -> None:
    work = read_work_folder(maker().planned())
    assert set(work.scanned) == set(work.names)
    assert all(classes == (True, True, True, False) for classes in work.scanned.values())
    assert work.prepared == {"2d": (), "3d_fullres": ()}


@pytest.mark.parametrize("name", ["fingerprint.json", "dataset.json", "splits.json", "survey.json", "best.json"])
def test_a_damaged_file_is_told_of_and_the_rest_is_read(maker, name: str) -> None:
    path = maker().planned() / name
    path.write_text("{}")
    work = read_work_folder(path.parent)
    assert len(work.damage) == 1
    assert str(path) in work.damage[0]


def test_without_a_plan_there_is_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"nnunet-rs plan DATA -o"):
        read_work_folder(tmp_path)


def test_configurations_are_compared_on_the_cases_that_all_have_scored(maker) -> None:
    """The second fold is the harder one: who was scored on both is not worse for that."""
    made = maker()
    made.trained("3d_fullres", (0, 1))
    made.training("2d", 0)
    _worsen(made.validation("2d", 0), 1e-6)
    _worsen(made.work / "models" / "3d_fullres" / "fold_1" / "validation", 0.3)
    work = read_work_folder(made.work)
    means = {name: summary.foreground_mean() for name, summary in work.validated().items()}
    assert means["2d"] > means["3d_fullres"]
    leader = best_scored(work)
    assert leader is not None
    assert leader[0] == "3d_fullres"


def _worsen(folder: Path, by: float) -> None:
    content = json.loads((folder / "summary.json").read_text())
    for case in content["metric_per_case"]:
        for scores in case["metrics"].values():
            scores["Dice"] -= by
    (folder / "summary.json").write_text(json.dumps(content))
