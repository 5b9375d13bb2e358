"""Some of the structures of a segmentation: their labels, and a binary mask for each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import DatasetError, among
from nnunet_rs.core.types import IntArray, LabelSet, Region

_UNSAFE = re.compile(r"[^\w\-+. ()]")  # in names of files, on any system
_LONGEST = 120  # bytes of a file's name that a label's name gives: systems hold 255
_VALUES = 8  # of a region that a file's name lists


@dataclass(frozen=True, slots=True)
class Structure:
    """A class or region that a segmentation shows."""

    name: str
    values: tuple[int, ...]  # of the file; several for a region
    file_name: str  # without an ending; distinct within a segmentation


def structures_of(labels: LabelSet) -> tuple[Structure, ...]:
    """List the regions where labels have some, else the classes without the background, with names for their files.

    What no file may be called is replaced by `_`. Names that would meet or be passed over in a folder get their values.
    """
    if labels.regions:
        found = [(r.name, tuple(labels.values[index] for index in r.classes)) for r in labels.regions]
    else:
        found = [(name, (value,)) for name, value in zip(labels.names[1:], labels.values[1:], strict=True)]
    stems = [_UNSAFE.sub("_", name).encode()[:_LONGEST].decode(errors="ignore").strip(" .") for name, _ in found]
    met, taken = Counter(stem.lower() for stem in stems), set[str]()
    structures = []
    for (name, values), stem in zip(found, stems, strict=True):
        plain = stem.lstrip("_") == stem != "" and met[stem.lower()] == 1
        file_name = stem if plain else f"label {'+'.join(map(str, values[:_VALUES]))} {stem}".strip()
        while file_name.lower() in taken:  # a label may be called as another one's file
            file_name += "_"
        taken.add(file_name.lower())
        structures.append(Structure(name, values, file_name))
    return tuple(structures)


def select_labels(labels: LabelSet, wanted: Sequence[str]) -> LabelSet:
    """Return the labels of a segmentation of which only some structures are kept.

    Parameters
    ----------
    labels
        Of the whole segmentation.
    wanted
        Names of classes; of regions, where the labels have regions. Their order does not count.

    Raises
    ------
    DatasetError
        A name that is none of them.
    """
    known = [structure.name for structure in structures_of(labels)]
    for name in wanted:
        if name not in known:
            raise DatasetError(f"no label '{name}' that could be kept; {among(name, known)}")
    regions = [region for region in labels.regions if region.name in wanted]
    if labels.regions:
        kept = sorted({index for region in regions for index in region.classes})
    else:
        kept = [index for index, name in enumerate(labels.names) if index and name in wanted]
    indices = [0, *(index for index in kept if index)]
    place = {index: number for number, index in enumerate(indices)}
    values = tuple(labels.values[index] for index in indices)
    return LabelSet(
        names=tuple(labels.names[index] for index in indices),
        values=values,
        regions=tuple(_moved(region, place, values) for region in regions),
    )


def keep_values(data: IntArray, labels: LabelSet) -> IntArray:
    """Return file values (z, y, x) of which those that `labels` do not declare are 0; the type stays."""
    top = int(data.max(initial=0))
    table = np.zeros(top + 1, data.dtype)
    kept = [value for value in labels.values if value <= top]
    table[kept] = kept
    return table[data]


def binary_mask(data: IntArray, structure: Structure) -> NDArray[np.uint8]:
    """Return 1 where file values (z, y, x) belong to a structure, 0 elsewhere."""
    return np.isin(data, structure.values, kind="table").view(np.uint8)


def _moved(region: Region, place: dict[int, int], values: tuple[int, ...]) -> Region:
    classes = tuple(place[index] for index in region.classes)
    return Region(region.name, classes, region.paint if region.paint in values else values[classes[-1]])
