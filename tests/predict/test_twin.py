"""The whole prediction against its obvious twin: every window in float64, resampled whole, decided at once."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.model.device import choose_compute
from nnunet_rs.predict.engines.torch_engine import TorchEngine
from nnunet_rs.predict.predictor import PredictOptions, Predictor
from scipy import ndimage

TIE = 1e-5  # of the resampled scores: closer ones may be decided either way
CPU = choose_compute(torch.device("cpu"), "float32")
CLASSES = LabelSet(("background", "liver", "tumour"), (0, 1, 4))
REGIONS = LabelSet(("background", "oedema", "core"), (0, 1, 2), (Region("whole", (1, 2), 1), Region("core", (2,), 2)))


def window_positions(size: int, tile: int, step: float = 0.5) -> list[int]:
    count = int(np.ceil((size - tile) / (tile * step))) + 1
    return [round((size - tile) / max(count - 1, 1) * i) for i in range(count)]


def importance(tile: tuple[int, ...]) -> np.ndarray:
    delta = np.zeros(tile)
    delta[tuple(n // 2 for n in tile)] = 1
    weights = ndimage.gaussian_filter(delta, [n / 8 for n in tile], mode="constant")
    return weights / weights.max()


def activated(logits: np.ndarray, predictor: Predictor) -> np.ndarray:
    if predictor.plan.recipe != "paper":
        return logits
    if predictor.plan.labels.regions:
        return 1 / (1 + np.exp(-logits))
    shifted = np.exp(logits - logits.max(axis=0))
    return shifted / shifted.sum(axis=0)


def one_window(window: np.ndarray, predictor: Predictor) -> np.ndarray:
    """Mean over networks and mirror images of the scores (classes, *tile) of a window (c, *tile)."""
    dims = window.ndim - 1
    sets = [s for n in range(dims + 1) for s in itertools.combinations(range(1, dims + 1), n)]
    results = []
    for axes in sets if predictor.options.mirror else [()]:
        flipped = torch.from_numpy(np.flip(window, axes).copy())[None]
        for network in predictor.engine.networks:
            output = network(flipped)[0].numpy().astype(np.float64)
            results.append(np.flip(activated(output, predictor), axes))
    return np.mean(results, axis=0)


def blended(image: np.ndarray, predictor: Predictor) -> np.ndarray:
    """Weighted mean over windows of scores (classes, *size) of an image (c, *size), padded where it is too small."""
    tile, size = predictor.configuration.patch_size, image.shape[1:]
    pads = [((n - s) // 2, n - s - (n - s) // 2) if s < n else (0, 0) for s, n in zip(size, tile, strict=True)]
    padded = np.pad(image, [(0, 0), *pads])
    weights = importance(tile)
    total = np.zeros((predictor.plan.labels.outputs, *padded.shape[1:]))
    weight = np.zeros(padded.shape[1:])
    positions = (window_positions(s, n) for s, n in zip(padded.shape[1:], tile, strict=True))
    for start in itertools.product(*positions):
        place = tuple(slice(s, s + n) for s, n in zip(start, tile, strict=True))
        total[(slice(None), *place)] += one_window(padded[(slice(None), *place)], predictor) * weights
        weight[place] += weights
    inner = tuple(slice(low, low + s) for (low, _), s in zip(pads, size, strict=True))
    return (total / weight)[(slice(None), *inner)]


def resampled(scores: np.ndarray, shape: tuple[int, ...], coarse: int | None) -> np.ndarray:
    """Linear, with the nearest plane along the coarse axis."""
    if coarse is not None:
        n_in, n_out = scores.shape[coarse + 1], shape[coarse]
        nearest = [min(int((i + 0.5) * n_in / n_out), n_in - 1) for i in range(n_out)]
        scores = np.take(scores, nearest, axis=coarse + 1)
    zoom = [n / m for n, m in zip(shape, scores.shape[1:], strict=True)]
    return np.stack([ndimage.zoom(one, zoom, order=1, mode="nearest", grid_mode=True) for one in scores])


def decided(scores: np.ndarray, predictor: Predictor) -> tuple[np.ndarray, np.ndarray]:
    """File values, and where the decision is as good as a tie."""
    labels = predictor.plan.labels
    if labels.regions:
        threshold = 0.5 if predictor.plan.recipe == "paper" else 0.0
        result = np.zeros(scores.shape[1:], np.uint8)
        for region, one in zip(labels.regions, scores, strict=True):
            result[one >= threshold] = region.paint
        return result, (np.abs(scores - threshold) < TIE).any(axis=0)
    best = np.sort(scores, axis=0)
    return np.asarray(labels.values, np.uint8)[scores.argmax(axis=0)], best[-1] - best[-2] < TIE


def twin(predictor: Predictor, volume: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels on the image's grid by the longest way, and the ties; only preprocessing is shared."""
    prepared = predictor.prepare(volume)
    if predictor.configuration.dims == 2:
        scores = np.stack([blended(prepared.image[:, z], predictor) for z in range(prepared.image.shape[1])], axis=1)
    else:
        scores = blended(prepared.image, predictor)
    transpose = predictor.plan.transpose
    box = prepared.geometry.box
    spacing = np.array(volume.spacing)[list(transpose)]
    target = np.array([spacing[0], *predictor.configuration.spacing][-3:])
    coarse = None
    for candidate in (spacing, target):
        if candidate.max() / candidate.min() > 3:
            coarse = int(candidate.argmax()) if (candidate == candidate.max()).sum() == 1 else None
            break
    labels, ties = decided(resampled(scores, tuple(b - a for a, b in box), coarse), predictor)
    full = np.zeros((2, *(volume.data.shape[1:][axis] for axis in transpose)), np.uint8)
    full[(slice(None), *(slice(*edge) for edge in box))] = labels, ties
    back = [transpose.index(axis) + 1 for axis in range(3)]
    result, near = full.transpose(0, *back)
    return result, near.astype(bool)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "odd sizes": ({"patch_size": (8, 6, 8)}, {"shape": (11, 13, 17)}),
    "smaller than the tile": ({"patch_size": (8, 8, 8)}, {"shape": (5, 7, 19)}),
    "finer image": ({"patch_size": (8, 8, 8), "spacing": (2.0, 1.5, 1.5)}, {"shape": (22, 19, 21)}),
    "coarser image": ({"patch_size": (8, 8, 8), "spacing": (0.7, 0.8, 0.8)}, {"shape": (9, 11, 8)}),
    "swept along x": ({"patch_size": (8, 8, 6), "spacing": (1.0, 1.0, 1.3)}, {"shape": (8, 9, 33)}),
    "anisotropic": (
        {"patch_size": (4, 8, 8), "spacing": (4.0, 1.0, 1.0)},
        {"shape": (9, 17, 13), "spacing": (5.0, 0.8, 0.8)},
    ),
    "anisotropic, swept along the coarse axis": (
        {"patch_size": (4, 8, 8), "spacing": (3.0, 1.0, 1.0)},
        {"shape": (21, 12, 13), "spacing": (5.0, 0.8, 0.8)},
    ),
    "cropped": ({"patch_size": (8, 8, 8), "spacing": (1.4, 1.1, 1.0)}, {"shape": (18, 17, 19), "margin": 3}),
    "transposed": (
        {"patch_size": (8, 6, 8), "spacing": (2.0, 1.0, 1.2), "transpose": (1, 2, 0)},
        {"shape": (13, 9, 14), "spacing": (1.0, 2.5, 0.9), "margin": 1},
    ),
    "2-D": ({"patch_size": (8, 6), "spacing": (1.0, 1.2, 1.2)}, {"shape": (4, 15, 13), "spacing": (3.0, 1.0, 1.0)}),
    "2-D, anisotropic and transposed": (
        {"patch_size": (8, 8), "spacing": (6.0, 1.3, 1.3), "transpose": (2, 0, 1)},
        {"shape": (11, 7, 5), "spacing": (1.0, 1.1, 6.0), "margin": 1},
    ),
    "2-D, smaller than the tile": (
        {"patch_size": (16, 16), "spacing": (1.0, 1.0, 1.4)},
        {"shape": (5, 9, 21), "spacing": (3.0, 1.0, 1.0)},
    ),
    "2-D, a single slice": ({"patch_size": (8, 8), "spacing": (1.0, 1.2, 1.2)}, {"shape": (1, 19, 17)}),
    "2-D regions": ({"patch_size": (8, 8), "spacing": (1.0, 1.3, 1.2), "labels": REGIONS}, {"shape": (3, 14, 17)}),
    "thinner than the tile, anisotropic, cropped, transposed": (
        {"patch_size": (8, 8, 6), "spacing": (5.0, 1.2, 1.1), "transpose": (1, 0, 2)},
        {"shape": (17, 9, 15), "spacing": (1.0, 5.0, 0.9), "margin": 1},
    ),
    "regions, anisotropic and transposed": (
        {"patch_size": (4, 8, 8), "spacing": (4.0, 1.0, 1.0), "transpose": (2, 0, 1), "labels": REGIONS},
        {"shape": (15, 14, 7), "spacing": (0.9, 1.1, 4.5), "margin": 1},
    ),
    "two channels": ({"patch_size": (8, 8, 8), "channels": ("T1", "T2")}, {"shape": (9, 10, 11), "channels": 2}),
    "regions": ({"patch_size": (8, 8, 8), "spacing": (1.5, 1.2, 1.0), "labels": REGIONS}, {"shape": (14, 13, 12)}),
    "logits": ({"patch_size": (8, 8, 8), "spacing": (1.5, 1.2, 1.0), "recipe": "v2"}, {"shape": (14, 13, 12)}),
    "regions of logits": ({"patch_size": (8, 8, 8), "labels": REGIONS, "recipe": "v2"}, {"shape": (9, 13, 9)}),
}


SEVERAL = [(name, folds, mirror) for name in CASES for folds, mirror in ((1, True), (5, False))]
SEVERAL += [(name, folds, mirror) for name in ("odd sizes", "2-D") for folds, mirror in ((1, False), (5, True))]


@pytest.mark.parametrize(("name", "folds", "mirror"), SEVERAL)
def test_labels_are_those_of_the_twin(name, folds, mirror, make_plan, make_metadata, make_network, make_volume):
    of_plan, of_volume = CASES[name]
    plan = make_plan(**{"labels": CLASSES, **of_plan})
    networks = tuple(make_network(plan, seed) for seed in range(folds))
    all_metadata = tuple(make_metadata(plan, fold) for fold in range(folds))
    predictor = Predictor(TorchEngine(networks, CPU), all_metadata, PredictOptions(mirror=mirror, batch=3))
    volume = make_volume(**of_volume)
    expected, ties = twin(predictor, volume)
    result = predictor.predict_volume(volume)
    assert result.header == volume.header
    assert len(np.unique(result.data)) > 1
    assert ties.mean() < 0.01
    np.testing.assert_array_equal(result.data[~ties], expected[~ties])
