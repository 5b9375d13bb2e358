import pytest
import torch
from nnunet_rs.predict.blend import HostAccumulator
from nnunet_rs.predict.engines.torch_accumulator import DeviceAccumulator, torch_accumulator
from nnunet_rs.predict.window_grid import sliding_window_grid


def test_sums_that_leave_no_room_for_windows_stay_off_the_device(monkeypatch):
    window_grid, device = sliding_window_grid((40, 8, 8), (8, 8, 8)), torch.device("cuda")
    taken = DeviceAccumulator.bytes_of(5, window_grid, span=4)
    assert taken == 4 * 6 * 13 * 8 * 8  # classes and weights, 8 + 4 + 1 planes
    made = []
    monkeypatch.setattr(DeviceAccumulator, "__init__", lambda self, *arguments: made.append(arguments))
    for free, kind in ((taken, HostAccumulator), (taken + 4 * 4 * 5 * 8**3, DeviceAccumulator)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 2 * free))
        assert isinstance(torch_accumulator(5, window_grid, 4, "softmax", device), kind)
    assert len(made) == 1


def test_a_device_that_refuses_is_done_without(monkeypatch):
    def refuse(self, *arguments):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(DeviceAccumulator, "__init__", refuse)
    sums = torch_accumulator(2, sliding_window_grid((4, 4, 4), (4, 4, 4)), 0, "none", torch.device("mps"))
    assert isinstance(sums, HostAccumulator)


@pytest.mark.parametrize("activation", ["none", "softmax", "sigmoid"])
def test_both_kinds_of_sums_are_the_same(activation):
    window_grid = sliding_window_grid((7, 6, 5), (4, 4, 5))
    torch.manual_seed(0)
    sums = [
        HostAccumulator(3, window_grid, activation),
        DeviceAccumulator(3, window_grid, 2, activation, torch.device("cpu")),
    ]
    layers = sorted({start[0] for start in window_grid.starts})
    for index, layer in enumerate(layers):
        starts = [start for start in window_grid.starts if start[0] == layer]
        outputs = torch.randn(len(starts), 3, *window_grid.tile)
        sums[0].add(outputs.numpy(), starts, (0, 2))
        sums[1].add(outputs, starts, (0, 2))
        stop = layers[index + 1] if index + 1 < len(layers) else window_grid.padded[0]
        host, device = (torch.from_numpy(each.mean((layer, 0, 0), (stop, 6, 5))) for each in sums)
        torch.testing.assert_close(host, device, rtol=1e-5, atol=1e-6)
        for each in sums:
            each.forget(stop - 1, 6)
