import numpy as np
import pytest
import torch
from nnunet_rs.predict.blend import HostAccumulator
from nnunet_rs.predict.engines import torch_accumulator
from nnunet_rs.predict.engines.torch_accumulator import DeviceAccumulator, FetchingAccumulator, device_accumulator
from nnunet_rs.predict.window_grid import sliding_window_grid

CPU = torch.device("cpu")


def test_sums_that_leave_no_room_for_windows_stay_off_the_device(monkeypatch):
    window_grid = sliding_window_grid((40, 8, 8), (8, 8, 8))
    taken = DeviceAccumulator.bytes_of(5, window_grid, span=4)
    assert taken == 4 * 6 * 13 * 8 * 8  # classes and weights, 8 + 4 + 1 planes
    networks, window = 1 << 20, 4 * 5 * 8**3
    for free, kind in (
        (taken + window, FetchingAccumulator),
        (networks + taken, FetchingAccumulator),
        (networks + taken + window, DeviceAccumulator),
    ):
        monkeypatch.setattr(torch_accumulator, "free_memory", lambda _, free=free: free)
        assert isinstance(device_accumulator(5, window_grid, 4, CPU, networks), kind)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError("CUDA error: out of memory")])
def test_a_device_that_refuses_is_done_without(monkeypatch, error):
    def refuse(self, *arguments):
        raise error

    monkeypatch.setattr(DeviceAccumulator, "__init__", refuse)
    sums = device_accumulator(2, sliding_window_grid((4, 4, 4), (4, 4, 4)), 0, torch.device("mps"), 0)
    assert isinstance(sums, HostAccumulator)


def test_another_error_is_not_taken_for_a_lack_of_memory(monkeypatch):
    def fail(self, *arguments):
        raise RuntimeError("invalid device ordinal")

    monkeypatch.setattr(DeviceAccumulator, "__init__", fail)
    with pytest.raises(RuntimeError, match="ordinal"):
        device_accumulator(2, sliding_window_grid((4, 4, 4), (4, 4, 4)), 0, CPU, 0)


@pytest.mark.parametrize("kind", [DeviceAccumulator, FetchingAccumulator])
@pytest.mark.parametrize("size", [(7, 6, 5), (17, 6, 5)])  # planes that fit the ring, and that wrap it
def test_all_kinds_of_sums_are_the_same(kind, size):
    window_grid = sliding_window_grid(size, (4, 4, 5))
    torch.manual_seed(0)
    other = (
        DeviceAccumulator(3, window_grid, 2, CPU)
        if kind is DeviceAccumulator
        else FetchingAccumulator(3, window_grid, "none")
    )
    sums = [HostAccumulator(3, window_grid, "none"), other]
    layers = sorted({start[0] for start in window_grid.starts})
    for index, layer in enumerate(layers):
        starts = [start for start in window_grid.starts if start[0] == layer]
        outputs = torch.randn(len(starts), 3, *window_grid.tile)
        sums[0].add(outputs.numpy(), starts, (0, 2))
        sums[1].add(outputs, starts, (0, 2))
        stop = layers[index + 1] if index + 1 < len(layers) else window_grid.padded[0]
        before = max(0, layer - 1)  # the last plane of the layer before is read once more
        host, device = (each.mean((before, 0, 0), (stop, *window_grid.padded[1:]))() for each in sums)
        np.testing.assert_allclose(host, device, rtol=1e-5, atol=1e-6)
        for each in sums:
            each.forget(stop - 1, window_grid.padded[1])


def test_means_are_those_of_when_they_were_asked_for():
    window_grid = sliding_window_grid((4, 4, 4), (4, 4, 4))
    sums = DeviceAccumulator(1, window_grid, 0, CPU)
    start = window_grid.starts[0]
    sums.add(torch.ones(1, 1, 4, 4, 4), [start], ())
    means = sums.mean((0, 0, 0), (4, 4, 4))
    sums.add(3 * torch.ones(1, 1, 4, 4, 4), [start], ())
    np.testing.assert_allclose(means(), 1)
    np.testing.assert_allclose(sums.mean((0, 0, 0), (4, 4, 4))(), 2)
