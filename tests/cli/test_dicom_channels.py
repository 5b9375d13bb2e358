"""Several series of a study as the channels of one case: `predict` and `dicom -o`, by rules, a table, or folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

pytest.importorskip("pydicom")

import pydicom
from dicom_files import ROOT, picture, write_series
from nnunet_rs.cli import main
from nnunet_rs.core.dicom.reader import only_series
from nnunet_rs.core.types import LabelSet
from nnunet_rs.exchange.dicom.seg import write_seg
from nnunet_rs.exchange.dicom.source import Source
from nnunet_rs.exchange.dicom.structures import structures_of

SHAPE = (8, 24, 20)
RULES = ("--channels", "T1=*t1*", "FLAIR=*flair*")


def write_study(root: Path, study: str, descriptions: dict[str, str], **values: Any) -> Path:
    """A folder a series, each of other voxels; the description tells what it is."""
    for number, (name, description) in enumerate(descriptions.items()):
        write_series(
            root / name,
            picture(SHAPE, seed=number),
            series=f"{study}.{number}",
            SeriesDescription=description,
            StudyInstanceUID=ROOT + study,
            Modality="MR",
            **values,
        )
    return root


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    root = tmp_path / "exports"
    write_study(root / "first", "51", {"a": "FLAIR tra", "b": "T1 mprage", "c": "T2"})
    write_study(root / "second", "52", {"a": "t1", "b": "flair"})
    return root


@pytest.fixture
def work(make_work: Callable[..., Path]) -> Path:
    return make_work({"3d_fullres": (0,)}, channels=("T1", "FLAIR"))


def predict(work: Path, images: list[Path], out: Path, *options: str) -> int:
    return main(["predict", str(work), "-i", *map(str, images), "-o", str(out), "--no-mirror", "-q", *options])


def voxels(path: Path) -> Any:
    return np.asarray(nibabel.load(path).dataobj)


def test_rules_folders_and_a_table_give_the_same_segmentation(work: Path, studies: Path, tmp_path: Path) -> None:
    assert predict(work, [studies], tmp_path / "rules", *RULES, "--dicom-seg") == 0
    assert sorted(path.name for path in (tmp_path / "rules").glob("*.nii.gz")) == ["first.nii.gz", "second.nii.gz"]
    turned = ("--channels", "flair=*flair*", "t1=*t1*")  # the model's order counts
    assert predict(work, [studies], tmp_path / "turned", *turned) == 0
    table = tmp_path / "table.csv"
    table.write_text(f"case,channel,series\nx,FLAIR,{ROOT}51.0\nx,T1,{ROOT}51.1\n")
    assert predict(work, [studies], tmp_path / "table", "--series-table", str(table)) == 0
    first = studies / "first"
    assert predict(work, [first / "b", first / "a"], tmp_path / "folders") == 0
    expected = voxels(tmp_path / "rules" / "first.nii.gz")
    assert len(np.unique(expected)) > 1
    for path in ("turned/first", "table/x", "folders/b"):
        np.testing.assert_array_equal(voxels(tmp_path / f"{path}.nii.gz"), expected)
    assert predict(work, [first / "a", first / "b"], tmp_path / "wrong") == 0
    assert (voxels(tmp_path / "wrong" / "a.nii.gz") != expected).any()  # the order matters to this model
    seg = pydicom.dcmread(tmp_path / "rules" / "seg" / "first.dcm")
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == f"{ROOT}51.1"  # the first channel: T1


def test_nobody_says_which_series_is_which(
    work: Path, studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(work, [studies], tmp_path / "out") == 1
    told = capsys.readouterr().err
    assert "the model takes 2 channels (T1, FLAIR); say which series each of them is: --channels T1=" in told
    assert not (tmp_path / "out").exists()


def test_a_study_without_a_channel_holds_up_no_other(
    work: Path, studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(studies / "second" / "b")
    assert predict(work, [studies], tmp_path / "out", *RULES) == 1
    told = capsys.readouterr()
    assert "refused: " in told.out
    assert "channel-missing: no series is channel FLAIR; there are" in told.out
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["first.nii.gz"]


def test_a_rule_that_two_series_fit(
    work: Path, studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(work, [studies / "first"], tmp_path / "out", "--channels", "T1=*t*", "FLAIR=flair*") == 1
    told = capsys.readouterr().err
    assert "channel-twice: channel T1 might be " in told
    assert "narrow the rule" in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--channels", "T1=*t1*"), "1 channels are given (T1), the model takes 2 (T1, FLAIR)"),
        (("--channels", "T1"), "'T1': is no NAME=PATTERN"),
        (("--channels", "A=x", "B=y"), "no series is one of the channels"),
        (("--series-table", "nowhere.csv"), "nowhere.csv"),
        ((*RULES, "--series-table", "nowhere.csv"), "give one of them"),
    ],
)
def test_wrong_rules_are_told_in_a_line(
    work: Path,
    studies: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    told: str,
) -> None:
    assert predict(work, [studies], tmp_path / "out", *options) == 1
    error = capsys.readouterr().err
    assert told in error
    assert len(error.strip().splitlines()) == 1


def test_channels_on_other_grids_are_refused(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_study(tmp_path / "in", "51", {"a": "t1", "b": "flair"})
    shutil.rmtree(root / "b")
    write_series(
        root / "b",
        picture(SHAPE),
        series="51.1",
        SeriesDescription="flair",
        Modality="MR",
        step=3,
        StudyInstanceUID=ROOT + "51",
    )
    assert predict(work, [root], tmp_path / "out", *RULES) == 1
    assert "spacing-mismatch" in capsys.readouterr().err
    assert main(["dicom", str(root), "-o", str(tmp_path / "Dataset001_X"), *RULES, "-q"]) == 1
    assert "spacing-mismatch" in capsys.readouterr().out


def test_a_rule_chooses_series_for_a_model_of_one_channel(
    make_work: Callable[..., Path], studies: Path, tmp_path: Path
) -> None:
    work = make_work({"3d_fullres": (0,)})
    assert predict(work, [studies], tmp_path / "out", "--channels", "MRI=*t1*") == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["first.nii.gz", "second.nii.gz"]


# ---- datasets --------------------------------------------------------------------------------------------------------


@pytest.fixture
def labelled(studies: Path) -> Path:
    """The first study with a SEG of its FLAIR series."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:6, 5:15, 5:15] = 1
    series = only_series(studies / "first" / "a", studies)
    known = structures_of(LabelSet(("background", "liver"), (0, 1)))
    write_seg(studies / "first" / "seg.dcm", labels, Source(series), known)
    return studies


def test_a_dataset_of_two_channels(labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "Dataset042_Brain"
    assert main(["dicom", str(labelled), "-o", str(target), *RULES]) == 0
    assert "left out: 1 series of no channel: " in capsys.readouterr().out
    assert sorted(path.relative_to(target).as_posix() for path in target.rglob("*.nii.gz")) == [
        "imagesTr/first_0000.nii.gz",
        "imagesTr/first_0001.nii.gz",
        "imagesTs/second_0000.nii.gz",
        "imagesTs/second_0001.nii.gz",
        "labelsTr/first.nii.gz",
    ]
    content = json.loads((target / "dataset.json").read_text())
    assert content["channel_names"] == {"0": "T1", "1": "FLAIR"}
    for case, channel, seed in (("first", 0, 1), ("first", 1, 0)):
        stored = voxels(target / "imagesTr" / f"{case}_{channel:04d}.nii.gz").transpose(2, 1, 0)
        np.testing.assert_array_equal(stored, picture(SHAPE, seed=seed))
    assert int(voxels(target / "labelsTr" / "first.nii.gz").sum()) == 400
    assert main(["check", str(target)]) == 0


def test_a_table_is_written_filled_in_and_used(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "series.csv"
    assert main(["dicom", str(labelled), "--write-table", str(table)]) == 0
    assert "5 rows written to" in capsys.readouterr().out
    header, *rows = table.read_text().splitlines()
    wanted = {"FLAIR tra": "FLAIR", "T1 mprage": "T1", "T2": "", "t1": "", "flair": ""}
    filled = [row.replace(",,", f",{next(c for d, c in wanted.items() if f',{d},' in row)},", 1) for row in rows]
    table.write_text("\n".join([header, *filled]))
    target = tmp_path / "Dataset042_Brain"
    assert main(["dicom", str(labelled), "-o", str(target), "--series-table", str(table), "-q"]) == 0
    assert sorted(path.name for path in (target / "imagesTr").iterdir()) == [
        "first_0000.nii.gz",
        "first_0001.nii.gz",
    ]
    assert main(["dicom", str(labelled), "--write-table", str(table), "-q"]) == 1  # it was filled in: the user's
    assert "was changed since" in capsys.readouterr().err
    assert table.read_text().splitlines()[0] == header


def test_channels_need_a_dataset(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dicom", str(studies), *RULES]) == 2
    assert "name its folder (-o)" in capsys.readouterr().err


def test_channels_of_other_names_are_taken_in_order_and_told(
    work: Path, studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(out: str, *rules: str) -> int:
        command = ["predict", str(work), "-i", str(studies), "-o", str(tmp_path / out), "--no-mirror"]
        assert main([*command, "--channels", *rules]) == 0
        return capsys.readouterr().err.count(
            f"{studies}: channels MPRAGE, FLAIR are taken in this order; the model was trained on T1, FLAIR"
        )

    assert told("other", "MPRAGE=*t1*", "FLAIR=*flair*") == 1
    assert told("same", "flair=*flair*", "t1=*t1*") == 0
    np.testing.assert_array_equal(voxels(tmp_path / "other/first.nii.gz"), voxels(tmp_path / "same/first.nii.gz"))
