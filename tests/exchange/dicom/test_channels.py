"""Which series are the channels of a case: rules over what series are called."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pydicom")

from dicom_files import ROOT, picture, write_series
from nnunet_rs.core.dicom.series import find_series
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.exchange.dicom.channels import Studies, by_rules, read_rules, study_names
from nnunet_rs.exchange.dicom.choice import SeriesChoice

RULES = ("T1=*t1*,!*gd*", "FLAIR=*flair*")


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Two studies: T1, T1 with contrast and FLAIR; T1 and FLAIR twice."""
    root = tmp_path / "exports"
    for study, descriptions in (("51", ("Sag T1", "T1 Gd", "FLAIR")), ("52", ("T1 3D", "flair a", "flair b"))):
        for number, description in enumerate(descriptions):
            series = f"{study}.{number}"
            values = {"SeriesDescription": description, "StudyInstanceUID": ROOT + study, "Modality": "MR"}
            write_series(root / study / f"s{number}", picture(seed=number), series=series, **values)
    return root


def found(root: Path, *rules: str) -> Studies:
    return by_rules(read_rules(rules), find_series(root).series, root)


def test_series_of_a_study_become_channels(studies: Path) -> None:
    made = found(studies, *RULES)
    assert made.channels == ("T1", "FLAIR")
    first, second = made.cases
    assert [one and one.origin.description for one in first.channels] == ["Sag T1", "FLAIR"]
    assert first.issues == ()
    assert [one and one.origin.description for one in second.channels] == ["T1 3D", None]
    (issue,) = second.issues
    assert (issue.rule, issue.fatal, issue.case) == ("channel-twice", True, "52")
    assert "channel FLAIR might be" in issue.value
    assert "flair a" in issue.value
    assert "flair b" in issue.value
    assert [one.origin.description for one in made.rest] == ["T1 Gd"]
    assert [case.name for case in made.cases] == ["51", "52"]


def test_a_channel_that_no_series_is(studies: Path) -> None:
    case = found(studies, "T1=sag t1", "T2=*t2*").cases[0]
    assert [issue.rule for issue in case.issues] == ["channel-missing"]
    assert "no series is channel T2" in case.issues[0].value


@pytest.mark.parametrize(
    ("rule", "count"),
    [
        ("X=MR", 6),
        ("X=mr,flair*", 3),
        ("X=sag t1", 1),
        ("X=t1", 0),
        ("X=T1*", 2),
        (f"X={ROOT}51.1", 1),
        ("X=!mr", 0),
        ("X=*t1*, ! *gd*", 2),
    ],
)
def test_what_patterns_are_held_against(studies: Path, rule: str, count: int) -> None:
    (read,) = read_rules([rule])
    assert sum(read.holds(one) for one in find_series(studies).series) == count


def test_series_that_are_refused_are_taken_where_no_other_fits(tmp_path: Path) -> None:
    write_series(tmp_path / "whole", SeriesDescription="t1 a")
    for name, series in (("whole2", "2"), ("broken", "3")):
        write_series(tmp_path / name, series=series, SeriesDescription=f"t1 {name}")
    (tmp_path / "broken" / "0003.dcm").unlink()
    assert found(tmp_path, "T1=t1 a", "T2=t1 *e*").cases[0].issues == ()
    chosen = found(tmp_path, "T2=t1 broken").cases[0].channels[0]
    assert chosen is not None
    assert chosen.issues[0].rule == "missing-slice"


@pytest.mark.parametrize("rule", ["T1", "=x", "T1=", "T1=,", "T1=!"])
def test_malformed_rules_are_refused(rule: str) -> None:
    with pytest.raises(DatasetError, match="is no NAME=PATTERN"):
        read_rules([rule])


def test_two_rules_of_one_channel_are_refused() -> None:
    with pytest.raises(DatasetError, match="channel t1: has several rules"):
        read_rules(["T1=a", "t1=b"])


def test_channels_are_brought_into_the_models_order(studies: Path) -> None:
    made = found(studies, *RULES)
    turned = made.ordered(("flair", "T1"))
    assert turned.channels == ("flair", "T1")
    assert [one and one.origin.description for one in turned.cases[0].channels] == ["FLAIR", "Sag T1"]
    assert made.ordered(("a", "b")) == made  # other names: as they are given
    with pytest.raises(DatasetError, match=r"2 channels are given \(T1, FLAIR\), the model takes 3 \(a, b, c\)"):
        made.ordered(("a", "b", "c"))


def test_studies_are_named_without_the_patient(tmp_path: Path) -> None:
    for study, folder in (("51", "Jane_Roe"), ("52", "second")):
        for number in range(2):
            place = tmp_path / folder / f"s{number}"
            write_series(place, series=f"{study}.{number}", StudyInstanceUID=ROOT + study)
    names = sorted(study_names(find_series(tmp_path).series).values())
    assert names[0] == "second"
    assert names[1].startswith("study_")


def test_studies_without_a_uid_are_told_apart_by_their_frame_of_reference(tmp_path: Path) -> None:
    for number in range(2):
        values = {"StudyInstanceUID": "", "FrameOfReferenceUID": f"{ROOT}70.{number}"}
        write_series(tmp_path / str(number), series=str(number + 1), **values)
    assert len(found(tmp_path, "CT=CT").cases) == 2


def test_rules_that_nothing_fits_are_told(studies: Path) -> None:
    with pytest.raises(DatasetError, match="no series is one of the channels"):
        SeriesChoice.of(["T2=*t2*"], None).studies(find_series(studies).series, studies)
    with pytest.raises(DatasetError, match="give one of them"):
        SeriesChoice.of(["T2=*t2*"], studies / "table.csv")
