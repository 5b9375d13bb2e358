"""Multi-frame images, signs, slopes and transfer syntaxes, held against SimpleITK's reader: 1e-3 mm, exact values."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pydicom")

import pydicom
import SimpleITK
from dicom_files import AXES, ROOT, enhanced, picture, save, slice_file, write_series
from nnunet_rs.core.dicom.reader import only_series, read, read_series
from nnunet_rs.core.dicom.series import find_series
from nnunet_rs.core.image_file import LPS_TO_RAS, ImageFile
from nnunet_rs.core.issues import IssueError
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

SYNTAXES = {
    "explicit": "1.2.840.10008.1.2.1",
    "implicit": "1.2.840.10008.1.2",
    "big endian": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99",
    "RLE": "1.2.840.10008.1.2.5",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
}
LOSSLESS = {"JPEG lossless": "1.2.840.10008.1.2.4.57", "JPEG lossless, first order": "1.2.840.10008.1.2.4.70"}
ENCODERS = {"JPEG-LS": "jpeg_ls", "JPEG 2000": "openjpeg"}  # what pydicom compresses with, where it is installed
HIGH_THROUGHPUT = "1.2.840.10008.1.2.4.201"


def intensities(image: ImageFile) -> Any:
    out = np.empty(image.voxels.shape, np.float32)
    image.write_image(out)
    return out[0]


def simpleitk(paths: list[str]) -> tuple[Any, Any]:
    """Voxels and affine (LPS) as SimpleITK reads a file, or a series in the order of its own."""
    image = SimpleITK.ReadImage(paths[0] if len(paths) == 1 else paths)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image), affine


def series_files(folder: Path) -> list[str]:
    return list(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))


def assert_same(ours: ImageFile, theirs: tuple[Any, Any]) -> None:
    voxels, affine = theirs
    np.testing.assert_array_equal(intensities(ours), voxels.astype(np.float32))
    np.testing.assert_allclose(LPS_TO_RAS * np.array(ours.header.affine), affine, atol=1e-3)


def converted(folder: Path, modality: str) -> Any:
    """A series as highdicom's enhanced (legacy converted) image of the same slices."""
    highdicom = pytest.importorskip("highdicom")
    made = {
        "CT": highdicom.legacy.LegacyConvertedEnhancedCTImage,
        "MR": highdicom.legacy.LegacyConvertedEnhancedMRImage,
        "PT": highdicom.legacy.LegacyConvertedEnhancedPETImage,
    }[modality]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return made([pydicom.dcmread(file) for file in sorted(folder.iterdir())], ROOT + "80", 1, ROOT + "81", 1)


@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_enhanced_images_of_highdicom(tmp_path: Path, modality: str, axes: str, downwards: bool) -> None:
    """One file holds the slices of a series: it is the same image as the series, which SimpleITK reads."""
    voxels = picture((5, 9, 8))
    rescale = {"RescaleSlope": "2", "RescaleIntercept": "-1024"} if modality == "CT" else {}
    folder = write_series(tmp_path / "s", voxels, axes, downwards=downwards, Modality=modality, **rescale)
    file = save(converted(folder, modality), tmp_path / "enhanced.dcm")
    image = read(file)
    assert image.issues == ()
    assert_same(image, simpleitk(series_files(folder)))


@pytest.mark.parametrize("axes", AXES)
def test_enhanced_images_are_where_simpleitk_puts_them(tmp_path: Path, axes: str) -> None:
    file = save(enhanced(picture((5, 9, 8)), axes), tmp_path / "a.dcm")
    assert_same(read(file), simpleitk([str(file)]))


@pytest.mark.parametrize("syntax", ["RLE", "JPEG-LS", "JPEG 2000"])
def test_compressed_enhanced_images(tmp_path: Path, syntax: str) -> None:
    if syntax in ENCODERS:
        pytest.importorskip(ENCODERS[syntax])
    data = enhanced(picture((5, 33, 41)))
    data.compress(pydicom.uid.UID(SYNTAXES[syntax]), generate_instance_uid=False)
    np.testing.assert_array_equal(intensities(read(save(data, tmp_path / "a.dcm"))), picture((5, 33, 41)) * 2.0 - 10)


@pytest.mark.parametrize(
    ("macro", "keyword", "values", "named"),
    [
        ("MREchoSequence", "EffectiveEchoTime", (4.6, 9.2), "echo time"),
        ("MRDiffusionSequence", "DiffusionBValue", (0.0, 800.0), "b-value"),
        ("FrameContentSequence", "TemporalPositionIndex", (1, 2), "temporal position"),
        ("FrameContentSequence", "FrameAcquisitionNumber", (1, 2), "acquisition"),
        ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", (0.0, 35.0), "trigger time"),
    ],
)
def test_frames_at_one_position_are_told_apart(
    tmp_path: Path, macro: str, keyword: str, values: Any, named: str
) -> None:
    voxels = picture((6, 9, 8))
    data = enhanced(voxels)
    for index, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
        if macro not in frame:
            setattr(frame, macro, Items([Dataset()]))
        setattr(frame[macro].value[0], keyword, values[index % 2])
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 2.5 * (index // 2)]
    found = find_series(save(data, tmp_path / "a.dcm")).series
    assert [one.part for one in found] == [f"{named} {value:g}" for value in values]
    for number, one in enumerate(found):
        np.testing.assert_array_equal(intensities(read_series(one)), voxels[number::2] * 2.0 - 10)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("kind", ["i2", "u2", "u1"])
def test_signs_and_transfer_syntaxes(tmp_path: Path, kind: str, syntax: str) -> None:
    """What pydicom, and the encoders beside it, can write; SimpleITK decodes it by GDCM."""
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    voxels = np.random.default_rng(0).integers(low, high, (4, 33, 41), endpoint=True).astype(kind)
    native = {"implicit", "big endian", "deflated", "explicit"}
    if syntax in ENCODERS:
        pytest.importorskip(ENCODERS[syntax])

    def change(index: int, data: Any) -> None:
        data.file_meta.TransferSyntaxUID = pydicom.uid.UID(SYNTAXES[syntax])
        if syntax == "big endian":
            data.PixelData = voxels[index].astype(voxels.dtype.newbyteorder(">")).tobytes() + b"\0" * (
                voxels[index].nbytes % 2
            )

    compress = {} if syntax in native else {"compress": SYNTAXES[syntax]}
    more: dict[str, Any] = {"change": change} if syntax in native else compress
    folder = write_series(tmp_path / "s", voxels, RescaleSlope="2", RescaleIntercept="-7", **more)
    image = read(folder)
    np.testing.assert_array_equal(intensities(image), voxels * 2.0 - 7)
    assert_same(image, simpleitk(series_files(folder)))


@pytest.mark.parametrize("syntax", [*LOSSLESS.values(), HIGH_THROUGHPUT])
def test_syntaxes_that_imagecodecs_encodes(tmp_path: Path, syntax: str) -> None:
    """Lossless JPEG, as scanners store it, and high-throughput JPEG 2000: pydicom does not encode these."""
    imagecodecs = pytest.importorskip("imagecodecs")
    voxels = np.random.default_rng(0).integers(0, 4096, (3, 32, 48)).astype(np.uint16)

    def change(index: int, data: Any) -> None:
        if syntax in LOSSLESS.values():
            if not imagecodecs.LJPEG.available:
                pytest.skip("no encoder of lossless JPEG")
            coded = imagecodecs.ljpeg_encode(voxels[index], bitspersample=16)
        else:
            if not imagecodecs.HTJ2K.available:
                pytest.skip("no encoder of high-throughput JPEG 2000")
            coded = imagecodecs.htj2k_encode(voxels[index], reversible=True)
        data.PixelData = pydicom.encaps.encapsulate([bytes(coded)])
        data["PixelData"].VR = "OB"
        data.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)

    folder = write_series(tmp_path / "s", voxels, change=change)
    np.testing.assert_array_equal(intensities(read(folder)), voxels)


def test_twelve_bits_of_sixteen_with_a_sign(tmp_path: Path) -> None:
    """The sign is in bit 11, and what stands above it is no part of the number."""
    voxels = np.random.default_rng(0).integers(-2048, 2047, (4, 9, 8), endpoint=True).astype(np.int16)
    stored = (voxels & 0x0FFF).astype(np.uint16)
    folder = write_series(tmp_path / "s", stored, BitsStored=12, HighBit=11, PixelRepresentation=1)
    image = read(folder)
    np.testing.assert_array_equal(intensities(image), voxels)
    assert_same(image, simpleitk(series_files(folder)))


@pytest.mark.parametrize("downwards", [False, True])
def test_pet_is_rescaled_slice_by_slice_as_by_simpleitk(tmp_path: Path, downwards: bool) -> None:
    voxels = picture((5, 6, 7)).clip(0)

    def rescale(index: int, data: Any) -> None:
        data.RescaleSlope = str(0.5 + index)

    folder = write_series(tmp_path / "s", voxels, Modality="PT", change=rescale, downwards=downwards)
    image = read(folder)
    np.testing.assert_array_equal(intensities(image), voxels * (0.5 + np.arange(5))[:, None, None])
    files, slices = series_files(folder), []
    for file in files:  # SimpleITK's series reader takes the slope of the first for all
        slices.append(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(file))[0])
    np.testing.assert_array_equal(intensities(image), np.array(slices))
    np.testing.assert_allclose(LPS_TO_RAS * np.array(image.header.affine), simpleitk(files)[1], atol=1e-3)


# ---- what is not supported -------------------------------------------------------------------------------------------


def refusal(path: Path) -> Any:
    with pytest.raises(IssueError) as caught:
        only_series(path, path)
    return caught.value.issue


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("1.2.840.10008.5.1.4.1.1.20", "Nuclear Medicine Image Storage"),
        ("1.2.840.10008.5.1.4.1.1.3.1", "Ultrasound Multi-frame Image Storage"),
    ],
)
def test_frames_without_a_place_are_named(tmp_path: Path, kind: str, name: str) -> None:
    data = slice_file(picture()[0], (0, 0, 0), 1, Modality="MR", NumberOfFrames=6)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = kind
    data.PixelData = picture().tobytes()
    issue = refusal(save(data, tmp_path / "a.dcm"))
    assert issue.rule == "not-supported"
    assert issue.value == f"{name}: 6 frames, and nothing says where each of them is"


def test_doses_are_named(tmp_path: Path) -> None:
    data = slice_file(picture()[0].clip(0).astype(np.uint16), (0, 0, 0), 1, NumberOfFrames=6)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.2"
    data.PixelData = picture().tobytes()
    issue = refusal(save(data, tmp_path / "a.dcm"))
    assert (issue.rule, issue.value) == ("not-supported", "RT Dose Storage: doses are not read")
    assert "planned on" in issue.advice
