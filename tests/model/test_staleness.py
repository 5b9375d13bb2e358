"""What models do not know of their work folder; only cards and plans are there, nothing is trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nnunet_rs.core.progress import Silent
from nnunet_rs.data.folds import Fold, write_splits
from nnunet_rs.model.metadata import ModelMetadata, metadata_to_json
from nnunet_rs.model.staleness import plan_differences, report_staleness_in, staleness
from nnunet_rs.plan.files import write_fingerprint, write_plan
from nnunet_rs.plan.schema import CasePrint, ChannelStats, Fingerprint, Plan

FULL, LOW, CASCADE = "3d_fullres", "3d_lowres", "3d_cascade_fullres"
FOLDS = (Fold(("a", "b"), ("c",)), Fold(("b", "c"), ("a",)))


@pytest.fixture
def plan(make_plan: Callable[..., Plan]) -> Plan:
    full = make_plan().configurations[FULL]
    low = replace(full, name=LOW, spacing=(2.0, 2.0, 2.0))
    return make_plan(configurations={c.name: c for c in (full, low, replace(full, name=CASCADE, previous=LOW))})


@pytest.fixture
def work(tmp_path: Path, plan: Plan) -> Path:
    write_plan(tmp_path / "plan.json", plan)
    write_splits(tmp_path / "splits.json", FOLDS)
    prints = tuple(CasePrint(name, (9, 9, 9), (9, 9, 9), (1.0, 1.0, 1.0)) for name in "abc")
    write_fingerprint(tmp_path / "fingerprint.json", Fingerprint(prints, (ChannelStats(0, 1, 0, -3, 3, -3, 3),), 1.0))
    return tmp_path


@pytest.fixture
def train(work: Path, plan: Plan, make_metadata: Callable[..., ModelMetadata]) -> Callable[..., Path]:
    """`train("2d", 0, digest="x", ...)`: write a model."""

    def make(name: str, fold: int, augmentation: str = "paper", **changes: Any) -> Path:
        first = make_metadata(plan, fold)
        config = replace(first.config, augmentation=augmentation)
        metadata = replace(first, configuration=name, config=config, **{"cases": FOLDS[fold], **changes})
        folder = work / "models" / name / f"fold_{fold}"
        folder.mkdir(parents=True, exist_ok=True)
        document = metadata_to_json(metadata)
        (folder / "model.json").write_text(json.dumps(document))
        return folder

    return make


def test_nothing_has_changed(train: Callable[..., Path]) -> None:
    train(LOW, 0, digest="x")
    folders = [train(CASCADE, 0, first_stage={"fold_0": "x"}), train(CASCADE, 1, first_stage={"fold_0": "x"})]
    assert staleness(folders) == ()
    assert staleness([]) == ()


def test_an_edited_plan(work: Path, plan: Plan, train: Callable[..., Path]) -> None:
    folders = [train(FULL, 0), train(FULL, 1)]
    full = plan.configurations[FULL]
    edited = replace(full, spacing=(1.0, 1.0, 2.0), patch_size=(8, 8, 16), batch_size=7, features=(2, 4))
    write_plan(work / "plan.json", replace(plan, configurations={**plan.configurations, FULL: edited}))
    assert staleness(folders) == (
        f"{work / 'plan.json'} has changed (spacing, patch_size) since {FULL}, folds 0, 1, were trained: models keep "
        "what they learnt by; train again to follow the new plan",
    )
    low = train(LOW, 0)
    assert staleness([low]) == ()


def test_what_options_of_train_set_is_no_change(plan: Plan) -> None:
    full = plan.configurations[FULL]
    other = replace(plan, configurations={FULL: replace(full, batch_size=7, features=(2, 4))})
    assert plan_differences(plan, other, FULL) == ()
    assert plan_differences(plan, replace(plan, dataset="another", transpose=(2, 0, 1)), FULL) == (
        "dataset",
        "transpose",
    )
    assert plan_differences(plan, other, LOW)  # there is none any more


def test_edited_folds(work: Path, train: Callable[..., Path]) -> None:
    folders = [train(FULL, 0), train(FULL, 1)]
    write_splits(work / "splits.json", [FOLDS[0], Fold(("a", "c"), ("b",))])
    assert staleness(folders) == (
        f"{work / 'splits.json'} has changed since {FULL}, fold 1, was trained: scores are of other cases than it "
        "holds out now; train again, or restore the file",
    )
    write_splits(work / "splits.json", FOLDS[:1])
    (line,) = staleness(folders)
    assert f"has been cut to 1 folds since {FULL}, fold 1," in line


def test_a_first_stage_trained_again(train: Callable[..., Path]) -> None:
    for fold, digest in enumerate(("new", "y")):
        train(LOW, fold, digest=digest)
    seen = {"fold_0": "x", "fold_1": "y", "fold_2": "z"}
    assert staleness([train(CASCADE, 0, first_stage=seen)]) == (
        f"{LOW} has been trained again (fold 0) since {CASCADE}, fold 0, was trained on its segmentations: train again "
        "to go with it",
    )


def test_what_cannot_be_compared_is_not(work: Path, train: Callable[..., Path], tmp_path: Path) -> None:
    folder = train(FULL, 0, cases=None)
    for name in ("plan.json", "splits.json"):
        (work / name).write_text("[]")
    (train(FULL, 1) / "model.json").write_text("{}")
    assert staleness([folder, folder.with_name("fold_1")]) == ()
    elsewhere = folder.rename(tmp_path / "fold_0")
    assert staleness([elsewhere]) == ()


def test_they_are_warnings(work: Path, train: Callable[..., Path]) -> None:
    class Heard(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    said: list[str] = []
    train(FULL, 1)
    write_splits(work / "splits.json", FOLDS[::-1])
    report_staleness_in(work, (LOW, FULL), Heard())
    assert len(said) == 1
    assert said[0].startswith("warning: ")


def test_what_prediction_may_mirror_is_not_known_or_not_agreed_on(tmp_path: Path, train: Callable[..., Path]) -> None:
    unknown = train(FULL, 0, augmentation="mine:augment", mirror_axes=None)
    (line,) = staleness([unknown])
    assert line.startswith(f"{FULL}, fold 0, was trained by mine:augment, and what that mirrors was not recorded")
    alone = shutil.copytree(unknown, tmp_path / "handed on" / "to" / "others")  # no work folder around it
    assert staleness([alone]) == (line,)
    both = [train(LOW, 0, mirror_axes=(0, 1, 2)), train(LOW, 1, mirror_axes=(0, 2))]
    (line,) = staleness(both)
    assert line.startswith(f"{LOW}, folds 0, 1, were trained with different mirror axes")
    assert line.endswith("z, x")
    assert staleness(both[:1]) == ()


def test_other_labels_than_those_learnt(work: Path, plan: Plan, train: Callable[..., Path]) -> None:
    """The same values under exchanged names: what is called liver would be scored as tumour."""
    folder = train(FULL, 0)
    names = dict(zip(plan.labels.names, plan.labels.values, strict=True))
    (work / "dataset.json").write_text(json.dumps({"labels": names}))
    assert staleness([folder]) == ()
    names["liver"], names["tumour"] = names["tumour"], names["liver"]
    (work / "dataset.json").write_text(json.dumps({"labels": names}))
    (line,) = staleness([folder])
    assert line.startswith(f"{work / 'dataset.json'} declares other labels since {FULL}, fold 0, was trained")
