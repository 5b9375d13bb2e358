"""Pixels of a series, decoded slice by slice into one array."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.content import COPY_AGAIN, ends_early, reason, require_memory
from nnunet_rs.core.dicom.codecs import plugged
from nnunet_rs.core.dicom.library import INSTALL, pydicom, read_dataset
from nnunet_rs.core.dicom.plane import Plane
from nnunet_rs.core.dicom.stack import Stack
from nnunet_rs.core.issues import Issue, IssueError
from nnunet_rs.core.resources import processors

_NATIVE = "1.2.840.10008.1.2"  # implicit, little endian: what a file is that names no transfer syntax
_THREADS = 4  # files at a time
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_KEYWORDS = (
    "SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns BitsAllocated "
    "BitsStored HighBit PixelRepresentation ModalityLUTSequence RescaleSlope ExtendedOffsetTable "
    "ExtendedOffsetTableLengths PixelData FloatPixelData DoubleFloatPixelData"
)


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """Stored numbers, and how they become intensities."""

    voxels: NDArray[Any]  # (c, z, y, x)
    slope: float
    intercept: float


def read_pixels(stack: Stack) -> Pixels:
    """Decode the planes of a stack, in its order.

    Returns
    -------
    Pixels
        As stored, with one slope and intercept for all; where these differ from slice to slice (PET), intensities in
        float32.

    Raises
    ------
    IssueError
        `no-pixel-data`, `file-truncated`, `unreadable`, `voxel-type`, `header-invalid`, `memory`.
    """
    files: dict[Path, list[tuple[int, Plane]]] = {}
    for index, plane in enumerate(stack.planes):
        files.setdefault(plane.file, []).append((index, plane))
    first = stack.planes[0]
    rescales = {plane.rescale for plane in stack.planes}
    shape = (first.samples, *stack.shape)
    kind = np.dtype(np.float32) if len(rescales) > 1 else _stored_type(first.file)
    require_memory(first.file, math.prod(shape) * kind.itemsize, f"{' x '.join(map(str, shape))} voxels")
    voxels, others = _decoded(files, shape, kind, scale=len(rescales) > 1)
    if others:  # slices of several types: the one that holds all
        voxels, _ = _decoded(files, shape, np.result_type(kind, *others), scale=False)
    slope, intercept = (1.0, 0.0) if len(rescales) > 1 else first.rescale
    return Pixels(voxels, slope, intercept)


def _decoded(
    files: dict[Path, list[tuple[int, Plane]]], shape: tuple[int, ...], kind: np.dtype[Any], *, scale: bool
) -> tuple[NDArray[Any], set[np.dtype[Any]]]:
    """Decode files into one array; return it, and the types of frames that it cannot hold."""
    voxels: NDArray[Any] = np.empty(shape, kind)

    def put(path: Path) -> set[np.dtype[Any]]:
        found: set[np.dtype[Any]] = set()
        for (index, plane), frame in zip(files[path], _frames(path, [plane for _, plane in files[path]]), strict=True):
            target = voxels[:, index]
            if scale:
                slope, intercept = plane.rescale
                target[...] = frame * np.float64(slope) + intercept
            elif np.can_cast(frame.dtype, kind):
                target[...] = frame
            else:
                found.add(frame.dtype)
        return found

    with ThreadPoolExecutor(min(_THREADS, processors(), len(files))) as pool:
        return voxels, set().union(*pool.map(put, files))


def _stored_type(path: Path) -> np.dtype[Any]:
    """Return the type that a file's header promises."""
    dataset, _ = read_dataset(path, ["BitsAllocated", "PixelRepresentation"], pixels=False)
    bits = _number(path, dataset, "BitsAllocated", 16)
    if bits == 1:
        return np.dtype(np.uint8)
    if bits not in (8, 16, 32, 64):
        value = f"{bits} bits a pixel"
        raise IssueError(Issue(path, "voxel-type", value, "save it with 8, 16 or 32 bits a pixel"))
    return np.dtype(f"{'i' if _number(path, dataset, 'PixelRepresentation', 0) else 'u'}{bits // 8}")


def _number(path: Path, dataset: Any, keyword: str, default: int) -> int:
    try:
        value = dataset.get(keyword)
        return default if value is None else int(value)
    except Exception as error:  # pydicom converts a value when it is asked for, and raises anything
        value = f"{keyword} cannot be read: {reason(error)}"
        raise IssueError(Issue(path, "header-invalid", value, COPY_AGAIN)) from error


def _frames(path: Path, planes: Sequence[Plane]) -> Iterator[NDArray[Any]]:
    """Yield the frames (c, y, x) of a file that are wanted; what pydicom raises becomes an issue."""
    dataset, _ = read_dataset(path, _tags())
    try:
        _require_whole(path, dataset, planes[0])
        decode = _decoder(path, dataset)
        for plane in planes:
            frame = np.asarray(decode(index=plane.frame)[0])
            if dataset.get("ModalityLUTSequence") and dataset.get("RescaleSlope") is None:
                frame = pydicom().pixels.apply_modality_lut(frame, dataset)
            frame = np.moveaxis(frame, -1, 0) if frame.ndim == 3 else frame[np.newaxis]
            if frame.shape != (plane.samples, *plane.size):
                value = f"{' x '.join(map(str, frame.shape))} pixels, the header promises {plane.size}"
                raise IssueError(Issue(path, "header-invalid", value, COPY_AGAIN))
            yield frame
    except (IssueError, MemoryError):
        raise
    except Exception as error:  # what is wrong with a file is raised as anything
        raise IssueError(_undecoded(path, dataset, error)) from error


@cache
def _tags() -> list[Any]:
    return [pydicom().tag.Tag(keyword) for keyword in _KEYWORDS.split()]


def _require_whole(path: Path, dataset: Any, plane: Plane) -> None:
    """Check that the pixels are there, all of them where they are not compressed."""
    stored = next((dataset[keyword].value for keyword in _PIXELS if dataset.get(keyword)), None)
    if stored is None:
        value = "the header describes an image, and no pixels follow, or not all of them"
        raise IssueError(Issue(path, "no-pixel-data", value, "export it again with its pixels, or copy it again"))
    if _syntax(dataset).is_encapsulated:
        return
    bits = _number(path, dataset, "BitsAllocated", 16) * plane.frames * plane.samples * math.prod(plane.size)
    if "422" in str(dataset.get("PhotometricInterpretation")):
        bits = bits * 2 // 3  # two pixels share their colour
    if len(stored) < bits // 8:
        raise ends_early(path, len(stored), bits // 8)


def _syntax(dataset: Any) -> Any:
    return pydicom().uid.UID(str(dataset.file_meta.get("TransferSyntaxUID") or _NATIVE))


def _decoder(path: Path, dataset: Any) -> Any:
    """Return a function that decodes a frame, by the fastest decoder that there is."""
    syntax = _syntax(dataset)
    try:
        decoder = pydicom().pixels.get_decoder(syntax)
    except NotImplementedError:
        value = f"the transfer syntax {syntax.name} is none of images that pydicom decodes"
        raise IssueError(Issue(path, "unreadable", value, "store it uncompressed")) from None
    dataset.file_meta.TransferSyntaxUID = syntax
    grey = _number(path, dataset, "SamplesPerPixel", 1) == 1
    plugin = plugged(str(syntax)) if grey and syntax.is_encapsulated else ""

    def decode(index: int) -> Any:
        try:
            return decoder.as_array(dataset, index=index, raw=grey, decoding_plugin=plugin)
        except Exception:
            if not plugin:
                raise
        return decoder.as_array(dataset, index=index, raw=grey)  # by another plug-in

    return decode


def _undecoded(path: Path, dataset: Any, error: Exception) -> Issue:
    try:
        syntax = _syntax(dataset)
    except Exception:
        return Issue(path, "header-invalid", "its transfer syntax cannot be read", COPY_AGAIN)
    text = " ".join(str(error).split())[:200] or type(error).__name__
    if "missing dependencies" in text or "missing required dependencies" in text:
        return Issue(path, "unreadable", f"{syntax.name} needs a decoder that is not installed", INSTALL)
    return Issue(path, "unreadable", f"its pixels ({syntax.name}) are damaged: {text}", COPY_AGAIN)
