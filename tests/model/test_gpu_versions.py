import warnings

import pytest
import torch
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.model import gpu_versions
from nnunet_rs.model.device import choose_compute, find_device
from nnunet_rs.model.gpu_versions import problem_of, spelled, tf32_problem, version_problem, why_no_gpu

HALF, FULL = torch.bfloat16, torch.float32


@pytest.mark.parametrize(
    ("pytorch", "cudnn", "dtype", "said"),
    [
        ("2.7.1+cu128", 90701, HALF, ""),
        ("2.8.0+cu128", 91002, HALF, r"cuDNN 9.10.2 \(of PyTorch 2.8.0\+cu128\) .* wrongly in bfloat16: .*float32"),
        ("2.8.0+cu128", 91002, torch.float16, "wrongly in float16"),
        ("2.8.0+cu128", 91002, FULL, ""),  # which is computed without TF32
        ("2.9.1+cu130", 91300, HALF, "cuDNN 9.13.0"),
        ("2.9.1+cu130", 91501, FULL, "PyTorch 2.9.1.* several times slower"),
        ("2.12.0+cu126", 91002, HALF, "cuDNN 9.10.2"),
        ("2.13.0+cu130", 92000, HALF, ""),
        ("2.13.0", 90800, HALF, "cuDNN 9.8.0"),
        ("2.13.0", 91500, HALF, ""),
    ],
)
def test_versions_that_are_wrong_or_slow(pytorch: str, cudnn: int, dtype: torch.dtype, said: str) -> None:
    found = problem_of(pytorch, cudnn, dtype)
    if said:
        with pytest.raises(NnunetError, match=said):
            raise NnunetError(found)
    else:
        assert found == ""


def test_tf32() -> None:
    assert [tf32_problem(version) for version in (91001, 91002, 91501, 91600)] == [False, True, True, False]
    assert spelled(91501) == "9.15.1"


def test_a_training_on_such_versions_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H100")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    compute = choose_compute(torch.device("cuda", 0))
    assert compute.remark.startswith("warning: cuDNN 9.10.2")
    assert compute.describe() == "H100, bfloat16 (see doctor: its PyTorch or cuDNN is not to be used)"
    assert choose_compute(torch.device("cuda", 0), "float32").remark == ""
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 92000)
    assert choose_compute(torch.device("cuda", 0)).describe() == "H100, bfloat16"


def test_a_gpu_that_cudnn_knows_no_more_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise RuntimeError("cuDNN version 92000 is not compatible with devices with SM < 7.5. Please install\nanother")

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", refuse)
    said = version_problem(FULL)
    assert said.startswith("cuDNN version 92000 is not compatible with devices with SM < 7.5: install a PyTorch for")


@pytest.mark.parametrize(("capability", "dtype"), [((6, 1), FULL), ((7, 5), torch.float16), ((8, 0), HALF)])
def test_number_types_of_gpus(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert choose_compute(torch.device("cuda", 0)).dtype is dtype


TOO_OLD = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
    "driver by downloading and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx "
    "(Triggered internally at /pytorch/c10/cuda/CUDAFunctions.cpp:109.)"
)


def test_a_driver_that_is_too_old_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable() -> bool:
        warnings.warn(TOO_OLD, stacklevel=2)
        return False

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", unavailable)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    why_no_gpu.cache_clear()
    try:
        assert why_no_gpu() == "The NVIDIA driver on your system is too old (found version 11040)"
        assert find_device("auto") == torch.device("cpu")
        with pytest.raises(NnunetError, match=r"can use \(The NVIDIA driver on your system is too old .*; use cpu"):
            find_device("cuda")
    finally:
        why_no_gpu.cache_clear()


def test_a_gpu_has_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(gpu_versions, "why_no_gpu", lambda: "")
    assert find_device("auto") == find_device("cuda") == torch.device("cuda", 1)
    assert find_device("cuda:0") == torch.device("cuda", 0)
