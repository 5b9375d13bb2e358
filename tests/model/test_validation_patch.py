"""The patch that a running training keeps for pages: which, how often, and what is made of a damaged one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.model.validation_patch import PatchKeeper, ValidationPatch, decided
from numpy.typing import NDArray

LABELS = LabelSet(("background", "a", "b"), (0, 1, 7), ignore=9)


@dataclass
class Batch:
    data: NDArray[np.float32]
    labels: NDArray[np.int16]
    names: tuple[str, ...]


def batch(*size: int) -> Batch:
    """Two samples: the first has ignored voxels alone, the second foreground."""
    labels = np.zeros((2, *size), np.int16)
    labels[0], labels[1, 0] = 3, 2
    data = np.random.default_rng(0).normal(size=(2, 6, *size)).astype(np.float32)
    return Batch(data, labels, ("none", "some"))


@pytest.mark.parametrize("size", [(4, 5, 6), (5, 6)])
def test_the_sample_with_most_foreground_is_kept(tmp_path: Path, size: tuple[int, ...]) -> None:
    made, logits = batch(*size), torch.zeros(2, 3, *size)
    logits[:, 1] = 1
    PatchKeeper(tmp_path / "patch.npz", LABELS)(made, logits, 3)
    found = ValidationPatch.read(tmp_path / "patch.npz")
    shape = size if len(size) == 3 else (1, *size)
    assert (found.case, found.epoch) == ("some", 3)
    assert (found.image.shape, found.image.dtype) == ((4, *shape), np.uint8)
    assert (found.image.min(), found.image.max()) == (0, 255)
    assert np.array_equal(found.reference, made.labels[1].reshape(shape))
    assert np.array_equal(found.prediction, np.ones(shape))


def test_it_is_kept_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((100.0, 101.0, 101.0, 150.0, 301.5, 302.0, 302.0))  # the first takes 1 s: the next comes 200 s later
    monkeypatch.setattr("nnunet_rs.model.validation_patch.time.monotonic", lambda: next(clock))
    keep, logits = PatchKeeper(tmp_path / "patch.npz", LABELS), torch.zeros(2, 3, 4, 5)
    epochs = []
    for epoch in (1, 2, 3):
        keep(batch(4, 5), logits, epoch)
        epochs.append(ValidationPatch.read(tmp_path / "patch.npz").epoch)
    assert epochs == [1, 1, 3]


def test_regions_are_painted_in_their_order() -> None:
    labels = LabelSet(("background", "a", "b"), (0, 1, 7), (Region("all", (1, 2), 1), Region("b", (2,), 7)))
    logits = torch.tensor([[1.0, 1.0, -1.0], [-1.0, 0.0, 1.0]])
    assert decided(logits, labels).tolist() == [1, 2, 2]


def save(path: Path, **changes: Any) -> None:
    zeros = np.zeros((2, 2, 2), np.uint8)
    content = {
        "case": np.array("c"),
        "epoch": np.array(1),
        "image": zeros[None],
        "reference": zeros,
        "prediction": zeros,
    }
    np.savez_compressed(path, **(content | changes))


def test_damaged_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "patch.npz"
    for content in (b"", b"no", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"patch\.npz: is no patch of a training"):
            ValidationPatch.read(path)
    for change, said in (
        ({"image": np.zeros((2, 2, 2), np.uint8)}, "must be uint8"),
        ({"image": np.zeros((1, 2, 2, 2), np.float32)}, "must be uint8"),
        ({"reference": np.zeros((3, 2, 2), np.uint8)}, "no class indices on the image's grid"),
        ({"prediction": np.zeros((2, 2, 2), np.float32)}, "no class indices"),
        ({"case": np.array({"an": "object"})}, "is no patch"),
        ({"epoch": np.array("x")}, "is no patch"),
    ):
        save(path, **change)
        with pytest.raises(CheckpointError, match=said):
            ValidationPatch.read(path)
    path.unlink()
    with pytest.raises(CheckpointError, match="is no patch"):
        ValidationPatch.read(path)
