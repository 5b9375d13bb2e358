from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from nnunet_rs.core import memory_estimate
from nnunet_rs.core.memory_estimate import MemoryEstimate, estimate_case_memory
from nnunet_rs.core.types import Case


def test_bounds_hold_for_every_way_to_store(tmp_path: Path, save_nifti, monkeypatch) -> None:
    shape = (5, 6, 7)
    images = [save_nifti(tmp_path / "a.nii.gz", np.ones(shape, np.float32)), tmp_path / "b.nii"]
    save_nifti(images[1], np.ones(shape, np.int16))
    label = save_nifti(tmp_path / "l.nii.gz", np.ones(shape, np.uint8))
    for small in (4 << 20, 0):  # from the file's size alone, and from its header
        monkeypatch.setattr(memory_estimate, "_SMALL", small)
        found = estimate_case_memory(Case("a", tuple(images), label), 2)
        assert found.image >= 352 + 210 * 4 + 352 + 210 * 2 - 8
        assert found.label >= 210
        assert 420 <= found.voxels <= 420 * 8
    assert estimate_case_memory(Case("a", tuple(images), label), 2).voxels == 420


def test_channels_in_one_file_count(tmp_path: Path, save_nifti, monkeypatch) -> None:
    monkeypatch.setattr(memory_estimate, "_SMALL", 0)
    image = save_nifti(tmp_path / "a.nii.gz", np.ones((3, 5, 6, 7), np.uint8))
    assert estimate_case_memory(Case("a", (image,)), 3) == MemoryEstimate(630 + 352, 0, 630)


def test_a_broken_file_cannot_claim_the_world(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(bytes(10_000))[:40] + b"\xff\xff\xff\xff")
    assert estimate_case_memory(Case("a", (path,)), 1).image < 100_000
    missing = estimate_case_memory(Case("a", (tmp_path / "none.nii.gz",), tmp_path / "neither.nii"), 1)
    assert missing == MemoryEstimate(0, 0, 0)
    assert missing.reading == 0


def test_reading_counts_what_is_there_at_once() -> None:
    assert MemoryEstimate(image=200, label=100, voxels=100).reading == 700  # image as float32, three forms of the label
    assert MemoryEstimate(image=900, label=0, voxels=100).reading == 1800  # the buffer of a decompression
