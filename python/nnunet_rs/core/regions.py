"""What dataset.json's labels contradict: regions that an exported segmentation does not give back, and odd values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nnunet_rs.core.dataset_json import IGNORE
from nnunet_rs.core.issues import Issue
from nnunet_rs.core.types import LabelSet, Region

_NEARLY_IGNORE = re.compile(r"[\W_]*ignored?([\W_]*label)?[\W_]*", re.IGNORECASE)


def dataset_json_issues(file: Path, labels: LabelSet) -> list[Issue]:
    """List what labels that can be read contradict; warnings, for nnU-Net takes such datasets.

    Rules: `regions-order` for each region that does not come back; `label-values` where the values have gaps;
    `ignore-name` for a class that is nearly called as the ignore label is.
    """
    return [*_region_issues(file, labels), *_gaps(file, labels), *_nearly_ignore(file, labels)]


def painted(labels: LabelSet) -> tuple[int, ...]:
    """Return the value that a voxel of each class gets when its regions are painted in order; 0 outside all of them."""
    values = [0] * labels.count
    for region in labels.regions:
        for index in region.classes:
            values[index] = region.paint
    return tuple(values)


def lost_classes(labels: LabelSet, region: Region) -> tuple[int, ...]:
    """List the classes whose voxels change sides when a perfect segmentation is exported and read again.

    A class changes sides where it belongs to the region and the value it is painted with does not, or the reverse.
    """
    index, held = {value: number for number, value in enumerate(labels.values)}, frozenset(region.classes)
    pairs = enumerate(index[value] for value in painted(labels))
    return tuple(before for before, after in pairs if (before in held) != (after in held))


def fitting_order(labels: LabelSet) -> tuple[Region, ...] | None:
    """Return the regions with an order and values by which all of them come back; None if there is none.

    The order of dataset.json is kept where it can be; else larger regions come first.
    """
    by_size = sorted(labels.regions, key=lambda region: -len(region.classes))
    return _fitting(labels, labels.regions) or _fitting(labels, by_size)


def _fitting(labels: LabelSet, regions: Sequence[Region]) -> tuple[Region, ...] | None:
    """Choose a value for each region by which it comes back, without changing their order."""
    within: dict[int, list[int]] = {}  # by class, the regions that hold it
    for number, region in enumerate(regions):
        for index in region.classes:
            within.setdefault(index, []).append(number)
    found = []
    for number, region in enumerate(regions):
        seen = [index for index in region.classes if within[index][-1] == number]  # what no later region covers
        if any(within[index] != within[seen[0]] for index in seen) or seen == [0]:
            return None
        found.append(Region(region.name, region.classes, labels.values[(seen or region.classes)[-1]]))
    return tuple(found)


def _region_issues(file: Path, labels: LabelSet) -> list[Issue]:
    lost = {region.name: lost_classes(labels, region) for region in labels.regions}
    if not any(lost.values()):
        return []
    advice = _advice(labels)
    return [_not_given_back(file, labels, name, classes[0], advice) for name, classes in lost.items() if classes]


def _not_given_back(file: Path, labels: LabelSet, name: str, index: int, advice: str) -> Issue:
    written, value = painted(labels)[index], labels.values[index]
    inside = index in next(region for region in labels.regions if region.name == name).classes
    sides = ("inside", "outside") if inside else ("outside", "inside")
    order = [region.paint for region in labels.regions]
    said = (
        f"'{name}' does not come back from an exported segmentation: by the order {order} voxels of label {value} "
        f"({sides[0]} it) are written as {written} ({sides[1]} it)"
    )
    return Issue(file, "regions-order", said, advice, fatal=False)


def _advice(labels: LabelSet) -> str:
    fitting = fitting_order(labels)
    if fitting is None:
        return "regions that overlap without one holding the other cannot all be told by one value a voxel"
    order = [region.paint for region in fitting]
    if [region.name for region in fitting] == [region.name for region in labels.regions]:
        return f"write regions_class_order {order}"
    return f"list the regions in the order {', '.join(r.name for r in fitting)}, with regions_class_order {order}"


def _gaps(file: Path, labels: LabelSet) -> list[Issue]:
    values = [*labels.values, *([] if labels.ignore is None else [labels.ignore])]
    if values == list(range(len(values))):
        return []
    shown = ", ".join(map(str, values[:12])) + (" …" if len(values) > 12 else "")
    advice = f"accepted here; nnU-Net refuses such labels: number them 0 … {len(values) - 1} if it is to read them"
    return [Issue(file, "label-values", f"the values {shown} are not consecutive", advice, fatal=False)]


def _nearly_ignore(file: Path, labels: LabelSet) -> list[Issue]:
    names = dict.fromkeys((*labels.names, *(region.name for region in labels.regions)))
    advice = f"name it {IGNORE!r}, as it is, if its voxels shall not count: give it the largest value"
    return [
        Issue(file, "ignore-name", f"{name!r} is learnt as a class like any other", advice, fatal=False)
        for name in names
        if _NEARLY_IGNORE.fullmatch(name)
    ]
