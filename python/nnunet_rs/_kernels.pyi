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
) -> NDArray[np.float32]: ...
def resample_labels(
    labels: NDArray[_Integer],
    shape: Sequence[int],
    *,
    lowres_axis: int | None = None,
    threads: int | None = None,
) -> NDArray[_Integer]: ...
def logits_to_labels(
    logits: NDArray[np.float32] | NDArray[np.float16],
    shape: Sequence[int],
    *,
    lowres_axis: int | None = None,
    slab: tuple[int, int, int, int, int] | None = None,
    threads: int | None = None,
) -> NDArray[np.uint8] | NDArray[np.uint16]: ...
def logits_to_regions(
    logits: NDArray[np.float32] | NDArray[np.float16],
    shape: Sequence[int],
    paint: Sequence[int],
    *,
    lowres_axis: int | None = None,
    slab: tuple[int, int, int, int, int] | None = None,
    threads: int | None = None,
) -> NDArray[np.uint8] | NDArray[np.uint16]: ...
def resample_probabilities(
    probabilities: NDArray[np.float32] | NDArray[np.float16],
    shape: Sequence[int],
    *,
    half: bool = False,
    lowres_axis: int | None = None,
    slab: tuple[int, int, int, int, int] | None = None,
    threads: int | None = None,
) -> NDArray[Any]: ...


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
