"""A case as slices to scroll through: the image, and over it reference, prediction and where they differ.

Layers are pictures of their own, which a page lays over each other. What a colour says is said without it too: the
reference is an outline, the prediction a hatched veil, and each class has its own dashes and hatching.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.types import Header, IntArray, Spacing3
from nnunet_rs.report.palette import PERIOD, class_colour, hatching
from nnunet_rs.report.planes import Cut, canonical, canonical_spacing, cut_across, cutting_axis, profiles

LEAST, MOST = 400, 512  # pixels of a picture's longer side
QUALITY = 78  # of the images
MISSED, EXTRA = (0xD5, 0x5E, 0x00), (0x56, 0xB4, 0xE9)  # vermilion: in the reference alone; sky blue: predicted alone
_VEIL, _LINE, _OUTLINE = 56, 150, 255  # opacities
_WIDTH = 2  # pixels of an outline
_EMPTY = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"  # one transparent pixel

Window = tuple[float, float]  # the intensities that are black and white


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One case to scroll through."""

    image: Sequence[NDArray[Any]] | None  # (z, y, x) of each channel; None: there is none
    reference: IntArray | None  # (z, y, x), class indices; None: there is none
    prediction: IntArray  # (z, y, x), class indices
    spacing: Spacing3  # of z, y, x, in mm
    header: Header
    windows: tuple[Window, ...]  # one a channel, in units of `image`


@dataclass(frozen=True, slots=True)
class Detail:
    """How much of a case is drawn."""

    slices: int  # at most, across the axis that was scanned slice by slice
    others: int = 0  # at most, across each of the two other axes
    longest: int = 0  # pixels of a picture's longer side; 0: one a voxel, from LEAST to MOST
    quality: int = QUALITY


@dataclass(frozen=True, slots=True)
class Slices:
    """Pictures of parallel planes; each layer has one a plane, as data URIs; a layer that there is not has none."""

    plane: str  # axial, coronal, sagittal
    size: tuple[int, int]  # pixels: width, height
    indices: tuple[int, ...]  # of the planes, counted from 1 at the patient's feet (or back, or left)
    count: int  # planes of the whole case
    first: int  # which of them to begin with: the one with the most foreground
    channels: tuple[tuple[str, ...], ...]
    reference: tuple[str, ...]
    prediction: tuple[str, ...]
    difference: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """What the pictures take of a page."""
        layers = (*self.channels, self.reference, self.prediction, self.difference)
        return sum(len(uri) for layer in layers for uri in layer)


def draw_slices(scene: Scene, detail: Detail) -> tuple[Slices, ...]:
    """Draw a case once; see `Drawing`."""
    return Drawing.of(scene).slices(detail)


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A case in canonical axes (x, y, z), and where its foreground is: to be drawn in one detail or another."""

    scene: Scene
    reference: IntArray | None
    prediction: IntArray
    spacing: NDArray[np.float64]
    planes: tuple[NDArray[np.int64], ...]  # foreground of every plane across x, y, z: of both
    fullest: tuple[NDArray[np.int64], ...]  # the same of the reference, or of the prediction where there is none

    @classmethod
    def of(cls, scene: Scene) -> Drawing:
        """Turn a case into canonical axes."""
        prediction = canonical(scene.prediction, scene.header)
        spacing = canonical_spacing(scene.spacing, scene.header)
        if scene.reference is None:
            counts = profiles(prediction > 0)
            return cls(scene, None, prediction, spacing, counts, counts)
        reference = canonical(scene.reference, scene.header)
        counts = profiles((reference > 0) | (prediction > 0))
        return cls(scene, reference, prediction, spacing, counts, profiles(reference > 0))

    def slices(self, detail: Detail) -> tuple[Slices, ...]:
        """Draw the case.

        Where there are more planes than are wanted, those with foreground are preferred, then every n-th is taken.

        Returns
        -------
        tuple of Slices
            The axis that was scanned slice by slice first; of the two others only where they are wanted, and the case
            is no single slice.
        """
        shape = self.prediction.shape
        main = cutting_axis(shape, self.spacing)
        others = [axis for axis in (2, 1, 0) if axis != main and detail.others and min(shape) > 1]
        wanted = ((main, detail.slices), *((axis, detail.others) for axis in others))
        return tuple(self._slices(axis, most, detail) for axis, most in wanted)

    def _slices(self, axis: int, most: int, detail: Detail) -> Slices:
        shape = self.prediction.shape
        chosen = _planes(self.planes[axis], most)
        cuts = [cut_across(axis, index, shape, self.spacing) for index in chosen]
        size = _size(cuts[0], shape, detail.longest)
        found = [_grown(cut.take(self.prediction), size) for cut in cuts]
        truth = [] if self.reference is None else [_grown(cut.take(self.reference), size) for cut in cuts]
        counts = self.fullest[axis]
        best = int(counts.argmax()) if counts.any() else shape[axis] // 2
        return Slices(
            plane=cuts[0].name,
            size=size,
            indices=tuple(index + 1 for index in chosen),
            count=shape[axis],
            first=min(range(len(chosen)), key=lambda k: abs(chosen[k] - best)),
            channels=tuple(self._greys(cuts, size, detail.quality)),
            reference=tuple(_overlay(labels, _outlined) for labels in truth),
            prediction=tuple(_overlay(labels, _veiled) for labels in found),
            difference=tuple(_difference(*both) for both in zip(truth, found, strict=True)) if truth else (),
        )

    def _greys(self, cuts: Sequence[Cut], size: tuple[int, int], quality: int) -> Iterator[tuple[str, ...]]:
        scene = self.scene
        if scene.image is None:
            yield (_EMPTY,) * len(cuts)
            return
        for channel, window in zip(scene.image, scene.windows, strict=True):
            turned = canonical(channel, scene.header)
            yield tuple(_grey(cut.take(turned), window, size, quality) for cut in cuts)


@cache
def swatch(index: int, layer: str) -> str:
    """Draw what a class looks like in the layer `reference` or `prediction`, as a data URI of 28 × 18 pixels."""
    field = np.zeros((18, 28), np.uint16)
    field[2:-2, 2:-2] = index
    return _overlay(field, _outlined if layer == "reference" else _veiled)


@cache
def difference_swatch(missed: bool) -> str:
    """Draw what is missed, or predicted too much, looks like in the layer of differences."""
    field, nothing = np.ones((18, 28), np.uint16), np.zeros((18, 28), np.uint16)
    return _difference(field, nothing) if missed else _difference(nothing, field)


def _planes(foreground: NDArray[np.int64], most: int) -> list[int]:
    """Choose planes, by the foreground of each, in ascending order: all, all around the foreground, every n-th."""
    count, used = len(foreground), np.flatnonzero(foreground)
    if count <= most or not used.size:
        return _spread(0, count, most)
    spare = max(0, most - int(used[-1] - used[0] + 1))
    start = int(np.clip(used[0] - spare // 2, 0, None))
    stop = int(np.clip(used[-1] + 1 + spare - spare // 2, None, count))
    return _spread(start, stop, most)


def _spread(start: int, stop: int, most: int) -> list[int]:
    number = min(most, stop - start)
    return [start + round((k + 0.5) * (stop - start) / number - 0.5) for k in range(number)]


def _size(cut: Cut, shape: Sequence[int], longest: int = 0) -> tuple[int, int]:
    """Give width and height in pixels, which are square; small volumes are drawn larger."""
    longest = longest or int(np.clip(max(n for axis, n in enumerate(shape) if axis != cut.axis), LEAST, MOST))
    scale = longest / max(cut.width, cut.height)
    return max(1, round(cut.width * scale)), max(1, round(cut.height * scale))


def _grown(labels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Bring labels to the picture's size, nearest voxel."""
    (rows, columns), (width, height) = labels.shape, size
    y = ((np.arange(height) + 0.5) * rows / height).astype(np.intp)
    x = ((np.arange(width) + 0.5) * columns / width).astype(np.intp)
    grown: NDArray[Any] = labels[y[:, None], x[None, :]]
    return grown


def _grey(plane: NDArray[Any], window: Window, size: tuple[int, int], quality: int = QUALITY) -> str:
    from PIL import Image

    low, high = window
    plane = np.nan_to_num(plane.astype(np.float32), nan=low, posinf=high, neginf=low)
    grey = np.clip((plane - low) * (255.0 / max(high - low, 1e-12)), 0, 255).round().astype(np.uint8)
    picture = Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC)
    return _uri(picture.convert("RGB"), "webp", quality=quality, method=2)


Draw = Callable[[NDArray[np.intp]], NDArray[np.intp]]  # classes to the opacity of each pixel: 0, 1 (weak), 2 (strong)


def _outlined(labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Draw the reference: a line along the border of each class, dashed by class."""
    inside = labels > 0
    for step in range(_WIDTH):
        around = np.pad(inside if step else labels, 1)
        same = [part == labels if not step else part for part in _neighbours(around)]
        inside = inside & same[0] & same[1] & same[2] & same[3]
    rows, columns = (np.arange(size) for size in labels.shape)
    turn = (rows[:, None] + columns) // 3 % 4
    dashed = np.choose((labels - 1) % 3, (turn < 4, turn != 3, turn % 2 == 0))
    return np.where((labels > 0) & ~inside, 1 + dashed, 0)


def _veiled(labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Draw the prediction: each class by its hatching, and the rest of its area."""
    rows, columns = (np.arange(size) % PERIOD for size in labels.shape)
    strong = _hatchings(int(labels.max(initial=0)))[labels, rows[:, None], columns]
    return np.where(labels > 0, 1 + strong, 0)


def _neighbours(padded: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    return padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]


@lru_cache(8)
def _hatchings(most: int) -> NDArray[np.bool_]:
    """Give the repeating part of the hatching of each class up to `most`, (class, row, column)."""
    return np.stack([hatching(max(index, 1), (PERIOD, PERIOD)) for index in range(most + 1)])


@lru_cache(8)
def _colours(most: int, weak: int, strong: int) -> NDArray[np.uint8]:
    """Give red, green, blue and opacity of each class up to `most` and each of nothing, weak and strong."""
    table = np.zeros((most + 1, 3, 4), np.uint8)
    for index in range(1, most + 1):
        table[index, 1:, :3] = [round(255 * part) for part in class_colour(index)]
        table[index, 1:, 3] = weak, strong
    table[:, :, :3] *= table[:, :, 3:] > 0  # what is not seen has one colour, which packs best
    return table


def _overlay(labels: NDArray[Any], draw: Draw) -> str:
    """Draw all classes of a plane into one transparent picture."""
    most = int(labels.max(initial=0))
    if not most:
        return _EMPTY
    opacities = (_VEIL, _LINE) if draw is _veiled else (0, _OUTLINE)
    labels = labels.astype(np.intp)
    return _picture(_colours(most, *opacities)[labels, draw(labels)])


def _difference(truth: NDArray[Any], found: NDArray[Any]) -> str:
    """Draw what is missed (or is another class) cross-hatched, and what is predicted too much striped."""
    wrong = truth != found
    if not wrong.any():
        return _EMPTY
    picture = np.zeros((*truth.shape, 4), np.uint8)
    for pixels, colour, kind in ((wrong & (truth > 0), MISSED, 5), (wrong & (truth == 0), EXTRA, 1)):
        picture[pixels] = (*colour, 130)
        picture[pixels & hatching(kind, truth.shape), 3] = 255
    return _picture(picture)


def _picture(colours: NDArray[np.uint8]) -> str:
    from PIL import Image

    return _uri(Image.fromarray(colours), "webp", lossless=True, method=2, quality=50)  # half of what a PNG takes


def _uri(picture: Any, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
