"""The pictures of the page on transforms: a made-up slice, and what three random numbers make of it.

    python docs/transforms.py

writes docs/images/transforms/NAME.webp for every transform of `nnunet_rs.transforms`; outlines are the labels.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from nnunet_rs import transforms
from nnunet_rs.data.transform import SeededTransform
from nnunet_rs.run.phantom import make_scan
from numpy.typing import NDArray
from PIL import Image

FOLDER = Path(__file__).parent / "images" / "transforms"
ENLARGED, GAP = 2, 8
COLOURS = np.array([[0, 0, 0], [235, 120, 60], [70, 170, 235], [120, 200, 90], [235, 200, 60], [220, 90, 160]], "u1")

# Where the usual parameters would hardly show in a small picture, stronger ones.
SHOWN: dict[str, SeededTransform] = {
    "Brightness": transforms.Brightness(factor=(0.4, 1.8)),
    "Contrast": transforms.Contrast(factor=(0.4, 2.5)),
    "Gamma": transforms.Gamma(exponent=(0.3, 3.0)),
    "GaussianBlur": transforms.GaussianBlur(sigma=(0.5, 1.5), per_channel=1),
    "GaussianNoise": transforms.GaussianNoise(std=(0.1, 0.3)),
    "Mirror": transforms.Mirror((0, 1)),
    "SimulateLowResolution": transforms.SimulateLowResolution(zoom=(0.25, 0.7), per_channel=1),
    "Warp": transforms.Warp(
        transforms.SpatialRule(p_rotation=1, p_scaling=1, p_elastic=1, angle_elongated=math.radians(30))
    ),
}
SEEDS = {"Mirror": (0, 8, 2), **dict.fromkeys(("Brightness", "Contrast", "Gamma"), (0, 6, 4))}


def main() -> None:
    """Write a picture for each transform."""
    scan = make_scan(7, 0)
    middle = scan.image.shape[2] // 2
    image = np.ascontiguousarray(scan.image[:, ::-1, middle].T, np.float32)[None]  # (1, y, x)
    labels = np.ascontiguousarray(scan.labels[:, ::-1, middle].T)
    image = (image - image.mean()) / image.std()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in transforms.__all__:
        if name not in ("Compose", "SpatialRule"):
            transform = SHOWN.get(name) or getattr(transforms, name)()
            changed = [transform(image, labels, rng=np.random.default_rng(seed)) for seed in SEEDS.get(name, (1, 2, 3))]
            tiles = [tile(image[0], labels), *(tile(new[0], moved) for new, moved in changed)]
            joined(tiles).save(FOLDER / f"{name}.webp", quality=80, method=6)


def tile(image: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a slice (y, x) in grey with the outlines of its labels, (y, x, 3), enlarged."""
    grey = (np.clip((image + 1.2) / 4.2, 0, 1) * 255).astype(np.uint8)
    size = (grey.shape[1] * ENLARGED, grey.shape[0] * ENLARGED)
    shown = np.array(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC).convert("RGB"))
    large = labels.repeat(ENLARGED, 0).repeat(ENLARGED, 1)
    edge = np.zeros(large.shape, bool)
    for axis in (0, 1):
        steps = np.diff(large, axis=axis) != 0
        edge |= np.insert(steps, 0, False, axis) | np.insert(steps, steps.shape[axis], False, axis)
    edge &= large > 0
    shown[edge] = COLOURS[large[edge]]
    return shown


def joined(tiles: list[NDArray[np.uint8]]) -> Image.Image:
    """Lay tiles side by side; the first, the original, a little apart."""
    height = tiles[0].shape[0]
    gap = np.full((height, GAP, 3), 255, np.uint8)
    parts = [tiles[0], gap, gap]
    for part in tiles[1:]:
        parts += [part, gap]
    return Image.fromarray(np.concatenate(parts[:-1], axis=1))


if __name__ == "__main__":
    main()
