"""Pictures: a prediction beside its reference, and the curves of a training.

Contours mark what a fill alone would leave to the eye.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.files import write_atomically
from nnunet_rs.core.types import FloatArray, Header, IntArray, Spacing3
from nnunet_rs.report.palette import PALETTE, class_colour
from nnunet_rs.report.planes import Cut, canonical, canonical_spacing, cut_across, fullest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nnunet_rs.model.history import Epoch, History

INK, PAPER, FAINT = "#e8eaed", "#101216", "#8b929c"


@dataclass(frozen=True, slots=True, eq=False)
class CasePicture:
    """One case to look at: what the scanner saw, what the reference says, what the network says."""

    title: str
    image: FloatArray  # (z, y, x)
    prediction: IntArray  # (z, y, x), class indices
    reference: IntArray | None  # (z, y, x), class indices
    spacing: Spacing3  # of z, y, x, in mm
    header: Header
    names: tuple[str, ...]  # one per class, the background first
    dice: Mapping[str, float] | None = None  # per class name


def overlay_picture(path: Path, case: CasePicture) -> None:
    """Write a PNG: image, reference and prediction through the slice with the most foreground.

    The upper row cuts across the body (axial), the lower along it (coronal), with the patient's right at the left, as
    radiologists look; voxels have their true proportions. Volumes of one slice get the upper row alone.

    Parameters
    ----------
    path
        The PNG to write, atomically.
    case
        What to show; without a reference the picture has two columns.
    """
    layers = [("image", None), ("reference", case.reference), ("prediction", case.prediction)]
    columns = [(name, labels) for name, labels in layers if name == "image" or labels is not None]
    shown = case.prediction if case.reference is None else case.reference
    cuts = _cuts(shown, case)
    figure = _panels(columns, cuts, case)
    _legend(figure, case)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130, facecolor=PAPER)


def _cuts(labels: IntArray, case: CasePicture) -> list[Cut]:
    """Choose the axial and the coronal plane with the most foreground (the middle where there is none)."""
    spacing = canonical_spacing(case.spacing, case.header)
    volume = canonical(labels, case.header) > 0
    cuts = [cut_across(axis, fullest(volume, axis), volume.shape, spacing) for axis in (2, 1)]
    return cuts if min(volume.shape) > 1 else [min(cuts, key=lambda cut: volume.shape[cut.axis])]


def _panels(columns: list[tuple[str, IntArray | None]], cuts: list[Cut], case: CasePicture) -> Figure:
    """Lay out one row a cut and one column a layer, sized so that a millimetre is the same everywhere."""
    from matplotlib.figure import Figure

    width = 3.6 * len(columns)
    heights = [3.6 * cut.height / max(c.width for c in cuts) for cut in cuts]
    figure = Figure(figsize=(width, sum(heights) + 1.05), facecolor=PAPER)
    top, bottom = 1 - 0.62 / figure.get_figheight(), 0.43 / figure.get_figheight()
    gaps = {"left": 0.01, "right": 0.99, "hspace": 0.03, "wspace": 0.02}
    grid = figure.add_gridspec(len(cuts), len(columns), height_ratios=heights, top=top, bottom=bottom, **gaps)
    _headline(figure, 0.012, case.title, color=INK, fontsize=10, weight="bold")
    image = canonical(case.image, case.header)
    window = np.percentile(image[np.isfinite(image)], (0.5, 99.5))
    for column, (name, labels) in enumerate(columns):
        turned = None if labels is None else canonical(labels, case.header)
        for row, cut in enumerate(cuts):
            axes = figure.add_subplot(grid[row, column])
            _panel(axes, cut, image, turned, (float(window[0]), float(window[1])))
            if row == 0:
                axes.set_title(name, color=FAINT, fontsize=9, pad=5)
    return figure


def _panel(axes: Axes, cut: Cut, image: NDArray[Any], labels: NDArray[Any] | None, window: tuple[float, float]) -> None:
    """Draw one plane: grey values, each class as a veil with a firm outline."""
    extent = (0.0, cut.width, cut.height, 0.0)
    axes.set_axis_off()
    axes.imshow(cut.take(image), cmap="gray", vmin=window[0], vmax=window[1], extent=extent, interpolation="bilinear")
    if labels is None:
        return
    plane = cut.take(labels)
    rows, columns = plane.shape
    x = (np.arange(columns) + 0.5) * cut.width / columns
    y = (np.arange(rows) + 0.5) * cut.height / rows
    for index in (int(value) for value in np.unique(plane) if value > 0):
        inside = (plane == index).astype(np.float32)
        colour = class_colour(index)
        veil = np.zeros((*plane.shape, 4), np.float32)
        veil[..., :3], veil[..., 3] = colour, 0.34 * inside
        axes.imshow(veil, extent=extent, interpolation="nearest")
        if min(plane.shape) > 1:
            axes.contour(x, y, inside, levels=[0.5], colors=[colour], linewidths=1.3)


def _legend(figure: Figure, case: CasePicture) -> None:
    """Name the classes that occur, with their Dice where it is known."""
    from matplotlib.patches import Patch

    occurring = set(np.unique(case.prediction)) | (set() if case.reference is None else set(np.unique(case.reference)))
    patches = []
    for index, name in enumerate(case.names):
        if index == 0 or index not in occurring:
            continue
        score = (case.dice or {}).get(name)
        text = name if score is None or not np.isfinite(score) else f"{name}  {score:.3f}"
        patches.append(Patch(facecolor=class_colour(index), label=text))
    if not patches:
        return
    style = {"frameon": False, "fontsize": 9, "labelcolor": INK, "handlelength": 1.0, "handleheight": 1.0}
    figure.legend(handles=patches, loc="lower center", ncols=min(len(patches), 7), columnspacing=1.8, **style)
    known = [score for score in (case.dice or {}).values() if np.isfinite(score)]
    if known:
        _headline(figure, 0.988, f"mean Dice {np.mean(known):.3f}", color=FAINT, fontsize=9, ha="right")


def _headline(figure: Figure, x: float, text: str, **style: Any) -> None:
    """Write into the margin above the panels."""
    figure.text(x, 1 - 0.2 / figure.get_figheight(), text, va="center", **style)


def training_curves(path: Path, history: History, title: str = "") -> None:
    """Write a PNG of loss, Dice on validation patches and learning rate over the epochs.

    Parameters
    ----------
    path
        The PNG to write, atomically.
    history
        The epochs; none gives empty axes.
    title
        What was trained.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.8, 3.5), facecolor=PAPER, layout="constrained")
    loss, dice, rate = figure.subplots(1, 3)
    epochs = history.epochs
    _curve(loss, epochs, lambda epoch: epoch.loss, color=PALETTE[1], label="training")
    _curve(loss, epochs, lambda epoch: epoch.validation_loss, color=PALETTE[0], label="validation")
    for index, name in enumerate(history.classes if len(history.classes) > 1 else ()):
        _curve(dice, epochs, _class_dice(index), color=class_colour(index + 1), label=name, linewidth=1.4)
    _curve(dice, epochs, lambda epoch: epoch.mean_dice, color=INK, label="mean", linewidth=2)
    _curve(rate, epochs, lambda epoch: epoch.learning_rate, color=INK, label="")
    for axes, name in ((loss, "loss"), (dice, "Dice on validation patches"), (rate, "learning rate")):
        _dress(axes, name)
    dice.set_ylim(0, 1)
    rates = [epoch.learning_rate for epoch in epochs if epoch.learning_rate > 0]
    if rates and max(rates) > 20 * min(rates):
        rate.set_yscale("log")
    if title:
        figure.suptitle(title, fontsize=10.5, weight="bold", x=0.01, ha="left", color=INK)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def curves_on_the_way(path: Path, title: str = "", every: float = 20.0) -> Callable[[History], None]:
    """Return what draws the curves after an epoch, unless they were drawn less than `every` seconds ago."""
    drawn = -math.inf

    def draw(history: History) -> None:
        nonlocal drawn
        if time.monotonic() - drawn >= every:
            training_curves(path, history, title)
            drawn = time.monotonic()

    return draw


def _class_dice(index: int) -> Callable[[Epoch], float | None]:
    return lambda epoch: epoch.dice[index]


def _curve(axes: Axes, epochs: Sequence[Epoch], value: Callable[[Epoch], float | None], **style: Any) -> None:
    """Draw what is known; a dot where there are too few epochs to see a line."""
    points = [(epoch.epoch + 1, known) for epoch in epochs if (known := value(epoch)) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), marker="o" if len(points) < 3 else "", **{"linewidth": 1.6, **style})


def _dress(axes: Axes, name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_facecolor(PAPER)
    axes.set_title(name, fontsize=10, loc="left", color=INK)
    axes.set_xlabel("epoch", fontsize=9, color=FAINT)
    axes.grid(color="#2b313a", linewidth=0.6)
    axes.tick_params(which="both", labelsize=8, length=0, labelcolor=FAINT)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = axes.get_legend_handles_labels()
    if any(labels):
        axes.legend(handles, labels, frameon=False, fontsize=8, labelcolor=INK)
