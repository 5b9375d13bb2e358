"""A table of the user's that tells which series is which channel of which case."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from nnunet_rs.core.content import read_content
from nnunet_rs.core.dicom.series import Series
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.issues import Issue, fatal
from nnunet_rs.core.text import examples
from nnunet_rs.exchange.dicom.channels import Studies, Study, study_names, study_of

COLUMNS = ("case", "channel", "series")


def by_table(file: Path, series: Sequence[Series]) -> Studies:
    """Read a table of the columns case, channel and series; others are for people. Rows without a channel are left out.

    Parameters
    ----------
    file
        CSV with a first line of names. `series` is the name that `nnunet-rs dicom` lists, or a SeriesInstanceUID.

    Returns
    -------
    Studies
        The channels in the order of their first rows.

    Raises
    ------
    DatasetError
        The file cannot be read, or a row tells of no such series, of a channel twice, or of no case.
    """
    named = {one.name: one for one in series}
    uids = [one.origin.series for one in series]
    named.update({one.origin.series: one for one in series if uids.count(one.origin.series) == 1})
    cases: dict[str, dict[str, Series]] = {}
    for line, case, channel, name in _rows(file):
        if name not in named:
            raise DatasetError(
                f"{file}, line {line}: no series is called {name!r}; there are {examples([one.name for one in series])}"
            )
        if channel in cases.setdefault(case, {}):
            raise DatasetError(f"{file}, line {line}: case {case} has channel {channel} already; leave one row")
        cases[case][channel] = named[name]
    names = tuple(dict.fromkeys(channel for case in cases.values() for channel in case))
    used = {one.name for case in cases.values() for one in case.values()}
    studies = tuple(_tabled(file, case, names, found) for case, found in cases.items())
    return Studies(names, studies, tuple(one for one in series if one.name not in used))


def _tabled(file: Path, case: str, names: Sequence[str], found: dict[str, Series]) -> Study:
    missing = [name for name in names if name not in found]
    value = f"case {case} has no channel {', '.join(missing)}"
    issues = (Issue(file, "channel-missing", value, "add its rows", case),) if missing else ()
    return Study(case, tuple(found.get(name) for name in names), issues)


def _rows(file: Path) -> Iterator[tuple[int, str, str, str]]:
    """Yield the lines of a table that name a channel: line, case, channel, series."""
    try:
        text = read_content(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file}: is no text in UTF-8 ({error.reason}); save it as CSV in UTF-8") from error
    first = text.split("\n", 1)[0]
    table = csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=first.count))
    try:
        yield from _named_rows(file, table)
    except csv.Error as error:
        raise DatasetError(f"{file}, line {table.line_num}: is no CSV ({error}); save it as CSV in UTF-8") from error


def _named_rows(file: Path, table: csv.DictReader[str]) -> Iterator[tuple[int, str, str, str]]:
    missing = [column for column in COLUMNS if column not in (table.fieldnames or ())]
    if missing:
        raise DatasetError(f"{file}: has no column {', '.join(missing)}; the first line is {','.join(COLUMNS)}")
    rows = 0
    for row in table:
        case, channel, series = ((row[column] or "").strip() for column in COLUMNS)
        if not channel:
            continue
        if not case or not series or case != re.sub(r"[^\w.+-]", "_", case) or case.startswith((".", "_")):
            advice = "names of cases are letters, digits, - and _"
            raise DatasetError(f"{file}, line {table.line_num}: case {case!r}, series {series!r}; {advice}")
        rows += 1
        yield table.line_num, case, channel, series
    if not rows:
        raise DatasetError(f"{file}: no row names a channel; fill in that column")


def write_table(series: Sequence[Series]) -> str:
    """Return a table to fill in: a row for each series, its study as the case, the channel left empty."""
    names, text = study_names(series), io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow((*COLUMNS, "modality", "description", "part", "voxels", "mm", "refused"))
    for one in series:
        z, y, x = one.stack.shape
        size = " x ".join(f"{length:.4g}" for length in reversed(one.stack.spacing))
        refused = next((issue.rule for issue in fatal(one.issues)), "")
        described = one.origin.modality, one.origin.description, one.part
        table.writerow((names[study_of(one)], "", one.name, *described, f"{x} x {y} x {z}", size, refused))
    return text.getvalue()
