import weakref

import numpy as np
import pytest
import torch
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.model.device import choose_compute
from nnunet_rs.predict.engines import device_source, torch_accumulator
from nnunet_rs.predict.engines.engine import TooManyWindowsError, mirror_images
from nnunet_rs.predict.engines.torch_engine import DeviceEngine, TorchEngine
from nnunet_rs.predict.sliding_window import WindowOptions, sliding_window_scores
from nnunet_rs.predict.window_grid import sliding_window_grid
from nnunet_rs.predict.window_source import Previous

CPU = choose_compute(torch.device("cpu"), "float32")


@pytest.fixture(params=["processor", "device", "device that fills batches up", "device without room"])
def engine(request, monkeypatch):
    """`engine(*networks)`; what devices do is done on the processor."""
    if request.param == "processor":
        return lambda *networks: TorchEngine(networks, CPU)
    if "without room" in request.param:
        monkeypatch.setattr(device_source, "free_memory", lambda _: 0)
        monkeypatch.setattr(torch_accumulator, "free_memory", lambda _: 0)
    return lambda *networks: DeviceEngine(networks, CPU, fill="fills" in request.param)


class Identity(torch.nn.Module):
    def forward(self, x):
        return x


class Shift(torch.nn.Module):
    """Moves the image by one voxel along the last axis: not symmetric, so mirroring shows."""

    def forward(self, x):
        return torch.roll(x, 1, dims=-1)


def gather(regions, window_grid):
    """Scores (c, z, y, x) of all regions, each with the plane and row before it, which must agree."""
    scores = None
    for region in regions:
        planes, rows = ((max(0, low - 1), high) for low, high in (region.planes, region.rows))
        part = region.read(planes, rows)
        if scores is None:
            scores = np.full((part.shape[0], *window_grid.size), np.nan, np.float32)
        before = scores[:, slice(*planes), slice(*rows)]
        known = ~np.isnan(before)
        known[:, region.planes[0] - planes[0] :, region.rows[0] - rows[0] :] = False
        np.testing.assert_array_equal(before[known], part[known])
        before[:] = part
    return scores.transpose(0, *(axis + 1 for axis in window_grid.back))


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("size", [(9, 7, 12), (20, 5, 6), (3, 2, 5), (6, 6, 19)])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("by_rows", [True, False])
def test_averages_of_an_identity_are_the_image(engine, size, batch, by_rows):
    image = noise(2, *size)
    window_grid = sliding_window_grid(size, (6, 4, 6))
    options = WindowOptions((0, 1, 2), activation="none", batch=batch, by_rows=by_rows)
    np.testing.assert_allclose(
        gather(sliding_window_scores(engine(Identity()), image, window_grid, options), window_grid), image, atol=1e-5
    )


@pytest.mark.parametrize("by_rows", [True, False])
def test_regions_come_in_order_and_cover_the_volume(engine, by_rows):
    image = noise(1, 7, 9, 20)
    window_grid = sliding_window_grid((7, 9, 20), (6, 4, 6))
    options = WindowOptions(activation="none", by_rows=by_rows)
    seen = np.zeros(window_grid.size, int)
    regions = [
        (region.planes, region.rows)
        for region in sliding_window_scores(engine(Identity()), image, window_grid, options)
    ]
    for planes, rows in regions:
        seen[slice(*planes), slice(*rows)] += 1
    assert (seen == 1).all()
    assert regions == sorted(regions)
    assert by_rows or all(rows == (0, window_grid.size[1]) for _, rows in regions)


class Mixed(torch.nn.Module):
    """Every input channel weighs otherwise, and position matters."""

    def __init__(self, channels):
        super().__init__()
        torch.manual_seed(0)
        self.convolution = torch.nn.Conv3d(channels, 2, 3, padding=1)

    def forward(self, x):
        return self.convolution(x)


@pytest.mark.parametrize("size", [(9, 7, 12), (3, 2, 5), (6, 6, 19)])
@pytest.mark.parametrize("mirror", [True, False])
def test_a_first_segmentation_is_one_hot_in_windows_as_if_of_the_whole_volume(engine, size, mirror):
    image, labels = noise(2, *size), np.random.default_rng(1).integers(0, 4, size).astype(np.uint8)
    whole = np.concatenate([image, [labels == c for c in (1, 2, 3)]]).astype(np.float32)
    network, window_grid = Mixed(5).eval(), sliding_window_grid(size, (6, 4, 6))
    options = WindowOptions((0, 1, 2) if mirror else (), activation="none")
    expected = gather(sliding_window_scores(engine(network), whole, window_grid, options), window_grid)
    regions = sliding_window_scores(engine(network), image, window_grid, options, previous=Previous(labels, 4))
    np.testing.assert_array_equal(gather(regions, window_grid), expected)


def test_slices_go_through_a_flat_network(engine):
    image = noise(2, 5, 9, 7)
    window_grid = sliding_window_grid(image.shape[1:], (4, 4))
    regions = sliding_window_scores(
        engine(Identity()), image, window_grid, WindowOptions((0, 1), activation="none", batch=7)
    )
    np.testing.assert_allclose(gather(regions, window_grid), image, atol=1e-5)


def test_mirror_images_are_all_sets_of_axes():
    assert mirror_images((0, 1)) == ((), (0,), (1,), (0, 1))
    assert mirror_images((2,)) == ((), (2,))
    assert mirror_images(()) == ((),)
    assert len(set(mirror_images((0, 1, 2)))) == 8


def test_mirroring_and_networks_are_averaged(engine):
    image = np.zeros((1, 1, 1, 5), np.float32)
    image[..., 2] = 8
    window_grid = sliding_window_grid((1, 1, 5), (1, 1, 5))
    options = WindowOptions((0, 1, 2), activation="none")
    plain = gather(
        sliding_window_scores(engine(Shift()), image, window_grid, WindowOptions(activation="none")), window_grid
    )
    assert plain[0, 0, 0].tolist() == [0, 0, 0, 8, 0]
    both = gather(sliding_window_scores(engine(Shift()), image, window_grid, options), window_grid)
    assert both[0, 0, 0].tolist() == [0, 4, 0, 4, 0]
    two = gather(sliding_window_scores(engine(Shift(), Identity()), image, window_grid, options), window_grid)
    assert two[0, 0, 0].tolist() == [0, 2, 4, 2, 0]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("size", [(3, 4, 9), (9, 4, 3)])
def test_mirrored_is_along_the_named_axes_only(engine, axis, size):
    """A shift along the last axis is undone by mirroring along that axis alone, however the volume is swept."""
    image, window_grid = noise(1, *size), sliding_window_grid(size, size)
    plain, mirrored = (
        gather(
            sliding_window_scores(engine(Shift()), image, window_grid, WindowOptions(axes, activation="none")),
            window_grid,
        )
        for axes in ((), (axis,))
    )
    expected = np.roll(image, 1, 3) if axis < 2 else (np.roll(image, 1, 3) + np.roll(image, -1, 3)) / 2
    np.testing.assert_allclose(plain, np.roll(image, 1, 3), atol=1e-5)
    np.testing.assert_allclose(mirrored, expected, atol=1e-5)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_probabilities_are_averaged(engine, activation):
    image = noise(3, 4, 4, 4)
    window_grid = sliding_window_grid((4, 4, 4), (4, 4, 4))
    scores = gather(
        sliding_window_scores(engine(Identity()), image, window_grid, WindowOptions(activation=activation)), window_grid
    )
    expected = np.exp(image) / np.exp(image).sum(axis=0) if activation == "softmax" else 1 / (1 + np.exp(-image))
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_the_task_hears_of_every_window(engine):
    class Counter:
        count = 0

        def advance(self, count=1, note=""):
            self.count += count

    window_grid, counter = sliding_window_grid((9, 7, 12), (6, 4, 6)), Counter()
    list(sliding_window_scores(engine(Identity()), noise(1, 9, 7, 12), window_grid, WindowOptions(), counter))
    assert counter.count == len(window_grid.starts)


def test_outputs_that_are_not_finite_are_refused(engine):
    class Broken(torch.nn.Module):
        def forward(self, x):
            return x * float("nan")

    window_grid = sliding_window_grid((4, 4, 4), (4, 4, 4))
    with pytest.raises(NnunetError, match="not finite"):
        gather(sliding_window_scores(engine(Broken()), noise(1, 4, 4, 4), window_grid, WindowOptions()), window_grid)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("FIND was unable to find an engine to execute this computation"),
    ],
)
def test_batches_shrink_until_they_fit(engine, error):
    class Small(torch.nn.Module):
        limit = 2

        def forward(self, x):
            if len(x) > self.limit:
                raise error
            return x

    image = noise(2, 9, 7, 12)
    window_grid, options = sliding_window_grid((9, 7, 12), (6, 4, 6)), WindowOptions(activation="none", batch=7)
    np.testing.assert_allclose(
        gather(sliding_window_scores(engine(Small()), image, window_grid, options), window_grid), image, atol=1e-5
    )
    network = Small()
    network.limit = 0
    with pytest.raises(NnunetError, match="single window"):
        list(sliding_window_scores(engine(network), image, window_grid, options))


def test_a_window_that_does_not_fit_beside_others_says_so(engine):
    class Full(type(engine(Identity()))):
        def scores(self, *_):
            raise TooManyWindowsError("cuda:0", "others hold 20.0 of its 24.0 GB")

    plain = engine(Identity())
    full = Full(plain.networks, plain.compute)
    grid, options = sliding_window_grid((9, 7, 12), (6, 4, 6)), WindowOptions(activation="none")
    said = r"cuda:0: a single window does not fit its memory \(others hold 20\.0 of its 24\.0 GB\); use .*--device cpu"
    with pytest.raises(NnunetError, match=said):
        list(sliding_window_scores(full, noise(2, 9, 7, 12), grid, options))


def test_an_image_that_cannot_be_written_is_read(engine):
    image, window_grid = noise(2, 9, 7, 12), sliding_window_grid((9, 7, 12), (6, 4, 6))
    image.flags.writeable = False
    scores = gather(
        sliding_window_scores(engine(Identity()), image, window_grid, WindowOptions(activation="none")), window_grid
    )
    np.testing.assert_allclose(scores, image, atol=1e-5)


@pytest.mark.parametrize(("size", "tile"), [((9, 7, 12), (6, 4, 6)), ((3, 9, 7), (4, 4))])
def test_outputs_are_gone_before_the_next_are_made(engine, size, tile):
    class Watched(torch.nn.Module):
        last = staticmethod(lambda: None)

        def forward(self, x):
            assert self.last() is None
            array = np.ones((len(x), 2, *x.shape[2:]), np.float32)
            self.last = weakref.ref(array)
            return torch.from_numpy(array)

    window_grid, options = sliding_window_grid(size, tile), WindowOptions(activation="none")
    gather(sliding_window_scores(engine(Watched(), Watched()), noise(1, *size), window_grid, options), window_grid)


class Second(torch.nn.Module):
    """Runs out of memory."""

    def forward(self, x):
        raise torch.OutOfMemoryError("CUDA out of memory.")


def test_memory_that_runs_out_half_way_is_an_error_where_half_is_summed():
    window_grid = sliding_window_grid((4, 4, 4), (4, 4, 4))
    half = TorchEngine((Identity(), Second()), CPU)
    with pytest.raises(torch.OutOfMemoryError):
        list(sliding_window_scores(half, noise(1, 4, 4, 4), window_grid, WindowOptions()))


def test_on_a_device_it_may_run_out_at_any_network():
    class Seldom(Second):
        tries = 0

        def forward(self, x):
            self.tries += 1
            return super().forward(x) if len(x) > 1 or self.tries < 3 else x

    image, window_grid = noise(2, 9, 7, 12), sliding_window_grid((9, 7, 12), (6, 4, 6))
    options, network = WindowOptions((0, 2), activation="none", batch=4), Seldom()
    scores = gather(
        sliding_window_scores(DeviceEngine((Identity(), network), CPU), image, window_grid, options), window_grid
    )
    np.testing.assert_allclose(scores, image, atol=1e-5)
    assert network.tries > len(window_grid.starts)


@pytest.mark.parametrize(("size", "tile"), [((9, 7, 12), (6, 4, 6)), ((5, 9, 7), (4, 4)), ((8, 6, 6), (4, 6, 6))])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_all_engines_find_the_same(engine, size, tile, activation):
    window_grid = sliding_window_grid(size, tile)
    axes = tuple(range(len(tile)))
    for options in (
        WindowOptions(axes[:2], activation, batch=2, by_rows=False),
        WindowOptions(axes, activation, batch=3),
    ):
        by_kernel, other = (
            gather(sliding_window_scores(each, noise(3, *size), window_grid, options), window_grid)
            for each in (TorchEngine((Shift(), Identity()), CPU), engine(Shift(), Identity()))
        )
        np.testing.assert_allclose(other, by_kernel, atol=1e-5)
