"""Headers of DICOM files as planes; what is no image is reported instead."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from nnunet_rs.core.content import COPY_AGAIN, reason
from nnunet_rs.core.dicom.library import pydicom, read_dataset
from nnunet_rs.core.dicom.plane import Origin, Plane, Vector
from nnunet_rs.core.dicom.private import without_private, words_of
from nnunet_rs.core.issues import Issue, IssueError

SEGMENTATION = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # SEG; its label map form
STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"  # RTSTRUCT
LABELS = "labels, no image"  # how an issue says of a file that it is SEG or RTSTRUCT
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # secondary capture, and its multi-frame forms below it
_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
_DIRECTORY = "1.2.840.10008.1.3.10"
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")  # not compressed
_LOCALIZERS = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW"})
_LONGEST = 65535  # rows, columns
_MOST_FRAMES = 1 << 20

_KEYWORDS = (
    "SpecificCharacterSet ImageType SOPClassUID SOPInstanceUID Modality SeriesDescription ProtocolName SequenceName "
    "PulseSequenceName PatientName PatientID OtherPatientIDs OtherPatientNames PatientBirthName "
    "StudyInstanceUID SeriesInstanceUID SeriesNumber AcquisitionNumber InstanceNumber ImagePositionPatient "
    "ImageOrientationPatient FrameOfReferenceUID TemporalPositionIdentifier EchoTime EchoNumbers DiffusionBValue "
    "DiffusionGradientOrientation InversionTime FlipAngle TriggerTime AcquisitionTime ConvolutionKernel KVP "
    "SamplesPerPixel BitsAllocated PhotometricInterpretation NumberOfFrames Rows Columns PixelSpacing "
    "ImagerPixelSpacing RescaleSlope RescaleIntercept SliceThickness SpacingBetweenSlices "
    "SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence"
)
_PATIENT = ("PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName")
# Diffusion weighting before the standard had a place for it: Siemens, Philips, GE.
_B_VALUES = ((0x0019, 0x100C), (0x2001, 0x1003), (0x0043, 0x1039))
# In the order in which series are told apart; each by the first of these keywords that is there, a frame's own before
# the file's.
_TRAITS = (
    ("image type", ("ImageType",)),
    ("echo time", ("EffectiveEchoTime", "EchoTime")),
    ("echo", ("EchoNumbers",)),
    ("b-value", ("DiffusionBValue",)),
    ("gradient", ("DiffusionGradientOrientation",)),
    ("temporal position", ("TemporalPositionIndex", "TemporalPositionIdentifier")),
    ("acquisition", ("FrameAcquisitionNumber", "AcquisitionNumber")),
    ("trigger time", ("NominalCardiacTriggerDelayTime", "TriggerTime")),
    ("inversion time", ("InversionTimes", "InversionTime")),
    ("flip angle", ("FlipAngle",)),
    ("kernel", ("ConvolutionKernel",)),
    ("tube voltage", ("KVP",)),
    ("acquisition time", ("FrameAcquisitionDateTime", "AcquisitionTime")),
)
TRAITS = tuple(name for name, _ in _TRAITS)


def read_planes(path: Path) -> tuple[Plane, ...]:
    """Read a file's header.

    Returns
    -------
    tuple of Plane
        One, or one for each frame.

    Raises
    ------
    IssueError
        Not fatal where the file is whole and no image to segment: `localizer`, `secondary-capture`, `not-image`,
        `not-supported` (doses, palettes, frames without a place, as of NM and ultrasound). Fatal: `missing`,
        `unreadable`, `file-empty`, `header-invalid`, `no-pixel-data`.
    """
    dataset, rest = read_dataset(path, _tags(), pixels=False)
    try:
        kind = _sop_class(dataset)
        _require_image(path, dataset, kind)
        if not rest:
            value = "the header describes an image, and no pixels follow"
            raise IssueError(Issue(path, "no-pixel-data", value, "export it again with its pixels"))
        lacks = _lacking(dataset, rest)
        return tuple(replace(plane, lacks=lacks) for plane in _planes(path, dataset, kind))
    except (IssueError, MemoryError):
        raise
    except Exception as error:  # pydicom converts a value when it is asked for, and raises anything
        raise IssueError(_invalid(path, f"a value cannot be read: {reason(error)}")) from error


def personal_words(path: Path) -> frozenset[str]:
    """Return the words of the patient's name and ID in a file that is no image; of what cannot be read none."""
    found: frozenset[str] = frozenset()
    with suppress(Exception):  # pydicom converts a value when it is asked for, and raises anything
        dataset, _ = read_dataset(path, ["SpecificCharacterSet", *_PATIENT], pixels=False)
        for keyword in _PATIENT:
            with suppress(Exception):  # the others are to be hidden all the same
                found |= words_of(str(dataset.get(keyword) or ""))
    return found


def _lacking(dataset: Any, rest: int) -> int:
    """Return how many bytes of pixels are missing in a file that holds `rest` from them on."""
    if str(dataset.file_meta.get("TransferSyntaxUID") or _NATIVE[0]) not in _NATIVE:
        return 0
    bits = _whole(dataset.get("BitsAllocated"), 16) * _whole(dataset.get("SamplesPerPixel"), 1)
    if "422" in str(dataset.get("PhotometricInterpretation")):
        bits = bits * 2 // 3  # two pixels share their colour
    frames = _whole(dataset.get("NumberOfFrames"), 1)
    return max(0, frames * int(dataset.Rows) * int(dataset.Columns) * bits // 8 - rest)


def label_kind(path: Path) -> str:
    """Return "SEG" or "RTSTRUCT" for a file of labels, "" for any other file of DICOM; errors as `read_dataset`."""
    dataset, _ = read_dataset(path, ["SOPClassUID"], pixels=False)
    try:
        kind = _sop_class(dataset)
    except Exception as error:  # pydicom converts a value when it is asked for, and raises anything
        raise IssueError(_invalid(path, f"a value cannot be read: {reason(error)}")) from error
    return "SEG" if kind in SEGMENTATION else "RTSTRUCT" if kind == STRUCTURES else ""


def frame_planes(path: Path, dataset: Any) -> tuple[Plane, ...]:
    """Return the planes of a file that was read already, whatever it holds; errors as `read_planes`, or pydicom's."""
    return tuple(_planes(path, dataset, _sop_class(dataset)))


@cache
def _tags() -> list[Any]:
    return [_tag(each) for each in (*_KEYWORDS.split(), *_B_VALUES)]


def _sop_class(dataset: Any) -> str:
    return str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or "")


def _require_image(path: Path, dataset: Any, kind: str) -> None:
    """Raise what is no image: an index, a report, contours, a picture of a screen, a scout."""
    name = pydicom().uid.UID(kind).name if kind else "no kind"
    if kind == _DIRECTORY:
        raise _left_out(path, "not-image", "an index of files (DICOMDIR)", "files are found without it")
    if kind in (*SEGMENTATION, STRUCTURES):
        raise _left_out(path, "not-image", f"{name}: {LABELS}", "evaluate reads it as a reference")
    if kind == _CAPTURE or kind.startswith(_CAPTURE + "."):
        raise _left_out(path, "secondary-capture", f"{name}: a picture, no scan", "give the series it was taken of")
    sized = dataset.get("Rows") and dataset.get("Columns")
    if kind == _DOSE:
        raise _left_out(path, "not-supported", f"{name}: doses are not read", "give the images that it was planned on")
    if not (sized or "Image Storage" in name):
        raise _left_out(path, "not-image", f"{name}: no image of a patient", "it is left out")
    if not sized:
        value = f"{name} without rows and columns"
        raise IssueError(Issue(path, "no-pixel-data", value, "export it again with its pixels"))
    if str(dataset.get("PhotometricInterpretation")) == "PALETTE COLOR":
        value = f"{name}: its numbers stand for colours of a palette"
        raise _left_out(path, "not-supported", value, "store it as grey values")
    if _LOCALIZERS & {str(word).upper() for word in _listed(dataset.get("ImageType"))}:
        raise _left_out(path, "localizer", "a scout to plan the scan by", "it is left out")


def _left_out(path: Path, rule: str, value: str, advice: str) -> IssueError:
    return IssueError(Issue(path, rule, value, advice, fatal=False))


def _planes(path: Path, dataset: Any, kind: str) -> Iterator[Plane]:
    frames = int(dataset.get("NumberOfFrames") or 1)
    size = int(dataset.Rows), int(dataset.Columns)
    if not (1 <= frames <= _MOST_FRAMES and min(size) >= 1 and max(size) <= _LONGEST):
        raise IssueError(_invalid(path, f"{frames} frames of {size[0]} rows and {size[1]} columns"))
    shared = _item(dataset.get("SharedFunctionalGroupsSequence"), 0)
    each = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    if len(each) not in (0, frames):
        raise IssueError(_invalid(path, f"{frames} frames, and {len(each)} of them described"))
    origin = _origin(dataset)
    if not each and frames > 1:
        name = pydicom().uid.UID(kind).name if kind else "an image of no kind"
        value = f"{name}: {frames} frames, and nothing says where each of them is"
        raise _left_out(path, "not-supported", value, "store each slice as an image, or all as an enhanced image")
    if not each:
        yield _Groups(path, dataset, (shared,)).plane(kind, origin, 0, frames, size)
        return
    for frame in range(frames):
        groups = _Groups(path, dataset, (each[frame], shared))
        yield groups.plane(kind, origin, frame, frames, size)


class _Groups:
    """A frame's values: its own, those that all frames share, those of the file; in this order."""

    def __init__(self, path: Path, dataset: Any, groups: tuple[Any, ...]) -> None:
        self._path, self._dataset = path, dataset
        self._macros = [item for group in groups if group is not None for item in _macro_items(group)]
        self._there = frozenset(dataset.keys())  # most of what is asked for is not: pydicom takes long to say so

    def get(self, keyword: str) -> Any:
        """Return the first value that is there; None where there is none."""
        sources = (*self._macros, self._dataset) if _tag(keyword) in self._there else self._macros
        for source in sources:
            value = source.get(keyword)
            if value is not None and value != "":
                return value
        return None

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """Return finite numbers; None where the keyword has no value."""
        value = self.get(keyword)
        if value is None or (not isinstance(value, float | int | str) and len(value) == 0):
            return None
        numbers = tuple(float(number) for number in _listed(value))
        if len(numbers) != count or not all(math.isfinite(number) and abs(number) < 1e9 for number in numbers):
            raise IssueError(_invalid(self._path, f"{keyword} is {value}, not {count} finite numbers"))
        return numbers

    def number(self, keyword: str) -> float | None:
        """Return one finite number, if there is one."""
        found = self.numbers(keyword, 1)
        return found[0] if found else None

    def plane(self, kind: str, origin: Origin, frame: int, frames: int, size: tuple[int, int]) -> Plane:
        """Gather what a plane is."""
        dataset = self._dataset
        rows, columns = self._orientation()
        position = self.numbers("ImagePositionPatient", 3)
        slope, intercept = self.number("RescaleSlope"), self.number("RescaleIntercept")
        return Plane(
            file=self._path,
            frame=frame,
            frames=frames,
            uid=str(dataset.get("SOPInstanceUID") or dataset.file_meta.get("MediaStorageSOPInstanceUID") or ""),
            sop_class=kind,
            number=_whole(dataset.get("InstanceNumber")),
            origin=origin,
            size=size,
            samples=_whole(dataset.get("SamplesPerPixel"), 1),
            white_is_zero=str(dataset.get("PhotometricInterpretation")) == "MONOCHROME1",
            position=(position[0], position[1], position[2]) if position else None,
            rows=rows,
            columns=columns,
            pixel_spacing=self._pixel_spacing(),
            lacks=0,
            thickness=self.number("SliceThickness"),
            gap=self.number("SpacingBetweenSlices"),
            rescale=(1.0 if slope is None else slope, 0.0 if intercept is None else intercept),
            traits=tuple(self._traits()),
        )

    def _orientation(self) -> tuple[Vector | None, Vector | None]:
        cosines = self.numbers("ImageOrientationPatient", 6)
        if cosines is None:
            return None, None
        rows, columns = cosines[:3], cosines[3:]
        lengths = math.hypot(*rows), math.hypot(*columns)
        across = sum(a * b for a, b in zip(rows, columns, strict=True))
        if not all(abs(length - 1) < 1e-2 for length in lengths) or abs(across) > 1e-2:
            text = "\\".join(f"{cosine:g}" for cosine in cosines)
            raise IssueError(_invalid(self._path, f"ImageOrientationPatient {text} is no pair of perpendicular axes"))
        return _unit(rows, lengths[0]), _unit(columns, lengths[1])

    def _pixel_spacing(self) -> tuple[float, float] | None:
        found = self.numbers("PixelSpacing", 2) or self.numbers("ImagerPixelSpacing", 2)
        if found is None:
            return None
        if min(found) <= 0:
            value = f"PixelSpacing is {found[0]:g}\\{found[1]:g}"
            raise IssueError(Issue(self._path, "spacing-invalid", value, "give two positive numbers, in mm"))
        return found[0], found[1]

    def _traits(self) -> Iterator[tuple[str, str]]:
        for name, keywords in _TRAITS:
            values = [value for value in map(self.get, keywords) if value is not None]
            value = values[0] if values else self._old_b_value() if name == "b-value" else None
            if value is not None:
                yield name, "\\".join(_shown(part) for part in _listed(value))

    def _old_b_value(self) -> str | None:
        for tag in _B_VALUES:
            element = self._dataset.get(tag)
            if element is None or element.value is None:
                continue
            raw = element.value.decode("ascii", "ignore") if isinstance(element.value, bytes) else element.value
            first = re.match(r"\d+(\.\d+)?", str(_listed(raw)[0]).strip()) if _listed(raw) else None
            if first:  # GE adds 1e9 to tell that it is one
                return f"{float(first[0]) % 1e6:g}"
        return None


@cache
def _tag(keyword: str | tuple[int, int]) -> Any:
    return pydicom().tag.Tag(keyword)


def _macro_items(group: Any) -> Iterator[Any]:
    """Yield the items of a functional group's macros, and of the sequences within them."""
    for element in group:
        if element.VR == "SQ" and element.keyword != "DerivationImageSequence":
            for item in element.value[:1]:
                yield item
                yield from _macro_items(item)


def _origin(dataset: Any) -> Origin:
    personal = _personal(dataset)

    def text(*keywords: str) -> str:
        found = next((value for value in map(dataset.get, keywords) if value), "")
        return without_private(" ".join(str(found).split()), personal)

    return Origin(
        series=str(dataset.get("SeriesInstanceUID") or ""),
        study=str(dataset.get("StudyInstanceUID") or ""),
        modality=str(dataset.get("Modality") or ""),
        description=text("SeriesDescription"),
        protocol=text("ProtocolName"),
        sequence=text("SequenceName", "PulseSequenceName"),
        number=str(dataset.get("SeriesNumber") or ""),
        frame_of_reference=str(dataset.get("FrameOfReferenceUID") or ""),
        personal=personal,
    )


def _personal(dataset: Any) -> frozenset[str]:
    return words_of(*(str(dataset.get(keyword) or "") for keyword in _PATIENT))


def _item(sequence: Any, index: int) -> Any:
    return sequence[index] if sequence else None


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str | bytes | int | float) else list(value)


def _shown(value: Any) -> str:
    return f"{float(value):g}" if isinstance(value, int | float) else str(value)


def _whole(value: Any, default: int = 0) -> int:
    return default if value is None or value == "" else int(value)


def _unit(vector: tuple[float, ...], length: float) -> Vector:
    x, y, z = (component / length for component in vector)
    return x, y, z


def _invalid(path: Path, value: str) -> Issue:
    return Issue(path, "header-invalid", value, COPY_AGAIN + ", or export it anew")
