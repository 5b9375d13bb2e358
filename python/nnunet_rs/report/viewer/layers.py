"""What the viewer shows of a case: layers of voxels, each read when it is asked for, whole or at a lower resolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.image_file import ImageFile
from nnunet_rs.core.types import LabelSet
from nnunet_rs.report.palette import class_colour

LayerKind = Literal["image", "labels", "outline", "difference", "probability"]
FIRST = 4_000_000  # voxels of what is sent first
SECOND = 32_000_000  # and after that by itself; all of them on request
_TYPES = ("uint8", "int16", "uint16", "int32", "float32")  # that the browser's side reads
_AIR = -500.0  # images with such intensities are taken for CT in Hounsfield units
_SOFT_TISSUE = (-160.0, 240.0)  # Hounsfield units that are black and white


@dataclass(frozen=True, slots=True, eq=False)
class Voxels:
    """One channel on its grid."""

    data: NDArray[Any]  # (z, y, x)
    affine: NDArray[np.float64]  # 4 × 4, voxel (x, y, z) to world in mm, RAS+
    slope: float = 1.0  # intensity = slope * voxel + intercept
    intercept: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Something that lies on a case's grid."""

    key: str  # in the page's addresses
    name: str
    kind: LayerKind
    read: Callable[[], Voxels]
    shown: bool = True  # of labels: from the beginning


@dataclass(frozen=True, slots=True, eq=False)
class ViewCase:
    """A case of the list; its layers are listed when it is opened."""

    name: str
    layers: Callable[[], tuple[Layer, ...]]
    labels: LabelSet | None = None  # None: values are what the files hold


def of_file(scan: ImageFile, channel: int = 0) -> Voxels:
    """Take a channel of an image file."""
    return Voxels(scan.voxels[channel], np.array(scan.header.affine), scan.slope, scan.intercept)


def distance(one: Voxels, other: Voxels) -> float:
    """Return how far corners of two grids of one size lie apart at most, in mm; 0: less than half a voxel."""
    x, y, z = ((0, n - 1) for n in one.data.shape[::-1])
    corners = np.array([(a, b, c, 1.0) for a in x for b in y for c in z])
    apart = float(np.linalg.norm(corners @ (one.affine - other.affine)[:3].T, axis=1).max())
    smallest = float(np.linalg.norm(one.affine[:3, :3], axis=0).min())
    return apart if apart > smallest / 2 else 0.0


def steps(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return by which steps voxels are sent, one after the other; the last is 1: all of them."""
    voxels = int(np.prod(shape))
    found = [next(step for step in range(1, 1000) if voxels / step**3 <= most) for most in (FIRST, SECOND)]
    return tuple(dict.fromkeys((*found, 1)))


def window(voxels: Voxels) -> tuple[float, float]:
    """Choose the intensities that are black and white, from every n-th voxel: a CT's soft tissue, else 99 %."""
    step = max(1, round((voxels.data.size / 2_000_000) ** (1 / 3)))
    sample = voxels.data[::step, ::step, ::step].astype(np.float32) * voxels.slope + voxels.intercept
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0
    if sample.min() <= _AIR:
        return _SOFT_TISSUE
    other = sample[sample != 0]
    low, high = np.percentile(other if other.size else sample, (0.5, 99.5))
    return float(low), float(high if high > low else low + 1)


def nifti(voxels: Voxels, step: int, *, outline: bool = False) -> bytes:
    """Return a NIfTI file of every `step`-th voxel along each axis; with `outline`, of the borders of labels alone."""
    import nibabel

    data = voxels.data[::step, ::step, ::step]
    data = outlined(data) if outline else data
    if data.dtype.newbyteorder("=").name not in _TYPES:
        data = data.astype(np.float32 if data.dtype.kind == "f" else _integer(data))
    data = np.ascontiguousarray(data, data.dtype.newbyteorder("<"))
    affine = voxels.affine @ np.diag([step, step, step, 1.0])
    header = nibabel.Nifti1Image(np.empty(data.shape[::-1], data.dtype), affine).header
    header["vox_offset"], header["magic"] = 352, b"n+1"
    header["scl_slope"], header["scl_inter"] = voxels.slope, voxels.intercept
    return bytes(header.binaryblock) + b"\0\0\0\0" + data.tobytes()


def outlined(labels: NDArray[Any]) -> NDArray[Any]:
    """Keep of each structure the voxels at its border, in the plane or to the next one: what lies below is seen."""
    inside = np.ones(labels.shape, np.bool_)
    for axis in range(labels.ndim):
        if labels.shape[axis] < 3:
            continue
        one, other = (tuple(s if a == axis else slice(None) for a in range(3)) for s in (slice(1, None), slice(-1)))
        same = labels[one] == labels[other]
        inside[one] &= same
        inside[other] &= same
    found: NDArray[Any] = np.where(inside, 0, labels)
    return found


def _integer(data: NDArray[Any]) -> type[np.generic]:
    low, high = (int(data.min()), int(data.max())) if data.size else (0, 0)
    fitting = (np.uint8, np.int16, np.uint16, np.int32)
    return next((kind for kind in fitting if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max), np.float32)


def colour_table(labels: LabelSet | None, values: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """Return value, name and colour of the labels of a case."""
    names = dict(zip(labels.values, labels.names, strict=True)) if labels else {}
    known = labels.values[1:] if labels else values
    rows = []
    for place, value in enumerate(known, 1):
        colour = [round(255 * part) for part in class_colour(place)]
        rows.append({"value": value, "name": names.get(value, f"label {value}"), "colour": colour})
    return rows


def difference(found: Voxels, truth: Voxels) -> Voxels:
    """Return 1 where the reference has something else than the prediction, 2 where it has nothing.

    Raises
    ------
    DatasetError
        They are not of one size.
    """
    if found.data.shape != truth.data.shape:
        raise DatasetError(f"prediction {found.data.shape} and reference {truth.data.shape} have other sizes")
    wrong = found.data != truth.data
    return Voxels(np.where(wrong, np.where(truth.data > 0, 1, 2), 0).astype(np.uint8), found.affine)
