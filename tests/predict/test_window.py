import numpy as np
import pytest
import torch
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.model.device import choose_compute
from nnunet_rs.predict.blend import DeviceBlend, HostBlend
from nnunet_rs.predict.sweep import plan_sweep
from nnunet_rs.predict.window import WindowOptions, mirror_axes, sweep_scores

CPU = choose_compute(torch.device("cpu"), "float32")


class Identity(torch.nn.Module):
    def forward(self, x):
        return x


class Shift(torch.nn.Module):
    """Moves the image by one voxel along the last axis: not symmetric, so mirroring shows."""

    def forward(self, x):
        return torch.roll(x, 1, dims=-1)


def gather(slabs, sweep):
    scores = np.concatenate([slab.scores for slab in slabs], axis=1)
    return scores.transpose(0, *(axis + 1 for axis in sweep.back))


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("size", [(9, 7, 12), (20, 5, 6), (3, 2, 5), (6, 6, 19)])
@pytest.mark.parametrize("batch", [1, 3])
def test_averages_of_an_identity_are_the_image(size, batch):
    image = noise(2, *size)
    sweep = plan_sweep(size, (6, 4, 6))
    options = WindowOptions(activation="none", batch=batch)
    slabs = list(sweep_scores([Identity()], image, sweep, options, CPU))
    starts = [slab.start for slab in slabs]
    assert starts == list(np.cumsum([0, *(slab.scores.shape[1] for slab in slabs)])[:-1])
    np.testing.assert_allclose(gather(slabs, sweep), image, atol=1e-6)


def test_slices_go_through_a_flat_network():
    image = noise(2, 5, 9, 7)
    sweep = plan_sweep(image.shape[1:], (4, 4))
    slabs = sweep_scores([Identity()], image, sweep, WindowOptions(activation="none"), CPU)
    np.testing.assert_allclose(gather(slabs, sweep), image, atol=1e-6)


def test_mirror_images_are_all_sets_of_axes():
    assert mirror_axes(2) == ((), (2,), (3,), (2, 3))
    assert len(set(mirror_axes(3))) == 8


def test_mirroring_and_networks_are_averaged():
    image = np.zeros((1, 1, 1, 5), np.float32)
    image[..., 2] = 8
    sweep = plan_sweep((1, 1, 5), (1, 1, 5))
    options = WindowOptions(activation="none")
    plain = gather(sweep_scores([Shift()], image, sweep, WindowOptions(activation="none", mirror=False), CPU), sweep)
    assert plain[0, 0, 0].tolist() == [0, 0, 0, 8, 0]
    both = gather(sweep_scores([Shift()], image, sweep, options, CPU), sweep)
    assert both[0, 0, 0].tolist() == [0, 4, 0, 4, 0]
    two = gather(sweep_scores([Shift(), Identity()], image, sweep, options, CPU), sweep)
    assert two[0, 0, 0].tolist() == [0, 2, 4, 2, 0]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_probabilities_are_averaged(activation):
    image = noise(3, 4, 4, 4)
    sweep = plan_sweep((4, 4, 4), (4, 4, 4))
    scores = gather(sweep_scores([Identity()], image, sweep, WindowOptions(activation=activation), CPU), sweep)
    expected = np.exp(image) / np.exp(image).sum(axis=0) if activation == "softmax" else 1 / (1 + np.exp(-image))
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_the_task_hears_of_every_window():
    class Counter:
        count = 0

        def advance(self, count=1, note=""):
            self.count += count

    sweep, counter = plan_sweep((9, 7, 12), (6, 4, 6)), Counter()
    list(sweep_scores([Identity()], noise(1, 9, 7, 12), sweep, WindowOptions(), CPU, counter))
    assert counter.count == len(sweep.starts)


def test_outputs_that_are_not_finite_are_refused():
    class Broken(torch.nn.Module):
        def forward(self, x):
            return x * float("nan")

    sweep = plan_sweep((4, 4, 4), (4, 4, 4))
    with pytest.raises(NnunetError, match="not finite"):
        list(sweep_scores([Broken()], noise(1, 4, 4, 4), sweep, WindowOptions(), CPU))


def test_batches_shrink_until_they_fit():
    class Small(torch.nn.Module):
        limit = 2

        def forward(self, x):
            if len(x) > self.limit:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return x

    image = noise(2, 9, 7, 12)
    sweep, options = plan_sweep((9, 7, 12), (6, 4, 6)), WindowOptions(activation="none", batch=7)
    np.testing.assert_allclose(gather(sweep_scores([Small()], image, sweep, options, CPU), sweep), image, atol=1e-6)
    network = Small()
    network.limit = 0
    with pytest.raises(NnunetError, match="single window"):
        list(sweep_scores([network], image, sweep, options, CPU))


@pytest.mark.parametrize(("size", "tile"), [((9, 7, 12), (6, 4, 6)), ((5, 9, 7), (4, 4)), ((8, 6, 6), (4, 6, 6))])
def test_sums_on_a_device_are_those_of_the_kernel(size, tile):
    sweep = plan_sweep(size, tile)
    blends = [kind(3, sweep, torch.device("cpu")) for kind in (HostBlend, DeviceBlend)]
    results = [[], []]
    for index, start in enumerate(sweep.starts):
        patch = torch.from_numpy(np.random.default_rng(index).normal(size=(3, *sweep.tile)).astype(np.float32))
        for blend, result in zip(blends, results, strict=True):
            done = blend.add(patch, start)
            if done is not None:
                result.append(done)
    host, device = (
        np.concatenate([*result, blend.finish()], axis=1) for blend, result in zip(blends, results, strict=True)
    )
    np.testing.assert_allclose(host, device, atol=1e-5)
