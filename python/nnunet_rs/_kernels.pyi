"""The Rust kernels as Python sees them. Users call `nnunet_rs.core.kernels`, which re-exports these."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, final

import numpy as np
from numpy.typing import NDArray

_Integer = TypeVar("_Integer", bound=np.integer[Any] | np.bool_)

def resample_image(
    image: NDArray[np.float32],
    shape: Sequence[int],
    *,
    order: int = 3,
    lowres_axis: int | None = None,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Resample an image to another grid over the same extent.

    Output voxel i of an axis lies at (i + 1/2) n_in / n_out - 1/2 of the input; edges are repeated. An axis that keeps
    its length keeps its values exactly, and a constant image stays exactly constant.

    Parameters
    ----------
    image : ndarray of float32, (c, z, y, x) or (c, y, x)
        Any strides; each channel by itself.
    shape : sequence of int
        Voxels of the result along (z, y, x) or (y, x).
    order : {3, 1, 0}
        Cubic spline through the voxels, linear, or nearest voxel (half-way: the later one). Results are clipped to the
        range of the input's channel.
    lowres_axis : int, optional
        The axis of thick slices (0 for z). It takes the nearest slice; the others use `order` slice by slice, clipped
        to the slice's range.
    threads : int, optional
        All processors that this process may use if not given. The result does not depend on it.

    Returns
    -------
    ndarray of float32, (c, *shape)

    Raises
    ------
    ValueError
        If `shape` has another number of axes than the grid, an axis of either has no voxels or more than 2^24,
        `lowres_axis` is no axis of the grid, or `threads` lies outside 1 … 1024; the text names rule and value.
    TypeError
        If an argument is of another type; other dtypes are never converted silently.
    MemoryError
        If memory for the result, an intermediate or the threads is refused.

    Notes
    -----
    Equal to `skimage.transform.resize(order=order, mode="edge", anti_aliasing=False)`, that is
    `scipy.ndimage.zoom(mode="nearest", grid_mode=True)` and a clip, within 1e-6 of the value range (checked with
    scikit-image 0.26, SciPy 1.17), and with `lowres_axis` to nnU-Net 2.8's `resample_data_or_seg(order_z=0)`. Computed
    axis by axis in float32; every processor and number of threads gives the same bits.

    NaN does not count for the range and reaches what is interpolated from it. A spline depends on all voxels of
    their lanes, so under order 3 it reaches all of the channel, or slice, along the axes that change their length.
    Memory: the result, and where z shrinks one intermediate of at most the larger of input and result.
    """
    ...

def resample_labels(
    labels: NDArray[_Integer],
    shape: Sequence[int],
    *,
    lowres_axis: int | None = None,
    threads: int | None = None,
) -> NDArray[_Integer]:
    """Resample a label map to another grid over the same extent.

    Each label's indicator is resampled linearly (as `resample_image` does with order 1) and the label with the greatest
    weight wins; among equal weights the nearest voxel's, or else the smallest. Computed as one vote of the eight
    neighbours, whatever the number of labels.

    Parameters
    ----------
    labels : ndarray of any integer dtype or bool, (z, y, x) or (y, x)
        Any strides.
    shape : sequence of int
        Voxels of the result along the same axes.
    lowres_axis : int, optional
        This axis takes the nearest slice instead.
    threads : int, optional
        All processors that this process may use if not given. The result does not depend on it.

    Returns
    -------
    ndarray of the labels' dtype, (*shape)

    Raises
    ------
    ValueError
        If `shape` has another number of axes than the grid, an axis of either has no voxels or more than 2^24,
        `lowres_axis` is no axis of the grid, or `threads` lies outside 1 … 1024; the text names rule and value.
    TypeError
        If an argument is of another type; other dtypes are never converted silently.
    MemoryError
        If memory for the result, an intermediate or the threads is refused.

    Notes
    -----
    Equal to batchgenerators 0.25.5 `resize_segmentation`, nnU-Net's function, ties included.
    Close weights are compared in whole numbers, where that function leaves ties to float64's rounding.
    """
    ...

def logits_to_labels(
    logits: NDArray[np.float32] | NDArray[np.float16],
    shape: Sequence[int],
    *,
    lowres_axis: int | None = None,
    slab: Sequence[int] | None = None,
    threads: int | None = None,
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Resample a network's output and decide each voxel, without all classes ever lying at the result's resolution.

    Parameters
    ----------
    logits : ndarray of float32 or float16, (c, z, y, x) or (c, y, x)
        Any strides. Resampled linearly in float32.
    shape : sequence of int
        Voxels of the result along (z, y, x) or (y, x).
    lowres_axis : int, optional
        This axis takes the nearest slice instead.
    slab : (axis, start, planes, out_start, out_planes), optional
        Both grids are parts of longer ones along `axis`: the input holds planes `start` and following of `planes`, the
        result planes `out_start` and following of `out_planes`. The values are those that the whole would have; planes
        that they need must be present. For parts along several axes five numbers each, one behind the other; every
        axis once.
    threads : int, optional
        All processors that this process may use if not given. The result does not depend on it.

    Returns
    -------
    ndarray of uint8 (uint16 for more than 256 classes), (*shape)
        The class with the greatest value; among equals the lowest. NaN is never the greatest; 0 where all are NaN.

    Raises
    ------
    ValueError
        If `shape` has another number of axes than the grid, an axis of either has no voxels or more than 2^24,
        `lowres_axis` is no axis of the grid, or `threads` lies outside 1 … 1024; the text names rule and value.
    TypeError
        If an argument is of another type; other dtypes are never converted silently.
    MemoryError
        If memory for the result, an intermediate or the threads is refused.

    Notes
    -----
    As `argmax` of nnU-Net 2.8's resampled logits (`resample_data_or_seg(order=1, order_z=0)`). Memory besides the
    result: a few rows a thread.
    """
    ...

def logits_to_regions(
    logits: NDArray[np.float32] | NDArray[np.float16],
    shape: Sequence[int],
    paint: Sequence[int],
    *,
    lowres_axis: int | None = None,
    slab: Sequence[int] | None = None,
    threads: int | None = None,
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Resample the output of a network trained on regions and paint each region where its sigmoid is at least 1/2.

    Parameters
    ----------
    logits : ndarray of float32 or float16, (c, z, y, x) or (c, y, x)
        One channel a region; any strides. Resampled linearly in float32.
    shape : sequence of int
        Voxels of the result along (z, y, x) or (y, x).
    paint : sequence of int
        The value of each region, 0 … 65535, in the order of painting: later regions cover earlier ones.
    lowres_axis : int, optional
        This axis takes the nearest slice instead.
    slab : (axis, start, planes, out_start, out_planes), optional
        Both grids are parts of longer ones along `axis`: the input holds planes `start` and following of `planes`, the
        result planes `out_start` and following of `out_planes`. The values are those that the whole would have; planes
        that they need must be present. For parts along several axes five numbers each, one behind the other; every
        axis once.
    threads : int, optional
        All processors that this process may use if not given. The result does not depend on it.

    Returns
    -------
    ndarray of uint8 (uint16 if a value is above 255), (*shape)
        0 where no region is.

    Raises
    ------
    ValueError
        If `shape` has another number of axes than the grid, an axis of either has no voxels or more than 2^24,
        `lowres_axis` is no axis of the grid, or `threads` lies outside 1 … 1024; the text names rule and value.
    TypeError
        If an argument is of another type; other dtypes are never converted silently.
    MemoryError
        If memory for the result, an intermediate or the threads is refused.
    """
    ...

def resample_probabilities(
    probabilities: NDArray[np.float32] | NDArray[np.float16],
    shape: Sequence[int],
    *,
    half: bool = False,
    lowres_axis: int | None = None,
    slab: Sequence[int] | None = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """Resample probabilities (or logits) linearly, each class by itself.

    Parameters
    ----------
    probabilities : ndarray of float32 or float16, (c, z, y, x) or (c, y, x)
    shape : sequence of int
        Voxels of the result along (z, y, x) or (y, x).
    half : bool
        Store the result as float16; the computation is float32.
    lowres_axis : int, optional
        This axis takes the nearest slice instead.
    slab : (axis, start, planes, out_start, out_planes), optional
        Both grids are parts of longer ones along `axis`: the input holds planes `start` and following of `planes`, the
        result planes `out_start` and following of `out_planes`. The values are those that the whole would have; planes
        that they need must be present. For parts along several axes five numbers each, one behind the other; every
        axis once.
    threads : int, optional
        All processors that this process may use if not given. The result does not depend on it.

    Returns
    -------
    ndarray of float32 or float16, (c, *shape)

    Raises
    ------
    ValueError
        If `shape` has another number of axes than the grid, an axis of either has no voxels or more than 2^24,
        `lowres_axis` is no axis of the grid, or `threads` lies outside 1 … 1024; the text names rule and value.
    TypeError
        If an argument is of another type; other dtypes are never converted silently.
    MemoryError
        If memory for the result, an intermediate or the threads is refused.
    """
    ...

_Row: TypeAlias = tuple[float, float, float, float, float, float, float]  # in the order of ChannelStats

def foreground_statistics(
    image: NDArray[Any], labels: NDArray[np.integer[Any] | np.bool_], *, threads: int | None = None
) -> list[_Row]:
    """Return `core.kernels.foreground_statistics` as rows, a tuple a channel."""
    ...

def window_starts(size: Sequence[int], tile: Sequence[int], step: float = 0.5) -> list[tuple[int, ...]]:
    """Return the starts of the windows that cover a volume, evenly spread.

    Parameters
    ----------
    size : sequence of int
        Voxels of the volume along 1 to 32 axes, at least the tile's (pad it first).
    tile : sequence of int
        Voxels of a window along the same axes.
    step : float
        Greatest distance between neighbouring starts, in tiles; in (0, 1].

    Returns
    -------
    list of tuple of int
        `ceil((size - tile) / (tile * step)) + 1` starts along each axis, the last axis running fastest.

    Raises
    ------
    ValueError
        If the axes differ or are more than 32, a tile is empty or larger than the volume, `step` lies outside (0, 1],
        or there would be more than 2^22 windows; the text names rule and value.
    TypeError
        If an argument is of another type.
    MemoryError
        If memory for the list is refused.

    Notes
    -----
    Equal to nnU-Net 2.8 `compute_steps_for_sliding_window`.

    >>> window_starts((110,), (64,))
    [(0,), (23,), (46,)]
    """
    ...

def gaussian_importance(tile: Sequence[int]) -> NDArray[np.float32]:
    """Return how much each voxel of a window counts: a Gaussian around `tile // 2`, sigma an eighth of the tile.

    Parameters
    ----------
    tile : sequence of int
        Voxels of a window along 1 to 32 axes.

    Returns
    -------
    ndarray of float32, (*tile)
        At most 1 and nowhere 0.

    Raises
    ------
    ValueError
        If there is no axis or an empty one, or more than 32.
    MemoryError
        If memory for the result is refused.

    Notes
    -----
    Equal to nnU-Net 2.8 `compute_gaussian` in float32, that is `scipy.ndimage.gaussian_filter` of a unit impulse.
    """
    ...

@final
class Blend:
    """Weighted mean of overlapping windows, each weighted by `gaussian_importance`.

    Whole, it holds `classes * size` sums and takes windows in any order. Streamed along an axis, it holds the planes of
    one tile only: windows come with starts that do not fall along that axis, and planes that no later window can touch
    are returned by `add` and dropped. Several threads may add to one blend: each call waits for the one before it.

    Parameters
    ----------
    classes : int
        Channels of every patch.
    size : sequence of int
        Voxels of the volume, (z, y, x) or (y, x).
    tile : sequence of int
        Voxels of a window along the same axes, at most `size`.
    stream_axis : int, optional
        Axis of `size` to stream along.
    dtype : {"float32", "float16"}
        Of the sums and the result; each sum is computed in float32 and rounded. In float16 values must stay below 500,
        and weights below a thousandth of the highest count as much as that.
    threads : int, optional
        All processors that this process may use if not given. The result does not depend on it.

    Raises
    ------
    ValueError
        If there are no classes, the numbers of axes differ or are others, a tile is empty or larger than the volume, or
        `stream_axis` is no axis of it; the text names rule and value.
    TypeError
        If an argument is of another type.
    MemoryError
        If memory for the sums is refused.
    """

    def __new__(
        cls,
        classes: int,
        size: Sequence[int],
        tile: Sequence[int],
        *,
        stream_axis: int | None = None,
        dtype: Literal["float32", "float16"] = "float32",
        threads: int | None = None,
    ) -> Blend: ...
    def add(self, patch: NDArray[np.float32] | NDArray[np.float16], start: Sequence[int]) -> NDArray[Any] | None:
        """Add a window's values.

        Parameters
        ----------
        patch : ndarray of float32 or float16, (classes, *tile)
            Any strides.
        start : sequence of int
            The window's first voxel, one number an axis.

        Returns
        -------
        ndarray of the blend's dtype, (classes, ...), or None
            Streamed: the finished planes before `start` that were not returned yet, as means; None if there are none.

        Raises
        ------
        ValueError
            If the patch has another shape, the window leaves the volume, a streamed window starts before an earlier one
            or leaves a gap behind it, no window covered a voxel that is to be returned, or `finish` was called.
        TypeError
            If the patch is of another dtype.
        MemoryError
            If memory is refused. The window then is not added, and may be added again.
        """
        ...

    def finish(self) -> NDArray[Any]:
        """Return the means of all planes that were not returned yet; the blend cannot be used after.

        Returns
        -------
        ndarray of the blend's dtype, (classes, *size), or fewer planes along the streamed axis

        Raises
        ------
        ValueError
            If no window covered some voxel, or `finish` was called before.
        MemoryError
            If memory is refused; the blend is as it was.
        """
        ...

@final
class ForegroundAccumulator:
    """What `core.kernels.ForegroundAccumulator` wraps, with statistics as rows."""

    def __new__(cls, channels: int, memory: int) -> ForegroundAccumulator: ...
    def add(
        self, image: NDArray[Any], labels: NDArray[np.integer[Any] | np.bool_], *, threads: int | None = None
    ) -> None: ...
    def refine(
        self, image: NDArray[Any], labels: NDArray[np.integer[Any] | np.bool_], *, threads: int | None = None
    ) -> None: ...
    def merge(self, other: ForegroundAccumulator) -> None: ...
    @property
    def pending(self) -> bool: ...
    def finish(self) -> list[_Row]: ...
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(data: bytes) -> ForegroundAccumulator: ...

@final
class WindowAccumulator:
    """Weighted mean of a network's outputs over overlapping windows, each weighted by `gaussian_importance`.

    Memory is taken when a window first touches a voxel and released by `forget`: with windows that come layer by
    layer, and row by row within a layer, half a layer of windows is the most that is held. Several threads may use one
    object: each call waits for the one before it.

    Parameters
    ----------
    classes
        Of the outputs, at least 1.
    size
        Of the volume, (z, y, x) voxels.
    tile
        Of the windows, (z, y, x) voxels; at most the size along every axis.
    threads
        How many to use; all processors of this process where not given.

    Raises
    ------
    ValueError
        No classes, or shapes that do not fit.
    MemoryError
        If memory is refused.
    """

    def __new__(
        cls, classes: int, size: Sequence[int], tile: Sequence[int], *, threads: int | None = None
    ) -> WindowAccumulator: ...
    def add(
        self,
        output: NDArray[np.float32],
        start: Sequence[int],
        *,
        activation: str = "none",
        mirrored: Sequence[int] = (),
    ) -> None:
        """Add a network's output for one window.

        Parameters
        ----------
        output : ndarray of float32, (classes, *tile)
            Logits, any strides.
        start : (z, y, x)
            First voxel of the window.
        activation : {"none", "softmax", "sigmoid"}
            What is averaged. NaN and infinite logits become NaN.
        mirrored : sequence of int
            Axes, 0 to 2 for z, y, x, along which the network saw the window mirrored; the output is turned back.

        Raises
        ------
        ValueError
            Another shape, a window that leaves the volume, an activation or axis that there is not.
        TypeError
            If `output` is not of float32.
        MemoryError
            If memory is refused; nothing is added then.
        """
        ...

    def mean(self, start: Sequence[int], stop: Sequence[int]) -> NDArray[np.float32]:
        """Return the weighted means of a part of the volume.

        Parameters
        ----------
        start, stop : (z, y, x)
            First voxel, and the one after the last.

        Returns
        -------
        ndarray of float32, (classes, z, y, x)

        Raises
        ------
        ValueError
            A part that is empty or leaves the volume, voxels that no window covered or that were released.
        MemoryError
            If memory is refused.
        """
        ...

    def forget(self, plane: int, row: int) -> None:
        """Give back the memory of rows before `row` in planes before `plane`.

        A row's memory goes with that of its neighbours: some rows may stay a little longer.
        """
        ...

class _Elastic(Protocol):
    @property
    def alpha(self) -> float: ...
    @property
    def sigma(self) -> float: ...
    @property
    def seed(self) -> int: ...

_Label = TypeVar("_Label", bound=np.integer[Any] | np.float32)

@final
class Warp:
    """A deformation that is made once and applied to image and labels; `core.kernels.warp` documents it."""

    def __new__(
        cls,
        shape: Sequence[int],
        matrix: Sequence[Sequence[float]],
        centre: Sequence[float],
        elastic: _Elastic | None = None,
        *,
        threads: int | None = None,
    ) -> Warp: ...
    def apply(
        self,
        image: NDArray[np.float32],
        labels: NDArray[_Label] | None = None,
        *,
        order: int = 3,
        border: float = 0.0,
        label_border: int = 0,
    ) -> tuple[NDArray[np.float32], NDArray[_Label] | None]: ...

@final
class IntensityChanges:
    """Changes of an image's intensities, channel by channel, that are noted first and then made in one go.

    Every voxel stays in its place. Changes of one channel are made in the order in which they were noted. Several
    threads may note and apply; what is noted while `apply` runs is not part of it.

    >>> changes = IntensityChanges()
    >>> changes.scale(0, 2.0)
    >>> image = np.ones((1, 2, 2), np.float32)
    >>> changes.apply(image)
    >>> image.tolist()
    [[[2.0, 2.0], [2.0, 2.0]]]
    """

    def __new__(cls) -> IntensityChanges: ...
    def __len__(self) -> int: ...
    def noise(self, channel: int, std: float, seed: int) -> None:
        """Note: add Gaussian noise.

        `std`, its standard deviation, is 0 to 1e30; `seed`, 0 to 2^64 - 1, and the position decide on the values.
        """

    def blur(self, channel: int, sigma: float) -> None:
        """Note: smooth by a Gaussian of `sigma`, 0 to 1000 voxels.

        SciPy's `gaussian_filter` (`mode="reflect"`, cut off at four of them); nothing is done along an axis of one
        voxel, and a constant channel stays exactly constant.
        """

    def scale(self, channel: int, factor: float) -> None:
        """Note: multiply."""

    def contrast(self, channel: int, factor: float) -> None:
        """Note: multiply the differences from the mean; values stay within the channel's range.

        batchgenerators' `augment_contrast` with `preserve_range`.
        """

    def simulate_low_resolution(self, channel: int, shape: Sequence[int]) -> None:
        """Note: resample to a coarser grid (z, y, x; z = 1 in 2-D) by the nearest voxel, and back linearly."""

    def gamma(self, channel: int, exponent: float, *, invert: bool = False) -> None:
        """Note: raise values, scaled to 0 … 1, to a power above 0 and at most 100; mean and std are kept.

        With `invert` this is done to the negative. batchgenerators' `augment_gamma` with `retain_stats`.
        """

    def apply(self, image: NDArray[np.float32], *, threads: int | None = None) -> None:
        """Make the changes, in place.

        Parameters
        ----------
        image : ndarray of float32, (c, z, y, x) or (c, y, x)
            Any strides, as long as no two elements share memory.
        threads : int, optional
            All processors that this process may use if not given; channels are worked on side by side. The result does
            not depend on it.

        Raises
        ------
        ValueError
            If a change is of a channel that there is not, or the image has other axes or no voxels, or is read-only. A
            parameter that cannot be is refused when it is noted.
        TypeError
            If the image is of another type.
        MemoryError
            If memory is refused; some of the changes may then be made.
        """

def mirror(array: NDArray[Any], axes: Sequence[int], *, threads: int | None = None) -> None:
    """Turn an array round along some of its spatial axes, in place.

    Parameters
    ----------
    array : ndarray of booleans, integers, floats or complex numbers of 8 to 64 bits, (c, z, y, x) or (c, y, x)
        Any byte order, any strides, as long as no two elements share memory.
    axes : sequence of int
        0 is z, or y of a 2-D array.
    threads : int, optional
        All processors that this process may use if not given; channels are worked on side by side.

    Raises
    ------
    ValueError
        If the array has other axes, or not the one that is named, or is read-only.
    TypeError
        If the array is of another type, of text, dates, records or objects among them.
    MemoryError
        If memory for a copy of a channel that is not contiguous is refused; other channels may then be turned.
    """
