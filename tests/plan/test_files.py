"""plan.json and fingerprint.json: the way there and back, other versions, and edits that cannot be followed."""

from __future__ import annotations

import copy
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.types import Dataset, LabelSet, Region
from nnunet_rs.plan import files
from nnunet_rs.plan.files import (
    fingerprint_from_json,
    fingerprint_to_json,
    plan_from_json,
    plan_text,
    plan_to_json,
    read_fingerprint,
    read_plan,
    write_fingerprint,
    write_plan,
)
from nnunet_rs.plan.planner import make_plan
from nnunet_rs.plan.planners import PLANNERS
from nnunet_rs.plan.schema import Fingerprint, Plan


@pytest.fixture
def plan(dataset: Any, fingerprint: Any) -> Plan:
    """With a cascade."""
    return make_plan(dataset(("CT",)), fingerprint((300, 400, 400), (1.5, 0.8, 0.8)))


@pytest.mark.parametrize("planner", PLANNERS)
def test_plans_come_back_from_disk(tmp_path: Path, fingerprint: Any, planner: str) -> None:
    labels = LabelSet(("background", "a", "b"), (0, 3, 7), (Region("all", (1, 2), 3), Region("b", (2,), 7)), ignore=9)
    dataset = Dataset("Größe", tmp_path, "nnunet", ("CT", "MRI"), labels, ())
    plan = make_plan(dataset, fingerprint((201, 402, 403), (1.5, 0.8, 0.7), channels=2), planner)
    write_plan(tmp_path / "plan.json", plan)
    assert read_plan(tmp_path / "plan.json") == plan


def test_fingerprints_come_back_from_disk_one_line_a_case(tmp_path: Path, fingerprint: Any) -> None:
    made: Fingerprint = fingerprint((20, 30, 40), (2.5, 1, 1), cases=3)
    write_fingerprint(tmp_path / "fingerprint.json", made)
    assert read_fingerprint(tmp_path / "fingerprint.json") == made
    lines = (tmp_path / "fingerprint.json").read_text().splitlines()
    assert sum('"shape_after_crop"' in line and '"spacing"' in line for line in lines) == 3


def test_plans_read_like_tables(plan: Plan) -> None:
    text = plan_text(plan)
    for key in ("strides", "kernels", "features", "patch_size"):
        assert re.search(rf'^ +"{key}": \[.*\],$', text, re.MULTILINE)


@pytest.mark.parametrize("version", [0, 2, "1", None, True])
def test_other_versions_are_refused(plan: Plan, version: Any) -> None:
    document = {**plan_to_json(plan), "version": version}
    with pytest.raises(PlanError, match=r"p\.json: version is .*, this release reads 1; use the nnunet_rs"):
        plan_from_json(document, "p.json")


@pytest.mark.parametrize("document", [[], {}, {"format": "nnunet_rs fingerprint", "version": 1}])
def test_other_files_are_refused(document: Any) -> None:
    with pytest.raises(PlanError, match=r'p\.json: is no plan of nnunet_rs: the key format must be "nnunet_rs plan"'):
        plan_from_json(document, "p.json")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "no such file"),
        ("", "is not JSON"),
        ('{"format": "nnunet_rs plan",', "is not JSON: line 1"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, content: str | None, text: str) -> None:
    path = tmp_path / "plan.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(PlanError, match=f"plan.json: .*{text}"):
        read_plan(path)


FULL = ("configurations", "3d_fullres")


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ((*FULL, "patch_size"), [65, 128, 128], r"3d_fullres.patch_size\[0\] is 65: must be a multiple of \d+, the "),
        ((*FULL, "patch_size"), [2, 128, 128], r"3d_fullres.patch_size\[0\] is 2: must be .* for example \d+$"),
        ((*FULL, "patch_size"), [128], r"3d_fullres.patch_size is \[128\]: must have 2 or 3 entries"),
        ((*FULL, "patch_size"), [128, 128, 0], r"3d_fullres.patch_size is \[128, 128, 0\]: must be greater than 0"),
        ((*FULL, "patch_size"), [128, 128.5, 128], r"3d_fullres.patch_size\[1\] is 128.5: must be a whole number"),
        ((*FULL, "batch_size"), 0, "3d_fullres.batch_size is 0: must be greater than 0"),
        ((*FULL, "batch_size"), "two", '3d_fullres.batch_size is "two": must be a whole number'),
        ((*FULL, "spacing"), [1.0, 1.0], r"3d_fullres.spacing is \[1.0, 1.0\]: must have 3 entries, as patch_size"),
        ((*FULL, "spacing"), [1.0, -1.0, 1.0], "3d_fullres.spacing is .*: must be greater than 0"),
        ((*FULL, "features"), [30, 60], "3d_fullres.features has 2 entries: must have 6, one per stage"),
        ((*FULL, "kernels"), [[3, 3, 3]] * 5, "3d_fullres.kernels has 5 entries: must have 6"),
        ((*FULL, "kernels"), [[2, 3, 3]] * 6, r"3d_fullres.kernels\[0\] is \[2, 3, 3\]: must be odd"),
        ((*FULL, "kernels"), [[3, 3]] * 6, r"3d_fullres.kernels\[0\] is \[3, 3\]: must have 3 entries"),
        ((*FULL, "blocks_decoder"), [2] * 6, "3d_fullres.blocks_decoder has 6 entries: must have 5, one fewer"),
        ((*FULL, "blocks_encoder"), [0] * 6, "3d_fullres.blocks_encoder is .*: must be greater than 0"),
        ((*FULL, "strides"), [[2, 2, 2]] * 6, "3d_fullres.strides must begin with a stage of ones"),
        ((*FULL, "strides"), [], "3d_fullres.kernels has 6 entries: must have 0"),
        ((*FULL, "name"), "3d", '3d_fullres.name is "3d": must be "3d_fullres", the key it stands under'),
        ((*FULL, "previous"), "3d_half", '3d_fullres.previous is "3d_half": must be null or 3d_lowres$'),
        ((*FULL, "previous"), "2d", '3d_fullres.previous is "2d": must be null or 3d_lowres$'),
        ((*FULL, "patchsize"), [1], "3d_fullres.patchsize: unknown key; allowed are name, spacing, patch_size"),
        (("configurations",), {}, "configurations is empty"),
        (("transpose",), [0, 1, 1], r"transpose is \[0, 1, 1\]: must be a permutation of 0, 1, 2"),
        (("normalization",), [], "normalization has 0 entries: must have one for each of the 1 channels"),
        (("normalization", 0, "stats"), None, r"normalization\[0\].stats is missing: the scheme ct needs"),
        (("normalization", 0, "stats", "std"), 0, r"normalization\[0\].stats is std 0: the scheme ct needs .* std > 0"),
        (("normalization", 0, "scheme"), "CT", r"normalization\[0\].scheme is \"CT\": must be one of zscore, ct, none"),
        ((*FULL, "patch_size"), [1 << 20] * 3, r"3d_fullres.patch_size is .*: must be 16384 at most"),
        ((*FULL, "batch_size"), 10**30, "3d_fullres.batch_size is 1e?0+.*: must be a whole number"),
        ((*FULL, "batch_size"), 60000, "3d_fullres: patch_size .* batch_size .* voxels.*: must be .* at most"),
        ((*FULL, "features"), [10**6] * 6, "3d_fullres.features is .*: must be 16384 at most"),
        ((*FULL, "blocks_encoder"), [10**6] * 6, "3d_fullres.blocks_encoder is .*: must be 200 at most"),
        ((*FULL, "spacing"), [1.0, 1e300, 1.0], "3d_fullres.spacing is .*: must be in mm, 1e-09 to"),
        ((*FULL, "patch_size"), "smallest", "3d_fullres.strides leave a single voxel of the patch"),
        (("configurations", "../2d"), "copied", r"configurations\.\.\./2d: must be a name that a folder can have"),
        (("recipe",), "papr", "planner 'papr' is unknown; .*paper"),
        (("labels", "values"), [0, 0], "labels.values must rise, up to 65535 at most"),
        (("labels", "names"), ["a", "a"], "labels.names has a name twice"),
        (("labels", "ignore"), 1, "labels.ignore is 1: must be above all values"),
        (
            ("labels", "regions"),
            [{"name": "r", "classes": [9], "paint": 1}],
            r"\.classes is \[9\]: must rise",
        ),
        (
            ("labels", "regions"),
            [{"name": "r", "classes": [1], "paint": 7}],
            r"\.paint is 7: must be one of",
        ),
        (("normalization", 0, "stats", "max"), 1e300, r"normalization\[0\].stats.max is 1e\+300: must be within"),
        (
            ("normalization", 0, "stats", "percentile_00_5"),
            1e6,
            "percentile_00_5 must not exceed max",
        ),
        (("labels", "values"), [1, 2], "labels: names and values must be equally many, at least two, beginning with"),
    ],
)
def test_edits_that_cannot_be_followed_are_named(plan: Plan, path: tuple[Any, ...], value: Any, text: str) -> None:
    document = copy.deepcopy(plan_to_json(plan))
    place = document
    for key in path[:-1]:
        place = place[key]
    full = plan.configurations["3d_fullres"]
    steps = [math.prod(stride[axis] for stride in full.strides) for axis in range(3)]
    two = {**document["configurations"]["2d"], "name": "../2d"}
    place[path[-1]] = {"smallest": steps, "copied": two}.get(value, value) if isinstance(value, str) else value
    with pytest.raises(PlanError, match=rf"^work/plan\.json: .*{text}"):
        plan_from_json(json.loads(json.dumps(document)), "work/plan.json")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda body: body.update(cases=[]), "cases is empty"),
        (lambda body: body["cases"][0].update(shape=[0, 1, 1]), r"cases\[0\]: shape and shape_after_crop are"),
        (lambda body: body["cases"][0].update(shape_after_crop=[10**6] * 3), "must be positive, the second no larger"),
        (lambda body: body["cases"][0].update(spacing=[0.0, 1.0, 1.0]), r"cases\[0\].spacing is .*: must be in mm"),
        (lambda body: body.update(relative_size_after_crop=0), "relative_size_after_crop is 0: must be above 0"),
        (lambda body: body["channels"][0].update(std=-1), r"channels\[0\]: min and .* std not be below 0"),
    ],
)
def test_fingerprints_that_no_cases_have_are_named(fingerprint: Any, change: Any, text: str) -> None:
    body = copy.deepcopy(files.fingerprint_to_json(fingerprint((30, 40, 50))))
    change(body)
    with pytest.raises(PlanError, match=rf"^f\.json: .*{text}"):
        files.fingerprint_from_json(body, "f.json")


def test_sensible_edits_are_followed(plan: Plan) -> None:
    document = plan_to_json(plan)
    full = document["configurations"]["3d_fullres"]
    full |= {"patch_size": [96, 96, 96], "batch_size": 1, "features": [8, 16, 32, 64, 64, 64]}
    edited = plan_from_json(document).configurations["3d_fullres"]
    assert (edited.patch_size, edited.batch_size, edited.features[0]) == ((96, 96, 96), 1, 8)


def test_fingerprint_documents_are_checked_too(fingerprint: Any) -> None:
    document = fingerprint_to_json(fingerprint((20, 30, 40)))
    document["cases"][2]["spacing"] = [1, 1]
    with pytest.raises(PlanError, match=r"f\.json: cases\[2\]\.spacing is \[1, 1\]: must be a list of 3 entries"):
        fingerprint_from_json(document, "f.json")
