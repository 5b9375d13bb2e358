"""A case as slices to scroll through: the image, and over it reference, prediction and where they differ.

Layers are pictures of their own, which a page lays over each other. What a colour says is said without it too: the
reference is an outline, the prediction a hatched veil, and each class has its own dashes and hatching.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.types import FloatArray, Header, IntArray, Spacing3
from nnunet_rs.report.palette import class_colour, hatching
from nnunet_rs.report.planes import Cut, canonical, canonical_spacing, cut_across, cutting_axis, fullest

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

    image: FloatArray  # (c, z, y, x)
    reference: IntArray  # (z, y, x), class indices
    prediction: IntArray  # (z, y, x), class indices
    spacing: Spacing3  # of z, y, x, in mm
    header: Header
    windows: tuple[Window, ...]  # one a channel


@dataclass(frozen=True, slots=True)
class Slices:
    """Pictures of parallel planes; each layer has one a plane, as data URIs."""

    plane: str  # axial, coronal, sagittal
    size: tuple[int, int]  # pixels: width, height
    indices: tuple[int, ...]  # of the planes, counted from 1 at the patient's feet (or back, or left)
    count: int  # planes of the whole case
    first: int  # which of them to begin with: the one with the most foreground
    channels: tuple[tuple[str, ...], ...]
    reference: tuple[str, ...]
    prediction: tuple[str, ...]
    difference: tuple[str, ...]


def draw_slices(scene: Scene, most: int) -> Slices:
    """Draw a case.

    Parameters
    ----------
    scene
        The case.
    most
        Planes at most; where there are more, those with foreground are preferred, then every n-th is taken.
    """
    spacing = canonical_spacing(scene.spacing, scene.header)
    reference, prediction = (canonical(labels, scene.header) for labels in (scene.reference, scene.prediction))
    axis = cutting_axis(reference.shape, spacing)
    chosen = _planes((reference > 0) | (prediction > 0), axis, most)
    cuts = [cut_across(axis, index, reference.shape, spacing) for index in chosen]
    size = _size(cuts[0], reference.shape)
    labels = [(_grown(cut.take(reference), size), _grown(cut.take(prediction), size)) for cut in cuts]
    best = fullest(reference > 0, axis)
    return Slices(
        plane=cuts[0].name,
        size=size,
        indices=tuple(index + 1 for index in chosen),
        count=reference.shape[axis],
        first=min(range(len(chosen)), key=lambda k: abs(chosen[k] - best)),
        channels=tuple(
            tuple(_grey(cut.take(canonical(channel, scene.header)), window, size) for cut in cuts)
            for channel, window in zip(scene.image, scene.windows, strict=True)
        ),
        reference=tuple(_overlay(truth, _outlined) for truth, _ in labels),
        prediction=tuple(_overlay(found, _veiled) for _, found in labels),
        difference=tuple(_difference(truth, found) for truth, found in labels),
    )


def swatch(index: int, layer: str) -> str:
    """Draw what a class looks like in the layer `reference` or `prediction`, as a data URI of 28 × 18 pixels."""
    field = np.zeros((18, 28), np.uint16)
    field[2:-2, 2:-2] = index
    return _overlay(field, _outlined if layer == "reference" else _veiled)


def difference_swatch(missed: bool) -> str:
    """Draw what is missed, or predicted too much, looks like in the layer of differences."""
    field, nothing = np.ones((18, 28), np.uint16), np.zeros((18, 28), np.uint16)
    return _difference(field, nothing) if missed else _difference(nothing, field)


def _planes(foreground: NDArray[np.bool_], axis: int, most: int) -> list[int]:
    """Choose planes in ascending order: all, or all around the foreground, or every n-th of those."""
    count = foreground.shape[axis]
    used = np.flatnonzero(foreground.any(axis=tuple(other for other in range(3) if other != axis)))
    if count <= most or not used.size:
        return _spread(0, count, most)
    spare = max(0, most - int(used[-1] - used[0] + 1))
    start = int(np.clip(used[0] - spare // 2, 0, None))
    stop = int(np.clip(used[-1] + 1 + spare - spare // 2, None, count))
    return _spread(start, stop, most)


def _spread(start: int, stop: int, most: int) -> list[int]:
    number = min(most, stop - start)
    return [start + round((k + 0.5) * (stop - start) / number - 0.5) for k in range(number)]


def _size(cut: Cut, shape: Sequence[int]) -> tuple[int, int]:
    """Give width and height in pixels, which are square; small volumes are drawn larger."""
    longest = int(np.clip(max(n for axis, n in enumerate(shape) if axis != cut.axis), LEAST, MOST))
    scale = longest / max(cut.width, cut.height)
    return max(1, round(cut.width * scale)), max(1, round(cut.height * scale))


def _grown(labels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Bring labels to the picture's size, nearest voxel."""
    (rows, columns), (width, height) = labels.shape, size
    y = ((np.arange(height) + 0.5) * rows / height).astype(np.intp)
    x = ((np.arange(width) + 0.5) * columns / width).astype(np.intp)
    grown: NDArray[Any] = labels[y[:, None], x[None, :]]
    return grown


def _grey(plane: NDArray[Any], window: Window, size: tuple[int, int]) -> str:
    from PIL import Image

    low, high = window
    grey = np.clip((plane - low) * (255.0 / max(high - low, 1e-12)), 0, 255).round().astype(np.uint8)
    picture = Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC)
    return _uri(picture.convert("RGB"), "webp", quality=QUALITY, method=4)


Draw = Callable[[NDArray[np.bool_], int], tuple[NDArray[np.bool_], NDArray[np.bool_]]]


def _outlined(inside: NDArray[np.bool_], index: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Give the strong and the weak pixels of a class in the reference: a line along the border, dashed by class."""
    border = inside & ~_eroded(inside, _WIDTH)
    rows, columns = (np.arange(size) for size in inside.shape)
    turn = (rows[:, None] + columns) // 3 % 4
    dashed = (turn < 4, turn != 3, turn % 2 == 0)[(index - 1) % 3]
    return border & dashed, border & ~dashed


def _veiled(inside: NDArray[np.bool_], index: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Give the strong and the weak pixels of a class in the prediction: its hatching, and the rest of its area."""
    lines = hatching(index, inside.shape)
    return inside & lines, inside & ~lines


def _eroded(inside: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    for _ in range(steps):
        padded = np.pad(inside, 1)
        inside = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside


def _overlay(labels: NDArray[Any], draw: Draw) -> str:
    """Draw all classes of a plane into one transparent picture."""
    found = [int(index) for index in np.unique(labels) if index > 0]
    if not found:
        return _EMPTY
    strong = _LINE if draw is _veiled else _OUTLINE
    weak = _VEIL if draw is _veiled else 0
    picture, colours = np.zeros(labels.shape, np.uint8), [(0, 0, 0, 0)]
    for index in found:
        red, green, blue = (round(255 * part) for part in class_colour(index))
        for pixels, opacity in zip(draw(labels == index, index), (strong, weak), strict=True):
            picture[pixels] = _entry(colours, (red, green, blue, opacity))
    return _indexed(picture, colours)


def _difference(truth: NDArray[Any], found: NDArray[Any]) -> str:
    """Draw what is missed (or is another class) cross-hatched, and what is predicted too much striped."""
    wrong = truth != found
    if not wrong.any():
        return _EMPTY
    missed, extra = wrong & (truth > 0), wrong & (truth == 0)
    picture, colours = np.zeros(truth.shape, np.uint8), [(0, 0, 0, 0)]
    for pixels, colour, kind in ((missed, MISSED, 5), (extra, EXTRA, 1)):
        lines = hatching(kind, truth.shape)
        picture[pixels & ~lines] = _entry(colours, (*colour, 130))
        picture[pixels & lines] = _entry(colours, (*colour, 255))
    return _indexed(picture, colours)


def _entry(colours: list[tuple[int, int, int, int]], colour: tuple[int, int, int, int]) -> int:
    """Return a colour's number in the palette of a picture, of which 255 are used at most."""
    if colour not in colours and len(colours) < 255:
        colours.append(colour)
    return colours.index(colour) if colour in colours else len(colours) - 1


def _indexed(picture: NDArray[np.uint8], colours: Sequence[tuple[int, int, int, int]]) -> str:
    from PIL import Image

    image = Image.fromarray(picture)
    image.putpalette([part for colour in colours for part in colour[:3]])
    return _uri(image, "png", transparency=bytes(colour[3] for colour in colours), optimize=False)


def _uri(picture: Any, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
