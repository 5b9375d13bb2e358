from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.geometry import Geometry
from nnunet_rs.core.types import Header, LabelSet, Shape
from nnunet_rs.data.augment import Augmentation, build_augmentation
from nnunet_rs.data.loader import Batch, Loader, LoaderOptions
from nnunet_rs.data.preprocess import Prepared
from nnunet_rs.data.previous_stage import PreviousStore
from nnunet_rs.data.store import Store, StoreLayout
from nnunet_rs.plan.schema import Configuration

LABELS = LabelSet(("background", "a"), (0, 1))
NAMES = ("a", "b", "c")


def _configuration(patch: tuple[int, ...]) -> Configuration:
    ones = ((1,) * len(patch),)
    return Configuration(
        "c", (1.0,) * len(patch), patch, 3, patch, ones, ones, (8,), (2,), (), False, False, False, memory_estimate=1
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """Three cases; every voxel of case k has an intensity in [k, k + 1); one foreground voxel each."""
    folder = tmp_path_factory.mktemp("prepared")
    store = Store(folder)
    header = Header("nifti", tuple(tuple(row) for row in np.eye(4).tolist()))
    for k, name in enumerate(NAMES):
        shape = (6 + k, 20, 18)
        image = np.random.default_rng(k).uniform(k, k + 1, (2, *shape)).astype(np.float32)
        labels = np.zeros(shape, np.uint8)
        labels[3, 10, 9] = 1
        box = tuple((0, n) for n in shape)
        geometry = Geometry(shape, (1, 1, 1), (0, 1, 2), box, shape, header)
        store.write(name, Prepared(image, labels, None, geometry), ("key",), StoreLayout((4, 8, 8), (1,)))
    return store


def _loader(store: Store, patch: tuple[int, ...] = (4, 8, 8), name: str = "none", **options: Any) -> Loader:
    configuration = _configuration(patch)
    augmentation = build_augmentation(name, configuration)
    return Loader(store, NAMES, configuration, LABELS, augmentation, LoaderOptions(**{"threads": 2, **options}))


def _take(loader: Loader, epoch: int = 0, batches: int = 4) -> list[Batch]:
    with loader:
        return list(loader.epoch(epoch, batches))


def _same(one: list[Batch], other: list[Batch]) -> bool:
    return all(
        np.array_equal(a.data, b.data) and np.array_equal(a.labels, b.labels) and a.names == b.names
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("patch", [(4, 8, 8), (8, 8)])
@pytest.mark.parametrize("name", ["none", "paper", "paper-batchgenerators", "v2", "light", "progressive"])
def test_the_same_batches_for_one_and_eight_threads(store, patch, name) -> None:
    one = _take(_loader(store, patch, name, threads=1, seed=3, ahead=0))
    eight = _take(_loader(store, patch, name, threads=8, seed=3, ahead=3))
    assert _same(one, eight)
    assert not _same(one, _take(_loader(store, patch, name, seed=4)))


def test_shapes_and_origin(store) -> None:
    batches = _take(_loader(store))
    assert len(batches) == 4
    for batch in batches:
        assert (batch.data.shape, batch.data.dtype) == ((3, 2, 4, 8, 8), np.float32)
        assert (batch.labels.shape, batch.labels.dtype) == ((3, 4, 8, 8), np.int16)
        for sample, name in zip(batch.data, batch.names, strict=True):
            assert int(sample.max()) == NAMES.index(name)
    assert len({name for batch in batches for name in batch.names}) > 1


def test_the_last_third_shows_foreground(store) -> None:
    for patch in ((4, 8, 8), (8, 8)):
        for batch in _take(_loader(store, patch), batches=10):
            centre = tuple(size // 2 for size in patch)
            assert batch.labels[(2, *centre)] == 1


def test_epochs_and_purposes_differ(store) -> None:
    first = _take(_loader(store), 0)
    assert not _same(first, _take(_loader(store), 1))
    assert not _same(first, _take(_loader(store, purpose="validation")))


def test_an_epoch_does_not_depend_on_what_came_before(store) -> None:
    with _loader(store, name="light") as loader:
        list(loader.epoch(0, 3))
        second = list(loader.epoch(1, 3))
        fifth = list(loader.epoch(5, 3))
        half = list(itertools.islice(loader.epoch(0, 3), 2))
        again = list(loader.epoch(1, 3))
        single = loader.batch(1, 2, 3)
        late = list(loader.epoch(1, 3, start=1))
    assert _same(second, _take(_loader(store, name="light"), 1, 3))
    assert _same(fifth, _take(_loader(store, name="light"), 5, 3))
    assert _same(half, _take(_loader(store, name="light"), 0, 3)[:2])
    assert _same(again, second)
    assert _same([single], [second[2]])
    assert _same(late, second[1:])


@pytest.mark.parametrize("shortest", [1, 5])
def test_augmentation_gets_stronger_with_the_passes_over_the_cases(store, monkeypatch, shortest: int) -> None:
    """Three samples a batch of three cases: a batch is a pass in 3-D; 21 slices, 7 batches, are one of a 2-D training.

    Where a pass counts five batches at least, it takes five times as many in 3-D, and as many in 2-D.
    """
    monkeypatch.setattr("nnunet_rs.data.loader.SHORTEST_PASS", shortest)

    class Noting(Augmentation):
        def draw(self, rng: np.random.Generator) -> None:
            seen.append(self)

    def share_of_later(patch: Shape, epoch: int, batches: int, before: int = 0) -> float:
        seen.clear()
        later = Noting(patch)
        augmentation = Noting(patch, later=later, later_passes=40.0)
        options = LoaderOptions(threads=1, ahead=0, before=before)
        with Loader(store, NAMES, _configuration(patch), LABELS, augmentation, options) as loader:
            assert len(list(loader.epoch(epoch, batches))) == batches
        return sum(one is later for one in seen) / len(seen)

    seen: list[Augmentation] = []
    twenty = 20 * shortest  # batches of so many passes
    assert share_of_later((4, 8, 8), 0, 1) == 0
    assert share_of_later((4, 8, 8), 1, twenty) == pytest.approx(0.75, abs=0.15)  # 20 to 40 passes
    assert share_of_later((4, 8, 8), 2, twenty) == 1
    assert share_of_later((8, 8), 2, 20) == pytest.approx(50 / 280, abs=0.15)  # 40 of 280 batches to 60
    assert share_of_later((8, 8), 14, 20) == 1
    assert share_of_later((4, 8, 8), 0, twenty, before=twenty) == pytest.approx(0.75, abs=0.15)  # a second cycle


def test_validation_repeats_an_epoch_from_what_is_made_ahead(store) -> None:
    with _loader(store, purpose="validation", ahead=3) as loader:
        first = list(loader.epoch(0, 2))
        made = [order.batch for order in loader._pending.values()]
        again = list(loader.epoch(0, 2))
    assert _same(first, again)
    assert any(batch.data is again[0].data for batch in made)


def test_looks_ahead_but_not_further(store) -> None:
    read, lock = [], threading.Lock()

    class Counting(Augmentation):
        def draw(self, rng: np.random.Generator) -> None:
            with lock:
                read.append(1)

    configuration = _configuration((4, 8, 8))
    with Loader(store, NAMES, configuration, LABELS, Counting((4, 8, 8)), LoaderOptions(threads=2, ahead=2)) as loader:
        batches = loader.epoch(0, 10)
        next(batches)
        for order in loader._pending.values():
            for sample in order.samples:
                sample.result()
        assert len(read) == 9  # the batch at hand and two ahead, three samples each


def test_errors_name_the_case_and_leave_no_thread(store) -> None:
    class Broken(Augmentation):
        def draw(self, rng: np.random.Generator) -> None:
            raise ValueError("the stars are wrong")

    loader = Loader(store, ("b",), _configuration((4, 8, 8)), LABELS, Broken((4, 8, 8)), LoaderOptions(threads=3))
    with pytest.raises(DatasetError, match="case b, batch 0 of epoch 2: ValueError: the stars are wrong"), loader:
        list(loader.epoch(2, 5))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_unknown_and_no_cases(store) -> None:
    configuration, none = _configuration((4, 8, 8)), Augmentation((4, 8, 8))
    with pytest.raises(DatasetError, match="case x has not been prepared"):
        Loader(store, ("a", "x"), configuration, LABELS, none)
    with pytest.raises(DatasetError, match="no case to draw patches from"):
        Loader(store, (), configuration, LABELS, none)


def test_a_patch_larger_than_the_case(store) -> None:
    for batch in _take(_loader(store, (12, 32, 16)), batches=2):
        assert batch.data.shape == (3, 2, 12, 32, 16)
        assert (batch.labels == 1).any(axis=(1, 2, 3))[2]


def test_masks_reach_the_augmentation(tmp_path: Path) -> None:
    store = Store(tmp_path)
    header = Header("nifti", tuple(tuple(row) for row in np.eye(4).tolist()))
    shape = (6, 9, 9)
    geometry = Geometry(shape, (1, 1, 1), (0, 1, 2), tuple((0, n) for n in shape), shape, header)
    mask = np.zeros(shape, bool)
    mask[:, 4:] = True
    prepared = Prepared(np.ones((1, *shape), np.float32), np.ones(shape, np.uint8), mask, geometry)
    store.write("a", prepared, ("key",), StoreLayout((4, 8, 8), (1,)))
    seen = []

    class Looking(Augmentation):
        def apply(self, drawn, image, seg, rng):
            seen.append(seg)
            return super().apply(drawn, image, seg, rng)

    with Loader(store, ("a",), _configuration((6, 9, 9)), LABELS, Looking((6, 9, 9))) as loader:
        loader.batch(0, 0, 1)
    np.testing.assert_array_equal(seen[0][1], mask)


def test_processes_share_every_batch(store) -> None:
    whole = _take(_loader(store, name="light"))
    shares = [_take(_loader(store, name="light", share=(k, 2))) for k in (0, 1)]
    for batch, even, odd in zip(whole, *shares, strict=True):
        assert (even.names, odd.names) == (batch.names[::2], batch.names[1::2])
        assert np.array_equal(even.data, batch.data[::2])
        assert np.array_equal(odd.data, batch.data[1::2])
        assert np.array_equal(odd.labels, batch.labels[1::2])


def test_batches_lie_in_memory_of_the_users_choice(store) -> None:
    given: list[np.ndarray] = []

    def empty(shape: tuple[int, ...], kind: Any) -> np.ndarray:
        given.append(np.empty(shape, kind))
        return given[-1]

    batches = _take(_loader(store, empty=empty))
    assert batches[0].data is given[0]
    assert batches[0].labels is given[1]


def _cascade(store: Store, folder: Path, name: str, **options: Any) -> tuple[Loader, dict[str, np.ndarray]]:
    """A second stage's loader with two foreground classes, and the whole first segmentations."""
    labels = LabelSet(("background", "a", "b"), (0, 1, 2))
    configuration = replace(_configuration((4, 8, 8)), previous="3d_lowres")
    previous, whole = PreviousStore(folder), {}
    for seed, case in enumerate(NAMES):
        whole[case] = np.random.default_rng(seed).integers(0, 3, store.shape(case)).astype(np.uint8)
        previous.write(case, whole[case], "key", (4, 8, 8))
    augmentation = build_augmentation(name, configuration, (), labels.count)
    loading = LoaderOptions(**{"threads": 2, **options})
    return Loader(store, NAMES, configuration, labels, augmentation, loading, previous=previous), whole


def test_a_second_stage_sees_the_first_segmentation(store, tmp_path: Path) -> None:
    """Against the twin: one-hot of the whole volume, then the window, found by the image that it came with."""
    loader, whole = _cascade(store, tmp_path, "none")
    for batch in _take(loader):
        assert batch.data.shape == (3, 4, 4, 8, 8)
        for sample, labels, name in zip(batch.data, batch.labels, batch.names, strict=True):
            image, truth, _ = store.read_patch(name, (0, 0, 0), store.shape(name))
            everything = np.concatenate([image, [whole[name] == 1], [whole[name] == 2]]).astype(np.float32)
            padded = np.pad(everything, [(0, 0), (8, 8), (8, 8), (8, 8)])
            corner = next(
                tuple(int(i) for i in place) for place in np.argwhere(np.isin(padded[0], sample[0][sample[0] > 0][:1]))
            )
            inside = tuple(int(i) for i in np.argwhere(sample[0] > 0)[0])
            box = tuple(slice(c - i, c - i + n) for c, i, n in zip(corner, inside, (4, 8, 8), strict=True))
            np.testing.assert_array_equal(sample, padded[(slice(None), *box)])
            np.testing.assert_array_equal(labels, np.pad(truth, 8)[box])


@pytest.mark.parametrize("name", ["paper", "v2"])
def test_a_second_stages_batches_depend_on_no_thread(store, tmp_path: Path, name: str) -> None:
    one = _take(_cascade(store, tmp_path, name, threads=1, seed=3, ahead=0)[0])
    eight = _take(_cascade(store, tmp_path, name, threads=8, seed=3, ahead=3)[0])
    assert _same(one, eight)
    for batch in one:
        known = batch.data[:, 2:]
        assert set(np.unique(known)) <= {0, 1}
        assert known.sum(axis=1).max() <= 1
        assert known.any()
