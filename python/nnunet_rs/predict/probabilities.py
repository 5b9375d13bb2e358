"""Class probabilities of a case on the image's grid, in a chunked, compressed file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.document import Kind, decode, encode
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.files import blosc2_writes
from nnunet_rs.core.types import FloatArray, IntArray, LabelSet, Shape3, Volume

if TYPE_CHECKING:  # whoever reads needs no torch
    from nnunet_rs.core.progress import Task
    from nnunet_rs.data.preprocess import Prepared
    from nnunet_rs.plan.schema import Plan
    from nnunet_rs.predict.export import OutputGrid

ENDING = ".b2nd"
# What a file's metadata says of its array.
PROBABILITIES = Kind("probabilities", dict, advice="predict again and save them", marked=False)


class ProbabilityFile:
    """Writes probabilities plane by plane as they come; outside the crop box all is background.

    The file is a blosc2 array (c, z, y, x) of float16 whose chunks are single planes across the grid, all classes.

    Raises
    ------
    NnunetError
        From the first plane on: the disk is full, or the folder cannot be written.
    """

    def __init__(self, path: Path, plan: Plan, output: OutputGrid, prepared: Prepared) -> None:
        import blosc2

        geometry, channels = prepared.geometry, plan.labels.outputs
        window_grid = output.window_grid
        self._grid, self._geometry, self._regions = window_grid, geometry, bool(plan.labels.regions)
        across = window_grid.axes[0]  # working axis that planes are stacked along
        self._across, self._backwards = geometry.transpose[across], geometry.flipped[across]  # the file's axis
        chunks = (channels, *(1 if axis == self._across else n for axis, n in enumerate(geometry.shape)))
        self._folder, whole = path.parent, (channels, *geometry.shape)
        with blosc2_writes(self._folder):
            self._array = blosc2.empty(whole, dtype=np.float16, chunks=chunks, urlpath=str(path), mode="w")
            self._array.schunk.vlmeta["nnunet_rs"] = PROBABILITIES.wrap({"labels": encode(plan.labels)})
        low, high = geometry.box[window_grid.axes[0]]
        for plane in (*range(low), *range(high, geometry.shape[self._across])):
            self._write(plane, None)

    def put(self, first: int, values: FloatArray) -> None:
        """Take probabilities (c, planes, a, b), in the grid's axes, of planes `first` and following of the crop."""
        low = self._geometry.box[self._grid.axes[0]][0]
        for offset in range(values.shape[1]):
            self._write(low + first + offset, values[:, offset])

    def _write(self, plane: int, values: FloatArray | None) -> None:
        """Write a plane, counted along the working axis."""
        block = np.zeros((self._array.shape[0], *self._thin()), np.float16)
        if not self._regions:
            block[0] = 1
        if values is not None:
            turned = self._geometry.turn(block).transpose(0, *(axis + 1 for axis in self._grid.axes))[:, 0]
            inside = (slice(*self._geometry.box[axis]) for axis in self._grid.axes[1:])
            turned[(slice(None), *inside)] = values
        plane = self._array.shape[1 + self._across] - 1 - plane if self._backwards else plane
        place = tuple(slice(plane, plane + 1) if axis == self._across else slice(None) for axis in range(3))
        with blosc2_writes(self._folder):
            self._array[(slice(None), *place)] = block

    def _thin(self) -> Shape3:
        z, y, x = (1 if axis == self._across else n for axis, n in enumerate(self._geometry.shape))
        return z, y, x


class ProbabilityArray:
    """Takes probabilities into memory: `values`, float32 (c, z, y, x); outside the crop box all is background."""

    def __init__(self, plan: Plan, output: OutputGrid, prepared: Prepared) -> None:
        geometry = prepared.geometry
        self.values: FloatArray = np.zeros((plan.labels.outputs, *geometry.shape), np.float32)
        if not plan.labels.regions:
            self.values[0] = 1
        inside = geometry.turn(self.values)[(slice(None), *(slice(*ends) for ends in geometry.box))]
        self._turned = inside.transpose(0, *(axis + 1 for axis in output.window_grid.axes))

    def put(self, first: int, values: FloatArray) -> None:
        """Take probabilities (c, planes, a, b), in the grid's axes, of planes `first` and following of the crop."""
        self._turned[:, first : first + values.shape[1]] = values


class _Predicts(Protocol):
    @property
    def plan(self) -> Plan: ...

    def prepare(self, volume: Volume, *, overwrite: bool = False) -> Any: ...

    def predict_prepared(
        self,
        prepared: Any,
        task: Task | None = None,
        make_sink: Callable[[OutputGrid, Prepared], ProbabilityArray] | None = None,
    ) -> IntArray: ...


def probabilities_of(predictor: _Predicts, volume: Volume) -> FloatArray:
    """Return the probabilities of an image, float32 (c, z, y, x), by whatever predicts in two steps."""
    made: list[ProbabilityArray] = []

    def make(output: OutputGrid, prepared: Prepared) -> ProbabilityArray:
        made.append(ProbabilityArray(predictor.plan, output, prepared))
        return made[0]

    predictor.predict_prepared(predictor.prepare(volume), None, make)
    return made[0].values


@dataclass(frozen=True, slots=True, eq=False)
class Probabilities:
    """A file of probabilities, read in parts."""

    path: Path
    array: Any  # blosc2.NDArray of float16
    labels: LabelSet  # what the channels are: regions, or classes

    @property
    def shape(self) -> tuple[int, ...]:
        """(c, z, y, x)."""
        return tuple(self.array.shape)

    def classes(self, most: int) -> Iterator[NDArray[np.float16]]:
        """Read all classes in turn, (classes, z, y, x): as many at a time as `most` bytes hold, and at least one."""
        count = max(1, most // (2 * int(np.prod(self.shape[1:]))))
        for first in range(0, self.shape[0], count):
            yield np.asarray(self.array[first : first + count])

    @property
    def across(self) -> int:
        """The file axis (0, 1, 2 for z, y, x) along which single planes are cheap to read."""
        return int(np.argmin(np.asarray(self.array.chunks[1:]) / np.asarray(self.shape[1:])))

    def planes(self, axis: int, start: int, stop: int) -> NDArray[np.float16]:
        """Read planes along a file axis: (c, z, y, x), cut."""
        cut = tuple(slice(start, stop) if i == axis else slice(None) for i in range(3))
        return np.asarray(self.array[(slice(None), *cut)])


def read_probabilities(path: str | Path) -> NDArray[np.float16]:
    """Read the file that `predict --save-probabilities` wrote, whole.

    Parameters
    ----------
    path
        OUT/{case}.b2nd: a Blosc2 array, which `blosc2.open` reads too.

    Returns
    -------
    ndarray
        float16 (c, z, y, x) on the image's grid: a channel for each class, the background first, or for each region.

    Raises
    ------
    DatasetError
        If the file is missing, damaged or something else.
    """
    found = open_probabilities(path)
    try:
        return np.asarray(found.array[:])
    except (OSError, RuntimeError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); predict again and save them") from error


def open_probabilities(path: str | Path) -> Probabilities:
    """Open what `predict --save-probabilities` wrote, to read it in parts.

    Raises
    ------
    DatasetError
        If the file is missing, damaged or something else.
    """
    import blosc2

    path = Path(path)
    try:
        array = blosc2.open(str(path), mode="r")
        content = array.schunk.vlmeta["nnunet_rs"]
        body = PROBABILITIES.unwrap(dict(content), str(path))
    except (OSError, RuntimeError, KeyError, AttributeError, ValueError, TypeError, OverflowError) as error:
        raise DatasetError(f"{path}: holds no probabilities ({error}); predict again and save them") from error
    found = Probabilities(path, array, decode(LabelSet, body.get("labels"), f"{path}: labels", DatasetError))
    shape = tuple(array.shape)
    whole = len(shape) == 4 and 2 * math.prod(shape) <= array.schunk.nbytes  # which pads shapes to whole chunks
    if array.dtype != np.float16 or not whole or shape[0] != found.labels.outputs:
        wanted = f"float16 (c, z, y, x) of {found.labels.outputs} channels"
        raise DatasetError(f"{path}: holds {array.dtype} {list(shape)}, not {wanted}; predict again and save them")
    return found
