"""RTSTRUCT written: the outline of every structure on every slice, in the patient's space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.dicom.library import pydicom
from nnunet_rs.core.dicom.named_labels import VALUE_TEXT
from nnunet_rs.core.files import write_atomically
from nnunet_rs.core.types import IntArray
from nnunet_rs.exchange.dicom.contours import outlines
from nnunet_rs.exchange.dicom.source import (
    IMPLICIT,
    NAME,
    Source,
    code_item,
    content_uid,
    items,
    new_object,
    reference,
    references,
)
from nnunet_rs.exchange.dicom.structures import DicomStructure

BoxSlices: TypeAlias = tuple[slice, slice, slice]  # z, y, x

_KIND = "1.2.840.10008.5.1.4.1.1.481.3"
_STUDY = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, which references of studies are of


def write_rtstruct(path: Path, labels: IntArray, source: Source, structures: Sequence[DicomStructure]) -> None:
    """Write a segmentation of a series as an RTSTRUCT file; the same arguments make the same bytes.

    Parameters
    ----------
    path
        Replaced whole.
    labels
        File values (z, y, x) on the series' grid.
    source
        Whose patient, study, frame of reference and images it refers to.
    structures
        One a structure; those without a voxel are listed without a contour.

    Raises
    ------
    DatasetError
        The labels are not of the series' shape.
    NnunetError
        The file cannot be written.
    """
    source.require_shape(path, labels.shape)
    from scipy.ndimage import find_objects

    parts = [(s.name, s.values, s.kind, s.colour) for s in structures]
    instance = content_uid("RTSTRUCT", source, labels, *parts)
    dataset = new_object(source, _KIND, "RTSTRUCT", instance, IMPLICIT)  # explicit lengths end at 64 KiB of points
    boxes = find_objects(labels)
    dataset.OperatorsName = ""
    dataset.StructureSetLabel, dataset.StructureSetName = NAME.upper(), f"{NAME} segmentation"
    dataset.StructureSetDate, dataset.StructureSetTime = source.when()
    dataset.ReferencedFrameOfReferenceSequence = items(_frame_of_reference(source))
    dataset.StructureSetROISequence = items(*(_roi(n, s, source) for n, s in enumerate(structures, 1)))
    dataset.ROIContourSequence = items(*(_contours(n, s, labels, source, boxes) for n, s in enumerate(structures, 1)))
    dataset.RTROIObservationsSequence = items(*(_observation(n, s) for n, s in enumerate(structures, 1)))
    dataset.ApprovalStatus = "UNAPPROVED"
    with write_atomically(path) as temporary, temporary.open("wb") as stream:
        pydicom().dcmwrite(stream, dataset, enforce_file_format=True, little_endian=True, implicit_vr=True)


def _frame_of_reference(source: Source) -> Any:
    frame, study, series = (pydicom().Dataset() for _ in range(3))
    series.SeriesInstanceUID, series.ContourImageSequence = source.series_uid, references(source.planes)
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _STUDY, source.study_uid
    study.RTReferencedSeriesSequence = items(series)
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = source.frame_of_reference, items(study)
    return frame


def _roi(number: int, structure: DicomStructure, source: Source) -> Any:
    item = pydicom().Dataset()
    item.ROINumber, item.ROIName = number, structure.name[:64]
    item.ReferencedFrameOfReferenceUID = source.frame_of_reference
    item.ROIDescription, item.ROIGenerationAlgorithm = VALUE_TEXT.format(structure.paint), "AUTOMATIC"
    return item


def _observation(number: int, structure: DicomStructure) -> Any:
    item = pydicom().Dataset()
    item.ObservationNumber = item.ReferencedROINumber = number
    item.ROIObservationLabel = structure.name[:16]
    kind = structure.kind
    item.RTROIIdentificationCodeSequence = items(code_item(kind.scheme, kind.value, kind.meaning))
    item.RTROIInterpretedType, item.ROIInterpreter = "", ""
    return item


def _contours(
    number: int, structure: DicomStructure, labels: IntArray, source: Source, boxes: Sequence[BoxSlices | None]
) -> Any:
    item = pydicom().Dataset()
    item.ReferencedROINumber, item.ROIDisplayColor = number, list(structure.colour)
    found = list(_outlines(structure, labels, source, boxes))
    if found:
        item.ContourSequence = items(*found)
    return item


def _outlines(
    structure: DicomStructure, labels: IntArray, source: Source, boxes: Sequence[BoxSlices | None]
) -> Iterator[Any]:
    turn, first = source.affine[:3, :2], source.affine[:3]
    box = _box(structure, boxes)
    corner = np.array([box[2].start, box[1].start])  # column, row
    for index, plane in enumerate(labels[box], box[0].start):
        mask: NDArray[np.bool_] = np.isin(plane, structure.values)
        origin = np.array(source.planes[index].position or first[:, 3] + first[:, 2] * index)
        for polygon in outlines(mask):
            yield _contour((polygon + corner) @ turn.T + origin, source, index)


def _box(structure: DicomStructure, boxes: Sequence[BoxSlices | None]) -> BoxSlices:
    """Return the smallest box that holds a structure's voxels; an empty one where there is none."""
    found = [boxes[value - 1] for value in structure.values if value <= len(boxes)]
    there = [box for box in found if box is not None]
    z, y, x = (
        slice(min((b[axis].start for b in there), default=0), max((b[axis].stop for b in there), default=0))
        for axis in range(3)
    )
    return z, y, x


def _contour(points: NDArray[np.float64], source: Source, index: int) -> Any:
    """Return a contour of points (n, 3), mm, LPS."""
    module = pydicom()
    item = module.Dataset()
    plane = source.planes[index]
    item.ContourImageSequence = items(reference(plane))
    item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
    text = "\\".join(f"{number:.4f}".rstrip("0").rstrip(".") for number in points.ravel().tolist())
    raw = text.encode() + b" " * (len(text) % 2)
    tag = module.tag.Tag(0x3006, 0x0050)  # as bytes: pydicom would take minutes for a million numbers
    item[tag] = module.dataelem.RawDataElement(tag, "DS", len(raw), raw, 0, True, True)
    return item
