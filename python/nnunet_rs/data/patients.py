"""Cases whose names look as if some were several scans of one patient: such cases belong in one fold."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnunet_rs.core.progress import Progress
from nnunet_rs.data.folds import Fold

_PATIENT = re.compile(r"(\D*\d+)(?=[_.\-\s]+\w)")  # the beginning of a case's name, up to its first number
_MOST_OF_A_PATIENT = 8  # cases, on average


def report_likely_groups(folds: Sequence[Fold], progress: Progress) -> None:
    """Warn if cases on both sides of a fold look like several scans of one patient, by their names."""
    likely = _Patients.of(sorted({name for fold in folds for name in (*fold.train, *fold.validation)}))
    for number, fold in enumerate(folds if likely else ()):
        trained = {likely.beginnings[name]: name for name in fold.train}
        both = next((name for name in fold.validation if likely.beginnings[name] in trained), None)
        if both is not None:
            progress.say(
                f"warning: fold {number} trains with {trained[likely.beginnings[both]]} and is scored on {both}: if "
                f"they are of one patient, keep such cases together by --groups {shlex.quote(likely.pattern())}"
            )
            return


def grouping_hint(names: Sequence[str]) -> str:
    """Say that cases look like several scans of one patient, by their names; empty where they do not."""
    likely = _Patients.of(names)
    if not likely:
        return ""
    return (
        f"cases seem to be of one patient, as {', '.join(likely.example())}: with --groups "
        f"{shlex.quote(likely.pattern())} those of one patient stay in one fold"
    )


@dataclass(frozen=True, slots=True)
class _Patients:
    """Cases whose names look as if some were of one patient.

    Such names begin alike, with a number, and go on: patient021_frame01 and patient021_frame13. Beginnings that many
    cases share, as those of a site, are not taken for patients.
    """

    beginnings: Mapping[str, str]  # case name to the beginning; empty: they do not

    @classmethod
    def of(cls, names: Sequence[str]) -> _Patients:
        found = {name: match[0] for name in names if (match := _PATIENT.match(name))}
        count = len(set(found.values()))
        likely = len(found) == len(names) and 2 <= count < len(names) <= _MOST_OF_A_PATIENT * count
        return cls(found if likely else {})

    def __bool__(self) -> bool:
        return bool(self.beginnings)

    def pattern(self) -> str:
        """Return the regular expression that finds a case's patient."""
        stems = {beginning.rstrip("0123456789") for beginning in self.beginnings.values()}
        return f"^{re.escape(stems.pop()) if len(stems) == 1 else '.*?'}[0-9]+"

    def example(self) -> list[str]:
        """Return two cases of one patient."""
        counts = Counter(self.beginnings.values())
        first = min(beginning for beginning, count in counts.items() if count > 1)
        return sorted(name for name, beginning in self.beginnings.items() if beginning == first)[:2]
