"""What a segmentation takes over from its source series: patient, study, frame of reference, references; and UIDs."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.dicom.library import pydicom, read_dataset
from nnunet_rs.core.dicom.plane import Plane
from nnunet_rs.core.dicom.series import Series
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.image_file import LPS_TO_RAS
from nnunet_rs.core.types import Shape
from nnunet_rs.core.version import installed_version

NAME = "nnunet_rs"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
_CT = "1.2.840.10008.5.1.4.1.1.2"
_NAMESPACE = uuid.UUID("5d2f5c0e-9d3c-5a0b-8f0e-0f5a3b0f7c11")  # of every UID made here
# All that is taken over; a PACS files a result by them. What a file leaves out becomes empty where DICOM wants it.
PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
STUDY = ("StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber")
IF_THERE = ("StudyDescription", "IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod")


@dataclass(frozen=True)
class Source:
    """A series, and the header of its first file."""

    series: Series

    @cached_property
    def header(self) -> Any:
        """The first file's header, a pydicom dataset."""
        return read_dataset(self.planes[0].file, pixels=False)[0]

    @property
    def planes(self) -> tuple[Plane, ...]:
        """In the order of the slices."""
        return self.series.stack.planes

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel (x, y, z) to world, LPS, mm."""
        affine: NDArray[np.float64] = LPS_TO_RAS * np.asarray(self.series.stack.header.affine)
        return affine

    def require_shape(self, path: Path, shape: Shape) -> None:
        """Check that labels (z, y, x) are of the series' grid.

        Raises
        ------
        DatasetError
            They are not; `path` is the file that was to hold them.
        """
        if shape != self.series.stack.shape:
            raise DatasetError(
                f"{path}: the labels have {shape} voxels (z, y, x), the series has {self.series.stack.shape}; give the "
                "series that was segmented"
            )

    def position(self, index: int) -> list[str]:
        """Where the first voxel of a slice is, as the source says it."""
        plane = self.planes[index]
        place = plane.position if plane.position is not None else self.affine[:3, 3] + self.affine[:3, 2] * index
        return [decimal(number) for number in place]

    @property
    def orientation(self) -> list[str]:
        """Directions of rows and columns."""
        plane = self.planes[0]
        return [decimal(number) for number in (*(plane.rows or (1, 0, 0)), *(plane.columns or (0, 1, 0)))]

    @cached_property
    def _images(self) -> str:
        """A text of its own for every series, for UIDs that the source leaves out, as some anonymisers do."""
        return " ".join(_instance(plane) for plane in self.planes)

    @property
    def series_uid(self) -> str:
        """The source's; a made-up one where it has none."""
        return self.series.origin.series or uid("source series", self._images)

    @property
    def study_uid(self) -> str:
        """The source's; a made-up one where it has none."""
        return self.series.origin.study or uid("study", self._images)

    @property
    def frame_of_reference(self) -> str:
        """The source's; a made-up one where it has none."""
        return self.series.origin.frame_of_reference or uid("frame of reference", self._images)

    def when(self) -> tuple[str, str]:
        """Date and time of the source: a result depends on its inputs alone, and so not on today."""
        for name in ("Content", "Acquisition", "Series", "Study"):
            date = str(self.header.get(f"{name}Date") or "")
            if date:
                return date, str(self.header.get(f"{name}Time") or "000000")
        return "19000101", "000000"


def uid(*parts: object) -> str:
    """Return a UID that depends on what it is made of alone."""
    text = "\x1f".join(map(str, parts))
    return f"2.25.{uuid.uuid5(_NAMESPACE, hashlib.sha256(text.encode()).hexdigest()).int}"


def decimal(number: float) -> str:
    """Return a number as DICOM's decimal string, at most 16 characters."""
    for digits in range(12, 0, -1):
        text = f"{float(number):.{digits}g}"
        if len(text) <= 16:
            return "0" if float(text) == 0 else text
    return "0"


def code_item(scheme: str, value: str, meaning: str) -> Any:
    """Return an item of a code sequence."""
    item = pydicom().Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning[:64]
    return item


def items(*datasets: Any) -> Any:
    """Return a sequence."""
    return pydicom().Sequence(datasets)


def reference(plane: Plane, *, frame: bool = True) -> Any:
    """Return an item that refers to a plane's image."""
    item = pydicom().Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = plane.sop_class or _CT, _instance(plane)
    if frame and plane.frames > 1:
        item.ReferencedFrameNumber = plane.frame + 1
    return item


def references(planes: Sequence[Plane]) -> Any:
    """Return one item for each file of a series."""
    first = {plane.file: plane for plane in planes}
    return items(*(reference(plane, frame=False) for plane in first.values()))


def new_object(source: Source, kind: str, modality: str, instance: str, syntax: str) -> Any:
    """Return a dataset with what every object of ours says: patient, study, series, equipment.

    Parameters
    ----------
    kind
        SOP Class UID.
    instance
        SOP Instance UID; the series' is made from the source and the modality.
    syntax
        Transfer Syntax UID.
    """
    module = pydicom()
    found = module.Dataset()
    found.SpecificCharacterSet = source.header.get("SpecificCharacterSet") or "ISO_IR 192"
    found.SOPClassUID, found.SOPInstanceUID = kind, instance
    for keyword in (*PATIENT, *STUDY):
        value = source.header.get(keyword)
        setattr(found, keyword, "" if value is None else value)
    for keyword in IF_THERE:
        if source.header.get(keyword):
            setattr(found, keyword, source.header.get(keyword))
    found.StudyInstanceUID = source.study_uid
    found.Modality, found.SeriesDescription = modality, f"{NAME} segmentation"
    found.SeriesInstanceUID, found.SeriesNumber = uid("series", instance), 9000
    found.FrameOfReferenceUID = source.frame_of_reference
    found.PositionReferenceIndicator = source.header.get("PositionReferenceIndicator") or ""
    found.Manufacturer = found.ManufacturerModelName = NAME
    found.DeviceSerialNumber, found.SoftwareVersions = "none", installed_version()
    found.InstanceNumber = 1
    found.file_meta = module.dataset.FileMetaDataset()
    found.file_meta.MediaStorageSOPClassUID, found.file_meta.MediaStorageSOPInstanceUID = kind, instance
    found.file_meta.TransferSyntaxUID = syntax
    found.file_meta.ImplementationClassUID, found.file_meta.ImplementationVersionName = uid(NAME), NAME.upper()
    return found


def content_uid(kind: str, source: Source, labels: NDArray[Any], *others: object) -> str:
    """Return the UID of an object made from these labels of this series."""
    shown = hashlib.sha256(np.ascontiguousarray(labels).data).hexdigest()
    whose = [f"{_instance(plane)} {plane.frame}" for plane in source.planes]
    return uid(kind, installed_version(), shown, labels.dtype.str, labels.shape, *whose, *others)


def _instance(plane: Plane) -> str:
    """Return an image's UID; one made of its file's name where it has none."""
    return plane.uid or uid("image", plane.file.name)
