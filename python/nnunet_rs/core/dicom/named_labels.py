"""Which value of a label file a structure gets that SEG or RTSTRUCT call by a name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_rs.core.issues import Issue, IssueError
from nnunet_rs.core.labels import MAX_VALUE
from nnunet_rs.core.text import examples
from nnunet_rs.core.types import LabelSet
from nnunet_rs.core.workspace import DATASET_JSON

VALUE_TEXT = "label value {}"  # stands in the description of structures that this library writes
_VALUE = re.compile(r"label value (\d{1,5})\b")


@dataclass(frozen=True, slots=True)
class Named:
    """A structure as a file lists it."""

    number: int  # Segment Number, or ROI Number
    name: str
    description: str = ""
    code: tuple[str, ...] = ()  # coding scheme, value, meaning; empty: none

    @property
    def told(self) -> int | None:
        """The value that the description tells, in files of this library."""
        found = _VALUE.search(self.description)
        return int(found[1]) if found else None


def values_of(path: Path, found: Sequence[Named], labels: LabelSet | None) -> tuple[dict[int, int], list[Issue]]:
    """Return the value of each structure by its number, in the order of painting, and what is left out.

    Parameters
    ----------
    labels
        Names decide, in capitals or not, with spaces or `_`; what is not declared is left out. None, or
        names that are numbers: the value that the description tells, else the number of the structure.

    Raises
    ------
    IssueError
        `label-undeclared`: none of the names is declared, or a value is too large.
    """
    if labels is None or all(name.isdigit() for name in labels.names):  # values that were found, not declared
        values = {one.number: one.number if one.told is None else one.told for one in found}
        if any(not 0 <= value <= MAX_VALUE for value in values.values()):
            raise IssueError(Issue(path, "label-undeclared", f"structure numbers {sorted(values)[-1]}", "number them"))
        return values, []
    declared = {_plain(name): value for name, value in _declared(labels)}
    named = {one.number: declared[_plain(one.name)] for one in found if _plain(one.name) in declared}
    rest = [one.name for one in found if one.number not in named]
    if found and not named:
        value = f"holds {examples(rest)}; declared are {examples([name for name, _ in _declared(labels)])}"
        raise IssueError(Issue(path, "label-undeclared", value, f"name structures as {DATASET_JSON} does"))
    order = [value for _, value in _declared(labels)]
    painted = dict(sorted(named.items(), key=lambda item: order.index(item[1])))
    if not rest:
        return painted, []
    value = f"{len(rest)} structures are not declared and left out: {examples(rest)}"
    return painted, [Issue(path, "left-out", value, "declare them, if they are meant", fatal=False)]


def names_by_value(found: Iterable[tuple[str, int]]) -> dict[int, str]:
    """Return what each value is called by the structures of several files, given as names and values.

    Empty where they do not agree: a name has two values or a value two names, a name is a number, a value is 0.
    """
    names: dict[int, str] = {}
    values: dict[str, int] = {}
    for name, value in found:
        plain = _plain(name)
        if not value or not _is_name(plain):
            return {}
        if values.setdefault(plain, value) != value or _plain(names.setdefault(value, name)) != plain:
            return {}
    return names


def common_names(ours: Iterable[tuple[str, int]], theirs: Iterable[tuple[str, int]]) -> dict[int, str]:
    """Return the names that two sets of files share by new values, from 1; empty where one side has others."""
    one, other = ({_plain(name): name for name, _ in found} for found in (ours, theirs))
    if one.keys() != other.keys() or not all(map(_is_name, one)):
        return {}
    return {value: one[plain] for value, plain in enumerate(sorted(one), 1)}


def _declared(labels: LabelSet) -> list[tuple[str, int]]:
    """Names and values, in the order in which they are painted."""
    if labels.regions:
        return [(region.name, region.paint) for region in labels.regions]
    names = list(zip(labels.names, labels.values, strict=True))[1:]
    return names if labels.ignore is None else [*names, ("ignore", labels.ignore)]


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", " ", name).strip().casefold()


def _is_name(plain: str) -> bool:
    return bool(plain) and not plain.isdigit()


def code_of(sequence: Any) -> tuple[str, ...]:
    """Return the code in a sequence of one item, if it is whole."""
    if not sequence:
        return ()
    parts = tuple(str(sequence[0].get(key) or "") for key in ("CodingSchemeDesignator", "CodeValue", "CodeMeaning"))
    return parts if all(parts) else ()
