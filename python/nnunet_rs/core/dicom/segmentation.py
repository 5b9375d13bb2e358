"""DICOM SEG read: binary, fractional and label map segments, brought onto one grid of label values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.content import COPY_AGAIN, ends_early, reason, require_memory
from nnunet_rs.core.dicom.headers import frame_planes
from nnunet_rs.core.dicom.library import pydicom, read_dataset
from nnunet_rs.core.dicom.named_labels import Named, code_of, values_of
from nnunet_rs.core.dicom.plane import Plane
from nnunet_rs.core.dicom.stack import distances
from nnunet_rs.core.image_file import LPS_TO_RAS, ImageFile, smallest_integer
from nnunet_rs.core.issues import Issue, IssueError
from nnunet_rs.core.types import Header, LabelSet

_BESIDE = 0.1  # parts of the distance between slices by which a frame may lie beside its slice
_MOST_SLICES = 1 << 16


def read_segments(path: Path, labels: LabelSet | None = None) -> ImageFile:
    """Read a SEG file as label values on the smallest grid of its own planes that holds all of its frames.

    Parameters
    ----------
    path
        Of Segmentation Storage, binary or fractional (from one half on a voxel belongs to the segment), or a label map.
    labels
        Which value each segment's name stands for; None: see `values_of`.

    Raises
    ------
    IssueError
        `unreadable`, `header-invalid`, `file-truncated`, `no-position`, `uneven-spacing`, `label-undeclared`, `memory`.
    """
    dataset, _ = read_dataset(path)
    try:
        return _read(path, dataset, labels)
    except (IssueError, MemoryError):
        raise
    except Exception as error:  # pydicom converts a value when it is asked for, and raises anything
        value = f"its segments cannot be read: {reason(error)}"
        raise IssueError(Issue(path, "unreadable", value, COPY_AGAIN)) from error


def _read(path: Path, dataset: Any, labels: LabelSet | None) -> ImageFile:
    kind = str(dataset.get("SegmentationType"))
    values, issues = values_of(path, _names(dataset), labels)
    planes = frame_planes(path, dataset)
    slices = _slices(path, planes)
    rows, columns = planes[0].size
    shape = (slices.count, rows, columns)
    out = np.zeros(shape, smallest_integer(0, max(values.values(), default=0)))
    require_memory(path, out.nbytes, f"{' x '.join(map(str, shape))} labels")
    frame_of = _frames(path, dataset, planes[0].size, len(planes))
    twice = 0
    for number, frames in _by_segment(dataset, kind, len(planes), values):
        for frame in frames:
            mask, plane = frame_of(frame, number), out[slices.index[frame]]
            twice += int(np.count_nonzero(plane[mask]))
            plane[mask] = values[number]
    if twice:
        value = f"{twice} voxels belong to several segments; the later one is taken"
        issues.append(Issue(path, "segments-overlap", value, "one value a voxel tells no more", fatal=False))
    return ImageFile(path, out[np.newaxis], slices.spacing, slices.header, issues=tuple(issues))


def read_names(path: Path) -> tuple[Named, ...]:
    """Return the segments of a SEG file, the background of a label map left out; errors as `read_segments`."""
    dataset, _ = read_dataset(path, ["SegmentSequence"], pixels=False)
    try:
        return _names(dataset)
    except Exception as error:  # pydicom converts a value when it is asked for, and raises anything
        value = f"its segments cannot be read: {reason(error)}"
        raise IssueError(Issue(path, "unreadable", value, COPY_AGAIN)) from error


def _names(dataset: Any) -> tuple[Named, ...]:
    found = (
        Named(
            int(item.SegmentNumber),
            str(item.get("SegmentLabel") or ""),
            str(item.get("SegmentDescription") or ""),
            code_of(item.get("SegmentedPropertyTypeCodeSequence")),
        )
        for item in dataset.get("SegmentSequence") or ()
    )
    return tuple(one for one in found if one.number)


@dataclass(frozen=True, slots=True)
class _Slices:
    """Where the frames lie."""

    index: tuple[int, ...]  # of each frame's slice
    count: int
    spacing: tuple[float, float, float]
    header: Header


def _slices(path: Path, planes: tuple[Plane, ...]) -> _Slices:
    first = planes[0]
    if first.pixel_spacing is None or any(plane.position is None or plane.rows is None for plane in planes):
        value = "frames without position, orientation or pixel spacing"
        raise IssueError(Issue(path, "no-position", value, "its place in space is not known"))
    along = distances(planes)
    ordered = np.unique(np.round(along, 3))
    steps = np.diff(ordered)
    step = abs(first.gap or 0) or (float(steps.min()) if len(steps) else first.thickness or 1.0)
    if len(steps) and steps.min() < (1 - _BESIDE) * step:  # what the header says is not so
        step = float(steps.min())
    index = np.rint((along - ordered[0]) / step)
    if np.abs(along - ordered[0] - index * step).max() > _BESIDE * step or index.max() >= _MOST_SLICES:
        value = f"frames lie {steps.min():.3f} to {steps.max():.3f} mm apart, no multiple of {step:.3f} mm"
        raise IssueError(Issue(path, "uneven-spacing", value, "store it on the grid of its images"))
    lowest = planes[int(along.argmin())]
    between, beside = first.pixel_spacing
    affine = np.eye(4)
    affine[:3, 0] = np.multiply(first.rows, beside)  # type: ignore[arg-type]
    affine[:3, 1] = np.multiply(first.columns, between)  # type: ignore[arg-type]
    affine[:3, 2] = np.cross(first.rows, first.columns) * step  # type: ignore[arg-type]
    affine[:3, 3] = lowest.position or 0
    header = Header("itk", tuple(tuple(map(float, row)) for row in LPS_TO_RAS * affine))
    return _Slices(tuple(index.astype(int).tolist()), int(index.max()) + 1, (step, between, beside), header)


def _by_segment(dataset: Any, kind: str, frames: int, values: dict[int, int]) -> Iterator[tuple[int, list[int]]]:
    """Yield each segment that is wanted with its frames, in the order of painting."""
    if kind == "LABELMAP":
        for number in values:
            yield number, list(range(frames))
        return
    of: dict[int, list[int]] = {}
    shared: Any = dataset.get("SharedFunctionalGroupsSequence") or ()
    for frame, item in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        source = item if "SegmentIdentificationSequence" in item else shared[0]
        of.setdefault(int(source.SegmentIdentificationSequence[0].ReferencedSegmentNumber), []).append(frame)
    for number in values:
        yield number, of.get(number, [])


def _frames(path: Path, dataset: Any, size: tuple[int, int], count: int) -> Callable[[int, int], NDArray[np.bool_]]:
    """Return a function that gives the mask (y, x) of a segment in a frame."""
    bits, pixels = int(dataset.BitsAllocated), size[0] * size[1]
    kind = str(dataset.get("SegmentationType"))
    syntax = pydicom().uid.UID(str(dataset.file_meta.get("TransferSyntaxUID") or "1.2.840.10008.1.2"))
    stored: Any = dataset.get("PixelData")
    if stored is None:
        raise IssueError(Issue(path, "no-pixel-data", "no pixels follow the header", "export it again"))
    if syntax.is_encapsulated:
        whole = np.asarray(dataset.pixel_array).reshape(count, *size)
    elif len(stored) * 8 < bits * pixels * count:
        raise ends_early(path, len(stored), (bits * pixels * count + 7) // 8)
    elif bits != 1:
        kinds = {8: "u1", 16: "u2" if syntax.is_little_endian else ">u2"}
        whole = np.frombuffer(stored, kinds[bits], pixels * count).reshape(count, *size)
    packed = None if syntax.is_encapsulated or bits != 1 else np.frombuffer(stored, np.uint8)
    half = int(dataset.get("MaximumFractionalValue") or 1) / 2

    def mask(frame: int, number: int) -> NDArray[np.bool_]:
        if packed is not None:
            first, last = frame * pixels, (frame + 1) * pixels
            some = np.unpackbits(packed[first // 8 : (last + 7) // 8], bitorder="little")
            return some[first % 8 : first % 8 + pixels].reshape(size).view(np.bool_)
        if kind == "LABELMAP":
            return np.asarray(whole[frame] == number)
        return np.asarray(whole[frame] >= half) if kind == "FRACTIONAL" else np.asarray(whole[frame] != 0)

    return mask
