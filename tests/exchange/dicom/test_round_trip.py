"""Label maps to SEG and RTSTRUCT and back: by this library, by others, and by dciodvfy."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("pydicom")

import SimpleITK
from dicom_files import AXES, enhanced, picture, save, write_series
from nnunet_rs.core.dicom.reader import only_series
from nnunet_rs.core.dicom.references import read_labels_on
from nnunet_rs.core.dicom.series import Series
from nnunet_rs.core.image_file import Grid
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.exchange.dicom.rtstruct import write_rtstruct
from nnunet_rs.exchange.dicom.seg import Form, write_seg
from nnunet_rs.exchange.dicom.source import Source
from nnunet_rs.exchange.dicom.structures import DicomStructure, structures_of

LABELS = LabelSet(("background", "liver", "kidney_left", "odd thing"), (0, 1, 2, 3))
SHAPE = (9, 26, 23)


def balls(shape: tuple[int, ...] = SHAPE) -> NDArray[np.uint8]:
    """A ball with a hole, a block that touches the border, and small parts, one of a single voxel."""
    z, y, x = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    labels = np.zeros(shape, np.uint8)
    distance = np.sqrt(((z - 4) * 2.5) ** 2 + (y - 9) ** 2 + (x - 10) ** 2)
    labels[distance < 8.5] = 1
    labels[distance < 3.2] = 0
    labels[5:, 18:, 14:] = 2
    labels[2, 20, 3] = labels[2, 21, 4] = 3
    labels[4, 20:25, 3:8] = 3
    labels[4, 22, 5] = 1
    return labels


def series_of(folder: Path) -> Series:
    return only_series(folder, folder)


def grid_of(series: Series) -> Grid:
    return Grid(series.place, series.stack.shape, series.stack.spacing, series.stack.header.affine)


def dice(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(2 * np.logical_and(a, b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("form", ["binary", "labelmap"])
def test_a_seg_gives_the_labels_back(tmp_path: Path, axes: str, downwards: bool, form: Form) -> None:
    labels = balls()
    series = series_of(write_series(tmp_path / "s", picture(SHAPE), axes, downwards=downwards))
    write_seg(tmp_path / "seg.dcm", labels, Source(series), structures_of(LABELS), form)
    for declared in (LABELS, None):
        found = read_labels_on(tmp_path / "seg.dcm", grid_of(series), declared)
        assert found.issues == ()
        np.testing.assert_array_equal(found.labels(), labels)


@pytest.mark.parametrize("size", [(1, 8), (26, 24), (25, 40), (26, 23), (3, 3)])
def test_a_seg_of_any_size_gives_the_labels_back(tmp_path: Path, size: tuple[int, int]) -> None:
    """Rows that fill whole bytes are packed row by row, others eight frames at a time."""
    labels = np.random.default_rng(0).choice(np.array([0, 0, 1, 2, 3], np.uint8), (9, *size))
    labels[:, : size[0] // 2] *= labels[:, : size[0] // 2] != 2
    series = series_of(write_series(tmp_path / "s", picture(labels.shape)))
    write_seg(tmp_path / "seg.dcm", labels, Source(series), structures_of(LABELS))
    np.testing.assert_array_equal(read_labels_on(tmp_path / "seg.dcm", grid_of(series), LABELS).labels(), labels)
    regions = LabelSet(("background", "a", "b", "c"), (0, 1, 2, 3), (Region("all", (1, 2, 3), 1), Region("c", (3,), 3)))
    labels[labels == 2] = 1  # as files of these regions hold it
    write_seg(tmp_path / "regions.dcm", labels, Source(series), structures_of(regions))
    whole = read_labels_on(tmp_path / "regions.dcm", grid_of(series), regions).labels()
    np.testing.assert_array_equal(whole > 0, labels > 0)
    np.testing.assert_array_equal(whole == 3, labels == 3)


@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("axes", AXES)
def test_an_rtstruct_gives_the_labels_back(tmp_path: Path, axes: str, downwards: bool) -> None:
    labels = balls()
    series = series_of(write_series(tmp_path / "s", picture(SHAPE), axes, downwards=downwards))
    write_rtstruct(tmp_path / "rt.dcm", labels, Source(series), structures_of(LABELS))
    found = read_labels_on(tmp_path / "rt.dcm", grid_of(series), LABELS)
    assert found.issues == ()
    np.testing.assert_array_equal(found.labels(), labels)  # holes, corners and lone voxels too


def test_a_grid_of_flipped_and_swapped_axes_is_followed(tmp_path: Path) -> None:
    """As dcm2niix and reorienting tools store an image: rows flipped, axes in another order."""
    labels = balls()
    series = series_of(write_series(tmp_path / "s", picture(SHAPE), "oblique"))
    write_seg(tmp_path / "seg.dcm", labels, Source(series), structures_of(LABELS))
    write_rtstruct(tmp_path / "rt.dcm", labels, Source(series), structures_of(LABELS))
    affine = np.array(series.stack.header.affine)
    turned = affine.copy()  # x' = z, y' = y flipped, z' = x
    turned[:3, 0], turned[:3, 1], turned[:3, 2] = affine[:3, 2], -affine[:3, 1], affine[:3, 0]
    turned[:3, 3] = affine[:3, 3] + affine[:3, 1] * (SHAPE[1] - 1)
    expected = labels[:, ::-1].transpose(2, 1, 0)
    grid = Grid(tmp_path / "turned.nii.gz", expected.shape, (0.7, 0.8, 2.5), tuple(map(tuple, turned.tolist())))
    for name in ("seg.dcm", "rt.dcm"):
        np.testing.assert_array_equal(read_labels_on(tmp_path / name, grid, LABELS).labels(), expected)


def test_multi_frame_sources_are_referred_to_by_frame(tmp_path: Path) -> None:
    labels = balls()
    save(enhanced(picture(SHAPE), order=[3, 0, 4, 1, 2, 8, 7, 6, 5]), tmp_path / "image.dcm")
    series = series_of(tmp_path / "image.dcm")
    write_seg(tmp_path / "seg.dcm", labels, Source(series), structures_of(LABELS))
    write_rtstruct(tmp_path / "rt.dcm", labels, Source(series), structures_of(LABELS))
    for name in ("seg.dcm", "rt.dcm"):
        np.testing.assert_array_equal(read_labels_on(tmp_path / name, grid_of(series), LABELS).labels(), labels)
    import pydicom

    frame = pydicom.dcmread(tmp_path / "seg.dcm").PerFrameFunctionalGroupsSequence[0]
    image = frame.DerivationImageSequence[0].SourceImageSequence[0]
    first = int(np.flatnonzero((labels == 1).any(axis=(1, 2)))[0])
    assert image.ReferencedFrameNumber == [3, 0, 4, 1, 2, 8, 7, 6, 5].index(first) + 1


def test_probabilities_become_a_fractional_seg(tmp_path: Path) -> None:
    import pydicom

    series = series_of(write_series(tmp_path / "s", picture(SHAPE)))
    chance = np.random.default_rng(0).random((3, *SHAPE)).astype(np.float16)
    chance[1, 3:] = 0
    write_seg(tmp_path / "seg.dcm", balls(), Source(series), structures_of(LABELS), "fractional", list(chance))
    file = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (file.SegmentationType, file.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    assert file.NumberOfFrames == 9 + 3 + 9
    np.testing.assert_array_equal(file.pixel_array[0], np.rint(chance[0, 0].astype(np.float32) * 255))
    found = read_labels_on(tmp_path / "seg.dcm", grid_of(series), LABELS)
    assert [issue.rule for issue in found.issues] == ["segments-overlap"]
    np.testing.assert_array_equal(found.labels() == 3, np.rint(chance[2].astype(np.float32) * 255) >= 127.5)


def test_regions_overlap_in_a_seg_and_come_back_as_they_are_painted(tmp_path: Path) -> None:
    regions = (Region("whole", (1, 2, 3), 1), Region("core", (2, 3), 2), Region("enhancing", (3,), 3))
    labels = LabelSet(("background", "a", "b", "c"), (0, 1, 2, 3), regions)
    nested = np.zeros(SHAPE, np.uint8)
    nested[1:8, 3:20, 3:20], nested[2:7, 5:15, 5:15], nested[3:6, 7:12, 7:12] = 1, 2, 3
    series = series_of(write_series(tmp_path / "s", picture(SHAPE)))
    write_seg(tmp_path / "seg.dcm", nested, Source(series), structures_of(labels))
    np.testing.assert_array_equal(
        read_labels_on(tmp_path / "seg.dcm", grid_of(series), labels).labels(),
        nested,
    )


def test_values_with_gaps_come_back_by_name_and_by_description(tmp_path: Path) -> None:
    labels = LabelSet(("background", "liver", "tumour"), (0, 4, 300))
    voxels = np.where(balls() == 1, 4, np.where(balls() == 2, 300, 0)).astype(np.uint16)
    series = series_of(write_series(tmp_path / "s", picture(SHAPE)))
    for form in ("binary", "labelmap"):
        write_seg(tmp_path / "seg.dcm", voxels, Source(series), structures_of(labels), form)  # type: ignore[arg-type]
        for declared in (labels, None):
            found = read_labels_on(tmp_path / "seg.dcm", grid_of(series), declared)
            np.testing.assert_array_equal(found.labels(), voxels)


def test_nothing_predicted_is_written_and_read_all_the_same(tmp_path: Path) -> None:
    series = series_of(write_series(tmp_path / "s", picture(SHAPE)))
    empty = np.zeros(SHAPE, np.uint8)
    write_seg(tmp_path / "seg.dcm", empty, Source(series), structures_of(LABELS))
    write_rtstruct(tmp_path / "rt.dcm", empty, Source(series), structures_of(LABELS))
    for name in ("seg.dcm", "rt.dcm"):
        assert not read_labels_on(tmp_path / name, grid_of(series), LABELS).labels().any()


# ---- without our code ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["binary", "labelmap"])
def test_highdicom_reads_the_segments(tmp_path: Path, form: Form) -> None:
    highdicom = pytest.importorskip("highdicom")
    labels = balls()
    series = series_of(write_series(tmp_path / "s", picture(SHAPE), "oblique", downwards=True))
    write_seg(tmp_path / "seg.dcm", labels, Source(series), structures_of(LABELS), form)
    seg = highdicom.seg.segread(str(tmp_path / "seg.dcm"))
    uids = [plane.uid for plane in series.stack.planes]
    found = seg.get_pixels_by_source_instance(
        uids, combine_segments=True, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(found, labels)
    described = seg.get_segment_description(1)
    assert (described.segment_label, described.segmented_property_type.meaning) == ("liver", "Liver")
    assert described.algorithm_identification.name == "nnunet_rs"


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("form", ["binary", "fractional"])
def test_simpleitk_reads_the_frames(tmp_path: Path, axes: str, form: Form) -> None:
    """SimpleITK 2.5 does not know label maps yet, and of bits reads whole bytes."""
    shape = (9, 32, 24)
    labels = balls(shape)
    series = series_of(write_series(tmp_path / "s", picture(shape), axes))
    masks = [(labels == value).astype(np.float32) for value in (1, 2, 3)]
    write_seg(tmp_path / "seg.dcm", labels, Source(series), structures_of(LABELS), form, masks)
    image = SimpleITK.ReadImage(str(tmp_path / "seg.dcm"))
    frames = SimpleITK.GetArrayFromImage(image)
    expected = np.concatenate([mask[mask.any(axis=(1, 2))] for mask in masks])
    np.testing.assert_array_equal(frames, expected * frames.max())


@pytest.mark.parametrize("axes", AXES)
def test_contours_hold_the_voxels_centres_by_matplotlib_too(tmp_path: Path, axes: str) -> None:
    """Read by pydicom, filled by matplotlib: Dice of structures that are wide enough is 1."""
    import pydicom
    from matplotlib.path import Path as Outline

    labels = balls()
    series = series_of(write_series(tmp_path / "s", picture(SHAPE), axes))
    write_rtstruct(tmp_path / "rt.dcm", labels, Source(series), structures_of(LABELS))
    back = np.linalg.inv(Source(series).affine)
    y, x = np.meshgrid(np.arange(SHAPE[1]), np.arange(SHAPE[2]), indexing="ij")
    centres = np.stack([x.ravel(), y.ravel()], 1)
    for number, roi in enumerate(pydicom.dcmread(tmp_path / "rt.dcm").ROIContourSequence, 1):
        mask = np.zeros(SHAPE, bool)
        for contour in roi.ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3) @ back[:3, :3].T + back[:3, 3]
            assert np.ptp(points[:, 2]) < 1e-2
            inside = Outline(points[:, :2]).contains_points(centres).reshape(SHAPE[1:])
            mask[round(points[0, 2])] ^= inside
        assert dice(mask, labels == number) > 0.999


KINDS_OF_OUTPUT = ("binary", "labelmap", "fractional", "rtstruct")


def write_kind(
    kind: str, path: Path, labels: NDArray[Any], source: Source, structures: tuple[DicomStructure, ...]
) -> None:
    """Write any kind of output of a segmentation."""
    if kind == "rtstruct":
        write_rtstruct(path, labels, source, structures)
    elif kind == "fractional":
        chance = [np.isin(labels, one.values).astype(np.float32) * 0.9 for one in structures]
        write_seg(path, labels, source, structures, "fractional", chance)
    else:
        write_seg(path, labels, source, structures, kind)  # type: ignore[arg-type]


@pytest.fixture
def dciodvfy() -> str:
    """The program."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")
    return program


@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("kind", KINDS_OF_OUTPUT)
def test_dciodvfy_finds_no_error(tmp_path: Path, dciodvfy: str, axes: str, kind: str, downwards: bool) -> None:
    series = series_of(write_series(tmp_path / "s", picture(SHAPE), axes, downwards=downwards))
    structures = structures_of(LABELS, {"codes": {"odd thing": ["99ME", "1", "Odd thing"]}})
    write_kind(kind, tmp_path / "x.dcm", balls(), Source(series), structures)
    assert errors_of(dciodvfy, tmp_path / "x.dcm") == unknown(kind)


@pytest.mark.parametrize("kind", KINDS_OF_OUTPUT)
@pytest.mark.parametrize("modality", ["CT", "MR", "PT", "enhanced"])
def test_dciodvfy_finds_no_error_whatever_the_source(tmp_path: Path, dciodvfy: str, modality: str, kind: str) -> None:
    """Sources of each modality, without a name for the patient, of one slice, with nothing found, with overlaps."""
    if modality == "enhanced":
        folder = save(enhanced(picture(SHAPE)), tmp_path / "image.dcm")
    else:
        folder = write_series(tmp_path / "s", picture(SHAPE), Modality=modality, PatientName="", PatientID="")
    source = Source(series_of(folder))
    for labels in (balls(), np.zeros(SHAPE, np.uint8)):
        write_kind(kind, tmp_path / "x.dcm", labels, source, structures_of(LABELS))
        assert errors_of(dciodvfy, tmp_path / "x.dcm") == unknown(kind)
    if kind != "labelmap":  # in which nothing may overlap
        regions = (Region("whole", (1, 2, 3), 1), Region("core", (2, 3), 2), Region("enhancing", (3,), 3))
        known = structures_of(LabelSet(("background", "a", "b", "c"), (0, 1, 2, 3), regions))
        write_kind(kind, tmp_path / "x.dcm", balls(), source, known)
        assert errors_of(dciodvfy, tmp_path / "x.dcm") == []


@pytest.mark.parametrize("kind", KINDS_OF_OUTPUT)
def test_dciodvfy_finds_no_error_of_one_slice(tmp_path: Path, dciodvfy: str, kind: str) -> None:
    source = Source(series_of(write_series(tmp_path / "s", picture((1, *SHAPE[1:])))))
    write_kind(kind, tmp_path / "x.dcm", balls()[4:5], source, structures_of(LABELS))
    assert errors_of(dciodvfy, tmp_path / "x.dcm") == unknown(kind)


def unknown(kind: str) -> list[str]:
    """What the program, of 2022, says of every label map, highdicom's too: it does not know that object of 2024."""
    if kind != "labelmap":
        return []
    numbered = "SegmentNumber not monotonically increasing from one by one"
    return [
        f"Error - {numbered} - have SegmentSequence item number 1 (from one) with SegmentNumber of 0",
        "Error - Information Object Not found",
    ]


def errors_of(program: str, path: Path) -> list[str]:
    told = subprocess.run([program, str(path)], capture_output=True, text=True, check=False).stderr
    return [line for line in told.splitlines() if line.startswith("Error")]


def test_uids_that_an_anonymiser_left_out_are_made_up_from_the_images(tmp_path: Path) -> None:
    import pydicom

    program, found = shutil.which("dciodvfy"), []
    for number in range(2):

        def remove(index: int, data: Any, number: int = number) -> None:
            data.SeriesInstanceUID = data.StudyInstanceUID = data.SOPInstanceUID = data.SOPClassUID = ""
            data.file_meta.MediaStorageSOPInstanceUID += f".{number}"
            del data.FrameOfReferenceUID

        series = series_of(write_series(tmp_path / str(number), picture(SHAPE), change=remove))
        for write, name in ((write_seg, "seg.dcm"), (write_rtstruct, "rt.dcm")):
            write(tmp_path / name, balls(), Source(series), structures_of(LABELS))
            np.testing.assert_array_equal(read_labels_on(tmp_path / name, grid_of(series), LABELS).labels(), balls())
            assert program is None or errors_of(program, tmp_path / name) == []
            found.append(pydicom.dcmread(tmp_path / name))
    assert found[0].StudyInstanceUID == found[1].StudyInstanceUID != found[2].StudyInstanceUID
    assert found[0].FrameOfReferenceUID == found[1].FrameOfReferenceUID != found[2].FrameOfReferenceUID


def test_the_same_labels_make_the_same_bytes_and_others_another_uid(tmp_path: Path) -> None:
    import pydicom

    series = series_of(write_series(tmp_path / "s", picture(SHAPE)))
    structures = structures_of(LABELS)

    def digest(name: str, labels: NDArray[Any]) -> tuple[str, str]:
        path = tmp_path / name
        (write_rtstruct if name == "rt.dcm" else write_seg)(path, labels, Source(series), structures)
        return hashlib.sha256(path.read_bytes()).hexdigest(), str(pydicom.dcmread(path).SOPInstanceUID)

    other = balls()
    other[0, 0, 0] = 1
    for name in ("seg.dcm", "rt.dcm"):
        first = digest(name, balls())
        assert digest(name, balls()) == first
        assert digest(name, other)[1] != first[1]


def test_what_the_outputs_hold_of_the_patient(tmp_path: Path) -> None:
    """The list of docs/howto/dicom.md: what a PACS files by, and nothing else."""
    import pydicom

    def more(index: int, data: Any) -> None:
        data.PatientAddress, data.OtherPatientNames, data.OperatorsName = "Elm Street", "Doe^J", "Nurse^N"
        data.PhysiciansOfRecord, data.InstitutionName, data.PatientComments = "House^G", "Hospital", "secret"

    series = series_of(write_series(tmp_path / "s", picture(SHAPE), change=more))
    write_seg(tmp_path / "seg.dcm", balls(), Source(series), structures_of(LABELS))
    write_rtstruct(tmp_path / "rt.dcm", balls(), Source(series), structures_of(LABELS))
    for name in ("seg.dcm", "rt.dcm"):
        file = pydicom.dcmread(tmp_path / name)
        assert (file.PatientName, file.PatientID, file.StudyInstanceUID) == (
            "Roe^Jane",
            "JR0815",
            "1.2.826.0.1.3680043.8.498.1.5",
        )
        assert file.FrameOfReferenceUID == series.origin.frame_of_reference
        text = (tmp_path / name).read_bytes()
        for secret in (b"Elm", b"Doe", b"Nurse", b"House", b"Hospital", b"secret"):
            assert secret not in text
