"""Made-up data sets for `benches/recipes.py`, each hard in one way; everything follows from the number of the case.

Scans are textured volumes with smooth bias and noise, in nnU-Net's raw layout. The last fifth of the cases is held out
and annotated without flaw, whatever the others are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CASES, HELD_OUT = 20, 4
SHAPE = (32, 72, 72)  # z, y, x
Case = tuple[NDArray[np.float64], NDArray[np.uint8]]  # an image before noise, and its labels


@dataclass(frozen=True)
class MadeUp:
    """One data set."""

    labels: dict[str, Any]
    make: Callable[[np.random.Generator, bool], Case]  # (generator, whether it is held out)
    keys: dict[str, Any]  # more of dataset.json
    mirror: str = "all"  # axes along which samples may be mirrored: where left is not right, not all
    lesions: bool = False  # scored by detection too


def write(name: str, root: Path, cases: int = CASES, held_out: int = HELD_OUT) -> list[dict[str, list[str]]]:
    """Write a data set, and return its only fold."""
    import nibabel

    kind = MADE_UP[name]
    names = [f"{name}_{number:03d}" for number in range(cases)]
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, case in enumerate(names):
        rng = np.random.default_rng((sum(name.encode()), number))
        image, labels = kind.make(rng, number >= cases - held_out)
        image = _scan(image, rng)
        for path, data in ((f"imagesTr/{case}_0000", image), (f"labelsTr/{case}", labels)):
            nibabel.save(nibabel.Nifti1Image(data.transpose(2, 1, 0), np.eye(4)), root / f"{path}.nii.gz")
    content = {
        "channel_names": {"0": "MRI"},
        "labels": kind.labels,
        "numTraining": cases,
        "file_ending": ".nii.gz",
        **kind.keys,
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return [{"train": names[: cases - held_out], "val": names[cases - held_out :]}]


def _scan(image: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int16]:
    """Add texture, a bias field and noise."""
    texture = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.5) * 40
    bias = 1 + 0.4 * _smooth(rng, 16)
    noisy = (ndimage.gaussian_filter(image, 0.6) + texture) * bias + rng.normal(0, 8, SHAPE)
    return np.clip(noisy + 200, 0, 2000).round().astype(np.int16)


def _smooth(rng: np.random.Generator, sigma: float) -> NDArray[np.float64]:
    field = ndimage.gaussian_filter(rng.standard_normal(SHAPE), sigma, mode="wrap")
    scaled: NDArray[np.float64] = field / np.abs(field).max()
    return scaled


def _ellipsoid(centre: Any, radii: Any, rng: np.random.Generator, rough: float = 0.15) -> NDArray[np.bool_]:
    """Return an ellipsoid with an uneven surface."""
    axes = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij", sparse=True)
    distance = sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, centre, radii, strict=True))
    inside: NDArray[np.bool_] = distance < 1 + rough * _smooth(rng, 4)
    return inside


def _organ(rng: np.random.Generator) -> NDArray[np.bool_]:
    centre = np.array(SHAPE) / 2 + rng.uniform(-3, 3, 3)
    return _ellipsoid(centre, np.array((11, 24, 24)) * rng.uniform(0.85, 1.1, 3), rng)


def small_lesions(rng: np.random.Generator, _: bool) -> Case:
    """Three lesions of about a hundredth of a per cent of the volume together, among bright vessels."""
    organ = _organ(rng)
    image = 60.0 * organ
    labels = np.zeros(SHAPE, np.uint8)
    inner = np.argwhere(ndimage.binary_erosion(organ, iterations=4))
    for _vessel in range(6):  # lines, as bright as the lesions, which are no lesions
        ends = inner[rng.integers(len(inner), size=2)]
        for along in np.linspace(0, 1, 60):
            z, y, x = np.round(ends[0] + along * (ends[1] - ends[0])).astype(int)
            image[z, y : y + 2, x] = 150
    for z, y, x in inner[rng.integers(len(inner), size=3)]:
        lesion = np.zeros(SHAPE, bool)
        lesion[z, y, x] = True
        lesion = ndimage.binary_dilation(lesion, iterations=1) if rng.random() < 0.5 else lesion | _square(z, y, x)
        labels[lesion], image[lesion] = 1, 160
    return image, labels


def _square(z: int, y: int, x: int) -> NDArray[np.bool_]:
    square = np.zeros(SHAPE, bool)
    square[z, y : y + 2, x : x + 2] = True
    return square


def twenty_classes(rng: np.random.Generator, _: bool) -> Case:
    """Twenty organs on a grid, neighbours alike: where one is tells more than how bright it is."""
    image, labels = np.zeros(SHAPE), np.zeros(SHAPE, np.uint8)
    for number in range(20):
        layer, row, column = number // 10, number % 10 // 5, number % 5
        centre = np.array((9 + 14 * layer, 22 + 28 * row, 9 + 13.5 * column)) + rng.uniform(-1.5, 1.5, 3)
        here = _ellipsoid(centre, rng.uniform((4, 7, 4), (6, 11, 6)), rng)
        labels[here], image[here] = number + 1, 50 + 20 * (number % 4)
    return image, labels


def left_and_right(rng: np.random.Generator, _: bool) -> Case:
    """Two organs that look the same, one on each side of a body; x tells them apart."""
    image = 30.0 * _ellipsoid(np.array(SHAPE) / 2, (15, 32, 34), rng)
    labels = np.zeros(SHAPE, np.uint8)
    for side, x in ((1, 20), (2, 52)):
        here = _ellipsoid(np.array((16, 38, x)) + rng.uniform(-3, 3, 3), rng.uniform((6, 9, 6), (9, 13, 9)), rng)
        labels[here], image[here] = side, 110
    return image, labels


def noisy_labels(rng: np.random.Generator, held_out: bool) -> Case:
    """An organ whose outline was drawn too wide, too narrow, or beside, in every case that trains."""
    organ = _organ(rng)
    image = 70.0 * organ
    drawn = organ
    if not held_out:
        drawn = ndimage.shift(organ.astype(np.uint8), rng.integers(-2, 3, 3), order=0).astype(bool)
        change = ndimage.binary_dilation if rng.random() < 0.5 else ndimage.binary_erosion
        drawn = change(drawn, iterations=int(rng.integers(1, 3)))
    return image, drawn.astype(np.uint8)


def sparse(rng: np.random.Generator, held_out: bool) -> Case:
    """Every fourth slice is annotated; the rest is to be ignored (3)."""
    image, labels = nested(rng, held_out)
    if not held_out:
        unseen = np.arange(SHAPE[0]) % 4 != int(rng.integers(4))
        labels[unseen] = 3
    return image, labels


def nested(rng: np.random.Generator, _: bool) -> Case:
    """A tumour with a core."""
    organ = _organ(rng)
    inner = np.argwhere(ndimage.binary_erosion(organ, iterations=6))
    centre = inner[rng.integers(len(inner))]
    radii = rng.uniform((4, 7, 7), (7, 12, 12))
    tumour = _ellipsoid(centre, radii, rng, 0.3) & organ
    core = _ellipsoid(centre, radii * 0.55, rng, 0.3) & tumour
    image = 50.0 * organ + 45.0 * tumour + 45.0 * core
    return image, (tumour.astype(np.uint8) + core).astype(np.uint8)


_TUMOUR = {"background": 0, "oedema": 1, "core": 2}
MADE_UP = {
    "small_lesions": MadeUp({"background": 0, "lesion": 1}, small_lesions, {}, lesions=True),
    "twenty_classes": MadeUp({"background": 0, **{f"organ {k}": k for k in range(1, 21)}}, twenty_classes, {}, "none"),
    "left_and_right": MadeUp({"background": 0, "left": 1, "right": 2}, left_and_right, {}, "z,y"),
    "noisy_labels": MadeUp({"background": 0, "organ": 1}, noisy_labels, {}),
    "ignore_label": MadeUp({**_TUMOUR, "ignore": 3}, sparse, {}),
    "regions": MadeUp({"background": 0, "whole": [1, 2], "core": [2]}, nested, {"regions_class_order": [1, 2]}),
}


def detection(pairs: Iterator[tuple[Path, Path]]) -> dict[str, float]:
    """Count lesions that were found: components (26 neighbours) of the foreground that touch one of the other side.

    Returns
    -------
    dict
        `f1` = 2·TP / (2·TP + FN + FP): TP lesions of the reference that a predicted one touches, FN others, FP
        predicted ones that touch none, over all cases together (as ISLES 2022 scores lesions); `sensitivity`;
        `false_positives` a case.
    """
    import nibabel

    found = missed = false = cases = 0
    around = np.ones((3, 3, 3))
    for prediction, reference in pairs:
        ours, theirs = (np.asarray(nibabel.load(path).dataobj) > 0 for path in (prediction, reference))
        lesions, count = ndimage.label(theirs, around)
        predicted, guesses = ndimage.label(ours, around)
        touched = np.unique(lesions[ours & theirs]).size
        found, missed = found + touched, missed + count - touched
        false += guesses - np.unique(predicted[ours & theirs]).size
        cases += 1
    return {
        "f1": 2 * found / max(2 * found + missed + false, 1),
        "sensitivity": found / max(found + missed, 1),
        "false_positives": false / max(cases, 1),
    }
