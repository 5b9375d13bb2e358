"""Prepare, train and predict by nnU-Net's own plans.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from nnunet_rs.cli import main
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.io import read_labels
from nnunet_rs.data.pipeline import PrepareOptions, prepare_dataset
from nnunet_rs.data.store import Store, open_store
from nnunet_rs.model.metadata import read_metadata
from nnunet_rs.plan.comparison import decide_alike
from nnunet_rs.plan.files import read_plan


def run(*words: object) -> int:
    return main([*map(str, words), "-q"])


def edited(path: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path


def test_an_edited_plans_json_is_prepared_trained_and_predicted_by(raw_dataset, tmp_path: Path, capsys) -> None:
    data, work, file = raw_dataset(cases=5), tmp_path / "work", tmp_path / "nnUNetPlans.json"
    small = ("--patch-size", "8,16,16", "--features", 4)
    assert run("plan", data, "-o", work, "--planner", "v2", "--as-nnunet", file, *small) == 0
    ours = read_plan(work / "plan.json")

    def edit(content: dict[str, Any]) -> None:
        content["configurations"]["3d_fullres"] |= {"batch_size": 3, "spacing": [3.0, 1.25, 1.25]}
        content["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"] |= {
            "norm_op": "torch.nn.modules.batchnorm.BatchNorm3d",
            "nonlin": "torch.nn.ReLU",
        }
        content["experiment_planner_used"] = "MyPlanner"

    edited(file, edit)
    assert run("plan", data, "-o", work, "--plans", file) == 0
    assert (work / "plan.previous.json").is_file()
    followed = read_plan(work / "plan.json")
    full = followed.configurations["3d_fullres"]
    assert (full.batch_size, full.spacing, full.norm, full.activation) == (3, (3.0, 1.25, 1.25), "batch", "relu")
    assert followed.configurations["2d"].memory_estimate == ours.configurations["2d"].memory_estimate > 0
    assert followed.configurations["2d"].memory_gb == ours.configurations["2d"].memory_gb
    assert full.memory_gb == pytest.approx(ours.configurations["3d_fullres"].memory_gb * 3 / 2, abs=0.002)
    assert followed.reasons == ("as nnUNetPlans.json of nnU-Net v2 says (MyPlanner)",)
    assert run("preprocess", data, "-o", work, "-c", "3d_fullres", "--plans", file) == 0
    assert open_store(work, followed, "3d_fullres").shape("case_0")[-2:] == (18, 14)
    line = ("train", work, "-c", "3d_fullres", "-f", 0, "--epochs", 1, "--batches", 2, "--device", "cpu")
    assert run(*line, "--threads", 1) == 0
    metadata = read_metadata(work / "models" / "3d_fullres" / "fold_0")
    assert (metadata.network.norm, metadata.network.activation, metadata.plan_configuration.batch_size) == (
        "batch",
        "relu",
        3,
    )
    assert run("predict", work, "-i", data / "imagesTr", "-o", tmp_path / "out", "--device", "cpu") == 0
    assert read_labels(tmp_path / "out" / "case_0.nii.gz").data.shape == (10, 24, 20)
    capsys.readouterr()
    assert run("preprocess", data, "-o", work, "--plans", file, "--planner", "v2") == 1
    assert "decides all that a planner and overrides decide" in capsys.readouterr().err
    edited(file, lambda content: content["configurations"]["2d"].update(preprocessor_name="Mine"))
    assert run("plan", data, "-o", work, "--plans", file) == 1
    assert "configuration 2d: preprocessor_name is 'Mine'" in capsys.readouterr().err
    assert read_plan(work / "plan.json") == followed


def _turned(source: Path, target: Path, axes: str) -> None:
    """Write an image with its axes stored in another order and direction."""
    image: Any = nibabel.load(source)
    turn = ornt_transform(nibabel.io_orientation(image.affine), axcodes2ornt(axes))
    array = apply_orientation(np.asarray(image.dataobj), turn)
    target.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, image.affine @ inv_ornt_aff(turn, image.shape)), target)


def whole(store: Store, case: str) -> tuple[Any, Any, Any]:
    return store.read_patch(case, (0, 0, 0), store.shape(case))


@pytest.mark.parametrize("axes", ["LPS", "SRA", "AIL"])
def test_a_reorienting_reader_prepares_what_a_reoriented_copy_becomes(
    axes: str, raw_dataset, nnunet_plans: dict[str, Any], tmp_path: Path
) -> None:
    canonical = raw_dataset(cases=2)
    other = tmp_path / "other" / canonical.name
    for path in canonical.rglob("*.nii.gz"):
        _turned(path, other / path.relative_to(canonical), axes)
    (other / "dataset.json").write_text((canonical / "dataset.json").read_text())
    stored = []
    for reader, data in (("NibabelIO", canonical), ("NibabelIOWithReorient", other)):
        nnunet_plans["image_reader_writer"] = reader
        nnunet_plans["transpose_forward"] = [0, 2, 1]
        file, work = tmp_path / "plans.json", tmp_path / reader
        file.write_text(json.dumps(nnunet_plans))
        prepare_dataset(read_dataset(data), work, PrepareOptions(threads=1, plans=file))
        plan = read_plan(work / "plan.json")
        stored.append({name: open_store(work, plan, name) for name in ("3d_lowres", "3d_fullres")})
    for name in stored[0]:
        for case in ("case_0", "case_1"):
            (expected, labels, _), (found, found_labels, _) = (whole(stores[name], case) for stores in stored)
            np.testing.assert_array_equal(found_labels, labels)
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_cases_of_any_orientation_are_turned_where_that_is_asked_for(raw_dataset, tmp_path: Path, capsys) -> None:
    """Planned, prepared and trained as a dataset that is stored so; and exported with a reader that reorients."""
    usual = raw_dataset(cases=4)
    other = tmp_path / "other" / usual.name
    for number, axes in enumerate(("RAS", "LPS", "SRA", "AIL")):
        for path in usual.rglob(f"case_{number}*.nii.gz"):
            _turned(path, other / path.relative_to(usual), axes)
    (other / "dataset.json").write_text((usual / "dataset.json").read_text())
    assert run("check", other) == 0
    assert "AIL (1 case), LPS (1 case), RAS (1 case), SRA (1 case)" in capsys.readouterr().out
    first, second = tmp_path / "first", tmp_path / "second"
    assert run("preprocess", usual, "-o", first, "-c", "3d_fullres", "--features", 4) == 0
    assert run("preprocess", other, "-o", second, "-c", "3d_fullres", "--features", 4, "--reorient") == 0
    plans = [read_plan(work / "plan.json") for work in (first, second)]
    assert [plan.reorient for plan in plans] == [False, True]
    assert decide_alike(plans[0], replace(plans[1], reorient=False))
    assert run("preprocess", other, "-o", second, "-c", "3d_fullres") == 0
    assert read_plan(second / "plan.json") == plans[1]
    stores = [open_store(work, plan, "3d_fullres") for work, plan in zip((first, second), plans, strict=True)]
    for number in range(4):
        (expected, labels, _), (found, found_labels, _) = (whole(store, f"case_{number}") for store in stores)
        np.testing.assert_array_equal(found_labels, labels)
        np.testing.assert_array_equal(found, expected)
    line = ("train", second, "-c", "3d_fullres", "-f", 0, "--epochs", 1, "--batches", 2, "--device", "cpu")
    assert run(*line, "--threads", 1) == 0
    assert run("plan", other, "--reorient", "--as-nnunet", tmp_path / "plans.json") == 0
    exported = json.loads((tmp_path / "plans.json").read_text())
    assert exported["image_reader_writer"].endswith("WithReorient")
    assert exported["original_median_spacing_after_transp"] == [3, 1, 1]
