"""A second stage's training: what it asks of the first, and what it makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.progress import Silent
from nnunet_rs.data.augment import Augmentation
from nnunet_rs.data.folds import Fold, make_folds, write_splits
from nnunet_rs.data.store import open_store
from nnunet_rs.model.cascade import (
    first_stage_sources,
    next_stages,
    open_first_stage,
    previous_store,
    report_never_held_out,
)
from nnunet_rs.model.checkpoint import load_model, save_model
from nnunet_rs.model.config import usual_config
from nnunet_rs.model.metadata import ModelMetadata, read_metadata
from nnunet_rs.model.network_options import NetworkOptions, network_channels
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.recipe import FAST
from nnunet_rs.model.train import train_fold
from nnunet_rs.model.unet import build_unet
from nnunet_rs.plan.files import read_plan, write_plan
from nnunet_rs.plan.schema import Configuration, Plan
from trainings import StopAfter

NAME, FIRST = "3d_cascade_fullres", "3d_lowres"
SHORT = TrainOptions(
    recipe=FAST, epochs=2, batches=4, validation_batches=2, augmentation="paper", device="cpu", precision="float32",
    threads=1, seed=3,
)  # fmt: skip
CASES = tuple(f"case_{k}" for k in range(6))


@pytest.fixture
def cascade(work: Path) -> Path:
    """The work folder with a cascade in its plan; nothing of it is trained."""
    plan = read_plan(work / "plan.json")
    full = plan.configurations["3d_fullres"]
    low = replace(full, name=FIRST, spacing=(4.0, 2.0, 2.0))
    last = replace(full, name=NAME, previous=FIRST)
    write_plan(work / "plan.json", replace(plan, configurations={c.name: c for c in (full, low, last)}))
    return work


def train_first(work: Path, *folds: int, seed: int = 0) -> Plan:
    """Save first-stage models as if trained."""
    plan = read_plan(work / "plan.json")
    settings = plan.configurations[FIRST]
    for fold in folds:
        torch.manual_seed(10 * seed + fold)
        network = build_unet(settings, *network_channels(plan, settings), NetworkOptions())
        metadata = ModelMetadata(
            plan, FIRST, fold, usual_config(plan.recipe, plan.configurations[FIRST], FAST), 0, None, None
        )
        save_model(work / "models" / FIRST / f"fold_{fold}", network.state_dict(), metadata)
    return plan


def segment(work: Path, plan: Plan) -> None:
    """Put the references themselves where first segmentations are looked for: a first stage without fault."""
    store, prepared = previous_store(work, NAME), open_store(work, plan, NAME)
    for case, source in first_stage_sources(work, plan, NAME).items():
        store.write(case, prepared.read_patch(case, (0, 0, 0), (8, 16, 16))[1].astype(np.uint8), source.key, (4, 8, 8))


def test_who_follows_whom(cascade: Path) -> None:
    plan = read_plan(cascade / "plan.json")
    assert next_stages(plan, FIRST) == (NAME,)
    assert next_stages(plan, NAME) == next_stages(plan, "3d_fullres") == ()


def test_untrained_folds_are_named_with_the_command(cascade: Path) -> None:
    with pytest.raises(
        CheckpointError, match=rf"folds 0, 1, 2 are not trained.*train {cascade} -c {FIRST} --folds all"
    ):
        train_fold(cascade, NAME, 0, SHORT)
    train_first(cascade, 0, 2)
    with pytest.raises(CheckpointError, match=rf"fold 1 is not trained.*train {cascade} -c {FIRST} -f 1$"):
        train_fold(cascade, NAME, 0, SHORT)


def test_each_case_by_the_fold_that_did_not_see_it(cascade: Path) -> None:
    plan = train_first(cascade, 0, 1, 2)
    sources = first_stage_sources(cascade, plan, NAME)
    folds = make_folds(list(CASES), count=3)
    assert {case: source.fold for case, source in sources.items()} == {
        case: number for number, fold in enumerate(folds) for case in fold.validation
    }
    assert set(first_stage_sources(cascade, plan, NAME, [1])) == set(folds[1].validation)
    assert len({source.key for source in sources.values()}) == 3  # these cases were all prepared by one key


def test_another_model_outdates_its_segmentations(cascade: Path) -> None:
    plan = train_first(cascade, 0, 1, 2)
    segment(cascade, plan)
    before = open_first_stage(cascade, plan, NAME, CASES).digest
    assert open_first_stage(cascade, plan, NAME, CASES).digest == before
    train_first(cascade, 1, seed=1)
    with pytest.raises(CheckpointError, match=r"2 of 6 cases, case_. among them, have no segmentation by the present"):
        open_first_stage(cascade, plan, NAME, CASES)
    segment(cascade, plan)
    assert open_first_stage(cascade, plan, NAME, CASES).digest != before


def test_a_case_that_no_fold_holds_out(cascade: Path) -> None:
    plan = train_first(cascade, 0, 1)
    write_splits(cascade / "splits.json", [Fold(CASES[2:], CASES[:1]), Fold((CASES[0], *CASES[2:]), CASES[1:2])])
    with pytest.raises(CheckpointError, match=r"splits\.json: 4 cases, such as case_2, are held out by no fold"):
        open_first_stage(cascade, plan, NAME, CASES)


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize("names", [(FIRST,), (NAME,), ("3d_fullres", FIRST, NAME)])
def test_a_case_that_no_fold_holds_out_is_told_before_the_first_stage_is_trained(
    cascade: Path, names: tuple[str, ...]
) -> None:
    plan, listener = read_plan(cascade / "plan.json"), Listener()
    report_never_held_out(cascade, plan, names, listener)
    assert listener.said == []
    write_splits(cascade / "splits.json", [Fold(CASES[2:], CASES[:1]), Fold((CASES[0], *CASES[3:]), CASES[1:3])])
    report_never_held_out(cascade, plan, ("3d_fullres",), listener)  # no cascade is built on it
    assert listener.said == []
    report_never_held_out(cascade, plan, names, listener)
    (said,) = listener.said
    assert "splits.json: 3 cases, such as case_3, are held out by no fold" in said
    assert said.endswith("edit the folds before the first stage is trained")


def unseen(settings: Configuration, _: object) -> Augmentation:
    """Leave nothing of an image."""
    return Augmentation(settings.patch_size, transforms=(lambda **sample: {**sample, "data": 0 * sample["data"]},))


def test_learns_from_the_first_segmentation(cascade: Path) -> None:
    """References as first segmentations tell what the image does not."""
    segment(cascade, train_first(cascade, 0, 1, 2))
    options = replace(SHORT, epochs=3, batches=60, augmentation=unseen)
    second = train_fold(cascade, NAME, 0, options)
    alone = train_fold(cascade, "3d_fullres", 0, options)
    assert second.finished
    assert second.history.epochs[-1].loss < alone.history.epochs[-1].loss - 0.1
    _, metadata = load_model(second.folder)
    assert metadata.channels == (3, 3)
    firsts = {f"fold_{fold}": read_metadata(cascade / "models" / FIRST / f"fold_{fold}").digest for fold in range(3)}
    assert metadata.first_stage == firsts
    assert metadata.plan_configuration.previous == FIRST


def test_resumed_as_if_never_stopped_and_only_with_the_same_first_stage(cascade: Path) -> None:
    plan = train_first(cascade, 0, 1, 2)
    segment(cascade, plan)
    whole = train_fold(cascade, NAME, 0, replace(SHORT, loss=StopAfter(-1)))
    assert not train_fold(cascade, NAME, 0, replace(SHORT, loss=StopAfter(3), fresh=True)).finished
    train_first(cascade, 2, seed=5)
    segment(cascade, plan)
    resuming = replace(SHORT, loss=StopAfter(-1), resume=True)
    with pytest.raises(CheckpointError, match="was begun with another first stage"):
        train_fold(cascade, NAME, 0, resuming)
    train_first(cascade, 2)
    segment(cascade, plan)
    rest = train_fold(cascade, NAME, 0, resuming)
    losses = [[epoch.loss for epoch in result.history.epochs] for result in (rest, whole)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
