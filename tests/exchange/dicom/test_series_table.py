"""A table that tells which series is which channel of which case."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pydicom")

from dicom_files import ROOT, write_series
from nnunet_rs.core.dicom.series import Series, find_series
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.exchange.dicom.choice import SeriesChoice
from nnunet_rs.exchange.dicom.series_table import write_table


@pytest.fixture
def series(tmp_path: Path) -> tuple[Series, ...]:
    for number, name in enumerate(("a", "b", "c"), 1):
        write_series(tmp_path / "in" / name, series=str(number), SeriesDescription=f"one, {name}")
    return find_series(tmp_path / "in").series


def read(tmp_path: Path, text: str | bytes, series: tuple[Series, ...]):
    file = tmp_path / "table.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return SeriesChoice.of((), file).studies(series, tmp_path)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_rows_make_cases(tmp_path: Path, series: tuple[Series, ...], separator: str) -> None:
    rows = ("note,case,channel,series", "x,p1,T1,a", f"x,p1,FLAIR,{ROOT}2", "x,p1,,c")
    text = "\ufeff" + "\r\n".join(rows).replace(",", separator)
    made = read(tmp_path, text, series)
    assert made.channels == ("T1", "FLAIR")
    (case,) = made.cases
    assert (case.name, case.issues) == ("p1", ())
    assert [one and one.name for one in case.channels] == ["a", "b"]
    assert [one.name for one in made.rest] == ["c"]


def test_a_case_without_a_channel_is_told(tmp_path: Path, series: tuple[Series, ...]) -> None:
    made = read(tmp_path, "case,channel,series\np1,T1,a\np1,T2,b\np2,T1,c\n", series)
    assert [one.issues and one.issues[0].value for one in made.cases] == [(), "case p2 has no channel T2"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("case,series\n", "has no column channel"),
        ("", "file-empty"),
        ("case,channel,series\n", "no row names a channel"),
        ("case,channel,series\np,T1,zz\n", "line 2: no series is called 'zz'; there are a, b, c"),
        ("case,channel,series\np,T1,a\np,T1,b\n", "line 3: case p has channel T1 already"),
        ("case,channel,series\n../p,T1,a\n", "line 2: case '../p'"),
        ("case,channel,series\n,T1,a\n", "line 2: case ''"),
        (b"case,channel,series\np,T\xff,a\n", "is no text in UTF-8"),
        ('case,channel,series\np,T1,"a' + 140_000 * "x", "is no CSV (field larger than field limit"),
    ],
)
def test_what_is_wrong_with_a_table_is_told(
    tmp_path: Path, series: tuple[Series, ...], text: str | bytes, told: str
) -> None:
    with pytest.raises(DatasetError, match=r"table\.csv") as caught:
        read(tmp_path, text, series)
    assert told in str(caught.value)


def test_a_table_to_fill_in_is_read_when_it_is_filled_in(tmp_path: Path, series: tuple[Series, ...]) -> None:
    text = write_table(series)
    assert text.splitlines()[0].startswith("case,channel,series,modality,description")
    assert "Roe" not in text
    with pytest.raises(DatasetError, match="no row names a channel"):
        read(tmp_path, text, series)
    first, *rows = text.splitlines()
    filled = [row.replace(",,", f",{channel},", 1) for row, channel in zip(rows, ("T1", "T2"), strict=False)]
    made = read(tmp_path, "\n".join([first, *filled, rows[2]]), series)
    assert [[one and one.name for one in case.channels] for case in made.cases] == [["a", "b"]]
    assert made.cases[0].name == "in"
