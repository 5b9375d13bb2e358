"""The sliding window for any network: arrays in, the scores of the whole image out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.types import FloatArray, Shape, Shape3
from nnunet_rs.predict.blend import OutputActivation
from nnunet_rs.predict.engines.engine import Alone, Engine, HostEngine, Scored, mirror_images
from nnunet_rs.predict.sliding_window import WindowOptions, sliding_window_scores
from nnunet_rs.predict.window_grid import WindowGrid, sliding_window_grid

_Array = TypeVar("_Array")  # a NumPy array or a tensor of PyTorch's


def sliding_window(
    network: Callable[[Any], Any],
    image: _Array,
    tile: Sequence[int],
    *,
    step: float = 0.5,
    mirror_axes: Sequence[int] = (),
    activation: OutputActivation = "none",
    batch: int | None = None,
) -> _Array:
    """Predict an image of any size by a network that takes windows of one size.

    Parameters
    ----------
    network
        Any callable that maps (b, c, *tile) to (b, classes, *tile), float32. A module of PyTorch's is given tensors on
        its device, any other callable arrays of the image's own kind. A module is used in the mode that it is in.
    image
        (c, z, y, x) or (c, y, x): a NumPy array or a tensor of PyTorch's.
    tile
        Size of a window, voxels: z, y, x; or y, x, which of a volume takes slices. Images smaller than it are padded
        with zeros on both sides.
    step
        Distance of neighbouring windows, at most, as a share of the tile; in (0, 1].
    mirror_axes
        Axes of the tile, 0 the first: averaged are the scores of all 2^n mirror images.
    activation
        What is averaged: logits ("none"), or what "softmax" or "sigmoid" makes of them.
    batch
        Windows at a time; None: by their size.

    Returns
    -------
    ndarray or Tensor
        float32 (classes, *image.shape[1:]), of the image's kind and on its device: the mean over windows, weighted by
        `gaussian_importance(tile)`, and over mirror images.

    Raises
    ------
    ValueError
        The image, tile, step or axes do not fit each other.
    NnunetError
        The network returns something of another shape, or scores that are not finite.

    Notes
    -----
    The windows are nnU-Net's, and so is their weight: MONAI's `sliding_window_inference` with `mode="gaussian"`,
    `sigma_scale=0.125` and `overlap=1 - step` lays windows at fixed distances instead.
    """
    sizes, axes = _checked(image, tuple(tile), tuple(mirror_axes))
    array = _as_array(image)
    volume = array if array.ndim == 4 else array[:, None]
    grid = sliding_window_grid(sizes, tuple(tile), step)
    engine = _engine(network, image, len(grid.tile) - int(grid.flat))
    options = WindowOptions(axes, activation, batch, by_rows=False)
    scores = _whole(engine, np.ascontiguousarray(volume, np.float32), grid, options)
    return cast("_Array", _as_given(scores if array.ndim == 4 else scores[:, 0], image))


def _checked(image: Any, tile: Shape, axes: Shape) -> tuple[Shape3, Shape]:
    """Return the image's size (z, y, x), and the axes in ascending order."""
    shape = tuple(image.shape)
    if len(shape) not in (3, 4) or 0 in shape:
        raise ValueError(f"the image has shape {shape}; expected (c, z, y, x) or (c, y, x)")
    if len(tile) not in (2, len(shape) - 1) or min(tile) < 1:
        wanted = "two sizes" if len(shape) == 3 else "two or three sizes"
        raise ValueError(f"the tile is {tile}; expected {wanted} of at least 1 for an image of shape {shape}")
    if sorted(set(axes)) != sorted(axes) or not set(axes) <= set(range(len(tile))):
        raise ValueError(f"mirror_axes are {axes}; expected different axes of the tile, 0 to {len(tile) - 1}")
    size = shape[1:] if len(shape) == 4 else (1, *shape[1:])
    return cast("Shape3", size), tuple(sorted(axes))


def _whole(engine: Engine, volume: FloatArray, grid: WindowGrid, options: WindowOptions) -> FloatArray:
    """Put the finished parts together, (classes, z, y, x)."""
    whole: FloatArray | None = None
    for part in sliding_window_scores(engine, volume, grid, options):
        scores = part.read(part.planes, part.rows)
        if whole is None:
            whole = np.empty((scores.shape[0], *grid.size), np.float32)
        whole[:, slice(*part.planes), slice(*part.rows)] = scores
    assert whole is not None  # the image has voxels
    return whole.transpose(0, *(axis + 1 for axis in grid.back))


def _is_tensor(value: object) -> bool:
    torch = sys.modules.get("torch")  # whoever has a tensor or a module has imported it
    return torch is not None and isinstance(value, torch.Tensor)


def _as_array(image: Any) -> NDArray[Any]:
    return image.detach().cpu().numpy() if _is_tensor(image) else np.asarray(image)


def _as_given(scores: FloatArray, image: Any) -> Any:
    if not _is_tensor(image):
        return scores
    import torch

    return torch.from_numpy(np.ascontiguousarray(scores)).to(image.device)


def _engine(network: Callable[[Any], Any], image: Any, dims: int) -> Engine:
    known = sys.modules.get("torch")
    if not _is_tensor(image) and (known is None or not isinstance(network, known.nn.Module)):
        return NumpyEngine(network)
    import torch

    from nnunet_rs.model.device import Compute
    from nnunet_rs.predict.engines.torch_engine import torch_engine

    weight = next(iter(network.parameters()), None) if isinstance(network, torch.nn.Module) else None
    device = weight.device if weight is not None else image.device if _is_tensor(image) else torch.device("cpu")
    return torch_engine((_Checked(network, dims),), Compute(device, torch.float32))


@dataclass(frozen=True, slots=True, eq=False)
class _Checked:
    """A network whose scores are seen to have the shape of its windows."""

    network: Callable[[Any], Any]
    dims: int  # of the tile

    def __call__(self, windows: Any) -> Any:
        scores = self.network(windows)
        shape = tuple(getattr(scores, "shape", ()))
        if len(shape) != 2 + self.dims or shape[0] != len(windows) or shape[2:] != tuple(windows.shape[2:]):
            size = ", ".join(map(str, windows.shape[2:]))
            said = f"an array of shape {shape}" if shape else f"a {type(scores).__name__}"
            raise NnunetError(f"the network returned {said}; expected ({len(windows)}, classes, {size})")
        return scores


@dataclass(frozen=True, slots=True, eq=False)
class NumpyEngine(HostEngine):
    """Engine of one callable on NumPy arrays."""

    network: Callable[[Any], Any]
    remarks: tuple[str, ...] = ()

    def describe(self) -> str:
        """See Engine."""
        return "a function of NumPy arrays"

    def scores(
        self,
        windows: FloatArray,
        mirror_axes: Shape,
        activation: OutputActivation = "none",  # noqa: ARG002 (these scores are logits)
        alone: Alone | None = None,  # noqa: ARG002 (there is one network)
    ) -> Iterator[Scored]:
        """See Engine."""
        network = _Checked(self.network, windows.ndim - 2)
        for axes in mirror_images(mirror_axes):
            seen = np.ascontiguousarray(np.flip(windows, tuple(axis + 2 for axis in axes))) if axes else windows
            yield Scored(np.asarray(network(seen), np.float32), axes, slice(0, len(windows)))
