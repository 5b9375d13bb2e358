"""The references of `cargo bench`: one line in names the work, one line out answers.

versions                        what runs here
NAME ARGUMENT ...               makes the work ready: "ready", or why not
run                             seconds of one run
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable
from typing import Any

Work = Callable[[], Any]


def shape_of(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split("x"))


def factors(source: tuple[int, ...], target: tuple[int, ...]) -> list[float]:
    return [b / a for a, b in zip(source, target, strict=True)]


def image(shape: str) -> Any:
    return np.random.default_rng(0).standard_normal(shape_of(shape), dtype=np.float32)


def blobs(shape: str, count: str) -> Any:
    size = shape_of(shape)
    small = np.random.default_rng(0).integers(0, int(count), [max(2, n // 16) for n in size])
    return ndimage.zoom(small, factors(small.shape, size), order=0).astype(np.uint8)


def linear(volume: Any, target: tuple[int, ...]) -> Any:
    return ndimage.zoom(volume, factors(volume.shape, target), order=1, mode="nearest", grid_mode=True)


def greatest(channels: Any, target: tuple[int, ...]) -> Any:
    """Argmax over channels that are resampled one after the other."""
    best, winner = None, np.zeros(target, dtype=np.uint8)
    for index, channel in enumerate(channels):
        values = linear(channel, target)
        if best is None:
            best = values
            continue
        winner[values > best] = index
        np.maximum(best, values, out=best)
    return winner


def zoom(source: str, target: str, order: str) -> Work:
    volume, to = image(source), shape_of(target)
    options = {"order": int(order), "mode": "nearest", "grid_mode": True}
    return lambda: ndimage.zoom(volume, factors(volume.shape, to), **options)


def resize(source: str, target: str, order: str) -> Work:
    volume, to = image(source), shape_of(target)
    return lambda: transform.resize(volume, to, order=int(order), mode="edge", anti_aliasing=False)


def slices(source: str, target: str) -> Work:
    """Order 3 slice by slice, then the nearest slice: nnU-Net's way with thick slices."""
    volume, to = image(source), shape_of(target)
    nearest = (2 * np.arange(to[0]) + 1) * volume.shape[0] // (2 * to[0])
    options = {"order": 3, "mode": "edge", "anti_aliasing": False}
    return lambda: np.stack([transform.resize(plane, to[1:], **options) for plane in volume])[nearest]


def labels(source: str, target: str, count: str) -> Work:
    segmentation, to = blobs(source, count), shape_of(target)
    return lambda: greatest(((segmentation == label).astype(np.float32) for label in range(int(count))), to)


def logits(source: str, target: str) -> Work:
    channels, to = image(source), shape_of(target)
    return lambda: greatest(channels, to)


def statistics(count: str, dtype: str) -> Work:
    values = np.random.default_rng(0).normal(0, 300, int(count)).astype(dtype)
    return lambda: (values.mean(dtype=float), values.std(dtype=float), np.percentile(values, (0.5, 50, 99.5)))


def blend(size: str, tile: str, classes: str) -> Work:
    volume, window, channels = shape_of(size), shape_of(tile), int(classes)
    patch = image("x".join(str(n) for n in (channels, *window)))
    weight = np.ones(window, dtype=np.float32)
    starts = np.array(np.meshgrid(*[range(0, n - t + 1, t // 2) for n, t in zip(volume, window, strict=True)]))

    def run() -> Any:
        sums = np.zeros((channels, *volume), dtype=np.float32)
        weights = np.zeros(volume, dtype=np.float32)
        for start in starts.reshape(len(window), -1).T:
            place = tuple(slice(s, s + t) for s, t in zip(start, window, strict=True))
            sums[(slice(None), *place)] += patch * weight
            weights[place] += weight
        return np.divide(sums, weights, out=sums)

    return run


def warp(side: str, order: str) -> Work:
    n = int(side)
    volume = image(f"{n + 32}x{n + 32}x{n + 32}")
    rng = np.random.default_rng(0)
    turn = np.array([[0.98, -0.17, 0.1], [0.17, 0.98, -0.05], [-0.1, 0.06, 0.99]]) * 1.1

    def run() -> Any:
        noise = [ndimage.gaussian_filter(rng.uniform(-1, 1, (n, n, n)), 10) * 500 for _ in range(3)]
        grid = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2] * 3, indexing="ij")) + noise
        places = np.tensordot(turn, grid, 1) + (n + 31) / 2
        return ndimage.map_coordinates(volume, places, order=int(order), mode="constant")

    return run


def versions() -> str:
    names = {"NumPy": np, "SciPy": scipy, "scikit-image": skimage}
    return ", ".join([f"Python {platform.python_version()}", *(f"{n} {m.__version__}" for n, m in names.items())])


def main() -> None:
    work: Work = versions
    for line in sys.stdin:
        name, *arguments = line.split()
        if name == "versions":
            answer = versions()
        elif name == "run":
            start = time.perf_counter()
            work()
            answer = repr(time.perf_counter() - start)
        else:
            work = globals()[name](*arguments)
            answer = "ready"
        print(answer, flush=True)


if __name__ == "__main__":
    try:
        import numpy as np
        import scipy
        import skimage
        from scipy import ndimage
        from skimage import transform
    except ImportError as error:
        print(f"lacks {error.name}", flush=True)
    else:
        main()
