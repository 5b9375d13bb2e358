import collections
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.model.torch_file import read_torch_file


def test_tensors_and_plain_values_come_out_as_they_went_in(tmp_path: Path):
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    tensors = {
        "whole": base,
        "turned": base.permute(2, 0, 1),
        "part": base[1, 1:, ::2],
        "empty": torch.zeros(0, 3),
        "number": torch.tensor(5),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    for kind in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool):
        tensors[str(kind)] = torch.tensor([0, 1, 1]).to(kind)
    content = {"weights": collections.OrderedDict(tensors), "plain": [1, 2.5, None, ("a", True)], "shape": base.shape}
    content |= {"numpy": [np.float64(1.5), np.float32(0.5), np.int64(-3)], "device": torch.device("cuda", 1)}
    torch.save(content, tmp_path / "a.pth")
    found = read_torch_file(tmp_path / "a.pth")
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found["weights"][name], tensor.detach().float().numpy(), err_msg=name)
    assert found["plain"] == content["plain"]
    assert found["numpy"] == [1.5, 0.5, -3]
    assert (found["shape"], found["device"]) == ((2, 3, 4), "cuda:1")


def test_weights_of_a_module(tmp_path: Path):
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.BatchNorm3d(2))
    torch.save(network.state_dict(), tmp_path / "a.pth")
    found = read_torch_file(tmp_path / "a.pth")
    assert found.keys() == network.state_dict().keys()
    np.testing.assert_array_equal(found["0.weight"], network[0].weight.detach().numpy())


@pytest.mark.parametrize("what", [slice, Path.touch, torch.nn.Linear(1, 1)], ids=["type", "function", "module"])
def test_whatever_else_a_file_names_is_refused(what, tmp_path: Path):
    torch.save({"network_weights": {}, "other": what}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth: asks for .*; such a file could run code and is not read"):
        read_torch_file(tmp_path / "a.pth")


def test_a_tensor_that_reaches_beyond_its_numbers_is_refused(tmp_path: Path):
    path, other = tmp_path / "a.pth", tmp_path / "b.pth"
    torch.save({"a": torch.ones(100)}, path)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(other, "w") as cut:
        for entry in whole.infolist():
            content = whole.read(entry)
            cut.writestr(entry, content[:40] if entry.filename.endswith("data/0") else content)
    with pytest.raises(CheckpointError, match="reaches beyond its storage"):
        read_torch_file(other)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip at all" * 50])
def test_damaged_files_are_told(content, tmp_path: Path):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pth: cannot be read as a checkpoint"):
        read_torch_file(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="no such file"):
        read_torch_file(tmp_path / "none.pth")
