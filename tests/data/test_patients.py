"""Names of cases that look like several scans of one patient."""

from __future__ import annotations

import re

import pytest
from nnunet_rs.core.progress import Silent
from nnunet_rs.data.folds import groups_from_pattern, make_folds
from nnunet_rs.data.patients import grouping_hint, report_likely_groups


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        ([f"patient{n:03d}_frame{k:02d}" for n in (21, 22, 23) for k in (1, 13)], "^patient[0-9]+"),
        (["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"], r"^sub\-[0-9]+"),
        (["10012_2019", "10012_2021", "10013_2020"], "^[0-9]+"),
        (["a1_x", "b2_x", "b2_y"], "^.*?[0-9]+"),
    ],
)
def test_cases_of_one_patient_are_hinted_at(names: list[str], pattern: str) -> None:
    assert f"--groups '{pattern}' " in grouping_hint(names)
    assert ", ".join(names[:2] if names[0][:2] != "a1" else names[1:]) in grouping_hint(names)
    assert len(set(groups_from_pattern(names, pattern).values())) < len(names)


@pytest.mark.parametrize(
    "names",
    [
        ["BRATS_001", "BRATS_002"],
        ["hippocampus_001", "la_003"],
        [f"site{k}_{n:03d}" for k in (1, 2) for n in range(30)],  # two sites
        ["Task04_1", "Task04_2"],  # one beginning for all
        ["p1_a", "p2_a", "p3_a"],
        ["p1_a", "p1_b", "p2_a", "control"],  # no pattern would find a group in each
        [],
    ],
)
def test_names_that_tell_of_no_patients_are_not(names: list[str]) -> None:
    assert grouping_hint(names) == ""


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([f"patient{k:03}_frame{f}" for k in range(6) for f in (1, 12)], True),
        ([f"sub-{k:02}_ses-{f}" for k in range(6) for f in (1, 2)], True),
        ([f"case_{number:03}" for number in range(12)], False),  # no digit before the number
        ([f"BraTS2021_{k:05}" for k in range(12)], False),  # one part for all
        ([f"scan{k}_left" for k in range(12)], False),  # nobody twice
        ([f"site{k % 3}_{k:03}" for k in range(60)], False),  # too many for one patient
    ],
)
def test_several_scans_of_one_patient_are_told(names: list[str], told: bool) -> None:
    listener = Listener()
    report_likely_groups(make_folds(names), listener)
    assert len(listener.said) == told
    if told:
        part = re.findall(r"fold 0 trains with (\S+) and is scored on (\S+):", listener.said[0])
        assert len(part) == 1
        assert part[0][0] != part[0][1]
    grouped = make_folds(names, groups=groups_from_pattern(names, "(.+)[_-]")) if told else ()
    quiet = Listener()
    report_likely_groups(grouped, quiet)
    assert quiet.said == []
