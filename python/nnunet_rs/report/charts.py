"""Charts for a page: vector drawings by matplotlib whose colours and letters are the page's own.

A drawing is made with stand-ins for colours. In the SVG each stand-in becomes a property of the page's style sheet, so
that one drawing is right on a light and on a dark page, and on paper.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.report.palette import MARKERS, PALETTE, dashes, hue

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT, RULE, PAPER = "#010101", "#020202", "#030303", "#040404"
_PROPERTIES: Mapping[str, str] = {
    INK: "--ink",
    FAINT: "--faint",
    RULE: "--rule",
    PAPER: "--paper",
    **{f"#0a0a0{place}": f"--hue-{place}" for place in range(len(PALETTE))},
}
_POINTS = 4.0 / 3.0  # CSS pixels a unit of the drawing
_DOTS = 400  # points drawn of a row at most
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nnunet_rs",
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.size": 8.5,
}


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, and what it says in words."""

    svg: str  # markup
    title: str
    alt: str  # for those who cannot see it
    width: int  # CSS pixels at which its letters have the size of the page's small print


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a strip chart."""

    name: str
    values: NDArray[np.float64]  # those that are not finite are left out
    colour: int | None = None  # a class, from 1; None: ink
    marks: tuple[float, ...] = ()  # values to point out


@dataclass(frozen=True, slots=True)
class Line:
    """One curve."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: int = 1  # which colour, dashes and marker, from 1
    faint: bool = False  # a companion of another line, which is thicker


@dataclass(frozen=True, slots=True)
class Scale:
    """What an axis shows."""

    name: str
    limits: tuple[float | None, float | None] = (None, None)
    log: bool = False
    whole: bool = False  # ticks at whole numbers only


def strips(title: str, rows: Sequence[Row], scale: Scale, *, width: int = 300) -> Chart:
    """Draw the distribution of each row: every value as a dot, the middle half as a box, the median as a line.

    Parameters
    ----------
    title
        Above the drawing.
    rows
        From top to bottom.
    scale
        Of the values, from left to right.
    width
        CSS pixels.
    """
    longest = max((len(row.name) for row in rows), default=1)
    height = 62 + 26 * max(len(rows), 1)

    def draw(axes: Axes) -> None:
        rng = np.random.default_rng(0)
        for place, row in enumerate(rows):
            _strip(axes, place, row, rng)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_yticks(range(len(rows)), [_short(row.name) for row in rows], fontsize=8.5 if longest < 30 else 7.5)
        axes.tick_params(axis="y", labelcolor=INK)
        axes.grid(axis="x", color=RULE, linewidth=0.6)
        _apply(axes, "x", scale)

    return _chart(title, _description(rows, scale), (width, height), draw)


def lines(title: str, curves: Sequence[Line], x: Scale, y: Scale, *, size: tuple[int, int] = (300, 220)) -> Chart:
    """Draw curves; each has its own colour, dashes and, where points are few, markers.

    Parameters
    ----------
    title
        Above the drawing.
    curves
        Those without points are left out of the drawing, not of the legend.
    x, y
        The axes.
    size
        CSS pixels.
    """

    def draw(axes: Axes) -> None:
        for curve in curves:
            _line(axes, curve)
        axes.grid(color=RULE, linewidth=0.6)
        _apply(axes, "x", x)
        _apply(axes, "y", y)
        _legend(axes)

    told = "; ".join(f"{curve.name}: {_course(curve)}" for curve in curves)
    return _chart(title, f"{title} over {x.name}. {told}.", size, draw)


def ranges(title: str, rows: Sequence[tuple[str, Mapping[str, float]]], *, width: int = 300) -> Chart:
    """Draw intensities: the range as a thin line, the middle 99 % as a bar, mean and standard deviation within.

    Parameters
    ----------
    title
        Above the drawing.
    rows
        Name and the fields of ChannelStats, each row on an axis of its own.
    width
        CSS pixels.
    """

    def draw(*all_axes: Axes) -> None:
        for axes, (name, stats) in zip(all_axes, rows, strict=True):
            _range(axes, name, stats)

    told = "; ".join(
        f"{name}: middle 99 % from {s['percentile_00_5']:.4g} to {s['percentile_99_5']:.4g}, mean {s['mean']:.4g}, "
        f"standard deviation {s['std']:.4g}, median {s['median']:.4g}, all from {s['min']:.4g} to {s['max']:.4g}"
        for name, s in rows
    )
    return _chart(title, f"{title}. {told}.", (width, 24 + 66 * len(rows)), draw, panels=len(rows))


def _chart(title: str, alt: str, size: tuple[int, int], draw: Callable[..., None], *, panels: int = 1) -> Chart:
    """Draw into axes, one below the other, and turn the drawing into markup for a page."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(size[0] / _POINTS / 72, size[1] / _POINTS / 72), layout="constrained")
        axes = np.atleast_1d(figure.subplots(panels, 1))
        for each in axes:
            _dress(each)
        draw(*axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Chart(_themed(buffer.getvalue()), title, alt, size[0])


def _themed(svg: str) -> str:
    """Reduce matplotlib's file to an element of a page: its colours, its letters, no names but those referred to."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"\s*<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;\"]*;?", "", body)
    body = re.sub(r' id="(?:\w*_\d+|matplotlib[^"]*)"', "", body)
    body = re.sub(r">[^<]*<|(\d+\.\d\d)\d+", lambda found: found[1] or found[0], body)  # what is written stays
    body = re.sub(r"#0[0-9a]0[0-9a]0\d", lambda found: f"var({_PROPERTIES.get(found[0], '--ink')})", body)
    box = re.search(r'viewBox="([^"]+)"', body)
    head = f'<svg viewBox="{box[1] if box else ""}" xmlns:xlink="http://www.w3.org/1999/xlink" aria-hidden="true">'
    return re.sub(r"\n\s*", "\n", head + body[body.index(">") + 1 :]).strip()


def named_apart(svg: str, number: int) -> str:
    """Give a drawing's parts names of its own: what is hidden with another drawing must not be referred to."""
    return re.sub(r'>[^<]*<|( id="|url\(#|xlink:href="#)', lambda f: f[0] + (f"d{number}-" if f[1] else ""), svg)


def _legend(axes: Axes) -> None:
    """Name the curves below the drawing, where they hide nothing; a single one needs no name."""
    handles, names = axes.get_legend_handles_labels()
    if len(names) > 1:
        columns = 3 if max(map(len, names)) < 12 else 2
        style = {"frameon": False, "fontsize": 7.5, "labelcolor": INK, "handlelength": 2.6, "columnspacing": 1.2}
        axes.figure.legend(handles, names, loc="outside lower left", ncols=columns, **style)


def _dress(axes: Axes) -> None:
    """Leave of the frame what is needed."""
    axes.tick_params(which="both", length=0, labelsize=7.5, labelcolor=FAINT)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.set_axisbelow(True)


def _apply(axes: Axes, which: str, scale: Scale) -> None:
    """Label and scale one axis."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

    getattr(axes, f"set_{which}label")(scale.name, color=FAINT, fontsize=7.5)
    axis = getattr(axes, f"{which}axis")
    if scale.log:
        getattr(axes, f"set_{which}scale")("log")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=5))
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_formatter(NullFormatter())
    elif scale.whole:
        axis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        first, last = axis.get_view_interval()
        if last - first < 1:  # a single value, as of one epoch: whole numbers on both sides
            axis.set_view_interval(round(first) - 1, round(first) + 1, ignore=True)
    low, high = scale.limits
    getattr(axes, f"set_{which}lim")(low, high)


def _strip(axes: Axes, place: int, row: Row, rng: np.random.Generator) -> None:
    values = row.values[np.isfinite(row.values)]
    colour = INK if row.colour is None else _stand_in(row.colour)
    marker = "o" if row.colour is None else MARKERS[hue(row.colour)]
    for mark in row.marks:
        axes.plot([mark, mark], [place - 0.42, place + 0.42], color=INK, linewidth=1.6, solid_capstyle="butt")
    if not values.size:
        return
    shown = values if values.size <= _DOTS else rng.choice(values, _DOTS, replace=False)
    spread = np.zeros(1) if values.size == 1 else rng.uniform(-0.26, 0.26, shown.size)
    axes.scatter(shown, place + spread, color=colour, s=9, alpha=0.55, linewidths=0, marker=marker, zorder=2)
    if values.size < 4:
        return
    low, middle, high = np.percentile(values, [25, 50, 75])
    axes.barh(place, high - low, left=low, height=0.62, color=colour, alpha=0.16, edgecolor="none", zorder=1)
    axes.barh(place, high - low, left=low, height=0.62, fill=False, edgecolor=colour, linewidth=1, zorder=3)
    axes.plot([middle, middle], [place - 0.31, place + 0.31], color=INK, linewidth=2.2, zorder=4, solid_capstyle="butt")


def _line(axes: Axes, curve: Line) -> None:
    colour, pattern = _stand_in(curve.style), dashes(curve.style)
    few = len(curve.x) < 3
    style: dict[str, Any] = {"linewidth": 0.9 if curve.faint else 1.7, "alpha": 0.75 if curve.faint else 1}
    (drawn,) = axes.plot(curve.x, curve.y, color=colour, label=_visible(curve.name) or "_", **style)
    if pattern:
        drawn.set_dashes(pattern)
    if few:
        drawn.set_marker(MARKERS[hue(curve.style)])
        drawn.set_markersize(5)


def _range(axes: Axes, name: str, stats: Mapping[str, float]) -> None:
    low, high = stats["percentile_00_5"], stats["percentile_99_5"]
    margin = 0.35 * ((high - low) or 1)
    mean, deviation = stats["mean"], stats["std"]
    axes.plot([stats["min"], stats["max"]], [0, 0], color=FAINT, linewidth=1, zorder=1)
    axes.barh(0, high - low, left=low, height=0.7, color=_stand_in(2), alpha=0.3, zorder=2)
    axes.barh(0, high - low, left=low, height=0.7, fill=False, edgecolor=_stand_in(2), linewidth=1.2, zorder=3)
    axes.plot([mean - deviation, mean + deviation], [0, 0], color=INK, linewidth=1.6, zorder=4)
    axes.plot([mean], [0], marker="o", color=INK, markersize=5, zorder=5)
    axes.plot([stats["median"]] * 2, [-0.35, 0.35], color=INK, linewidth=2.2, zorder=4, solid_capstyle="butt")
    axes.set_xlim(max(stats["min"], low - margin), min(stats["max"], high + margin))
    axes.set_ylim(-0.6, 0.6)
    axes.set_yticks([])
    axes.set_title(_short(name), loc="left", fontsize=8.5, color=INK, pad=3)
    axes.grid(axis="x", color=RULE, linewidth=0.6)


def _description(rows: Sequence[Row], scale: Scale) -> str:
    """Say what a strip chart shows."""
    return f"{scale.name}. " + "; ".join(f"{row.name}: {_spread(row.values)}" for row in rows) + "."


def _spread(values: NDArray[np.float64]) -> str:
    known = values[np.isfinite(values)]
    if not known.size:
        return "no value"
    if known.min() == known.max():
        return f"all {known.size} are {known.min():.4g}"
    low, first, middle, third, high = np.percentile(known, [0, 25, 50, 75, 100])
    return (
        f"{known.size} values from {low:.4g} to {high:.4g}, half of them from {first:.4g} to {third:.4g}, "
        f"median {middle:.4g}"
    )


def _course(curve: Line) -> str:
    if not len(curve.x):
        return "no point"
    return f"from {curve.y[0]:.4g} to {curve.y[-1]:.4g}, between {min(curve.y):.4g} and {max(curve.y):.4g}"


def _stand_in(index: int) -> str:
    """Give the stand-in of a class' colour, which the style sheet knows for either page."""
    return f"#0a0a0{hue(index)}"


def _short(name: str, most: int = 34) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _visible(name: str) -> str:
    """Keep matplotlib from hiding names that begin with an underscore."""
    return f"\u200b{_short(name)}" if name.startswith("_") else _short(name)
