"""nnU-Net's own files, read and written."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from nnunet_rs.core.errors import DatasetError, NnunetError, PlanError
from nnunet_rs.plan.nnunet import as_nnunet, read_nnunet, write_as_nnunet
from nnunet_rs.plan.planner import make_plan

NAMES = {
    "ExperimentPlanner": "v2",
    "nnUNetPlannerResEncM": "v2-resenc-m",
    "nnUNetPlannerResEncL": "v2-resenc-l",
}
STATS = {"mean": 1, "std": 2.0, "median": 1.0, "min": -5.0, "max": 9.0, "percentile_99_5": 8.0, "percentile_00_5": -4.0}
FINGERPRINT: dict[str, Any] = {
    "spacings": [[3.0, 1.0, 1.0], [4.0, 1.0, 1.0]],
    "shapes_after_crop": [[30, 200, 200], [20, 210, 190]],
    "median_relative_size_after_cropping": 0.9,
    "foreground_intensity_properties_per_channel": {"0": STATS, "1": STATS},
}
DATASET: dict[str, Any] = {
    "channel_names": {"0": "CT", "1": "PET"},
    "labels": {"background": 0, "tumour": 1, "ignore": 2},
    "numTraining": 40,
    "file_ending": ".nrrd",
}


def write(folder: Path, fingerprint: Any = FINGERPRINT, dataset: Any = DATASET) -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    (folder / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder / "dataset_fingerprint.json", folder / "dataset.json"


def test_the_whole_plans_file_equals_nnunets(shared: Path, tmp_path: Path) -> None:
    """Every key and value, in the same order, for every planner."""
    for oracle in sorted((shared / "oracles" / "plans").glob("*.json")):
        content = json.loads(oracle.read_text())
        for planner, expected in content["plans"].items():
            paths = write(tmp_path / expected["dataset_name"], content["fingerprint"], content["dataset"])
            files = read_nnunet(*paths)
            plan = make_plan(files.dataset, files.fingerprint, NAMES[planner], training_cases=files.training_cases)
            write_as_nnunet(tmp_path / "plans.json", plan, files.fingerprint, files.reader)
            found = json.loads((tmp_path / "plans.json").read_text())
            assert found == expected, (oracle.stem, planner)
            assert list(found["configurations"]) == list(expected["configurations"])


def test_files_are_read(tmp_path: Path) -> None:
    files = read_nnunet(*write(tmp_path / "Dataset042_Made"))
    assert files.dataset.name == "Dataset042_Made"
    assert files.dataset.channels == ("CT", "PET")
    assert files.dataset.labels.ignore == 2
    assert files.training_cases == 40
    assert files.reader == "SimpleITKIO"
    assert files.fingerprint.cases[1].shape_after_crop == (20, 210, 190)
    assert files.fingerprint.channels[0].percentile_00_5 == -4


def test_unknown_keys_of_other_releases_are_passed_over(tmp_path: Path) -> None:
    content = copy.deepcopy(FINGERPRINT) | {"spacing_unit": "mm"}
    content["foreground_intensity_properties_per_channel"]["0"]["skewness"] = 3
    read_nnunet(*write(tmp_path / "Dataset042_Made", content))


@pytest.mark.parametrize(
    ("ending", "shape", "keys", "reader"),
    [
        (".png", [1, 50, 50], {}, "NaturalImage2DIO"),
        (".tif", [1, 50, 50], {}, "NaturalImage2DIO"),
        (".tif", [50, 50, 50], {}, "Tiff3DIO"),
        (".nii", [50, 50, 50], {}, "NibabelIO"),
        (".nii.gz", [50, 50, 50], {}, "SimpleITKIO"),
        (".nii.gz", [50, 50, 50], {"overwrite_image_reader_writer": "NibabelIO"}, "NibabelIO"),
    ],
)
def test_the_reader_follows_the_ending(
    tmp_path: Path, ending: str, shape: list[int], keys: dict[str, str], reader: str
) -> None:
    content = {**FINGERPRINT, "shapes_after_crop": [shape, shape]}
    files = read_nnunet(*write(tmp_path / "D", content, {**DATASET, "file_ending": ending, **keys}))
    assert files.reader == reader


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"spacings": [[1, 1]]}, r"spacings\[0\] is \[1, 1\]: must be a list of 3 entries"),
        ({"spacings": [[1, 1, 1]]}, "spacings has 1 entries, shapes_after_crop 2: they must have one per case"),
        ({"shapes_after_crop": [[1.5, 2, 3]] * 2}, r"shapes_after_crop\[0\]\[0\] is 1.5: must be a whole number"),
        ({"median_relative_size_after_cropping": None}, "cropping is null: must be a finite number"),
        ({"foreground_intensity_properties_per_channel": {"0": STATS}}, "per_channel has 0: must have the 2 channels"),
        ({"foreground_intensity_properties_per_channel": {"0": 1, "1": 1}}, r"per_channel.0 is 1: must be a table"),
    ],
)
def test_malformed_fingerprints_are_named(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    with pytest.raises(PlanError, match=rf"dataset_fingerprint\.json: .*{text}"):
        read_nnunet(*write(tmp_path / "D", {**FINGERPRINT, **change}))


@pytest.mark.parametrize(("fingerprint", "dataset"), [([], DATASET), (FINGERPRINT, [])])
def test_files_of_another_kind_are_named(tmp_path: Path, fingerprint: Any, dataset: Any) -> None:
    with pytest.raises(NnunetError, match=r"json: (holds a list, not an object|is \[\]: must be a table)"):
        read_nnunet(*write(tmp_path / "D", fingerprint, dataset))


@pytest.mark.parametrize("count", [0, -1, "many", True])
def test_a_wrong_number_of_cases_is_named(tmp_path: Path, count: Any) -> None:
    with pytest.raises(DatasetError, match=r"dataset\.json: numTraining is .*; give the number of training cases"):
        read_nnunet(*write(tmp_path / "D", dataset={**DATASET, "numTraining": count}))


def test_a_paper_plan_has_names_of_its_own(tmp_path: Path) -> None:
    """Data that nnU-Net prepared for its own plans must not be taken for this one's."""
    files = read_nnunet(*write(tmp_path / "D"))
    content = as_nnunet(make_plan(files.dataset, files.fingerprint), files.fingerprint)
    assert content["plans_name"] == "nnUNetPaperPlans"
    assert content["configurations"]["2d"]["data_identifier"] == "nnUNetPaperPlans_2d"
    assert content["image_reader_writer"] == "SimpleITKIO"
    assert content["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["features_per_stage"][0] == 30


def test_the_largest_residual_encoder(tmp_path: Path) -> None:
    """Patches and batches as `nnUNetPlannerResEncXL` of nnU-Net 2.8.1 chose them."""
    large = {**FINGERPRINT, "spacings": [[1.0] * 3] * 2, "shapes_after_crop": [[500, 480, 460]] * 2}
    expected = [
        (FINGERPRINT, {"2d": (272, [224, 224]), "3d_fullres": (14, [28, 224, 224])}),
        (large, {"2d": (52, [512, 512]), "3d_lowres": (2, [256, 224, 224]), "3d_fullres": (2, [256, 224, 224])}),
    ]
    for fingerprint, chosen in expected:
        files = read_nnunet(*write(tmp_path / "Dataset042_Made", fingerprint))
        plan = make_plan(files.dataset, files.fingerprint, "v2-resenc-xl", training_cases=files.training_cases)
        plans = as_nnunet(plan, files.fingerprint)
        assert plans["experiment_planner_used"] == "nnUNetPlannerResEncXL"
        assert plans["plans_name"] == "nnUNetResEncUNetXLPlans"
        found = {name: c for name, c in plans["configurations"].items() if "inherits_from" not in c}
        assert {name: (c["batch_size"], c["patch_size"]) for name, c in found.items()} == chosen


def test_a_file_that_is_there_is_kept_aside(tmp_path: Path) -> None:
    files, path = read_nnunet(*write(tmp_path / "Dataset042_Made")), tmp_path / "plans.json"
    path.write_text("the user's")
    plan = make_plan(files.dataset, files.fingerprint)
    kept = write_as_nnunet(path, plan, files.fingerprint)
    assert kept == tmp_path / "plans.previous.json"
    assert kept.read_text() == "the user's"
    assert write_as_nnunet(path, plan, files.fingerprint) is None
    assert json.loads(path.read_text())["dataset_name"] == "Dataset042_Made"
