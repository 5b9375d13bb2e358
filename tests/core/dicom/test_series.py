"""Series told apart, named without the patient, and what is left out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pydicom")

import pydicom
from dicom_files import picture, save, slice_file, write_series
from nnunet_rs.core.dicom.private import HIDDEN
from nnunet_rs.core.dicom.reader import read_series
from nnunet_rs.core.dicom.series import find_series
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.issues import fatal
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag


def parts(folder: Path) -> list[str]:
    return [one.part for one in find_series(folder).series]


@pytest.mark.parametrize(
    ("keyword", "values", "named"),
    [
        ("EchoTime", ("4.6", "9.2"), "echo time"),
        ("EchoNumbers", ("1", "2"), "echo"),
        ("DiffusionBValue", (0.0, 1000.0), "b-value"),
        ("TemporalPositionIdentifier", ("1", "2"), "temporal position"),
        ("AcquisitionNumber", ("1", "2"), "acquisition"),
        ("TriggerTime", ("0", "35"), "trigger time"),
    ],
)
def test_images_at_one_position_are_told_apart(tmp_path: Path, keyword: str, values: Any, named: str) -> None:
    for number, value in enumerate(values):

        def mark(index: int, data: Any, number: int = number, value: Any = value) -> None:
            setattr(data, keyword, value)
            data.SOPInstanceUID += f".{number}"
            data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID

        folder = write_series(tmp_path / "all" / str(number), picture(seed=number), change=mark)
        for file in folder.iterdir():
            file.rename(folder.parent / f"{number}_{file.name}")
        folder.rmdir()
    found = find_series(tmp_path / "all").series
    assert [one.part for one in found] == [f"{named} {float(value):g}" for value in values]
    for number, one in enumerate(found):
        assert fatal(one.issues) == ()
        np.testing.assert_array_equal(read_series(one).voxels[0], picture(seed=number))
    assert len({one.name for one in found}) == 2


def test_old_b_values_of_vendors(tmp_path: Path) -> None:
    for number, value in enumerate((0, 800)):

        def mark(index: int, data: Any, number: int = number, value: int = value) -> None:
            data.add_new((0x0019, 0x0010), "LO", "SIEMENS MR HEADER")
            data.add_new((0x0019, 0x100C), "IS", str(value))
            data.SOPInstanceUID += f".{number}"
            data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID

        write_series(tmp_path / str(number), change=mark, Modality="MR")
    assert sorted(parts(tmp_path)) == ["b-value 0", "b-value 800"]


def test_acquisitions_that_follow_each_other_stay_one_image(tmp_path: Path) -> None:
    def mark(index: int, data: Any) -> None:
        data.AcquisitionNumber = 1 + index // 3
        data.AcquisitionTime = f"1016{index:02d}"

    assert parts(write_series(tmp_path / "s", change=mark)) == [""]


def test_orientations_of_one_series_are_images_of_their_own(tmp_path: Path) -> None:
    for number, axes in enumerate(("axial", "sagittal")):

        def mark(index: int, data: Any, number: int = number) -> None:
            data.SOPInstanceUID += f".{number}"
            data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID

        write_series(tmp_path / str(number), axes=axes, change=mark)
    found = find_series(tmp_path).series
    assert [len(one.stack.planes) for one in found] == [6, 6]
    assert all([issue.rule for issue in one.issues] == ["mixed-orientations"] for one in found)


def test_localizers_duplicates_and_captures_are_left_out_and_told(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s")
    shutil.copy(folder / "0002.dcm", folder / "copy.dcm")
    axial = [1, 0, 0, 0, 1, 0]
    scout = slice_file(picture()[0], (0, 0, 0), 30, ImageOrientationPatient=axial)
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(scout, folder / "scout.dcm")
    capture = slice_file(picture()[0], (0, 0, 0), 31, ImageOrientationPatient=axial)
    capture.SOPClassUID = capture.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    save(capture, folder / "capture.dcm")
    (folder / "notes.txt").write_text("not DICOM")
    found = find_series(folder)
    assert {issue.file.name: issue.rule for issue in found.left_out} == {
        "copy.dcm": "duplicate",
        "scout.dcm": "localizer",
        "capture.dcm": "secondary-capture",
    }
    assert [path.name for path in found.others] == ["notes.txt"]
    assert [len(one.stack.planes) for one in found.series] == [6]


def test_names_hold_nothing_of_the_patient(tmp_path: Path) -> None:
    write_series(tmp_path / "JR0815_CT")
    write_series(tmp_path / "roe_jane" / "liver", series="2")
    write_series(tmp_path / "Head", series="3")
    write_series(tmp_path / "x" / "DICOM", series="4", Modality="MR")
    names = [one.name for one in find_series(tmp_path).series]
    assert names[0] == "Head"
    assert names[1].startswith("ct_")
    assert names[2] == "liver"
    assert names[3].startswith("mr_")
    assert names == [one.name for one in find_series(tmp_path).series]
    assert "roe" not in repr(find_series(tmp_path).series).lower().replace("roe_jane", "")


def test_damaged_files_stop_no_other(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s")
    (folder / "broken.dcm").write_bytes((folder / "0001.dcm").read_bytes()[:400])
    found = find_series(folder)
    assert len(found.series) == 1
    assert [issue.file.name for issue in found.left_out] == ["broken.dcm"]


def test_one_value_that_cannot_be_read_does_not_show_the_patients_name(tmp_path: Path) -> None:
    file = sorted(write_series(tmp_path / "s").iterdir())[0]
    data = pydicom.dcmread(file)
    data[0x00101005] = RawDataElement(Tag(0x00101005), "US", 3, b"abc", 0, False, True)  # a birth name that is no text
    (tmp_path / "alone").mkdir()
    data.save_as(tmp_path / "alone" / "roe.dcm")
    (issue,) = find_series(tmp_path / "alone").left_out
    assert issue.file == tmp_path / "alone" / HIDDEN


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file or folder"):
        find_series(tmp_path / "nowhere")
