import pytest
import torch
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.model.device import Compute
from nnunet_rs.predict.engines import torch_engine as module
from nnunet_rs.predict.engines.engine import TooManyWindowsError
from nnunet_rs.predict.engines.torch_engine import DeviceEngine, TorchEngine, torch_engine

CPU = Compute(torch.device("cpu"), torch.float32)


def twice(windows):
    return 2 * windows


def test_processors_and_devices_have_an_engine_each():
    assert isinstance(torch_engine([twice], CPU), TorchEngine)
    assert not torch_engine([twice], CPU).computes_elsewhere
    device = torch_engine([twice], Compute(torch.device("mps"), torch.float32), ("a remark",), fill=True)
    assert isinstance(device, DeviceEngine)
    assert device.computes_elsewhere
    assert device.remarks == ("a remark",)


def test_numbers_of_windows_come_again():
    engine = DeviceEngine((twice,), CPU, fill=True)
    assert [engine.sizes(46, left) for left in (1, 3, 5, 6, 20, 25, 35, 40, 46, 99)] == [
        (1, 1), (3, 4), (4, 4), (6, 8), (16, 16), (25, 32), (35, 46), (40, 46), (46, 46), (46, 46),
    ]  # fmt: skip
    sizes = set()
    for total in range(1, 200):
        left = total
        while left:
            taken, computed = engine.sizes(46, left)
            assert 0 < taken <= computed <= 46
            assert 4 * taken >= 3 * computed
            sizes.add(computed)
            left -= taken
    assert sizes == {1, 2, 4, 8, 16, 32, 46}


def test_networks_of_others_see_no_window_that_is_none():
    assert [DeviceEngine((twice,), CPU).sizes(46, left) for left in (3, 35, 99)] == [(3, 3), (35, 35), (46, 46)]


def test_what_others_left_idle_is_given_back_before_the_networks_are_measured(monkeypatch):
    released = []
    monkeypatch.setattr(module, "release_memory", released.append)
    engine = DeviceEngine((twice,), CPU)
    for size in (2, 1, 2, 4, 2, 4):
        list(engine.scores(torch.ones(size, 1, 4, 4), (0, 1), "none"))
    assert len(released) == 2
    assert list(engine.taken) == [2, 4]


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("out of memory"), RuntimeError("CUDA error: out of memory")]
)
@pytest.mark.parametrize("engine", [TorchEngine, DeviceEngine])
def test_memory_that_runs_out_is_too_many_windows(engine, error):
    def refuse(windows):
        raise error

    windows = torch.ones(2, 1, 4, 4)
    with pytest.raises(TooManyWindowsError, match="cpu"):
        list(engine((refuse,), CPU).scores(windows if engine is DeviceEngine else windows.numpy(), (), "none"))


def test_other_errors_are_told():
    def fail(windows):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(DeviceEngine((fail,), CPU).scores(torch.ones(2, 1, 4, 4), (), "none"))


def test_a_gpu_that_fails_amid_a_prediction_is_one_line_with_a_way_on():
    engine = DeviceEngine((), Compute(torch.device("cuda", 0), torch.float32))
    with (
        pytest.raises(NnunetError, match=r"cuda:0 failed \(CUDA error: x\).*the same command goes on with the cases"),
        engine.memory(),
    ):
        raise RuntimeError("CUDA error: x")
