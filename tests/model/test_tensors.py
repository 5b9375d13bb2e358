from pathlib import Path

import pytest
import torch
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.model import tensors
from nnunet_rs.model.tensors import read_tensors, write_tensors
from safetensors import SafetensorError


def test_there_and_back_with_shared_and_strided_memory(tmp_path: Path) -> None:
    one = torch.arange(6.0).reshape(2, 3)
    write_tensors(tmp_path / "a.safetensors", {"one": one, "same": one, "turned": one.T}, "text")
    found, text = read_tensors(tmp_path / "a.safetensors", "")
    assert text == "text"
    assert torch.equal(found["same"], one)
    assert torch.equal(found["turned"], one.T)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.zeros(2)})

    def full(content: object, place: Path, metadata: object) -> None:
        place.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(tensors, "save_file", full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*free space"):
        write_tensors(path, {"a": torch.ones(2)})
    assert torch.equal(read_tensors(path, "")[0]["a"], torch.zeros(2))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


def test_missing_and_cut(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file; train"):
        read_tensors(tmp_path / "a.safetensors", "train")
    (tmp_path / "a.safetensors").write_bytes(b"12345678 is no header")
    with pytest.raises(CheckpointError, match=r"is damaged.*; train"):
        read_tensors(tmp_path / "a.safetensors", "train")
