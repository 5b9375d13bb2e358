"""Nothing of the patient in what is printed, in files' names, in files that are no DICOM: all outputs are searched."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")

from dicom_files import picture, save, slice_file, write_series
from nnunet_rs.cli import main
from nnunet_rs.core.dicom.reader import only_series
from nnunet_rs.core.types import LabelSet
from nnunet_rs.exchange.dicom.seg import write_seg
from nnunet_rs.exchange.dicom.source import Source
from nnunet_rs.exchange.dicom.structures import structures_of

SHAPE = (8, 24, 20)
PATIENT = {
    "PatientName": "Zzyzx^Quorra",
    "PatientID": "ZQ4711",
    "PatientBirthDate": "19330303",
    "PatientAddress": "Elmstreet",
    "OtherPatientNames": "Yarrow^Quorra",
    "ReferringPhysicianName": "Houseman^G",
    "InstitutionName": "Grauhospital",
    "AccessionNumber": "ACC998877",
    "StudyDescription": "Zzyzx follow-up",
    "SeriesDescription": "head ZZYZX",
    "Modality": "MR",
}
MARKERS = ("zzyzx", "quorra", "zq4711", "19330303", "elmstreet", "yarrow", "houseman", "grauhospital", "acc998877")


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    """As a scanner exports: folders and files called after the patient, one of everything that is told of."""
    home = tmp_path / "exports" / "ZZYZX_QUORRA" / "ZQ4711"
    head = write_series(home / "Head_Zzyzx", picture(SHAPE), **PATIENT)
    shutil.copy(head / "0002.dcm", head / "zzyzx_copy.dcm")
    (head / "quorra_broken.dcm").write_bytes((head / "0001.dcm").read_bytes()[:600])
    (head / "notes_quorra.txt").write_text("Zzyzx")
    axial = [1, 0, 0, 0, 1, 0]
    scout = slice_file(picture()[0], (0, 0, 0), 30, ImageOrientationPatient=axial, **PATIENT)
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(scout, head / "scout_zq4711.dcm")
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:6, 5:15, 5:15] = 1
    gap = write_series(home / "Gap_Quorra", picture(SHAPE), series="2", **PATIENT)
    (gap / "0004.dcm").unlink()
    cut = write_series(home / "Cut_Quorra", picture(SHAPE), series="3", **PATIENT)
    (cut / "0003.dcm").write_bytes((cut / "0003.dcm").read_bytes()[:-50])
    uneven = write_series(home / "Uneven_Quorra", picture(SHAPE), series="4", change=_moved, **PATIENT)
    series = only_series(uneven, uneven)
    known = structures_of(LabelSet(("background", "large"), (0, 1)))
    write_seg(home / "Seg_Zzyzx.dcm", labels, Source(series), known)
    (home / "Seg_cut_Zzyzx.dcm").write_bytes((home / "Seg_Zzyzx.dcm").read_bytes()[:-60])
    return tmp_path / "exports"


def _moved(index: int, data: object) -> None:
    if index == 3:
        data.ImagePositionPatient[2] += 0.1  # type: ignore[attr-defined]


@pytest.fixture
def work(make_work: Callable[..., Path]) -> Path:
    return make_work({"3d_fullres": (0,)})


def told(text: str) -> list[str]:
    return [marker for marker in MARKERS if marker in text.lower()]


def contents(folder: Path) -> Iterator[tuple[str, str]]:
    """Names and texts of all files, unpacked where they are compressed."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file():
            yield name, ""
            continue
        held = path.read_bytes()
        yield name, (gzip.decompress(held) if name.endswith(".gz") else held).decode("latin-1")


def assert_private(folder: Path) -> None:
    found = list(contents(folder))
    assert found
    assert {name: told(name) for name, _ in found if told(name)} == {}
    assert {name: told(text) for name, text in found if told(text) and not name.startswith(("seg/", "rtstruct/"))} == {}


def test_lists(exports: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ((), ("--json",), ("-v",), ("--write-table", str(tmp_path / "t" / "series.csv"))):
        assert main(["dicom", str(exports), *options]) == 0
        shown = capsys.readouterr()
        assert told(shown.out + shown.err) == [], shown
        for rule in ("missing-slice", "localizer", "duplicate", "uneven-spacing", "other kinds"):
            assert rule in shown.out.replace('"others"', "other kinds")
    assert_private(tmp_path / "t")


def test_paths_are_shown_on_request(exports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dicom", str(exports), "--show-paths", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert any("ZZYZX_QUORRA" in one["folder"] for one in shown["series"])
    assert not any("zzyzx" in one["case"].lower() for one in shown["series"])
    assert {one["description"] for one in shown["series"]} == {"head ***"}


def test_datasets(exports: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, options in (("a", ()), ("b", ("--channels", "MR=MR")), ("c", ("-v",))):
        target = tmp_path / name / "Dataset001_X"
        main(["dicom", str(exports), "-o", str(target), *options])
        shown = capsys.readouterr()
        assert told(shown.out + shown.err) == [], shown
    assert_private(tmp_path / "a")
    assert_private(tmp_path / "c")


def test_predictions_statistics_reports_and_scores(
    exports: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    more = ("--dicom-seg", "--rtstruct", "--save-probabilities", "-v")
    assert (
        main(["predict", str(work), "-i", str(exports), "-o", str(out), "--no-mirror", *more]) == 1
    )  # two are refused
    for command in (
        ["statistics", str(out)],
        ["report", str(out)],
        ["evaluate", str(out), str(out / "seg"), "-o", str(out / "summary.json")],
        ["predict", str(work), "-i", str(exports), "-o", str(out), "--no-mirror", "--report", "--statistics"],
    ):
        main(command)
    shown = capsys.readouterr()
    assert told(shown.out + shown.err) == [], shown
    assert {path.name for path in out.iterdir()} >= {
        "statistics.json",
        "report.html",
        "summary.json",
        "seg",
        "rtstruct",
    }
    assert "missing-slice" in shown.err
    assert "file-truncated" in shown.err
    assert_private(out)
