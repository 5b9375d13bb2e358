"""Series read as images: geometry as SimpleITK and dcm2niix have it, intensities exact, and every refusal."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pydicom")

import pydicom
import SimpleITK
from dicom_files import AXES, enhanced, picture, save, slice_file, write_series
from nnunet_rs.core.dicom.library import is_dicom
from nnunet_rs.core.dicom.reader import read, read_grid
from nnunet_rs.core.image_file import LPS_TO_RAS, ImageFile
from nnunet_rs.core.issues import Issue, IssueError
from pydicom.data import get_testdata_file

RLE, JPEG_LS, JPEG_2000 = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"


def intensities(image: ImageFile) -> Any:
    out = np.empty(image.voxels.shape, np.float32)
    image.write_image(out)
    return out


def refusal(path: Path) -> Any:
    with pytest.raises(IssueError) as caught:
        read(path)
    return caught.value.issue


def simpleitk(folder: Path) -> tuple[Any, Any]:
    """Voxels (z, y, x) and the affine (LPS) of SimpleITK's series reader."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image), affine


@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("axes", AXES)
def test_geometry_and_intensities_are_those_of_simpleitk(tmp_path: Path, axes: str, downwards: bool) -> None:
    voxels = picture()
    folder = write_series(tmp_path / "s", voxels, axes, downwards=downwards, RescaleSlope="2", RescaleIntercept="-1024")
    image = read(folder)
    theirs, affine = simpleitk(folder)
    np.testing.assert_array_equal(intensities(image)[0], voxels * 2.0 - 1024)
    np.testing.assert_array_equal(intensities(image)[0], theirs)
    np.testing.assert_allclose(LPS_TO_RAS * np.array(image.header.affine), affine, atol=1e-3)
    np.testing.assert_allclose(image.spacing, (2.5, 0.8, 0.7), atol=1e-6)
    assert image.issues == ()


@pytest.mark.parametrize("axes", AXES)
def test_geometry_is_dcm2niix_s(tmp_path: Path, axes: str) -> None:
    """dcm2niix flips rows; a voxel is where it is by either."""
    program = shutil.which("dcm2niix")
    if program is None:
        pytest.skip("dcm2niix is not installed")
    import nibabel

    folder = write_series(tmp_path / "s", picture(), axes, Modality="MR", MRAcquisitionType="3D")
    command = [program, "-b", "n", "-x", "n", "-f", "out", "-o", str(tmp_path), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    converted = nibabel.load(next(tmp_path.glob("out*.nii")))
    theirs = np.asarray(converted.dataobj)
    image = read(folder)
    ours = intensities(image)[0].transpose(2, 1, 0)  # (x, y, z)
    way = np.linalg.inv(converted.affine) @ np.array(image.header.affine)
    index = np.stack(np.meshgrid(*map(np.arange, ours.shape), indexing="ij"), -1).reshape(-1, 3)
    there = index @ way[:3, :3].T + way[:3, 3]
    assert np.abs(there - there.round()).max() * 2.5 < 2e-3  # mm; NIfTI holds float32
    np.testing.assert_array_equal(ours.ravel(), theirs[tuple(there.round().astype(int).T)])


@pytest.mark.parametrize("syntax", [RLE, JPEG_LS, JPEG_2000])
def test_compressed_pixels(tmp_path: Path, syntax: str) -> None:
    pytest.importorskip({RLE: "pydicom", JPEG_LS: "jpeg_ls", JPEG_2000: "openjpeg"}[syntax])  # which encode them
    voxels = picture((4, 33, 41))
    folder = write_series(tmp_path / "s", voxels, compress=syntax)
    np.testing.assert_array_equal(intensities(read(folder))[0], voxels)


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_stored_types(tmp_path: Path, kind: str) -> None:
    voxels = np.random.default_rng(0).integers(0, 100, (3, 5, 7)).astype(kind)
    voxels[0, 0, 0] = np.iinfo(kind).min
    voxels[0, 0, 1] = np.iinfo(kind).max
    image = read(write_series(tmp_path / "s", voxels))
    assert image.voxels.dtype == voxels.dtype
    np.testing.assert_array_equal(image.voxels[0], voxels)


def test_slices_of_two_types_become_the_type_that_holds_both(tmp_path: Path) -> None:
    voxels = picture((4, 6, 5)).clip(0)
    folder = write_series(tmp_path / "s", voxels)
    save(
        slice_file(np.full((6, 5), 60000, np.uint16), (-30, 20, -100), 9, ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        folder / "last.dcm",
    )
    image = read(folder)
    assert image.voxels.dtype == np.int32
    assert image.voxels[0, 4].min() == 60000
    np.testing.assert_array_equal(image.voxels[0, :4], voxels)


def test_pet_is_rescaled_slice_by_slice(tmp_path: Path) -> None:
    voxels = picture((5, 6, 7)).clip(0)

    def rescale(index: int, data: Any) -> None:
        data.RescaleSlope = str(0.5 + index)

    image = read(write_series(tmp_path / "s", voxels, Modality="PT", change=rescale))
    expected = voxels * (0.5 + np.arange(5))[:, None, None]
    np.testing.assert_allclose(intensities(image)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("axes", AXES)
def test_multi_frame_images_are_ordered_by_position(tmp_path: Path, axes: str) -> None:
    voxels = picture((5, 6, 7))
    ordered = save(enhanced(voxels, axes), tmp_path / "a.dcm")
    shuffled = save(enhanced(voxels, axes, order=[3, 0, 4, 1, 2]), tmp_path / "b.dcm")
    for path in (ordered, shuffled):
        image = read(path)
        np.testing.assert_array_equal(intensities(image)[0], voxels * 2.0 - 10)
        np.testing.assert_allclose(image.spacing, (2.5, 0.8, 0.7), atol=1e-6)
    np.testing.assert_allclose(read(ordered).header.affine, read(shuffled).header.affine)


def test_files_however_named_and_nested_and_zipped(tmp_path: Path) -> None:
    voxels = picture()
    plain = write_series(tmp_path / "plain", voxels)
    nested = tmp_path / "deep" / "er"
    nested.mkdir(parents=True)
    for number, file in enumerate(sorted(plain.iterdir())):
        target = nested / str(number % 2) / f"IM{5 - number}"
        target.parent.mkdir(exist_ok=True)
        shutil.copy(file, target)
    (nested / "README").write_text("not DICOM")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in nested.rglob("*"):
            archive.write(file, file.relative_to(nested))
    for path in (plain, tmp_path / "deep", tmp_path / "all.zip"):
        np.testing.assert_array_equal(read(path).voxels[0], voxels)
        assert read_grid(path) == ((1, *voxels.shape), (2.5, 0.8, 0.7))


def test_files_without_preamble(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s")
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[132:])
    np.testing.assert_array_equal(read(folder).voxels[0], picture())


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_a_missing_slice_is_refused(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", picture((8, 4, 4)))
    for number in (4, 5):
        (folder / f"{number:04d}.dcm").unlink()
    issue = refusal(folder)
    assert issue.rule == "missing-slice"
    assert issue.value.startswith("2 missing: from image 3 to image 6 it is 7.500 mm, elsewhere 2.500 mm")


@pytest.mark.parametrize(("shift", "is_fatal"), [(0.1, False), (1.0, True)])
def test_uneven_slices_are_warned_of_or_refused(tmp_path: Path, shift: float, is_fatal: bool) -> None:
    def move(index: int, data: Any) -> None:
        if index == 2:
            data.ImagePositionPatient[2] += shift

    folder = write_series(tmp_path / "s", change=move)
    if is_fatal:
        issue = refusal(folder)
        assert (issue.rule, issue.value) == ("uneven-spacing", "from slice to slice it is 1.500 to 3.500 mm")
        assert issue.advice == "resample it to slices that are equally far apart"
    else:
        (issue,) = read(folder).issues
        assert (issue.rule, issue.fatal) == ("uneven-spacing", False)
        assert "2.400 to 2.600 mm" in issue.value


@pytest.mark.parametrize(("shift", "is_fatal"), [(0.04, False), (1.0, True)])
def test_a_tilted_gantry_is_warned_of_or_refused(tmp_path: Path, shift: float, is_fatal: bool) -> None:
    def move(index: int, data: Any) -> None:
        data.ImagePositionPatient[1] += shift * index

    folder = write_series(tmp_path / "s", change=move)
    if is_fatal:
        issue = refusal(folder)
        assert issue.rule == "gantry-tilt"
        assert issue.value == "slices are shifted against each other by up to 5.000 mm, a tilt of 21.80 degrees"
        assert issue.advice == "resample it to a grid of right angles (dcm2niix does)"  # atan(1 / 2.5)
    else:
        assert [(issue.rule, issue.fatal) for issue in read(folder).issues] == [("gantry-tilt", False)]


def test_a_tilt_that_the_orientation_tells_of_is_a_grid_of_right_angles(tmp_path: Path) -> None:
    assert read(write_series(tmp_path / "s", axes="oblique", GantryDetectorTilt="20")).issues == ()


def test_several_phases_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s")

    def number(index: int, data: Any) -> None:
        data.SOPInstanceUID += ".2"
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID

    again = write_series(tmp_path / "again", picture(seed=1), change=number)
    for file in again.iterdir():
        file.rename(folder / f"x{file.name}")
    issue = refusal(folder)
    assert issue.rule == "several-phases"
    assert "12 images at 6 positions, up to 2 at one" in issue.value


def test_mixed_sizes_and_orientations_are_refused_as_one_image(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "sizes")
    odd = slice_file(np.zeros((3, 4), np.int16), (0, 0, 0), 20, ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    save(odd, folder / "odd.dcm")
    issue = refusal(folder)
    assert issue.rule == "mixed-sizes"
    assert "6 of 10 x 12 pixels of 0.7 x 0.8 mm, 1 of 4 x 3 pixels" in issue.value
    folder = write_series(tmp_path / "turned")
    turned = slice_file(picture()[0], (0, 0, 0), 20, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    save(turned, folder / "turned.dcm")
    issue = refusal(folder)
    assert issue.rule == "mixed-orientations"
    assert "6 of orientation 1\\0\\0\\0\\1\\0, 1 of orientation 0\\1\\0\\0\\0\\-1" in issue.value


def test_no_pixels_no_image_several_series(tmp_path: Path) -> None:
    def bare(index: int, data: Any) -> None:
        del data.PixelData

    issue = refusal(write_series(tmp_path / "bare", change=bare))
    assert (issue.rule, issue.value) == ("no-pixel-data", "the header describes an image, and no pixels follow")
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty").rule == "no-image"
    (tmp_path / "empty" / "notes.txt").write_text("hello")
    assert refusal(tmp_path / "empty").value == "1 files, none is DICOM"
    assert refusal(tmp_path / "nowhere").rule == "missing"
    write_series(tmp_path / "two" / "a")
    write_series(tmp_path / "two" / "b", series="2")
    issue = refusal(tmp_path / "two")
    assert (issue.rule, issue.value) == ("several-series", "2 images: CT (10 x 12 x 6), CT (10 x 12 x 6)")
    assert issue.advice == "give one folder for each; `nnunet-rs dicom` lists them"


def test_images_without_position(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", ImagePositionPatient=None)
    issue = refusal(folder)
    assert (issue.rule, issue.value) == (
        "no-position",
        "6 images without ImagePositionPatient or ImageOrientationPatient",
    )
    assert issue.advice == "export the series as the scanner stored it"
    lone = write_series(tmp_path / "lone", picture((1, 6, 5)), ImagePositionPatient=None, PixelSpacing=None)
    issues = read(lone).issues
    assert [(issue.rule, issue.fatal) for issue in issues] == [("no-position", False), ("spacing-assumed", False)]


def test_a_lone_slice_is_as_thick_as_it_says(tmp_path: Path) -> None:
    image = read(write_series(tmp_path / "s", picture((1, 6, 5))))
    assert image.spacing == (2.5, 0.8, 0.7)


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s")
    file = folder / "0003.dcm"
    content = file.read_bytes()
    file.write_bytes(content[:-50])
    issue = refusal(folder)
    assert (issue.rule, issue.file) == ("file-truncated", file)
    assert issue.value == "ends early: 38 bytes of its pixels are missing"  # 50, and 12 that tell of them
    file.write_bytes(content[:300])
    assert refusal(folder).fatal
    file.write_bytes(b"")
    assert refusal(folder).rule in ("file-empty", "missing-slice")


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0]),
        ("ImagePositionPatient", [0, 0]),
        ("NumberOfFrames", "-3"),
    ],
)
def test_headers_that_say_nonsense_are_refused(tmp_path: Path, keyword: str, value: Any) -> None:
    def break_it(index: int, data: Any) -> None:
        setattr(data, keyword, value)

    assert refusal(write_series(tmp_path / "s", change=break_it)).rule == "header-invalid"


def test_more_frames_than_the_file_holds_are_refused_at_once(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", picture((1, 6, 5)), NumberOfFrames="65535")
    assert refusal(folder).rule == "not-supported"


def test_a_value_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    (file,) = write_series(tmp_path / "s", picture((1, 6, 5))).iterdir()
    file.write_bytes(file.read_bytes().replace(b"\x08\0\x16\0UI", b"\x08\0\x16\0I\x1a"))
    assert refusal(file).rule in ("header-invalid", "unreadable")


def test_a_negative_pixel_spacing_is_refused(tmp_path: Path) -> None:
    assert refusal(write_series(tmp_path / "s", PixelSpacing=[-1, 1])).rule == "spacing-invalid"


# ---- files of others -------------------------------------------------------------------------------------------------

SINGLE = (
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_padded.dcm",
    "693_J2KI.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "examples_overlay.dcm",
)


@pytest.mark.parametrize("name", SINGLE)
def test_pydicom_s_own_files_are_as_simpleitk_reads_them(name: str) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"pydicom's {name} is not here")
    image, theirs = read(Path(path)), SimpleITK.ReadImage(path)
    np.testing.assert_allclose(intensities(image)[0], SimpleITK.GetArrayFromImage(theirs), rtol=1e-5)
    affine = LPS_TO_RAS * np.array(image.header.affine)
    np.testing.assert_allclose(affine[:3, 3], theirs.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(image.spacing[:0:-1], theirs.GetSpacing()[:2], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("MR_truncated.dcm", "file-truncated"),
        ("SC_rgb_rle.dcm", "secondary-capture"),
        ("rtdose.dcm", "not-supported"),
        ("rtplan.dcm", "not-image"),
        ("rtstruct.dcm", "no-grid"),
        ("test-SR.dcm", "not-image"),
        ("waveform_ecg.dcm", "not-image"),
        ("UN_sequence.dcm", "no-pixel-data"),
    ],
)
def test_what_is_no_image_is_named(name: str, rule: str) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"pydicom's {name} is not here")
    assert refusal(Path(path)).rule == rule


def test_every_file_of_pydicom_is_read_as_simpleitk_does_or_named() -> None:
    """Read: values and place are SimpleITK's. Not read: a rule says why, and the text is one line."""
    known = get_testdata_file("CT_small.dcm", download=False)
    files = sorted(Path(known).parent.rglob("*")) if known else []  # what is installed, not what can be downloaded
    if not files:
        pytest.skip("pydicom's files are not here")
    read_ones: list[str] = []
    refused: dict[str, Issue] = {}
    for path in (file for file in files if file.is_file() and is_dicom(file)):
        try:
            image = read(path)
        except IssueError as error:
            refused[path.name] = error.issue
            continue
        read_ones.append(path.name)
        found = intensities(image)
        assert np.isfinite(found).all()
        theirs = simpleitk_voxels(path)
        if theirs is not None and found.shape[0] == 1 and not inverted(path):
            np.testing.assert_allclose(found[0], theirs, rtol=1e-5, err_msg=path.name)
    assert {name: issue.rule for name, issue in refused.items() if issue.rule not in NAMED} == {}
    assert all(len(str(issue).splitlines()) == 1 for issue in refused.values())
    assert len(read_ones) > 20


NAMED = {
    "file-truncated",
    "header-invalid",
    "localizer",
    "no-grid",
    "no-image",
    "no-pixel-data",
    "no-position",
    "not-image",
    "not-supported",
    "secondary-capture",
    "unreadable",
}


def inverted(path: Path) -> bool:
    return pydicom.dcmread(path, force=True).get("PhotometricInterpretation") == "MONOCHROME1"


def simpleitk_voxels(path: Path) -> Any:
    """What SimpleITK reads; None where it cannot."""
    try:
        return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    except RuntimeError:
        return None


def test_a_compressed_series_of_a_scanner(shared: Path) -> None:
    folder = shared / "data" / "dicom" / "ct_20_slices"
    if not folder.is_dir():
        pytest.skip("no such series")
    image = read(folder)
    theirs, affine = simpleitk(folder)
    np.testing.assert_array_equal(intensities(image)[0], theirs)
    np.testing.assert_allclose(LPS_TO_RAS * np.array(image.header.affine), affine, atol=1e-3)
