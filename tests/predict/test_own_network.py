import itertools

import numpy as np
import pytest
import torch
from nnunet_rs import gaussian_importance, sliding_window, window_starts
from nnunet_rs.core.errors import NnunetError


def shifted(windows):
    """Two classes, of which one is not symmetric, so that mirroring shows."""
    return np.stack([windows[:, 0], np.roll(windows[:, 0], 1, -1)], 1)


def naive(network, image, tile, step=0.5, axes=()):
    """Every window of a padded volume, every mirror image, added up in float64."""
    size = image.shape[1:]
    pads = [((max(n, s) - s) // 2, max(n, s) - s - (max(n, s) - s) // 2) for s, n in zip(size, tile, strict=True)]
    padded = np.pad(image, [(0, 0), *pads])
    weights = gaussian_importance(tile)
    sums, total = None, np.zeros(padded.shape[1:])
    for start in window_starts(padded.shape[1:], tile, step):
        place = tuple(slice(s, s + n) for s, n in zip(start, tile, strict=True))
        chosen = [c for count in range(len(axes) + 1) for c in itertools.combinations(axes, count)]
        for flips in chosen:
            turned = tuple(axis + 2 for axis in flips)
            seen = np.ascontiguousarray(np.flip(padded[(slice(None), *place)][None], turned))
            scores = np.flip(network(seen), turned)[0]
            sums = np.zeros((len(scores), *padded.shape[1:])) if sums is None else sums
            sums[(slice(None), *place)] += scores * weights
            total[place] += weights
    inner = tuple(slice(low, low + s) for (low, _), s in zip(pads, size, strict=True))
    return (sums / total)[(slice(None), *inner)]


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("size", [(9, 7, 12), (3, 2, 5), (20, 5, 6)])
@pytest.mark.parametrize("axes", [(), (2,), (0, 1, 2)])
@pytest.mark.parametrize("step", [0.5, 1.0])
def test_scores_are_those_of_the_twin(size, axes, step):
    image = noise(2, *size)
    found = sliding_window(shifted, image, (6, 4, 6), step=step, mirror_axes=axes)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, naive(shifted, image, (6, 4, 6), step, axes), atol=1e-5)


def test_a_flat_image_and_slices_of_a_volume():
    image = noise(1, 9, 11)
    flat = sliding_window(shifted, image, (4, 6), mirror_axes=(1,))
    np.testing.assert_allclose(flat, naive(shifted, image, (4, 6), axes=(1,)), atol=1e-5)
    volume = np.stack([image, -image], 1)
    slices = sliding_window(shifted, volume, (4, 6), mirror_axes=(1,))
    np.testing.assert_allclose(slices, np.stack([flat, -flat], 1), atol=1e-5)


def test_by_hand():
    """Windows of one voxel each: the network's answer, voxel for voxel."""
    image = np.array([[[1.0, 2.0], [3.0, 4.0]]], np.float32)
    found = sliding_window(lambda windows: np.concatenate([windows, 10 - windows], 1), image, (1, 1))
    assert found.tolist() == [[[1.0, 2.0], [3.0, 4.0]], [[9.0, 8.0], [7.0, 6.0]]]
    soft = sliding_window(lambda windows: np.concatenate([windows, windows], 1), image, (1, 1), activation="softmax")
    np.testing.assert_allclose(soft, 0.5)


def test_modules_and_tensors():
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 3, 3, padding=1).eval().requires_grad_(False)
    image = noise(1, 9, 7, 12)
    expected = naive(lambda windows: network(torch.from_numpy(windows)).numpy(), image, (6, 4, 6), axes=(0,))
    for given in (image, torch.from_numpy(image)):
        found = sliding_window(network, given, (6, 4, 6), mirror_axes=(0,))
        assert type(found) is type(given)
        np.testing.assert_allclose(np.asarray(found), expected, atol=1e-5)
    seen = []
    sliding_window(lambda windows: seen.append(type(windows)) or windows, torch.from_numpy(image), (6, 4, 6))
    assert set(seen) == {torch.Tensor}


@pytest.mark.parametrize(
    ("shape", "tile", "axes", "said"),
    [
        ((4, 4), (2, 2), (), "the image has shape"),
        ((1, 4, 4), (2, 2, 2), (), "expected two sizes"),
        ((1, 4, 4, 4), (2,), (), "expected two or three sizes"),
        ((1, 4, 4, 4), (2, 0, 2), (), "of at least 1"),
        ((1, 4, 4, 4), (2, 2), (2,), "0 to 1"),
        ((1, 4, 4, 4), (2, 2, 2), (0, 0), "different axes"),
        ((0, 4, 4, 4), (2, 2, 2), (), "the image has shape"),
    ],
)
def test_what_does_not_fit_is_refused(shape, tile, axes, said):
    with pytest.raises(ValueError, match=said):
        sliding_window(lambda windows: windows, noise(*shape), tile, mirror_axes=axes)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (lambda windows: windows[:, :, :1], r"returned an array of shape .*; expected \("),
        (lambda windows: [windows], "returned a list"),
        (lambda windows: windows * np.nan, "not finite"),
    ],
)
def test_what_a_network_returns_is_seen_to(network, said):
    with pytest.raises(NnunetError, match=said):
        sliding_window(network, noise(1, 4, 4, 4), (4, 4, 4))
