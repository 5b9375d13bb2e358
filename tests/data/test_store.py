from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import blosc2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.geometry import Geometry
from nnunet_rs.core.types import Header, LabelSet, Volume
from nnunet_rs.data.archive import write_archive
from nnunet_rs.data.preprocess import Prepared, crop, narrowed, normalized, unscaled
from nnunet_rs.data.store import Store, StoreLayout
from nnunet_rs.plan.schema import ChannelStats, Normalization, Plan

SHAPE = (9, 20, 31)
PLAN = Plan("made", "paper", (1, 0, 2), ("a", "b"), LabelSet(("background", "c"), (0, 1)), (), {})
LAYOUT = StoreLayout(patch=(4, 8, 8), classes=(1, 2))


def _prepared(seed: int = 0, mask: bool = True, scale: float = 1) -> Prepared:
    rng = np.random.default_rng(seed)
    image = (rng.standard_normal((2, *SHAPE)) * scale).astype(np.float32)
    labels = rng.integers(0, 3, SHAPE).astype(np.uint8)
    header = Header("nifti", tuple(tuple(row) for row in np.eye(4).tolist()), b"\x00\x01")
    geometry = Geometry((9, 25, 31), (3.0, 1.0, 1.0), (0, 1, 2), ((0, 9), (2, 22), (0, 31)), SHAPE, header)
    return Prepared(image, labels, rng.random(SHAPE) > 0.3 if mask else None, geometry)


def _padded(array: np.ndarray, start: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    """What read_patch must give: the array in a large zero frame, then cut."""
    margin = 50
    wide = np.pad(array, [(margin, margin)] * array.ndim)
    return wide[tuple(slice(s + margin, s + margin + n) for s, n in zip(start, size, strict=True))]


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[str, Store]:
    folder = tmp_path_factory.mktemp("prepared")
    Store(folder).write("a", _prepared(), ("key",), LAYOUT)
    return {"disk": Store(folder), "cache": Store(folder, cache=1 << 20)}


@pytest.mark.parametrize("kind", ["disk", "cache"])
@given(start=st.tuples(*[st.integers(-40, 40)] * 3), size=st.tuples(*[st.integers(1, 9)] * 3))
@settings(max_examples=40, deadline=None)
def test_patches_anywhere(stores, kind, start, size) -> None:
    prepared = _prepared()
    image, labels, mask = stores[kind].read_patch("a", start, size)
    for channel in range(2):
        np.testing.assert_array_equal(image[channel], _padded(prepared.image[channel], start, size))
    np.testing.assert_array_equal(labels, _padded(prepared.labels, start, size))
    np.testing.assert_array_equal(mask, _padded(prepared.mask, start, size))
    assert (image.dtype, labels.dtype, mask.dtype) == (np.float32, np.int16, np.bool_)


def test_the_cache_keeps_what_fits(tmp_path: Path) -> None:
    store = Store(tmp_path, cache=9 * 20 * 31 * 11)
    for name in ("a", "b"):
        store.write(name, _prepared(), ("key",), LAYOUT)
        store.read_patch(name, (0, 0, 0), (4, 4, 4))
    (tmp_path / "a.zip").unlink()
    store.read_patch("a", (0, 0, 0), (4, 4, 4))  # from memory
    (tmp_path / "b.zip").unlink()
    with pytest.raises(DatasetError, match=r"b\.zip: missing or damaged"):
        store.read_patch("b", (0, 0, 0), (4, 4, 4))


def test_a_patch_is_the_callers_own(stores) -> None:
    before = stores["cache"].read_patch("a", (0, 0, 0), SHAPE)
    for array in stores["cache"].read_patch("a", (0, 0, 0), SHAPE):
        array[...] = 1
    for found, expected in zip(stores["cache"].read_patch("a", (0, 0, 0), SHAPE), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_record_and_locations_come_back(stores) -> None:
    prepared, store = _prepared(), stores["disk"]
    assert store.names() == ("a",)
    assert store.shape("a") == SHAPE
    assert store.record("a").geometry == prepared.geometry
    found = store.class_locations("a")
    for c in (1, 2):
        start, stop = found.spans[c]
        np.testing.assert_array_equal(found.flat[start:stop], np.flatnonzero(prepared.labels == c))


@pytest.mark.parametrize("cache", [0, 1 << 20])
@given(
    scale=st.sampled_from([1, 40, 9000, 30000]),
    low=st.sampled_from([-100, 0]),
    scheme=st.sampled_from(["ct", "zscore", "rescale_to_0_1", "none"]),
    masked=st.booleans(),
    start=st.tuples(*[st.integers(-5, 25)] * 3),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_integers_are_normalised_when_read(tmp_path: Path, cache, scale, low, scheme, masked, start) -> None:
    """To the last bit what a case has that is normalised before it is written."""
    rng = np.random.default_rng(0)
    image = np.rint(rng.uniform(low, scale, (2, *SHAPE))).astype(np.float32)
    image[:, :, :3] = image[:, 4, 5] = 0
    labels = rng.integers(0, 3, SHAPE).astype(np.uint8)
    statistics = ChannelStats(mean=20.3, std=3.7, median=20, min=-9, max=90, percentile_00_5=1.5, percentile_99_5=38.25)
    plan = replace(PLAN, normalization=(Normalization(scheme, masked, statistics),) * 2)
    header = Header("nifti", tuple(tuple(row) for row in np.eye(4).tolist()))
    cropped = narrowed(crop(Volume(image, (3.0, 1.0, 1.0), header), labels))
    assert cropped.image.dtype.kind in "iu"
    case, expected = unscaled(cropped, plan), normalized(unscaled(cropped, plan))
    store = Store(tmp_path, cache=cache)
    store.write("a", case, ("key",), LAYOUT)
    found, _, mask = store.read_patch("a", start, (9, 8, 7))
    for channel in range(2):
        np.testing.assert_array_equal(found[channel], _padded(expected.image[channel], start, (9, 8, 7)))
    assert (mask is None) == (expected.mask is None)


def test_has_wants_the_key_and_a_whole_file(tmp_path: Path) -> None:
    store = Store(tmp_path / "new")
    assert store.names() == ()
    assert not store.has("a", "key")
    written = store.write("a", _prepared(), ("key",), LAYOUT)
    path = store.folder / "a.zip"
    assert written == path.stat().st_size
    assert store.has("a", "key")
    assert not store.has("a", "other")
    whole = path.read_bytes()
    for length in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert not Store(store.folder).has("a", "key")


def test_other_programs_can_open_it(tmp_path: Path) -> None:
    Store(tmp_path).write("a", _prepared(), ("key",), LAYOUT)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        names = ["image.b2nd", "labels.b2nd", "mask.b2nd", "locations.u4", "case.json"]
        assert archive.namelist() == names
        image = blosc2.ndarray_from_cframe(archive.read("image.b2nd"))
    np.testing.assert_array_equal(image[:], _prepared().image)


def test_writing_again_replaces_and_is_byte_identical(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("a", _prepared(), ("key",), LAYOUT)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    store.write("a", _prepared(seed=1), ("other",), LAYOUT)
    assert not np.array_equal(store.read_patch("a", (0, 0, 0), SHAPE)[1], _prepared().labels)
    store.write("a", _prepared(), ("key",), LAYOUT)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_large_arrays_go_through_a_file(stores, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("nnunet_rs.data.chunked_arrays._IN_MEMORY", 1000)
    store = Store(tmp_path)
    store.write("a", _prepared(), ("key",), LAYOUT)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
    for found, expected in zip(
        store.read_patch("a", (0, 0, 0), SHAPE), stores["disk"].read_patch("a", (0, 0, 0), SHAPE), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_a_failing_write_leaves_what_was_there(tmp_path: Path, monkeypatch) -> None:
    store = Store(tmp_path)
    store.write("a", _prepared(), ("key",), LAYOUT)
    monkeypatch.setattr("nnunet_rs.data.store.sample_locations", lambda *_, **__: 1 / 0)
    for name in ("a", "b"):
        with pytest.raises(ZeroDivisionError):
            store.write(name, _prepared(seed=1), ("other",), LAYOUT)
    assert store.has("a", "key")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from nnunet_rs.data.archive import write_archive\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_archive(Path(sys.argv[1]), [('a', bytes(5000))])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.zip")], capture_output=True, text=True)
    assert "cannot be written: File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_half_precision(tmp_path: Path) -> None:
    store, layout = Store(tmp_path), StoreLayout((4, 8, 8), (1, 2), half=True)
    store.write("a", _prepared(), ("key",), layout)
    image, _, _ = store.read_patch("a", (0, 0, 0), SHAPE)
    np.testing.assert_allclose(image, _prepared().image, rtol=2**-11)
    with pytest.raises(DatasetError, match=r"do not fit float16 \(up to 65504\)"):
        store.write("b", _prepared(scale=1e5), ("key",), layout)


def test_without_labels_mask_or_foreground(tmp_path: Path) -> None:
    store, whole = Store(tmp_path), _prepared(mask=False)
    with pytest.raises(DatasetError, match="has no labels"):
        store.write("a", Prepared(whole.image, None, None, whole.geometry), ("key",), LAYOUT)
    store.write("a", Prepared(whole.image, np.zeros(SHAPE, np.uint8), None, whole.geometry), ("key",), LAYOUT)
    assert store.class_locations("a").spans == {}
    assert store.read_patch("a", (0, 0, 0), (2, 2, 2))[2] is None


def test_missing_and_damaged_records(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(DatasetError, match=r"a\.zip: case a has not been prepared; run preprocess"):
        store.shape("a")
    store.write("a", _prepared(), ("key",), LAYOUT)
    entries = {"case.json": json.dumps({"version": 99}).encode(), "locations.u4": b""}
    write_archive(tmp_path / "a.zip", entries.items())
    with pytest.raises(DatasetError, match=r"a\.zip: case\.json: version is 99, this release reads 2; run preprocess"):
        Store(tmp_path).shape("a")
    write_archive(tmp_path / "a.zip", [])
    with pytest.raises(DatasetError, match=r"a\.zip: damaged, or of another version \('case.json'"):
        Store(tmp_path).shape("a")
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(DatasetError, match=r"a\.zip: damaged \(File is not a zip file\); run preprocess again"):
        Store(tmp_path).shape("a")


def test_many_threads_read_the_same(stores) -> None:
    starts = [(int(z), int(y), int(x)) for z, y, x in np.random.default_rng(0).integers(-5, 20, (60, 3))]
    expected = [_padded(_prepared().labels, start, (5, 6, 7)) for start in starts]
    for store in stores.values():
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda start, store=store: store.read_patch("a", start, (5, 6, 7))[1], starts))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_layout_of_a_configuration() -> None:
    class Two:
        patch_size = (64, 48)

    labels = LabelSet(("background", "a"), (0, 1))
    assert StoreLayout.of(Two(), labels) == StoreLayout((1, 64, 48), (1,))
    assert StoreLayout.of(Two(), LabelSet(labels.names, labels.values, ignore=2)).classes == (0, 1)


@pytest.mark.parametrize("cache", [0, 1 << 20])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7])
def test_a_changed_byte_is_told_and_nothing_is_made_of_it(tmp_path: Path, cache: int, share: float) -> None:
    Store(tmp_path).write("a", _prepared(), ("key",), LAYOUT)
    path = tmp_path / "a.zip"
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1
    path.write_bytes(content)
    store = Store(tmp_path, cache=cache)
    for read in (lambda: store.read_patch("a", (0, 0, 0), (1, 1, 1)), lambda: store.class_locations("a")):
        with pytest.raises(DatasetError, match=r"a\.zip: damaged \(its bytes .* have changed\); run preprocess again"):
            read()
    path.unlink()
    store.write("a", _prepared(), ("key",), LAYOUT)
    store.read_patch("a", (0, 0, 0), (1, 1, 1))
