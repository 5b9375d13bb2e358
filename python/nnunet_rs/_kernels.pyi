"""The Rust kernels as Python sees them. Users call `nnunet_rs.core.kernels`, which re-exports these."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

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
    order : {0, 1, 3}
        Nearest voxel (half-way: the later one), linear, or cubic spline through the voxels. Results are clipped to the
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
        If memory for the result or the intermediate is refused.

    Notes
    -----
    Equal to `skimage.transform.resize(order=order, mode="edge", anti_aliasing=False)`, that is
    `scipy.ndimage.zoom(mode="nearest", grid_mode=True)` and a clip, within 1e-6 of the value range (checked with
    scikit-image 0.26, SciPy 1.17), and with `lowres_axis` to nnU-Net 2.8's `resample_data_or_seg(order_z=0)`. Computed
    axis by axis in float32; every processor and number of threads gives the same bits.

    NaN does not count for the range and reaches what its taps reach. A spline's coefficients depend on all voxels of
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
    weight wins; among equal weights the nearest voxel's. Computed as one vote of the eight neighbours, whatever the
    number of labels.

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
        If memory for the result or the intermediate is refused.

    Notes
    -----
    nnU-Net (batchgenerators 0.25 `resize_segmentation`) takes labels with at least half of the weight: it leaves a voxel
    0 where none has it, and gives an exact half to the label of higher number. Elsewhere the two are equal.
    Weights are compared in whole numbers wherever float32 could not tell them apart.
    """
    ...

def logits_to_labels(
    logits: NDArray[np.float32] | NDArray[np.float16],
    shape: Sequence[int],
    *,
    lowres_axis: int | None = None,
    slab: tuple[int, int, int, int, int] | None = None,
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
        that they need must be at hand.
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
        If memory for the result or the intermediate is refused.

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
    slab: tuple[int, int, int, int, int] | None = None,
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
        that they need must be at hand.
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
        If memory for the result or the intermediate is refused.
    """
    ...

def resample_probabilities(
    probabilities: NDArray[np.float32] | NDArray[np.float16],
    shape: Sequence[int],
    *,
    half: bool = False,
    lowres_axis: int | None = None,
    slab: tuple[int, int, int, int, int] | None = None,
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
        that they need must be at hand.
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
        If memory for the result or the intermediate is refused.
    """
    ...

_Row: TypeAlias = tuple[float, float, float, float, float, float, float]  # in the order of ChannelStats

def foreground_statistics(
    image: NDArray[Any], labels: NDArray[np.integer[Any] | np.bool_], *, threads: int | None = None
) -> list[_Row]: ...
def window_starts(size: Sequence[int], tile: Sequence[int], step: float = 0.5) -> list[tuple[int, ...]]: ...
def gaussian_importance(tile: Sequence[int]) -> NDArray[np.float32]: ...

class Blend:
    def __init__(
        self,
        classes: int,
        size: Sequence[int],
        tile: Sequence[int],
        *,
        stream_axis: int | None = None,
        dtype: Literal["float32", "float16"] = "float32",
        threads: int | None = None,
    ) -> None: ...
    def add(self, patch: NDArray[np.float32] | NDArray[np.float16], start: Sequence[int]) -> NDArray[Any] | None: ...
    def finish(self) -> NDArray[Any]: ...

class ForegroundAccumulator:
    def __init__(self, channels: int, memory: int) -> None: ...
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

def add_scores(
    total: NDArray[np.float32],
    logits: NDArray[np.float32],
    *,
    activation: str = "none",
    mirrored: Sequence[int] = (),
    first: bool = False,
    threads: int | None = None,
) -> None: ...

class _Elastic(Protocol):
    @property
    def alpha(self) -> float: ...
    @property
    def sigma(self) -> float: ...
    @property
    def seed(self) -> int: ...

_Label = TypeVar("_Label", bound=np.integer[Any] | np.float32)

class Warp:
    def __init__(
        self,
        shape: Sequence[int],
        matrix: Sequence[Sequence[float]],
        centre: Sequence[float],
        elastic: _Elastic | None = None,
        *,
        threads: int | None = None,
    ) -> None: ...
    def image(self, image: NDArray[np.float32], *, order: int = 3, border: float = 0.0) -> NDArray[np.float32]: ...
    def labels(self, labels: NDArray[_Label], *, border: int = 0) -> NDArray[_Label]: ...
