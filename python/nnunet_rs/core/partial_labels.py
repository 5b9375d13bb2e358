"""Cases in which only some classes (or regions) are annotated: what they show of the others is labelled background.

dataset.json says of such cases which are annotated, by name; cases that are not named there are annotated in full:

    "annotated_labels": {"case_007": ["liver", "spleen"]}

While a network is trained a label array carries that with it: what a partly annotated sample holds is its class index
plus a multiple of `step`, so that what flips, turns and shrinks labels needs to know nothing of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_rs.core.dataset_json import broken, shortened
from nnunet_rs.core.errors import DatasetError, among
from nnunet_rs.core.types import LabelSet, Shape

KEY = "annotated_labels"
_ADVICE = 'write {"case_007": ["liver"]}: of each case that is annotated in part, the labels that are'


@dataclass(frozen=True, slots=True)
class PartialLabels:
    """Which cases are annotated in part, and for what not."""

    # Targets that are not annotated, as indices into `LabelSet.score_names`: each combination once.
    sets: tuple[Shape, ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)  # of a case, its set, counted from 1

    @classmethod
    def of(cls, unannotated: Mapping[str, Shape]) -> PartialLabels:
        """Gather what `unannotated_targets` read."""
        sets = tuple(sorted(set(unannotated.values())))
        return cls(sets, {name: 1 + sets.index(missing) for name, missing in sorted(unannotated.items())})

    def among(self, cases: Collection[str]) -> PartialLabels:
        """Return the same of some cases."""
        return PartialLabels.of({name: self.sets[n - 1] for name, n in self.numbers.items() if name in cases})

    def __bool__(self) -> bool:
        return bool(self.numbers)

    def offset(self, case: str, labels: LabelSet) -> int:
        """Return what is added to all class indices of a case; 0: it is annotated in full."""
        return step(labels) * self.numbers.get(case, 0)

    def table(self, labels: LabelSet) -> list[list[float]]:
        """Return which targets are annotated: a row for each number of a set, 0 the full one; 1.0 or 0.0."""
        targets = range(len(labels.score_names))
        return [[float(target not in missing) for target in targets] for missing in ((), *self.sets)]


NONE = PartialLabels()


def step(labels: LabelSet) -> int:
    """Return by how much the labels of two sets differ: one more than the greatest class index, the ignore label's."""
    return labels.count + 1


def unannotated_targets(file: Path, content: Mapping[str, Any], labels: LabelSet) -> dict[str, Shape]:
    """Read for which targets cases are not annotated.

    Parameters
    ----------
    file, content
        dataset.json.
    labels
        What it declares.

    Returns
    -------
    dict
        Of each case that is annotated in part, indices into `labels.score_names`.

    Raises
    ------
    DatasetError
        The key `annotated_labels` is no table of lists of declared names, or there are too many combinations.
    """
    declared = content.get(KEY, {})
    if not isinstance(declared, dict):
        raise broken(file, KEY, f"is {shortened(declared)}, not an object", _ADVICE)
    found = {name: _missing(file, name, held, labels) for name, held in declared.items()}
    partly = {name: missing for name, missing in found.items() if missing}
    if step(labels) * (1 + len(set(partly.values()))) > np.iinfo(np.int16).max:
        raise broken(
            file, KEY, f"has {len(set(partly.values()))} combinations of {labels.count} classes", "use fewer of them"
        )
    return partly


def require_cases(file: Path, unannotated: Mapping[str, Shape], cases: Collection[str]) -> None:
    """Check that only training cases are named: a name with a slip would count as annotated in full.

    Raises
    ------
    DatasetError
        One is no training case.
    """
    for name in unannotated:
        if name not in cases:
            raise DatasetError(f"{file}: {KEY!r} names {name!r}, which is no training case; {among(name, cases)}"[:400])


def _missing(file: Path, case: str, held: object, labels: LabelSet) -> Shape:
    names = labels.score_names
    if not isinstance(held, list) or not held:
        raise broken(file, f"{KEY}[{case!r}]", f"is {shortened(held)}", _ADVICE)
    for name in held:
        if name not in (*names, labels.names[0]):
            raise broken(file, f"{KEY}[{case!r}]", f"names {shortened(name)}", among(str(name), names))
    missing = tuple(index for index, name in enumerate(names) if name not in held)
    if len(missing) == len(names):
        raise broken(file, f"{KEY}[{case!r}]", "names the background alone: nothing is learnt from it", _ADVICE)
    return missing
