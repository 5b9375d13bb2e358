"""Files of a work folder, cut, changed, lengthened: what is read is what was written, or the damage is told."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.locks import exclusive
from nnunet_rs.data.folds import read_splits
from nnunet_rs.data.ownership import require_own
from nnunet_rs.data.pipeline import PrepareOptions, prepare_dataset
from nnunet_rs.data.placement import prepared_folder
from nnunet_rs.data.previous_stage import PreviousStore
from nnunet_rs.data.store import Store
from nnunet_rs.plan.dataset_scan import recorded_files, scanned_classes
from nnunet_rs.plan.files import read_fingerprint, read_plan
from nnunet_rs.plan.planner import PlanOverrides

WHOLE = (slice(None),) * 3
READERS: dict[str, Callable[[Path], object]] = {
    "plan.json": lambda work: read_plan(work / "plan.json"),
    "fingerprint.json": lambda work: read_fingerprint(work / "fingerprint.json"),
    "survey.json": lambda work: (scanned_classes(work), recorded_files(work)),
    "splits.json": lambda work: read_splits(work / "splits.json", [f"case_{k}" for k in range(4)]),
    "dataset.json": read_dataset,
    "prepared.json": prepared_folder,
}
POINTER = {"format": "nnunet_rs prepared", "version": 1, "variable": "UNSET", "folder": "a/b", "path": "/tmp/a/b"}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)

# Where and how: cut there, other bytes there, bytes put in there. Places are shares of the file's length.
damages = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from(("cut", "change", "insert")), st.binary(min_size=1)),
    min_size=1,
    max_size=4,
)
Damages = list[tuple[float, str, bytes]]


def damaged(content: bytes, damages: Damages) -> bytes:
    for share, kind, put in damages:
        place = int(share * len(content))
        match kind:
            case "cut":
                content = content[:place]
            case "change":
                content = content[:place] + put + content[place + len(put) :]
            case "insert":
                content = content[:place] + put + content[place:]
    return content


def places(value: object, way: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """List the way to each value of a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(place for key, item in items for place in places(item, (*way, key)))]


def with_another(document: Any, way: tuple[str | int, ...], value: object) -> Any:
    """Return a JSON document with another value in one place."""
    if not way:
        return value
    changed = copy.copy(document)
    changed[way[0]] = with_another(document[way[0]], way[1:], value)
    return changed


@pytest.fixture(scope="module")
def work(write_raw, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    dataset = read_dataset(write_raw(folder / "data"))
    overrides = PlanOverrides(patch_size=(8, 16, 16), batch_size=2)
    prepare_dataset(dataset, folder / "work", PrepareOptions(overrides=overrides, threads=1))
    PreviousStore(folder / "work" / "previous").write("case_0", np.ones((8, 9, 10), np.uint8), "key", (4, 4, 4))
    return folder / "work"


@given(damages=damages, cache=st.sampled_from((0, 1 << 24)))
def test_a_damaged_case_is_told_or_read_as_it_was(work: Path, answered, damages: Damages, cache: int) -> None:
    whole = work / "prepared" / "3d_fullres" / "case_0.zip"
    store, damaged_store = Store(whole.parent), Store(work / "damaged", cache=cache)
    expected, shape = store.read_patch("case_0", (0, 0, 0), (9, 9, 9)), store.shape("case_0")
    damaged_store.folder.mkdir(exist_ok=True)
    (damaged_store.folder / "case_0.zip").write_bytes(damaged(whole.read_bytes(), damages))
    with answered():
        damaged_store.has("case_0", "key")
    with answered():
        assert damaged_store.shape("case_0") == shape
        class_locations, sound = damaged_store.class_locations("case_0"), store.class_locations("case_0")
        np.testing.assert_array_equal(class_locations.flat, sound.flat)
        assert (class_locations.spans, class_locations.voxels) == (sound.spans, sound.voxels)
    with answered():
        for found, there in zip(damaged_store.read_patch("case_0", (0, 0, 0), (9, 9, 9)), expected, strict=True):
            assert (found is None) == (there is None)
            np.testing.assert_array_equal(found, there)


@given(damages=damages)
def test_a_damaged_first_segmentation_is_told_or_read_as_it_was(work: Path, answered, damages: Damages) -> None:
    folder = work / "damaged_previous"
    folder.mkdir(exist_ok=True)
    (folder / "case_0.zip").write_bytes(damaged((work / "previous" / "case_0.zip").read_bytes(), damages))
    store = PreviousStore(folder)
    with answered():
        store.has("case_0", "key")
    with answered():
        np.testing.assert_array_equal(store.read_patch("case_0", (0, 0, 0), (8, 9, 10)), np.ones((8, 9, 10)))


@pytest.mark.parametrize("name", READERS)
@given(damages=damages)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_document_is_told_or_read(work: Path, tmp_path: Path, answered, name: str, damages: Damages) -> None:
    whole = json.dumps(POINTER).encode() if name == "prepared.json" else (work / name).read_bytes()
    (tmp_path / name).write_bytes(damaged(whole, damages))
    with answered():
        READERS[name](tmp_path)


@pytest.mark.parametrize("name", READERS)
@given(data=st.data(), value=VALUES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_document_with_another_value_is_told_or_read(
    work: Path, tmp_path: Path, answered, name: str, data: st.DataObject, value: object
) -> None:
    document = POINTER if name == "prepared.json" else json.loads((work / name).read_bytes())
    way = data.draw(st.sampled_from(places(document)))
    (tmp_path / name).write_text(json.dumps(with_another(document, way, value)))
    with answered():
        READERS[name](tmp_path)
    if name in ("dataset.json", "survey.json", "fingerprint.json", "prepared.json"):
        (tmp_path / "survey.json").write_bytes((work / "survey.json").read_bytes())
        (tmp_path / name).write_text(json.dumps(with_another(document, way, value)))
        with answered():
            require_own(read_dataset(work.parent / "data"), tmp_path)


@given(name=st.sampled_from(("dataset.json", "survey.json", "fingerprint.json", "prepared.json")), damages=damages)
def test_a_work_folder_with_a_damaged_document_is_taken_or_refused(
    work: Path, answered, name: str, damages: Damages
) -> None:
    path = work / name
    whole = path.read_bytes() if path.exists() else None
    try:
        path.write_bytes(damaged(whole or json.dumps(POINTER).encode(), damages))
        with answered():
            require_own(read_dataset(work.parent / "data"), work)
    finally:
        path.unlink() if whole is None else path.write_bytes(whole)


@given(content=st.binary(max_size=300) | st.recursive(st.none() | st.text(), st.lists).map(json.dumps).map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_locks_file_holds_it_is_nobody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".lock").write_bytes(content)
    with exclusive(tmp_path), pytest.raises(NnunetError, match="is at work there"), exclusive(tmp_path):
        pass
