"""Training cases by the first stage: each by the fold that did not see it, on the second stage's grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.io import read_labels, read_volume
from nnunet_rs.core.labels import encode_labels
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.data.folds import read_splits
from nnunet_rs.data.preprocess import prepare
from nnunet_rs.model.cascade import previous_store
from nnunet_rs.plan.files import read_plan, write_plan
from nnunet_rs.predict.predictor import PredictOptions, Predictor
from nnunet_rs.select.cross_validation import load_held_out
from nnunet_rs.select.first_stage import segment_cases

NAME, FIRST = "3d_cascade_fullres", "3d_lowres"
QUICK = PredictOptions(mirror=False)
CASES = [f"case_{k}" for k in range(5)]


@pytest.fixture
def make_cascade(make_work: Any) -> Any:
    """`make_cascade(folds)`: as `make_work`, with a cascade in the plan and first stages of these folds."""

    def make(folds: tuple[int, ...], second: tuple[int, ...] = ()) -> Path:
        def edit(work: Path) -> None:
            plan = read_plan(work / "plan.json")
            full = plan.configurations["3d_fullres"]
            low = replace(full, name=FIRST, spacing=tuple(2 * s for s in full.spacing))
            last = replace(full, name=NAME, previous=FIRST)
            write_plan(work / "plan.json", replace(plan, configurations={c.name: c for c in (full, low, last)}))

        return make_work({FIRST: folds, NAME: second}, edit)

    return make


def test_made_once_and_again_for_another_model(make_cascade: Any) -> None:
    work = make_cascade(tuple(range(5)))
    assert segment_cases(work, NAME, folds=[1, 3], device="cpu", options=QUICK) == 2
    assert segment_cases(work, NAME, device="cpu", options=QUICK) == 3
    times = {path.name: path.stat().st_mtime_ns for path in (work / "previous" / NAME).iterdir()}
    assert segment_cases(work, NAME, device="cpu", options=QUICK) == 0
    plan = read_plan(work / "plan.json")
    for fold, split in enumerate(read_splits(work / "splits.json", CASES)):
        (case,) = split.validation
        path = WorkFolder(work).model(FIRST, fold).validation_folder / f"{case}.nii.gz"
        labels = encode_labels(read_labels(path).data, plan.labels)
        volume = read_volume((work.parent / "Dataset001_Made" / "imagesTr" / f"{case}_0000.nii.gz",))
        expected = prepare(volume, plan, "3d_fullres", labels).labels
        assert expected is not None
        found = previous_store(work, NAME).read_patch(case, (0, 0, 0), expected.shape)
        np.testing.assert_array_equal(found, expected)
        single = Predictor.load(work, "cpu", [fold], configuration=FIRST, options=QUICK)
        np.testing.assert_array_equal(read_labels(path).data, single.predict_volume(volume).data)
    (old, new) = (work / "models" / FIRST / f"fold_{fold}" for fold in (2, 4))
    metadata = (old / "model.json").read_text()
    for file in ("weights.safetensors", "model.json"):
        (old / file).write_bytes((new / file).read_bytes())
    (old / "model.json").write_text((old / "model.json").read_text().replace('"fold": 4', '"fold": 2'))
    assert metadata != (old / "model.json").read_text()
    assert segment_cases(work, NAME, device="cpu", options=QUICK) == 1
    changed = [name for name, time in times.items() if (work / "previous" / NAME / name).stat().st_mtime_ns != time]
    assert changed == [f"{read_splits(work / 'splits.json', CASES)[2].validation[0]}.zip"]


def test_an_untrained_first_stage_is_named(make_cascade: Any) -> None:
    work = make_cascade((0, 1, 2))
    with pytest.raises(CheckpointError, match=rf"folds 3, 4 are not trained.*train {work} -c {FIRST} --folds all"):
        segment_cases(work, NAME, device="cpu")
    assert segment_cases(work, "3d_fullres", device="cpu") == 0


def test_held_out_cases_see_one_first_stage_others_all(make_cascade: Any) -> None:
    work = make_cascade((0, 1, 2), second=(0, 1))
    held_out = load_held_out(work, NAME, 1, "cpu")
    assert held_out.previous is not None
    assert [metadata.fold for metadata in held_out.previous.all_metadata] == [1]
    both = Predictor.load(work, "cpu", [0], configuration=NAME)
    assert both.previous is not None
    assert [metadata.fold for metadata in both.previous.all_metadata] == [0, 1, 2]
    assert both.options == both.previous.options == PredictOptions()
    described = held_out.describe()
    assert described["previous"]["models"].keys() == {"fold_1"}


def test_a_second_stage_without_its_first(make_cascade: Any) -> None:
    work = make_cascade((), second=(0,))
    with pytest.raises(CheckpointError, match=r"3d_lowres: 3d_cascade_fullres is the second stage of a cascade"):
        Predictor.load(work, "cpu", configuration=NAME)


def test_made_again_where_the_first_stage_mirrors_other_axes(make_cascade: Any) -> None:
    """Axes other than all are part of what a first segmentation is made with; all are not, as once always."""
    work = make_cascade(tuple(range(5)))
    assert segment_cases(work, NAME, device="cpu", options=QUICK) == 5
    metadata = work / "models" / FIRST / "fold_2" / "model.json"
    metadata.write_text(metadata.read_text().replace('"mirror_axes": [0, 1, 2]', '"mirror_axes": []'))
    assert segment_cases(work, NAME, device="cpu", options=QUICK) == 1
    assert segment_cases(work, NAME, device="cpu", options=QUICK) == 0
