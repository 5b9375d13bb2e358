"""dataset.json: what a dataset says of its channels and labels, checked key by key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.files import read_json
from nnunet_rs.core.labels import MAX_VALUE
from nnunet_rs.core.types import LabelSet, Region

IGNORE = "ignore"
BACKGROUND = "background"


def broken(file: Path, key: str, value: str, advice: str) -> DatasetError:
    """Return the error of a key of dataset.json: one line with file, key, value and what to do."""
    return DatasetError(f"{file}: '{key}' {value}; {advice}")


def shortened(value: object) -> str:
    """Return a value of dataset.json as text that fits into a line."""
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def read_channels(file: Path, content: dict[str, Any]) -> tuple[str, ...]:
    """Channel names by number, from `channel_names` (nnU-Net) or `modality` (Decathlon).

    Raises
    ------
    DatasetError
        Missing, no object, not numbered 0, 1, 2 …, or a name that is no text.
    """
    key = "channel_names" if "channel_names" in content else "modality"
    advice = 'write {"0": "CT"}: a name for each channel, numbered from 0'
    if key not in content:
        raise broken(file, "channel_names", "is missing", advice)
    names = content[key]
    if isinstance(names, list) and names:  # older files
        names = {str(index): name for index, name in enumerate(names)}
    if not isinstance(names, dict) or not names:
        raise broken(file, key, _not_object(names), advice)
    if {_number(index) for index in names} != set(range(len(names))):
        raise broken(file, key, f"has the numbers {', '.join(list(names)[:20])}", advice)
    if not all(isinstance(name, str) for name in names.values()):
        raise broken(file, key, f"has a name that is no text: {shortened(names)}", advice)
    return tuple(names[index] for index in sorted(names, key=_number))


def read_labels(file: Path, content: dict[str, Any]) -> LabelSet:
    """Labels, regions and the ignore label, from either way to write them: name → value(s), or value → name.

    Raises
    ------
    DatasetError
        Missing or malformed; no background 0; a value twice, negative or above 65535; an ignore label that is not the
        largest; regions without a fitting `regions_class_order`.
    """
    named = _values_by_name(file, content.get("labels"))
    ignore = _ignore(file, named.pop(IGNORE, None))
    values = tuple(sorted({value for held in named.values() for value in held}))
    if ignore is not None and ignore <= values[-1]:
        raise broken(file, "labels", f"has ignore = {ignore}, other labels reach {values[-1]}", "make it the largest")
    regions: tuple[Region, ...] = ()
    if any(len(held) > 1 for name, held in named.items() if set(held) != {0}):
        regions = _regions(file, named, values, content.get("regions_class_order"))
    else:
        _require_distinct(file, named)
    single = {held[0]: name for name, held in reversed(named.items()) if len(held) == 1}
    names = tuple(single.get(value, f"label {value}") for value in values)
    return LabelSet(names=names, values=values, regions=regions, ignore=ignore)


def read_document(file: Path) -> dict[str, Any]:
    """Read dataset.json, or a file that declares labels as it does: an object; a DatasetError where it is none."""
    content = read_json(file)
    if not isinstance(content, dict):
        raise DatasetError(f"{file}: holds a {type(content).__name__}, not an object; see nnU-Net's dataset format")
    return content


def read_declared_labels(file: Path) -> LabelSet:
    """Read the labels that a dataset.json declares; errors as `read_document` and `read_labels`."""
    return read_labels(file, read_document(file))


def declared(labels: LabelSet) -> dict[str, Any]:
    """Return labels as dataset.json declares them: what `read_labels` reads back."""
    held: dict[str, Any] = {BACKGROUND: 0} if labels.regions else dict(zip(labels.names, labels.values, strict=True))
    held |= {region.name: [labels.values[index] for index in region.classes] for region in labels.regions}
    held |= {} if labels.ignore is None else {IGNORE: labels.ignore}
    order = {"regions_class_order": [region.paint for region in labels.regions]} if labels.regions else {}
    return {"labels": held, **order}


def _not_object(value: object) -> str:
    return "is empty" if value in ({}, []) else f"is {shortened(value)}, not an object"


def _number(text: object) -> int:
    """Return the number a JSON key stands for, or -1."""
    if isinstance(text, int) and not isinstance(text, bool):
        return max(text, -1)
    return int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 20 else -1


def _values_by_name(file: Path, labels: object) -> dict[str, tuple[int, ...]]:
    advice = 'write {"background": 0, "liver": 1}'
    if not isinstance(labels, dict) or not labels:
        raise broken(file, "labels", "is missing" if labels is None else _not_object(labels), advice)
    if all(isinstance(name, str) and _number(value) >= 0 for value, name in labels.items()):
        labels = _turned(file, labels)
    named = {str(name): _values(file, str(name), held) for name, held in labels.items()}
    if not any(0 in held for name, held in named.items() if name != IGNORE):
        raise broken(file, "labels", "has no label of value 0", "declare the background: " + advice)
    if len({value for name, held in named.items() if name != IGNORE for value in held}) < 2:
        raise broken(file, "labels", "has no label but the background", advice)
    return named


def _turned(file: Path, labels: dict[str, str]) -> dict[str, int]:
    """Decathlon's value → name as name → value; names that stand twice get their value added."""
    names = list(labels.values())
    if names.count(IGNORE) > 1:
        raise broken(file, "labels", f"has '{IGNORE}' {names.count(IGNORE)} times", "give it one value")
    return {name if names.count(name) == 1 else f"{name} {value}": int(value) for value, name in labels.items()}


def _values(file: Path, name: str, held: object) -> tuple[int, ...]:
    """One label's values: a whole number, the same as text, or a list of them (a region)."""
    items = held if isinstance(held, list) else [held]
    numbers = tuple(map(_number, items))
    if not numbers or not all(0 <= number <= MAX_VALUE for number in numbers):
        advice = f"give a whole number from 0 to {MAX_VALUE}, or a list of them for a region"
        raise broken(file, "labels", f"has '{name}' = {shortened(held)}", advice)
    return tuple(sorted(set(numbers)))


def _ignore(file: Path, held: tuple[int, ...] | None) -> int | None:
    if held is None:
        return None
    if len(held) > 1:
        raise broken(file, "labels", f"has '{IGNORE}' = {list(held)}", "give it one value")
    return held[0]


def _require_distinct(file: Path, named: dict[str, tuple[int, ...]]) -> None:
    owner: dict[int, str] = {}
    for name, (value, *_) in named.items():
        if value in owner:
            raise broken(file, "labels", f"has value {value} for '{owner[value]}' and '{name}'", "give each its own")
        owner[value] = name


def _regions(
    file: Path, named: dict[str, tuple[int, ...]], values: tuple[int, ...], order: object
) -> tuple[Region, ...]:
    """Every label but the background becomes a region; `regions_class_order` says what each is painted with."""
    foreground = {name: held for name, held in named.items() if set(held) != {0}}
    advice = f"list one value for each of {', '.join(foreground)}: what an exported segmentation gets there"
    if not isinstance(order, list):
        found = "is missing" if order is None else f"is {shortened(order)}, not a list"
        raise broken(file, "regions_class_order", found, advice)
    paints = [_number(item) for item in order]
    unknown = [item for item, paint in zip(order, paints, strict=True) if paint not in values]
    if unknown:
        said = f"is {shortened(order)}: {shortened(unknown[0])} is no declared value; declared are "
        raise broken(file, "regions_class_order", said + shortened(list(values)), advice)
    if len(paints) != len(foreground):
        said = f"is {shortened(order)}: {len(paints)} values for {len(foreground)} regions"
        raise broken(file, "regions_class_order", said, advice)
    index = {value: number for number, value in enumerate(values)}
    return tuple(
        Region(name, tuple(index[value] for value in held), paint)
        for (name, held), paint in zip(foreground.items(), paints, strict=True)
    )
