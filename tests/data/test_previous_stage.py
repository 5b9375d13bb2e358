from pathlib import Path

import numpy as np
import pytest
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.data.previous_stage import PreviousStore

LABELS = np.random.default_rng(0).integers(0, 4, (7, 9, 11)).astype(np.uint8)


def test_patches_anywhere(tmp_path: Path) -> None:
    store = PreviousStore(tmp_path / "previous" / "3d_cascade_fullres")
    store.write("a", LABELS, "key", (4, 4, 4))
    padded = np.pad(LABELS, 20)
    for start in [(0, 0, 0), (-3, 2, 5), (4, 6, 8), (-15, 0, 0), (20, 0, 0)]:
        box = tuple(slice(s + 20, s + 25) for s in start)
        np.testing.assert_array_equal(store.read_patch("a", start, (5, 5, 5)), padded[box])
    assert [path.name for path in store.folder.iterdir()] == ["a.zip"]


def test_known_by_what_made_it(tmp_path: Path) -> None:
    store = PreviousStore(tmp_path)
    assert not store.has("a", "key")
    store.write("a", LABELS, "key", (4, 4, 4))
    assert store.has("a", "key")
    assert not store.has("a", "another key")
    store.write("a", 0 * LABELS, "another key", (4, 4, 4))
    assert store.has("a", "another key")
    assert not store.read_patch("a", (0, 0, 0), (7, 9, 11)).any()


def test_damaged_or_missing(tmp_path: Path) -> None:
    store = PreviousStore(tmp_path)
    with pytest.raises(DatasetError, match=r"a\.zip: no such file"):
        store.read_patch("a", (0, 0, 0), (1, 1, 1))
    store.write("a", LABELS, "key", (4, 4, 4))
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:50])
    assert not PreviousStore(tmp_path).has("a", "key")
    with pytest.raises(DatasetError, match="damaged"):
        PreviousStore(tmp_path).read_patch("a", (0, 0, 0), (1, 1, 1))
