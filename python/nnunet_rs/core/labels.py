"""Label files' values and the library's class indices, turned into one another by table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.image_file import smallest_integer
from nnunet_rs.core.types import IntArray, LabelSet
from nnunet_rs.core.workspace import DATASET_JSON

MAX_VALUE = 65535  # of a label file; tables and uint16 go no further
_SHOWN = 8  # values that a message lists


def encode_labels(raw: IntArray, labels: LabelSet) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Turn a file's values into class indices 0 … count-1, and the ignore label into `count`.

    Parameters
    ----------
    raw
        Values of a label file, any integer type and shape.
    labels
        What the dataset declares.

    Returns
    -------
    ndarray
        uint8 (uint16 from 255 classes on), same shape, C-contiguous; `raw` itself where it is that already.

    Raises
    ------
    DatasetError
        A value that is not declared.
    """
    kind = _class_type(labels)
    outside = raw.size > 0 and (raw.min() < 0 or raw.max() > _top(labels))
    if not outside and _consecutive(labels):
        return raw.astype(kind, order="C", copy=False)
    if outside:
        raise _undeclared(raw, labels)
    # One more than every class index marks what is not declared.
    unknown = labels.count + 1
    table = np.full(_top(labels) + 1, unknown, kind)
    table[list(labels.values)] = range(labels.count)
    if labels.ignore is not None:
        table[labels.ignore] = labels.count
    classes = table[raw]
    if classes.size and classes.max() == unknown:
        raise _undeclared(raw, labels)
    return classes


def decode_labels(classes: IntArray, labels: LabelSet) -> IntArray:
    """Turn class indices (and `count`, where there is an ignore label) into the file values, in the smallest type.

    Raises
    ------
    ValueError
        An index beyond the classes.
    """
    values = [*labels.values, *([] if labels.ignore is None else [labels.ignore])]
    if classes.size and not 0 <= classes.min() <= classes.max() < len(values):
        raise ValueError(f"class indices must be 0 … {len(values) - 1}, got {classes.min()} … {classes.max()}")
    kind = smallest_integer(0, max(values))
    if values == list(range(len(values))):
        return classes.astype(kind, order="C")
    return np.array(values, kind)[classes]


def undeclared_values(raw: IntArray, labels: LabelSet) -> tuple[tuple[int, int], ...]:
    """List (value, number of voxels) of what a label file holds and the dataset does not declare, by value."""
    found, counts = np.unique(raw, return_counts=True)
    declared = {*labels.values, labels.ignore}
    return tuple((int(value), int(n)) for value, n in zip(found, counts, strict=True) if int(value) not in declared)


def present_classes(classes: IntArray, labels: LabelSet) -> tuple[bool, ...]:
    """Return of each class, and of the ignore label last, whether encoded labels (z, y, x) hold it."""
    seen = np.zeros(labels.count + 1, np.bool_)
    flat = classes.reshape(-1)
    whole = flat.size - flat.size % (8 // flat.itemsize)
    # Most voxels lie among their like: words of eight bytes that equal the one before tell nothing new.
    words = flat[:whole].view(np.uint64)
    changed = words[1:][words[1:] != words[:-1]]
    for part in (words[:1].view(flat.dtype), changed.view(flat.dtype), flat[whole:]):
        seen[part] = True
    return tuple(seen.tolist())


def _class_type(labels: LabelSet) -> np.dtype[Any]:
    return np.dtype(np.uint8 if labels.count + 1 <= 255 else np.uint16)


def _top(labels: LabelSet) -> int:
    return max(*labels.values, labels.ignore or 0)


def _consecutive(labels: LabelSet) -> bool:
    """Whether values are class indices already: 0, 1, 2 … with the ignore label, if any, next."""
    return labels.values == tuple(range(labels.count)) and labels.ignore in (None, labels.count)


def _undeclared(raw: IntArray, labels: LabelSet) -> DatasetError:
    found = undeclared_values(raw, labels)
    held = ", ".join(f"{value} ({count} voxel{'' if count == 1 else 's'})" for value, count in found[:_SHOWN])
    held += f" … and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return DatasetError(f"values {held} are not declared in {DATASET_JSON}, which has {describe_values(labels)}")


def describe_values(labels: LabelSet) -> str:
    """Return the declared file values as text."""
    values = ", ".join(map(str, labels.values))
    return values if labels.ignore is None else f"{values} and ignore {labels.ignore}"
