import pytest
import torch
from nnunet_rs.model.device import choose_compute
from nnunet_rs.model.float32_precision import full_float32


@pytest.fixture(params=["highest", "high", "medium"])
def host(request: pytest.FixtureRequest) -> str:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    try:
        yield request.param
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_hosts_settings_hold_outside(host: str) -> None:
    tf32 = torch.backends.cudnn.allow_tf32
    with full_float32():
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32
        with full_float32():
            pass
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == host
    assert torch.backends.cudnn.allow_tf32 is tf32


def test_float32_means_float32(host: str) -> None:
    x = torch.randn(64, 512, generator=torch.Generator().manual_seed(0))
    exact = (x.double() @ x.double().T).float()
    with choose_compute(torch.device("cpu"), "float32").products():
        torch.testing.assert_close(x @ x.T, exact, rtol=0, atol=1e-3)
    with choose_compute(torch.device("cpu"), "bfloat16").products():
        assert torch.get_float32_matmul_precision() == host


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="PyTorch before 2.9")
def test_settings_by_pytorchs_newer_names_hold_outside_too() -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        with full_float32():
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
            assert torch.backends.cudnn.conv.fp32_precision == "ieee"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before
    assert torch.get_float32_matmul_precision() == "highest"  # nothing is left that contradicts it
    assert torch.backends.cudnn.allow_tf32
