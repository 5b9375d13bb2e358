from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.data.frames import encode_frame, partition, read_frame


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


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.float16, np.uint8, np.uint16])
def test_boxes_come_back(tmp_path: Path, kind: type, shuffle: bool) -> None:
    array = np.random.default_rng(0).integers(0, 200, (2, 17, 40, 33)).astype(kind)
    path = tmp_path / "file"
    path.write_bytes(b"before" + encode_frame(array, (8, 16, 16), shuffle=shuffle) + b"after")
    box = (slice(3, 17), slice(0, 9), slice(30, 33))
    found = read_frame(path, box, len(b"before"))
    assert found.dtype == kind
    np.testing.assert_array_equal(found, array[(slice(None), *box)])


def test_the_bytes_depend_on_the_content_alone() -> None:
    array = np.random.default_rng(0).standard_normal((1, 50, 60, 70), dtype=np.float32)
    assert encode_frame(array, (32, 32, 32), shuffle=True) == encode_frame(array.copy(), (32, 32, 32), shuffle=True)


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    box = (slice(None),) * 3
    with pytest.raises(DatasetError, match=r"file: missing or damaged"):
        read_frame(path, box)
    path.write_bytes(encode_frame(np.ones((9, 9, 9), np.float32), (9, 9, 9), shuffle=False)[:50])
    with pytest.raises(DatasetError, match=r"file: missing or damaged"):
        read_frame(path, box)
