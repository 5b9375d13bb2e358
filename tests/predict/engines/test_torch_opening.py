import pytest
import torch
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.model.device import Compute
from nnunet_rs.model.network_options import NetworkOptions
from nnunet_rs.model.unet import build_unet
from nnunet_rs.predict.engines import torch_opening
from nnunet_rs.predict.engines.torch_opening import _cast_convolutions
from nnunet_rs.predict.options import PredictOptions


def test_convolutions_that_are_cast_once_compute_what_autocast_computes(make_plan):
    torch.manual_seed(0)
    settings = make_plan().configurations["3d_fullres"]
    network = build_unet(settings, 1, 3, NetworkOptions()).eval().requires_grad_(False)
    compute, windows = Compute(torch.device("cpu"), torch.bfloat16), torch.randn(2, 1, *settings.patch_size)
    with compute.autocast():
        expected = network(windows)
        _cast_convolutions(network, compute.dtype)
        found = network(windows)
    assert torch.equal(found, expected)
    types = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    assert {kind for name, kind in types.items() if ".norm." in name} == {torch.float32}
    assert {kind for name, kind in types.items() if ".norm." not in name} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), r"out of GPU memory .*; others hold 20\.0 .*fewer folds"),
        (RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"), "another process has it for"),
        (RuntimeError("The NVIDIA driver on your system is too old (found version 1)."), "driver is too old"),
        (RuntimeError("CUDA error: unspecified launch failure"), "the same command goes on with the cases that are"),
    ],
)
def test_what_a_gpu_says_while_models_are_loaded_is_one_line_with_a_way_on(monkeypatch, tmp_path, error, said):
    def refuse(*_):
        raise error

    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch_opening, "find_device", lambda _: gpu)
    monkeypatch.setattr(torch_opening, "choose_compute", lambda *_: Compute(gpu, torch.bfloat16))
    monkeypatch.setattr(torch_opening, "_load", refuse)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2_000_000_000, 24_000_000_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 2_000_000_000)
    with pytest.raises(NnunetError, match=said) as raised:
        torch_opening.open_torch([tmp_path], "cuda", PredictOptions())
    assert type(raised.value) is NnunetError
    assert "\n" not in str(raised.value)
