"""DICOM as one of the formats of images; what reads it is imported with the first file of it."""

from __future__ import annotations

from pathlib import Path

from nnunet_rs.core.dicom.listing import ENDING, NAME
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.image_file import ImageFile
from nnunet_rs.core.image_format import Format
from nnunet_rs.core.types import Header, IntArray, Shape, Spacing3


def _read(path: Path) -> ImageFile:
    from nnunet_rs.core.dicom.reader import read

    return read(path)


def _read_grid(path: Path) -> tuple[Shape, Spacing3]:
    from nnunet_rs.core.dicom.reader import read_grid

    return read_grid(path)


def _write_labels(path: Path, labels: IntArray, header: Header) -> None:  # noqa: ARG001
    """Refuse: a SEG file tells of its patient and images, which a header here does not."""
    advice = "name a .nii.gz, or predict from DICOM with --dicom-seg or --rtstruct"
    raise DatasetError(f"{path}: a DICOM segmentation is written with its source images only; {advice}")


FORMAT = Format(
    name=NAME,
    endings={ENDING: "SimpleITKIO"},
    read=_read,
    read_grid=_read_grid,
    write_labels=_write_labels,
    results=".nii.gz",
    folders=True,
)
