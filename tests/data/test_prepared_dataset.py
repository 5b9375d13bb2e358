"""Prepared cases for a loop of one's own: items, repeatability, PyTorch's DataLoader, what cannot be."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunet_rs import PreparedDataset, plan_dataset, prepare_dataset, read_dataset, transforms
from nnunet_rs.core.errors import DatasetError, PlanError
from nnunet_rs.data.augment import Augmentation
from nnunet_rs.data.folds import read_splits
from nnunet_rs.data.pipeline import PrepareOptions
from nnunet_rs.data.previous_stage import PreviousStore
from nnunet_rs.data.store import open_store
from nnunet_rs.plan.files import read_plan, write_plan
from nnunet_rs.plan.planner import PlanOverrides
from torch.utils.data import DataLoader

CASES = 5


@pytest.fixture(scope="module")
def work(write_raw: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    dataset = read_dataset(write_raw(folder / "Dataset001_Made", cases=CASES))
    options = PrepareOptions(overrides=PlanOverrides(features=4, vram_gb=0.02))
    prepare_dataset(dataset, folder / "work", options)
    return folder / "work"


def patch_of(work: Path, configuration: str) -> tuple[int, ...]:
    return read_plan(work / "plan.json").configurations[configuration].patch_size


def test_a_fold_has_two_sides(work: Path) -> None:
    train, held_out = (PreparedDataset(work, "3d_fullres", 1, split) for split in ("training", "validation"))
    assert len(train) == CASES - 1
    assert set(train.names) | set(held_out.names) == {f"case_{k}" for k in range(CASES)}
    assert not set(train.names) & set(held_out.names)
    names = [f"case_{k}" for k in range(CASES)]
    assert held_out.names == read_splits(work / "splits.json", names)[1].validation
    assert len(PreparedDataset(str(work), "3d_fullres", "all")) == CASES


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
@pytest.mark.parametrize(
    "augmentation", [None, "v2", transforms.Compose([transforms.Warp(), transforms.Mirror((0, 1))])], ids=str
)
def test_patches_are_the_plans_and_follow_from_seed_epoch_and_index(
    work: Path, configuration: str, augmentation: Any
) -> None:
    patch = patch_of(work, configuration)
    options: dict[str, Any] = {"per_case": 2, "augmentation": augmentation}
    dataset = PreparedDataset(work, configuration, **options)
    items = list(dataset)
    assert len(items) == len(dataset) == 2 * (CASES - 1)
    assert [item["name"] for item in items] == [*dataset.names] * 2
    for item in items:
        assert (item["image"].shape, item["image"].dtype) == ((1, *patch), np.float32)
        assert (item["labels"].shape, item["labels"].dtype) == (patch, np.int16)
        assert np.isfinite(item["image"]).all()
        assert set(np.unique(item["labels"])) <= {0, 1, 2}
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again[5]["image"], items[5]["image"])
    np.testing.assert_array_equal(again[-1]["image"], items[-1]["image"])
    again.set_epoch(1)
    assert any(not np.array_equal(again[k]["image"], items[k]["image"]) for k in range(len(items)))
    other = PreparedDataset(work, configuration, seed=1, **options)
    assert any(not np.array_equal(other[k]["image"], items[k]["image"]) for k in range(len(items)))


def test_progressive_augmentation_goes_by_the_epochs(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two patches of each case an epoch are two passes in 3-D, and a part of one in 2-D."""
    seen: list[float] = []

    def noting(self: Augmentation, passes: float, rng: np.random.Generator) -> Augmentation:
        seen.append(passes)
        return self

    monkeypatch.setattr(Augmentation, "at", noting)
    for configuration in ("3d_fullres", "2d"):
        dataset = PreparedDataset(work, configuration, per_case=2, augmentation="progressive")
        for epoch in (0, 1, 30):
            dataset.set_epoch(epoch)
            _ = dataset[0]
    assert seen[:3] == [0, 2, 60]
    assert seen[3] == 0 < seen[4] < 2
    assert seen[5] == pytest.approx(30 * seen[4])


def test_patches_are_centred_on_foreground_as_often_as_asked(work: Path) -> None:
    shares = []
    for foreground in (0.0, 1.0):
        dataset = PreparedDataset(work, "2d", foreground=foreground, per_case=20)
        shares.append(np.mean([bool(item["labels"].any()) for item in dataset]))
    assert shares[1] == 1.0
    assert shares[0] < 1.0


def test_whole_cases_are_what_preparing_left(work: Path) -> None:
    store = open_store(work, read_plan(work / "plan.json"), "3d_fullres")
    for item in PreparedDataset(work, "3d_fullres", patches=False):
        image, labels, _ = store.read_patch(item["name"], (0, 0, 0), store.shape(item["name"]))
        np.testing.assert_array_equal(item["image"], image)
        np.testing.assert_array_equal(item["labels"], labels)
    mirrored = PreparedDataset(work, "3d_fullres", patches=False, augmentation=transforms.Mirror((2,)))
    assert {True} == {item["image"].shape[1:] == item["labels"].shape for item in mirrored}


def test_in_pytorchs_dataloader(work: Path) -> None:
    dataset = PreparedDataset(work, "3d_fullres", augmentation="v2")
    batches = list(DataLoader(dataset, batch_size=2))
    assert [tuple(batch["image"].shape) for batch in batches] == [(2, 1, *patch_of(work, "3d_fullres"))] * 2
    assert batches[0]["labels"].dtype == torch.int16
    assert [name for batch in batches for name in batch["name"]] == [*dataset.names]
    np.testing.assert_array_equal(batches[1]["image"][1].numpy(), dataset[3]["image"])


WORKERS = """
import sys
from nnunet_rs import PreparedDataset
from torch.utils.data import DataLoader
if __name__ == "__main__":
    dataset = PreparedDataset(sys.argv[1], "3d_fullres", augmentation="v2")
    dataset[0]  # the kernels have run before workers are forked
    alone, shared = (
        [batch["image"] for batch in DataLoader(dataset, batch_size=2, num_workers=count, multiprocessing_context=how)]
        for count, how in ((0, None), (2, sys.argv[2]))
    )
    assert len(shared) == 2 and all(one.equal(other) for one, other in zip(alone, shared))
"""


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_in_workers_of_a_dataloader(work: Path, context: str, tmp_path: Path) -> None:
    """In an interpreter of its own: what other tests have loaded into this one need not survive a fork."""
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    subprocess.run([sys.executable, str(script), str(work), context], check=True, timeout=120)


def test_a_cascades_second_stage_sees_the_first(work: Path, tmp_path: Path) -> None:
    """The first stage's segmentation of each case becomes a channel per foreground class."""
    copy = tmp_path / "work"
    shutil.copytree(work, copy)
    plan = read_plan(copy / "plan.json")
    full = plan.configurations["3d_fullres"]
    second = replace(full, name="3d_cascade_fullres", previous="3d_fullres")
    write_plan(copy / "plan.json", replace(plan, configurations={**plan.configurations, second.name: second}))
    store = open_store(copy, plan, "3d_fullres")
    first = PreviousStore(copy / "previous" / second.name)
    for name in store.names():
        _, labels, _ = store.read_patch(name, (0, 0, 0), store.shape(name))
        first.write(name, labels, "key", full.patch_size)
    for augmentation in (None, "v2"):
        item = PreparedDataset(copy, second.name, augmentation=augmentation, foreground=1.0)[0]
        assert item["image"].shape == (3, *full.patch_size)
        assert set(np.unique(item["image"][1:])) <= {0, 1}
    for label in (1, 2):
        item = PreparedDataset(copy, second.name, patches=False)[0]
        np.testing.assert_array_equal(item["image"][label], item["labels"] == label)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"configuration": "3d_lowers"}, PlanError, r"plan\.json: there is no configuration 3d_lowers"),
        ({"fold": 9}, DatasetError, r"splits\.json: there is no fold 9; there are folds 0, 1"),
        ({"fold": "all", "split": "validation"}, DatasetError, "fold all holds out no case"),
        ({"split": "test"}, ValueError, "split must be training or validation; got 'test'"),
        ({"per_case": 0}, ValueError, "per_case must be at least 1"),
        ({"foreground": 1.2}, ValueError, "foreground lie in 0 … 1; got 1, 1.2"),
        ({"augmentation": "v3"}, PlanError, "augmentation 'v3' is unknown"),
        ({"augmentation": "v2", "patches": False}, ValueError, "augmentation 'v2' makes patches"),
    ],
)
def test_what_there_is_not(work: Path, arguments: dict[str, Any], error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        PreparedDataset(work, **{"configuration": "3d_fullres", **arguments})


def test_a_case_that_is_not_prepared_is_told_at_once(write_raw: Callable[..., Path], tmp_path: Path) -> None:
    plan_dataset(read_dataset(write_raw(tmp_path / "Dataset001_Made", cases=CASES)), tmp_path / "work")
    with pytest.raises(DatasetError, match=r"case case_.* has not been prepared; run preprocess"):
        PreparedDataset(tmp_path / "work", "3d_fullres")


def test_an_error_names_the_case(work: Path) -> None:
    def broken(**sample: Any) -> dict[str, Any]:
        raise RuntimeError("out of ideas")

    with pytest.raises(DatasetError, match=r"case case_.: RuntimeError: out of ideas"):
        PreparedDataset(work, "3d_fullres", augmentation=broken)[0]
    with pytest.raises(IndexError):
        PreparedDataset(work, "3d_fullres")[CASES]


def test_it_needs_no_torch(work: Path) -> None:
    code = (
        f"import sys, nnunet_rs; nnunet_rs.PreparedDataset({str(work)!r}, '2d', augmentation='v2')[0]; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
