"""Cross-validation: which cases train and which are held out, and splits.json, which a user may edit."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import DatasetError, PlanError, among
from nnunet_rs.core.files import read_json, write_json
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.types import FoldName
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.plan.files import read_fingerprint, read_plan
from nnunet_rs.plan.schema import Plan

SEED = 12345  # nnU-Net's, so that folds of the same names are nnU-Net's own
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Fold:
    """The cases that one model trains on, and those that score it; both sorted by name."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


def make_folds(
    names: Sequence[str],
    *,
    groups: Mapping[str, str] | None = None,
    strata: Mapping[str, str] | None = None,
    count: int = FOLDS,
    progress: Progress | None = None,
) -> tuple[Fold, ...]:
    """Split cases into folds, each case being held out exactly once.

    Without `groups` and `strata` this is `sklearn.model_selection.KFold(count, shuffle=True, random_state=12345)` on
    the sorted names, as nnU-Net v1 and v2 split; `strata` alone is scikit-learn's `StratifiedKFold` likewise.

    Parameters
    ----------
    names
        Case names, in any order.
    groups
        Case name to group (a patient): cases of one group are never on both sides of a fold.
    strata
        Case name to stratum (a scanner, a grade): every fold holds out about the same share of each.
    count
        Number of folds, at least 2; fewer where there are fewer cases or groups, which `progress` reports. A single
        case (or group) trains and validates on itself.

    Raises
    ------
    DatasetError
        No name at all, or a name that `groups` or `strata` does not know, or fewer than two folds.
    """
    progress = progress or Silent()
    require_two_folds(count)
    if not names:
        raise DatasetError("no training case to split into folds")
    members = _members(sorted(set(names)), groups)
    units = sorted(members)
    kind = "group" if groups else "case"
    if len(units) == 1:
        progress.say(
            f"warning: only one {kind} ({units[0]}): it trains and validates on itself, its score means little"
        )
        only = tuple(members[units[0]])
        return (Fold(only, only),)
    if len(units) < count:
        progress.say(f"warning: only {len(units)} {kind}s: {len(units)} folds instead of {count}")
        count = len(units)
    held_out = _stratified(_unit_strata(members, units, strata), count) if strata else _shuffled(len(units), count)
    return tuple(_fold(members, units, held_out == k) for k in range(count))


def require_two_folds(count: int) -> None:
    """Raise a DatasetError for fewer folds than that."""
    if count < 2:
        raise DatasetError(f"number of folds is {count}: must be at least 2; train -f all holds nothing out")


def groups_from_pattern(names: Sequence[str], pattern: str) -> dict[str, str]:
    """Return each case's group: the pattern's first capturing group, or the whole match where it has none.

    Raises
    ------
    DatasetError
        The pattern is no regular expression, or a name does not match it.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DatasetError(f"groups: {pattern!r} is not a regular expression: {error}") from error
    groups = {}
    for name in names:
        match = expression.search(name)
        if match is None:
            raise DatasetError(f"groups: case {name} does not match the pattern {pattern!r}; every case needs a group")
        groups[name] = match.group(1 if expression.groups else 0) or ""
    return groups


def read_case_table(path: Path) -> dict[str, str]:
    """Read a CSV file of two columns, case name and group (or stratum); a header line `case,…` is skipped.

    Raises
    ------
    DatasetError
        The file cannot be read, a line has fewer than two columns, or a case is listed twice with different values.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = [(number, row) for number, row in enumerate(csv.reader(lines), start=1) if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as a CSV file: {error}") from error
    table: dict[str, str] = {}
    for number, row in rows:
        if len(row) < 2:
            raise DatasetError(f"{path}, line {number}: one column; write case name and group, separated by a comma")
        name, value = row[0].strip(), row[1].strip()
        if number == 1 and name.lower() in {"case", "name", "case_name", "identifier"}:
            continue
        if table.setdefault(name, value) != value:
            raise DatasetError(
                f"{path}, line {number}: case {name} is listed before with {table[name]!r}, now {value!r}"
            )
    return table


def write_splits(path: Path, folds: Sequence[Fold]) -> None:
    """Write folds as nnU-Net's splits_final.json has them: a list of {"train": [...], "val": [...]}."""
    write_json(path, [{"train": list(fold.train), "val": list(fold.validation)} for fold in folds])


def read_splits(path: Path, names: Sequence[str]) -> tuple[Fold, ...]:
    """Read folds that may have been edited by hand.

    Parameters
    ----------
    path
        splits.json (or nnU-Net's splits_final.json).
    names
        The cases that exist; folds may leave some out.

    Raises
    ------
    DatasetError
        The file is missing or malformed, a fold names an unknown case or one twice, has an empty side, or holds a case
        out that it also trains on (allowed only where both sides are one and the same case).
    """
    entries = _entries(path)
    known = set(names)
    return tuple(_checked(f"{path}, fold {index}", entry, known) for index, entry in enumerate(entries))


def read_folds(work: Path) -> tuple[Fold, ...]:
    """Read the folds of a work folder, whose fingerprint names the cases; errors as `read_splits`, and of the latter.

    Raises
    ------
    DatasetError
        As `read_splits`.
    PlanError
        The fingerprint is missing or damaged.
    """
    files = WorkFolder(work)
    return read_splits(files.splits_file, [case.name for case in read_fingerprint(files.fingerprint_file).cases])


def read_plan_and_fold(work: Path, configuration: str, fold: FoldName) -> tuple[Plan, Fold]:
    """Read the plan and a fold's cases; of "all", every case is trained on and none is held out.

    Raises
    ------
    PlanError, DatasetError
        There is no such configuration or fold.
    """
    files = WorkFolder(work)
    plan = read_plan(files.plan_file)
    if configuration not in plan.configurations:
        there = among(configuration, plan.configurations)
        raise PlanError(f"{files.plan_file}: there is no configuration {configuration}; {there}")
    if fold == "all":
        return plan, Fold(tuple(case.name for case in read_fingerprint(files.fingerprint_file).cases), ())
    return plan, require_fold(files.splits_file, read_folds(work), fold)


def count_folds(path: Path) -> int:
    """Count the folds of splits.json, whatever cases they name; a DatasetError where it is missing or no list."""
    return len(_entries(path))


def require_fold(path: Path, folds: Sequence[Fold], number: int) -> Fold:
    """Return one of the folds that `read_splits` read.

    Raises
    ------
    DatasetError
        There is none of this number.
    """
    if not 0 <= number < len(folds):
        there = "is fold 0" if len(folds) == 1 else f"are folds {', '.join(map(str, range(len(folds))))}"
        raise DatasetError(f"{path}: there is no fold {number}; there {there}")
    return folds[number]


def _entries(path: Path) -> list[Any]:
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise DatasetError(f'{path}: expected a list of folds, [{{"train": [...], "val": [...]}}, ...]')
    return entries


def _members(names: Sequence[str], groups: Mapping[str, str] | None) -> dict[str, list[str]]:
    """Return the cases of each unit that is held out as a whole: a group, or a case by itself."""
    members: dict[str, list[str]] = defaultdict(list)
    for name in names:
        members[_value("groups", groups, name) if groups else name].append(name)
    return dict(members)


def _value(what: str, table: Mapping[str, str], name: str) -> str:
    if name not in table:
        raise DatasetError(f"{what}: case {name} is not listed; every training case needs an entry")
    return table[name]


def _shuffled(count: int, folds: int) -> NDArray[np.int64]:
    """Return the fold that holds each index out, as scikit-learn's KFold(shuffle=True) deals them."""
    order = np.arange(count)
    np.random.RandomState(SEED).shuffle(order)
    held_out = np.empty(count, np.int64)
    for fold, indices in enumerate(np.array_split(order, folds)):
        held_out[indices] = fold
    return held_out


def _unit_strata(members: Mapping[str, list[str]], units: Sequence[str], strata: Mapping[str, str]) -> list[str]:
    """Return the stratum of each unit: the most frequent among its cases, the first by name among equals."""
    chosen = []
    for unit in units:
        counts = Counter(_value("strata", strata, name) for name in members[unit])
        chosen.append(min(counts, key=lambda stratum: (-counts[stratum], stratum)))
    return chosen


def _stratified(strata: Sequence[str], folds: int) -> NDArray[np.int64]:
    """Return the fold that holds each index out, as scikit-learn's StratifiedKFold(shuffle=True) deals them.

    The indices, sorted by stratum (in order of first appearance), are dealt round robin: that decides how many of a
    stratum each fold gets; which ones is chance.
    """
    number = {stratum: k for k, stratum in enumerate(dict.fromkeys(strata))}
    coded = np.array([number[stratum] for stratum in strata])
    ordered = np.sort(coded)
    shares = np.array([np.bincount(ordered[fold::folds], minlength=len(number)) for fold in range(folds)])
    chance = np.random.RandomState(SEED)
    held_out = np.empty(len(strata), np.int64)
    for stratum in range(len(number)):
        dealt = np.arange(folds).repeat(shares[:, stratum])
        chance.shuffle(dealt)
        held_out[coded == stratum] = dealt
    return held_out


def _fold(members: Mapping[str, list[str]], units: Sequence[str], held_out: NDArray[np.bool_]) -> Fold:
    sides: tuple[list[str], list[str]] = ([], [])
    for unit, out in zip(units, held_out, strict=True):
        sides[int(out)].extend(members[unit])
    return Fold(tuple(sorted(sides[0])), tuple(sorted(sides[1])))


def _checked(where: str, entry: Any, known: set[str]) -> Fold:
    """Return one entry of splits.json as a Fold, or raise with the rule that it breaks."""
    if not isinstance(entry, dict) or not {"train", "val"} <= entry.keys():
        raise DatasetError(f'{where}: expected {{"train": [...], "val": [...]}}')
    for side in ("train", "val"):
        cases = entry[side]
        if not isinstance(cases, list) or (side == "train" and not cases):
            wanted = "at least one case name" if side == "train" else "case names, or empty"
            raise DatasetError(f"{where}: {side!r} must be a list of {wanted}")
        odd = [name for name in cases if not isinstance(name, str)]
        if odd:
            example = f", such as {json.dumps(min(known), ensure_ascii=False)}" if known else ""
            raise DatasetError(f"{where}: {side!r} holds {repr(odd[0])[:40]}; names of cases are texts{example}")
        for name in cases:
            if name not in known:
                raise DatasetError(f"{where}: {side!r} names {name!r}, which is not a training case of the dataset")
        if len(set(cases)) < len(cases):
            twice = next(name for name, times in Counter(cases).items() if times > 1)
            raise DatasetError(f"{where}: {side!r} names {twice} twice")
    both = set(entry["train"]) & set(entry["val"])
    if both and entry["train"] != entry["val"]:
        raise DatasetError(f"{where}: {min(both)} is both trained on and held out; leave it on one side")
    return Fold(tuple(entry["train"]), tuple(entry["val"]))
