import pytest
import torch
from nnunet_rs.core.errors import TrainingError
from nnunet_rs.model.device import out_of_memory_explained
from nnunet_rs.model.gpu_errors import explained, gpu_errors_explained, taken_by_others

GPU = torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("CUDA error: no kernel image is available for execution on the device\nmore", "has no kernels for cuda:1"),
        ("cuDNN version 92000 is not compatible with devices with SM < 7.5. Please", "has no kernels for cuda:1"),
        ("CUDA error: all CUDA-capable devices are busy or unavailable", "another process has it for itself"),
        ("CUDA error: CUDA driver version is insufficient for CUDA runtime version", "driver is too old"),
        ("The NVIDIA driver on your system is too old (found version 11040).", "driver is too old"),
        ("CUDA error: unspecified launch failure\nmore", r"cuda:1 failed \(CUDA error: unspecified launch failure\)"),
    ],
)
def test_what_a_gpu_says_is_one_line(text: str, said: str) -> None:
    with pytest.raises(TrainingError, match=said) as raised, gpu_errors_explained(GPU):
        raise RuntimeError(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "device"), [("CUDA error: out of memory", "cuda"), ("shape", "cuda"), ("CUDA error: x", "cpu")]
)
def test_other_errors_pass(text: str, device: str) -> None:
    with pytest.raises(RuntimeError, match=text), gpu_errors_explained(torch.device(device)):
        raise RuntimeError(text)
    assert explained(RuntimeError(text), torch.device(device)) == ""


def test_memory_that_others_hold_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2_000_000_000, 24_000_000_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 2_000_000_000)
    assert taken_by_others(GPU) == "others hold 20.0 of its 24.0 GB"
    with (
        pytest.raises(TrainingError, match=r"out of GPU memory \(CUDA out of memory\); others hold 20.0 .*; smaller"),
        out_of_memory_explained("smaller", GPU),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory.")
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 21_500_000_000)  # by this process
    assert taken_by_others(GPU) == ""
    assert taken_by_others(torch.device("cpu")) == ""
