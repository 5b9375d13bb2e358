"""DICOM SEG written: binary, label map or fractional segments on the planes of a source series.

Headers are pydicom's. What repeats for each frame is encoded once and put together as bytes, and the pixels are packed
while they are written: a hundred structures of a large scan take seconds, and no second volume.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nnunet_rs import __version__
from nnunet_rs.core.dicom.library import pydicom
from nnunet_rs.core.dicom.named_labels import VALUE_TEXT
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.files import write_atomically
from nnunet_rs.core.types import IntArray
from nnunet_rs.exchange.dicom.source import (
    EXPLICIT,
    NAME,
    Source,
    code_item,
    content_uid,
    decimal,
    items,
    new_object,
    reference,
    references,
    uid,
)
from nnunet_rs.exchange.dicom.structures import Code, DicomStructure

Form = Literal["binary", "labelmap", "fractional"]
_KIND = {"binary": "1.2.840.10008.5.1.4.1.1.66.4", "labelmap": "1.2.840.10008.5.1.4.1.1.66.7"}
_BACKGROUND = Code("DCM", "125040", "Background")
_LONGEST = 2**32 - 2  # bytes of an element
_ITEM = b"\xfe\xff\x00\xe0"


@dataclass(frozen=True, slots=True)
class _Frame:
    segment: int  # index of the structure, from 0
    plane: int  # index of the slice


def write_seg(
    path: Path,
    labels: IntArray,
    source: Source,
    structures: Sequence[DicomStructure],
    form: Form = "binary",
    probabilities: Sequence[NDArray[Any]] = (),
) -> None:
    """Write a segmentation of a series as a SEG file; the same arguments make the same bytes.

    Parameters
    ----------
    path
        Replaced whole.
    labels
        File values (z, y, x) on the series' grid.
    source
        Whose patient, study, frame of reference and images it refers to.
    structures
        One a segment; of a label map they must not overlap.
    form
        "binary" (which viewers read), "labelmap" (one frame a slice; DICOM 2024 and later), or "fractional".
    probabilities
        For "fractional": for each structure 0 … 1, (z, y, x), what can be indexed by a slice number.

    Raises
    ------
    DatasetError
        The labels are not of the series' shape; the file would be longer than DICOM allows.
    NnunetError
        The file cannot be written.
    """
    source.require_shape(path, labels.shape)
    writer = _Writer(labels, source, tuple(structures), form, probabilities)
    with write_atomically(path) as temporary, temporary.open("wb") as stream:
        writer.write(path, stream)


@dataclass(frozen=True, slots=True, eq=False)
class _Writer:
    labels: IntArray
    source: Source
    structures: tuple[DicomStructure, ...]
    form: Form
    probabilities: Sequence[NDArray[Any]]

    def write(self, path: Path, stream: Any) -> None:
        """Write header, frames' headers and pixels, one after the other."""
        frames = self._frames()
        length = self._length(len(frames))
        if length > _LONGEST:
            raise DatasetError(
                f"{path}: {len(frames)} frames of pixels take {length} bytes, a DICOM file holds {_LONGEST}; ask for "
                "--dicom-seg labelmap"
            )
        header = self._header(len(frames))
        pydicom().dcmwrite(stream, header, enforce_file_format=True, little_endian=True, implicit_vr=False)
        described = b"".join(self._frame_items(frames))
        stream.write(struct.pack("<HH2sHI", 0x5200, 0x9230, b"SQ", 0, len(described)) + described)
        wide = b"OW" if self.form == "labelmap" and self._kind().itemsize == 2 else b"OB"
        stream.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, wide, 0, length + length % 2))
        for block in self._pixels(frames):
            stream.write(block)
        stream.write(b"\0" * (length % 2))

    def _kind(self) -> np.dtype[Any]:
        most = max((structure.paint for structure in self.structures), default=0)
        return np.dtype("<u1" if most < 256 else "<u2")

    def _length(self, frames: int) -> int:
        pixels = int(frames * self.labels.shape[1] * self.labels.shape[2])
        if self.form == "binary":
            return (pixels + 7) // 8
        return pixels * (self._kind().itemsize if self.form == "labelmap" else 1)

    def _frames(self) -> list[_Frame]:
        """List the frames: of a label map every slice, else the slices that a segment reaches; one frame at least."""
        if self.form == "labelmap":
            return [_Frame(0, plane) for plane in range(len(self.labels))]
        if self.form == "fractional":
            found = [
                _Frame(index, plane)
                for index, values in enumerate(self.probabilities)
                for plane in range(len(self.labels))
                if round(float(np.max(values[plane])) * 255) > 0
            ]
        else:
            most = int(self.labels.max(initial=0)) + 1
            held = np.zeros((len(self.labels), max(most, 1 + max(v for s in self.structures for v in s.values))), bool)
            for plane, values in enumerate(self.labels):
                held[plane, np.flatnonzero(np.bincount(values.ravel(), minlength=most))] = True
            found = [
                _Frame(index, int(plane))
                for index, structure in enumerate(self.structures)
                for plane in np.flatnonzero(held[:, list(structure.values)].any(axis=1))
            ]
        return found or [_Frame(0, 0)]

    # ---- pixels ------------------------------------------------------------------------------------------------------

    def _pixels(self, frames: Sequence[_Frame]) -> Iterator[bytes]:
        if self.form == "labelmap":
            for frame in frames:
                yield self._painted(frame.plane).tobytes()
        elif self.form == "fractional":
            for frame in frames:
                values = np.asarray(self.probabilities[frame.segment][frame.plane], np.float32)
                yield np.rint(values * 255).clip(0, 255).astype(np.uint8).tobytes()
        elif self.labels.shape[2] % 8 == 0:  # rows fill whole bytes: those without the structure are zeros
            yield from self._packed_rows(frames)
        else:
            for first in range(0, len(frames), 8):  # eight frames fill whole bytes
                yield np.packbits(
                    np.concatenate([self._mask(frame).ravel() for frame in frames[first : first + 8]]),
                    bitorder="little",
                ).tobytes()

    def _packed_rows(self, frames: Sequence[_Frame]) -> Iterator[bytes]:
        """Yield each frame's bits; only the rows that its structure reaches anywhere are looked at."""
        from scipy.ndimage import find_objects

        boxes = find_objects(self.labels)
        columns = self.labels.shape[2] // 8
        for frame in frames:
            values = self.structures[frame.segment].values
            rows = [box[1] for value in values if 0 < value <= len(boxes) and (box := boxes[value - 1]) is not None]
            first, last = min((r.start for r in rows), default=0), max((r.stop for r in rows), default=0)
            packed = np.zeros((self.labels.shape[1], columns), np.uint8)
            packed[first:last] = np.packbits(self._mask(frame, first, last), axis=1, bitorder="little")
            yield packed.tobytes()

    def _mask(self, frame: _Frame, first: int = 0, last: int | None = None) -> NDArray[np.bool_]:
        values, plane = self.structures[frame.segment].values, self.labels[frame.plane, first:last]
        return plane == values[0] if len(values) == 1 else np.isin(plane, values)

    def _painted(self, plane: int) -> NDArray[Any]:
        """Return a slice whose values that no structure has are 0."""
        table = np.zeros(max(int(self.labels.max(initial=0)), max(s.paint for s in self.structures)) + 1, self._kind())
        for structure in self.structures:
            table[structure.paint] = structure.paint
        painted: NDArray[Any] = table[self.labels[plane]]
        return painted

    # ---- header ------------------------------------------------------------------------------------------------------

    def _header(self, frames: int) -> Any:
        source, rows = self.source, self.labels.shape[1]
        parts = [(s.name, s.paint, s.kind, s.category, s.colour) for s in self.structures]
        instance = content_uid(f"SEG {self.form}", source, self._content(), *parts)
        header = new_object(source, _KIND.get(self.form, _KIND["binary"]), "SEG", instance, EXPLICIT)
        header.ContentDate, header.ContentTime = source.when()
        header.ImageType = ["DERIVED", "PRIMARY"]
        header.ContentLabel, header.ContentDescription, header.ContentCreatorName = "SEGMENTATION", "", ""
        header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation = 1, "MONOCHROME2", 0
        header.NumberOfFrames, header.Rows, header.Columns = frames, rows, self.labels.shape[2]
        bits = {"binary": 1, "fractional": 8, "labelmap": 8 * self._kind().itemsize}[self.form]
        header.BitsAllocated = header.BitsStored = bits
        header.HighBit, header.LossyImageCompression = bits - 1, "00"
        header.SegmentationType = self.form.upper()
        if self.form == "fractional":
            header.SegmentationFractionalType, header.MaximumFractionalValue = "PROBABILITY", 255
        if self.form == "labelmap":
            header.PixelPaddingValue = 0
        overlap = {"binary": len(self._all_values()) != len(set(self._all_values())), "fractional": True}
        header.SegmentsOverlap = "YES" if overlap.get(self.form, False) else "NO"
        header.SegmentSequence = items(*self._segments())
        self._add_dimensions(header, instance)
        series = pydicom().Dataset()
        series.SeriesInstanceUID = source.series_uid
        series.ReferencedInstanceSequence = references(source.planes)
        header.ReferencedSeriesSequence = items(series)
        header.SharedFunctionalGroupsSequence = items(self._shared())
        return header

    def _content(self) -> NDArray[Any]:
        if self.form != "fractional":
            return self.labels
        sums = [
            float(np.sum(values[plane], dtype=np.float64))
            for values in self.probabilities
            for plane in range(len(values))
        ]
        return np.array(sums)

    def _all_values(self) -> list[int]:
        return [value for structure in self.structures for value in structure.values]

    def _segments(self) -> Iterator[Any]:
        if self.form == "labelmap":
            yield _segment(0, "Background", _BACKGROUND, _BACKGROUND)
        for index, structure in enumerate(self.structures, 1):
            number = structure.paint if self.form == "labelmap" else index
            item = _segment(number, structure.name, structure.kind, structure.category)
            item.SegmentDescription = VALUE_TEXT.format(structure.paint)
            item.RecommendedDisplayCIELabValue = structure.cielab
            item.SegmentationAlgorithmIdentificationSequence = items(_algorithm())
            if structure.side is not None:
                side = code_item(structure.side.scheme, structure.side.value, structure.side.meaning)
                kind = item.SegmentedPropertyTypeCodeSequence[0]
                kind.SegmentedPropertyTypeModifierCodeSequence = items(side)
            yield item

    def _add_dimensions(self, header: Any, instance: str) -> None:
        organisation = pydicom().Dataset()
        organisation.DimensionOrganizationUID = uid("dimensions", instance)
        header.DimensionOrganizationSequence = items(organisation)
        position = ((0x0020, 0x0032), (0x0020, 0x9113), "Image Position (Patient)")
        segment = ((0x0062, 0x000B), (0x0062, 0x000A), "Segment Number")
        wanted = [position] if self.form == "labelmap" else [segment, position]
        entries = []
        for pointer, group, label in wanted:
            entry = pydicom().Dataset()
            entry.DimensionOrganizationUID = organisation.DimensionOrganizationUID
            entry.DimensionIndexPointer, entry.FunctionalGroupPointer = pointer, group
            entry.DimensionDescriptionLabel = label
            entries.append(entry)
        header.DimensionIndexSequence = items(*entries)

    def _shared(self) -> Any:
        z, y, x = self.source.series.stack.spacing
        shared, measures, orientation = (pydicom().Dataset() for _ in range(3))
        measures.PixelSpacing = [decimal(y), decimal(x)]
        measures.SliceThickness = measures.SpacingBetweenSlices = decimal(z)
        orientation.ImageOrientationPatient = self.source.orientation
        shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = items(measures), items(orientation)
        return shared

    # ---- frames' headers ---------------------------------------------------------------------------------------------

    def _frame_items(self, frames: Sequence[_Frame]) -> Iterator[bytes]:
        """Encode what each frame says of itself; tags must grow: derivation, content, position, segment."""
        planes = {plane: self._plane_parts(plane) for plane in {frame.plane for frame in frames}}
        places = {plane: index for index, plane in enumerate(sorted(planes), 1)}
        segments = {segment: self._segment_part(segment) for segment in {frame.segment for frame in frames}}
        for frame in frames:
            derivation, position = planes[frame.plane]
            indices = [places[frame.plane]] if self.form == "labelmap" else [frame.segment + 1, places[frame.plane]]
            content = _sequence(0x0020, 0x9111, _element_ul(0x0020, 0x9157, indices))
            body = derivation + content + position + segments[frame.segment]
            yield _ITEM + struct.pack("<I", len(body)) + body

    def _plane_parts(self, index: int) -> tuple[bytes, bytes]:
        """Encode the source image and the position of a slice."""
        plane = self.source.planes[index]
        group, derivation, position = (pydicom().Dataset() for _ in range(3))
        image = reference(plane)
        image.SpatialLocationsPreserved = "YES"
        purpose = code_item("DCM", "121322", "Source image for image processing operation")
        image.PurposeOfReferenceCodeSequence = items(purpose)
        derivation.SourceImageSequence = items(image)
        derivation.DerivationCodeSequence = items(code_item("DCM", "113076", "Segmentation"))
        group.DerivationImageSequence = items(derivation)
        first = _encoded(group)
        group = pydicom().Dataset()
        position.ImagePositionPatient = self.source.position(index)
        group.PlanePositionSequence = items(position)
        return first, _encoded(group)

    def _segment_part(self, index: int) -> bytes:
        if self.form == "labelmap":
            return b""
        group, segment = pydicom().Dataset(), pydicom().Dataset()
        segment.ReferencedSegmentNumber = index + 1
        group.SegmentIdentificationSequence = items(segment)
        return _encoded(group)


def _segment(number: int, name: str, kind: Code, category: Code) -> Any:
    item = pydicom().Dataset()
    item.SegmentNumber, item.SegmentLabel = number, name[:64]
    item.SegmentAlgorithmType, item.SegmentAlgorithmName = "AUTOMATIC", NAME
    item.SegmentedPropertyCategoryCodeSequence = items(code_item(category.scheme, category.value, category.meaning))
    item.SegmentedPropertyTypeCodeSequence = items(code_item(kind.scheme, kind.value, kind.meaning))
    return item


def _algorithm() -> Any:
    item = pydicom().Dataset()
    item.AlgorithmFamilyCodeSequence = items(code_item("DCM", "123110", "Artificial Intelligence"))
    item.AlgorithmName, item.AlgorithmVersion = NAME, __version__
    return item


def _encoded(dataset: Any) -> bytes:
    """Return a dataset as its bytes, explicit and little endian."""
    stream = pydicom().filebase.DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    pydicom().filewriter.write_dataset(stream, dataset)
    return bytes(stream.getvalue())


def _sequence(group: int, element: int, content: bytes) -> bytes:
    """Return a sequence of one item."""
    item = _ITEM + struct.pack("<I", len(content)) + content
    return struct.pack("<HH2sHI", group, element, b"SQ", 0, len(item)) + item


def _element_ul(group: int, element: int, numbers: Sequence[int]) -> bytes:
    return struct.pack(f"<HH2sH{len(numbers)}I", group, element, b"UL", 4 * len(numbers), *numbers)
