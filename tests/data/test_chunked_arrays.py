from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.data import chunked_arrays
from nnunet_rs.data.chunked_arrays import Content, encode_frame, partition, read_frame


def _encoded(array: np.ndarray, patch: tuple[int, ...], content: Content = "floats") -> bytes:
    frame = encode_frame(array, patch, content=content, scratch=Path("unused"))
    assert isinstance(frame, bytes)
    return frame


def test_partition_by_hand() -> None:
    # A 2-D patch: blocks within one slice. 256 x 224 halved to 128 x 224 = 28672 voxels.
    assert partition((10, 256, 224), (1, 256, 224)) == ((1, 128, 224), (10, 256, 224))
    # 128 cubed halved axis by axis until 32768 voxels; chunks of 4 194 304 voxels.
    assert partition((300, 300, 300), (128, 128, 128)) == ((32, 32, 32), (160, 160, 160))
    # A small case is one block and one chunk.
    assert partition((20, 30, 40), (40, 56, 40)) == ((20, 30, 40), (20, 30, 40))


@given(st.tuples(*[st.integers(1, 700)] * 3), st.tuples(*[st.integers(1, 300)] * 3))
@settings(max_examples=100, deadline=None)
def test_partition_keeps_its_limits(shape, patch) -> None:
    block, chunk = partition(shape, patch)
    assert math.prod(block) <= 1 << 15
    assert math.prod(chunk) <= 1 << 22
    assert all(1 <= b <= c <= length for b, c, length in zip(block, chunk, shape, strict=True))
    assert all(c % b == 0 or c == length for b, c, length in zip(block, chunk, shape, strict=True))


@pytest.mark.parametrize("content", ["floats", "values", "integers"])
@pytest.mark.parametrize("kind", [np.float32, np.float16, np.uint8, np.uint16])
def test_boxes_come_back(tmp_path: Path, kind: type, content: Content) -> None:
    array = np.random.default_rng(0).integers(0, 200, (2, 17, 40, 33)).astype(kind)
    path = tmp_path / "file"
    path.write_bytes(b"before" + _encoded(array, (8, 16, 16), content) + b"after")
    box = (slice(3, 17), slice(0, 9), slice(30, 33))
    found = read_frame(path, box, len(b"before"))
    assert found.dtype == kind
    np.testing.assert_array_equal(found, array[(slice(None), *box)])


def test_the_bytes_depend_on_the_content_alone() -> None:
    array = np.random.default_rng(0).standard_normal((1, 50, 60, 70), dtype=np.float32)
    assert _encoded(array, (32, 32, 32)) == _encoded(array.copy(), (32, 32, 32))


@pytest.mark.parametrize("content", ["floats", "values", "integers"])
@pytest.mark.parametrize(("shape", "patch"), [((2, 33, 70, 45), (16, 40, 40)), ((1, 3, 300, 260), (1, 512, 512))])
def test_chunk_by_chunk_gives_the_bytes_of_asarray(monkeypatch, shape, patch, content: Content) -> None:
    monkeypatch.setattr(chunked_arrays, "_CHUNK_VOXELS", 1 << 16)  # several chunks, that reach beyond the array
    array = np.random.default_rng(0).integers(0, 99, shape).astype(np.float32)
    monkeypatch.setattr(chunked_arrays, "_BRIEF", array.nbytes + 1)
    at_once = _encoded(array, patch, content)
    monkeypatch.setattr(chunked_arrays, "_BRIEF", 0)
    assert _encoded(array, patch, content) == at_once


def test_large_frames_go_to_a_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(chunked_arrays, "_IN_MEMORY", 1000)
    array = np.random.default_rng(0).standard_normal((1, 30, 20, 10), dtype=np.float32)
    scratch = tmp_path / "scratch"
    contents = []
    for _ in range(2):
        assert encode_frame(array, (8, 8, 8), content="floats", scratch=scratch) == scratch
        np.testing.assert_array_equal(read_frame(scratch, (slice(None),) * 3), array)
        contents.append(scratch.read_bytes())
    assert contents[0] == contents[1]


def test_a_frame_that_cannot_be_written(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path; import numpy as np\n"
        "from nnunet_rs.data import chunked_arrays\n"
        "chunked_arrays._IN_MEMORY = 0\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "array = np.random.default_rng(0).random((30, 30, 30))\n"
        "chunked_arrays.encode_frame(array, (8, 8, 8), content='floats', scratch=Path(sys.argv[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True)
    assert re.search(r"NnunetError: .*: cannot be written; [\d.]+ MB of the disk are free", done.stderr)


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    box = (slice(None),) * 3
    with pytest.raises(DatasetError, match=r"file: missing or damaged"):
        read_frame(path, box)
    path.write_bytes(_encoded(np.ones((9, 9, 9), np.float32), (9, 9, 9))[:50])
    with pytest.raises(DatasetError, match=r"file: missing or damaged"):
        read_frame(path, box)


SLOW = """
import sys, time, types, ndindex
class Slow(types.ModuleType):  # ndindex's C++ code asks it for this name, once, at the first index
    @property
    def Integer(self):
        end = time.monotonic() + 1
        while time.monotonic() < end: pass
        return self.__dict__["Integer"]
ndindex.__class__ = Slow
ndindex.Tuple(1)
print("imported")
"""


def test_a_program_that_ends_during_the_import_ends_well(tmp_path: Path) -> None:
    (tmp_path / "blosc2.py").write_text(SLOW)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from nnunet_rs.data.chunked_arrays import *; warm_up()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "imported\n", "")


def test_an_import_that_fails_is_told_to_whoever_needs_it(tmp_path: Path) -> None:
    (tmp_path / "blosc2.py").write_text("raise ImportError('broken')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from nnunet_rs.data.chunked_arrays import *; warm_up()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_what_the_host_program_set_is_put_back(tmp_path: Path) -> None:
    import blosc2

    array = np.zeros((1, 4, 8, 8), np.float32)
    for chosen in (True, False):
        blosc2.set_releasegil(chosen)
        try:
            encode_frame(array, (4, 8, 8), content="floats", scratch=tmp_path / "scratch")
        finally:
            assert blosc2.set_releasegil(False) is chosen
