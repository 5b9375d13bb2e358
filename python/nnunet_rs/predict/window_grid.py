"""Where the windows of a volume lie, and in which order they are predicted so that planes finish early."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from nnunet_rs.core.kernels import window_starts
from nnunet_rs.core.types import Shape, Shape3


@dataclass(frozen=True, slots=True)
class WindowGrid:
    """The windows of one volume, in order. All sizes and starts are in the grid's axes.

    Windows come layer by layer along grid axis 0. Once the first window of the next layer is due, the planes before
    it are finished: only `tile[0]` planes of sums are ever needed.
    """

    axes: Shape3  # grid axis i is the working axis axes[i]
    size: Shape3  # of the volume
    padded: Shape3  # of the volume padded to at least the tile
    before: Shape3  # how much of the padding lies before the volume
    tile: Shape3
    starts: tuple[Shape3, ...]  # in the padded volume, ascending along grid axis 0
    flat: bool = False  # windows are single slices for a 2-D network

    @property
    def back(self) -> Shape3:
        """Working axis i is the grid axis back[i]."""
        return cast("Shape3", tuple(self.axes.index(axis) for axis in range(3)))

    @property
    def scores_order(self) -> tuple[int, ...]:
        """Bring (b, classes, z, y, x) in working axes to the grid's axes: the order for `transpose`."""
        return (0, 1, *(axis + 2 for axis in self.axes))

    @property
    def window_order(self) -> tuple[int, ...]:
        """Bring (c, *tile) in the grid's axes to working axes: the order for `transpose`."""
        return (0, *(axis + 1 for axis in self.back))

    def box(self, start: Shape3) -> tuple[slice, ...]:
        """Where the window of this start lies in the padded volume."""
        return tuple(slice(at, at + size) for at, size in zip(start, self.tile, strict=True))

    def of_tile(self, axes: Shape) -> Shape:
        """Return which of the grid's axes are these of the tile, which has two for a 2-D network, 0 the first."""
        return tuple(self.axes.index(axis + (1 if self.flat else 0)) for axis in axes)


def sliding_window_grid(size: Shape3, tile: Shape, step: float = 0.5, axis: int | None = None) -> WindowGrid:
    """Lay windows over a volume.

    Parameters
    ----------
    size
        Of the volume, working axes.
    tile
        Of the windows, working axes; two numbers: windows are single slices along the first working axis.
    step
        Distance of neighbouring windows, at most, as a share of the tile; in (0, 1].
    axis
        The working axis that the layers follow each other along; None: the best one.

    Notes
    -----
    The best one goes along the axis on which the volume is longest in tiles, so that the sums of one layer of windows
    are as small as can be; in 2-D always across the slices. Volumes smaller than the tile are padded on both sides.
    """
    flat = len(tile) == 2
    tile3 = cast("Shape3", (1, *tile) if flat else tuple(tile))
    longest = 0 if flat else max(range(3), key=lambda i: (size[i] / tile3[i], -i))
    along = longest if axis is None else axis
    axes = (along, *(i for i in range(3) if i != along))
    turned, tiles = (_permuted(shape, axes) for shape in (size, tile3))
    padded = tuple(max(pair) for pair in zip(turned, tiles, strict=True))
    if flat:
        within = window_starts(padded[1:], tiles[1:], step)
        starts = [(z, *start) for z in range(padded[0]) for start in within]
    else:
        starts = sorted(window_starts(padded, tiles, step))
    before = tuple((whole - part) // 2 for whole, part in zip(padded, turned, strict=True))
    return WindowGrid(
        cast("Shape3", axes),
        turned,
        cast("Shape3", padded),
        cast("Shape3", before),
        tiles,
        cast("tuple[Shape3, ...]", tuple(starts)),
        flat,
    )


def _permuted(shape: Shape, axes: Shape) -> Shape3:
    return cast("Shape3", tuple(shape[axis] for axis in axes))
