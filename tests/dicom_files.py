"""Made-up DICOM series, written by pydicom: any orientation, order, transfer syntax, and any fault."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

ROOT = "1.2.826.0.1.3680043.8.498.1."
KINDS = {"CT": CTImageStorage, "MR": MRImageStorage, "PT": PositronEmissionTomographyImageStorage}
_TURN = np.deg2rad(20)
AXES = {  # row and column directions, LPS
    "axial": ((1, 0, 0), (0, 1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "oblique": ((np.cos(_TURN), np.sin(_TURN), 0), (-np.sin(_TURN) * 0.8, np.cos(_TURN) * 0.8, 0.6)),
}


def picture(shape: Sequence[int] = (6, 12, 10), seed: int = 0) -> NDArray[np.int16]:
    """Stored numbers (z, y, x) of which no two planes are alike."""
    return np.random.default_rng(seed).integers(-200, 1200, shape).astype(np.int16)


def slice_file(plane: NDArray[Any], position: Sequence[float], number: int, **values: Any) -> Dataset:
    """One image (y, x) as a dataset; `values` are keywords of DICOM, None removes one."""
    kind = KINDS[values.get("Modality", "CT")]
    series = values.pop("series", "1")
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = kind, f"{ROOT}{series}.9.{number}"
    data.StudyInstanceUID, data.SeriesInstanceUID = ROOT + "5", ROOT + series
    data.FrameOfReferenceUID = ROOT + "7"
    data.PatientName, data.PatientID, data.PatientBirthDate, data.PatientSex = "Roe^Jane", "JR0815", "19700101", "F"
    data.StudyDate, data.StudyTime, data.ContentDate, data.ContentTime = "20240102", "101500", "20240102", "101600"
    data.SeriesDate, data.SeriesTime, data.AcquisitionDate, data.AcquisitionTime = (
        "20240102",
        "1016",
        "20240102",
        "1016",
    )
    data.AccessionNumber, data.ReferringPhysicianName, data.StudyID, data.Manufacturer = "", "", "1", "none"
    data.Modality, data.SeriesNumber, data.AcquisitionNumber, data.InstanceNumber = "CT", 3, 1, number
    data.SeriesDescription, data.ImageType = "made up", ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.PositionReferenceIndicator, data.PatientPosition = "", "HFS"
    data.KVP = "120"
    data.Rows, data.Columns = plane.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * plane.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(plane.dtype.kind == "i")
    data.PixelSpacing, data.SliceThickness = [0.8, 0.7], "2.5"
    data.ImagePositionPatient = [round(float(number), 5) for number in position]
    data.RescaleSlope, data.RescaleIntercept = "1", "0"
    data.PixelData = plane.tobytes() + b"\0" * (plane.nbytes % 2)
    for keyword, value in values.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.get("SOPClassUID", kind)
    data.file_meta.MediaStorageSOPInstanceUID = data.get("SOPInstanceUID", "")
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data


def write_series(
    folder: Path,
    voxels: NDArray[Any] | None = None,
    axes: str = "axial",
    *,
    step: float = 2.5,
    origin: Sequence[float] = (-30, 20, -110),
    downwards: bool = False,
    compress: str = "",
    change: Callable[[int, Dataset], None] = lambda index, data: None,
    **values: Any,
) -> Path:
    """Write one file a slice; slice i lies `step` mm further along the normal than the last.

    `downwards` numbers and names the files from the last slice on; `change` may alter each dataset before it is
    written (or remove its pixels); `compress` is a transfer syntax.
    """
    voxels = picture() if voxels is None else voxels
    rows, columns = np.array(AXES[axes], float)
    normal = np.cross(rows, columns)
    folder.mkdir(parents=True, exist_ok=True)
    count = len(voxels)
    for index, plane in enumerate(voxels):
        number = count - index if downwards else index + 1
        position = np.array(origin, float) + normal * step * index
        orientation = [round(float(value), 8) for value in (*rows, *columns)]
        data = slice_file(plane, position, number, ImageOrientationPatient=orientation, **values)
        change(index, data)
        if compress:
            data.compress(UID(compress), generate_instance_uid=False)
        save(data, folder / f"{number:04d}.dcm")
    return folder


def save(data: Dataset, path: Path) -> Path:
    """Write a dataset with its preamble; faults of its values are written as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.save_as(path, enforce_file_format=True)
    return path


def enhanced(voxels: NDArray[Any], axes: str = "axial", *, step: float = 2.5, order: Sequence[int] = ()) -> Dataset:
    """Return a multi-frame MR image (enhanced), its frames in `order`."""
    rows, columns = np.array(AXES[axes], float)
    normal = np.cross(rows, columns)
    order = list(order) or list(range(len(voxels)))
    data = slice_file(voxels[0], (0, 0, 0), 1, Modality="MR", ImagePositionPatient=None, PixelSpacing=None)
    del data.SliceThickness, data.RescaleSlope, data.RescaleIntercept
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    data.NumberOfFrames, data.PixelData = len(order), voxels[order].tobytes()
    shared, measures, orientation, table = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness, measures.SpacingBetweenSlices = [0.8, 0.7], step, step
    orientation.ImageOrientationPatient = [round(float(value), 8) for value in (*rows, *columns)]
    table.RescaleSlope, table.RescaleIntercept, table.RescaleType = "2", "-10", "US"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Items([measures]), Items([orientation])
    shared.PixelValueTransformationSequence = Items([table])
    data.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for index in order:
        frame, position, content = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [round(float(value), 5) for value in normal * step * index]
        content.DimensionIndexValues = [1, index + 1]
        frame.PlanePositionSequence, frame.FrameContentSequence = Items([position]), Items([content])
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = Items(frames)
    return data


def read(path: Path) -> Dataset:
    """Read a file back by pydicom alone."""
    return pydicom.dcmread(path)
