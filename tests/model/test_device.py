import weakref

import pytest
import torch
from nnunet_rs.core.errors import NnunetError, TrainingError
from nnunet_rs.model import device as devices
from nnunet_rs.model.device import (
    choose_compute,
    find_device,
    out_of_memory_explained,
    release_memory,
)
from torch import nn

CPU = torch.device("cpu")


def test_device_names() -> None:
    assert find_device("cpu") == CPU
    assert find_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(NnunetError, match="'gpu': unknown; use auto"):
        find_device("gpu")
    with pytest.raises(NnunetError, match="CUDA devices"):
        find_device(f"cuda:{torch.cuda.device_count()}")


@pytest.mark.parametrize(("found", "dtype"), [("amx_tile", torch.bfloat16), ("", torch.float32)])
def test_bfloat16_where_the_processor_has_it(monkeypatch, found: str, dtype: torch.dtype) -> None:
    monkeypatch.setattr(devices, "_processor_has", lambda name: name == found)
    assert choose_compute(CPU).dtype is dtype
    assert choose_compute(CPU, "float32").dtype is torch.float32


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_autocast(precision, dtype: torch.dtype) -> None:
    compute = choose_compute(CPU, precision)
    network = compute.to_device(nn.Conv2d(1, 2, 3), 2)
    with compute.autocast():
        assert network(torch.zeros(1, 1, 5, 5)).dtype is dtype
    assert network.weight.dtype is torch.float32
    assert compute.describe() == f"cpu, {precision}"


def test_channels_last() -> None:
    compute = choose_compute(CPU, "float32", channels_last=True)
    assert compute.layout(2) is torch.channels_last
    assert compute.layout(3) is torch.channels_last_3d
    weight = compute.to_device(nn.Conv3d(2, 3, 3), 3).weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert choose_compute(CPU).layout(3) is torch.contiguous_format


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nand more"), r"out of GPU memory \(CUDA out of memory\); smaller"),
        (RuntimeError("CUDA error: out of memory"), r"out of GPU memory \(CUDA error: out of memory\); smaller"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "out of GPU memory"),
        (RuntimeError("FIND was unable to find an engine to execute this computation"), "out of GPU memory"),
        (
            torch.OutOfMemoryError("CUDA out of memory. 7 MiB is free. Of the allocated memory 9 MiB is allocated."),
            r"out of GPU memory \(CUDA out of memory. 7 MiB is free\); smaller",
        ),
        (MemoryError(), "out of memory; smaller"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 5 GB"), "out of memory .*; smaller"),
    ],
)
def test_memory(error: Exception, said: str) -> None:
    with pytest.raises(TrainingError, match=said), out_of_memory_explained("smaller"):
        raise error


def test_what_failed_holds_no_memory_when_a_smaller_one_is_tried() -> None:
    def compute(kept: list[weakref.ref[torch.Tensor]]) -> None:
        features = torch.zeros(4)
        kept.append(weakref.ref(features))
        raise MemoryError

    kept: list[weakref.ref[torch.Tensor]] = []
    with pytest.raises(MemoryError) as raised:
        compute(kept)
    assert kept[0]() is not None  # the error's traceback holds it
    release_memory(CPU, raised.value)
    assert kept[0]() is None


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shape"), out_of_memory_explained("smaller"):
        raise RuntimeError("shape")
