"""Measure the structures of every segmentation of a folder; write them as CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_rs.core.budget import Budget, in_parallel, memory_for_cases
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.files import write_bytes, write_json
from nnunet_rs.core.io import read_labels, read_volume
from nnunet_rs.core.labels import encode_labels
from nnunet_rs.core.memory_estimate import estimate_case_memory
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.resources import processors
from nnunet_rs.core.types import Case, LabelSet, Progress, Silent
from nnunet_rs.evaluate.structures import PERCENTILES, Intensities, Structure, measure_structures

KIND = "statistics"  # in the record of what was written
JSON = "statistics.json"
CSV = "statistics.csv"
VERSION = 1
_WORKING = 4  # times the bytes of the image as float32 that measuring holds at most, beside reading


@dataclass(frozen=True, slots=True)
class CaseStructures:
    """The structures of one segmentation."""

    case: str
    structures: tuple[Structure, ...]


def measure_cases(
    cases: Sequence[Case],
    labels: LabelSet,
    channels: Sequence[str] = (),
    *,
    threads: int | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
) -> tuple[CaseStructures, ...]:
    """Measure segmentations, several at a time within the memory allowed.

    Parameters
    ----------
    cases
        `label` is the segmentation; `images`, which may be empty, are its image on the same grid.
    labels
        Which values stand for which class or region.
    channels
        Names of the image's channels; only their number counts here.
    threads
        Cases at a time; None: as many as there are processors.
    memory
        Bytes that the process may hold; None: most of what is free.

    Returns
    -------
    tuple of CaseStructures
        In the order of `cases`.

    Raises
    ------
    DatasetError
        A file that cannot be read, a value that is not declared, or an image and a segmentation of different shapes.
    """
    threads = threads or processors()
    budget = Budget(memory_for_cases(memory, threads))
    measure = partial(_measure_within, labels=labels, channels=len(channels) or 1, budget=budget)
    found: dict[str, CaseStructures] = {}
    with (progress or Silent()).task("measure", len(cases)) as task:
        for case, result in in_parallel(measure, cases, threads, budget):
            found[case.name] = result
            task.advance(1, case.name)
    return tuple(found[case.name] for case in cases)


def _measure_within(case: Case, labels: LabelSet, channels: int, budget: Budget) -> CaseStructures:
    estimate = estimate_case_memory(case, channels)
    needed = estimate.reading + _WORKING * max(estimate.voxels, estimate.label)
    if needed > budget.total:
        raise DatasetError(
            f"{case.label}: measuring takes {needed / 1e9:.2f} GB, {budget.total / 1e9:.2f} GB are allowed; allow more "
            "(--memory), or use fewer threads"
        )
    with budget.hold(needed):
        return measure_case(case, labels)


def measure_case(case: Case, labels: LabelSet) -> CaseStructures:
    """Measure one segmentation, with the intensities of its image where it has one; errors as `measure_cases`."""
    if case.label is None:
        raise ValueError(f"{case.name} has no segmentation")
    segmentation = read_labels(case.label)
    image = read_volume(case.images) if case.images else None
    if image is not None and image.data.shape[1:] != segmentation.data.shape:
        raise DatasetError(
            f"{case.label}: has {_by(segmentation.data.shape)} voxels (z, y, x), its image {case.images[0]} has "
            f"{_by(image.data.shape[1:])}; give the image that was segmented"
        )
    classes = encode_labels(segmentation.data, labels)
    data = None if image is None else image.data
    return CaseStructures(
        case.name, measure_structures(classes, labels, segmentation.spacing, segmentation.header, data)
    )


def _by(shape: Sequence[int]) -> str:
    return "×".join(str(size) for size in shape)


def write_statistics(
    folder: Path, cases: Sequence[CaseStructures], channels: Sequence[str] = (), *, overwrite: bool = False
) -> tuple[Path, Path]:
    """Write statistics.json and statistics.csv into a folder; returns both.

    Raises
    ------
    NnunetError
        Files of these names that were not made here, or were edited, unless `overwrite` keeps them aside.
    """
    with Outputs(folder, kind=KIND, overwrite=overwrite) as outputs:
        outputs.require([folder / JSON, folder / CSV])
        with outputs.new_files(JSON) as temporary:
            write_json(temporary / JSON, statistics_document(cases, channels))
        with outputs.new_files(CSV) as temporary:
            write_bytes(temporary / CSV, statistics_csv(cases, channels).encode())
    return folder / JSON, folder / CSV


def statistics_document(cases: Sequence[CaseStructures], channels: Sequence[str] = ()) -> dict[str, Any]:
    """Return the content of statistics.json: cases, structures and their numbers with units in the keys."""
    return {
        "format": "nnunet_rs statistics",
        "version": VERSION,
        "cases": {
            case.case: {s.name: dict(_numbers(s)) | _channels(s, channels) for s in case.structures} for case in cases
        },
    }


def statistics_csv(cases: Sequence[CaseStructures], channels: Sequence[str] = ()) -> str:
    """Return statistics.csv: a row for each structure of each case; a cell is empty where there is no number."""
    rows = [_row(case.case, structure, channels) for case in cases for structure in case.structures]
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(case: str, structure: Structure, channels: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"case": case, "structure": structure.name}
    for name, value in _numbers(structure):
        if isinstance(value, Mapping):
            row |= {f"{name}_{axis}": number for axis, number in value.items()}
        elif name == "values":
            row[name] = " ".join(map(str, value))
        else:
            row[name] = value
    for channel, found in zip(_named(channels, structure), structure.intensities, strict=True):
        row |= {f"{channel}_{name}": value for name, value in _intensity_numbers(found)}
    return row


def _numbers(structure: Structure) -> Iterator[tuple[str, Any]]:
    yield "values", list(structure.values)
    yield "voxels", structure.voxels
    yield "volume_mm3", structure.volume
    yield "volume_ml", structure.volume / 1000
    yield "components", structure.components
    centroid, box = structure.centroid, structure.box
    if centroid is not None and box is not None:
        yield "centroid_mm", dict(zip("xyz", centroid, strict=True))
        yield "first_voxel", {axis: start for axis, (start, _) in zip("xyz", reversed(box), strict=True)}
        yield "last_voxel", {axis: stop - 1 for axis, (_, stop) in zip("xyz", reversed(box), strict=True)}


def _channels(structure: Structure, channels: Sequence[str]) -> dict[str, Any]:
    named = zip(_named(channels, structure), structure.intensities, strict=True)
    found = {name: dict(_intensity_numbers(intensities)) for name, intensities in named}
    return {"intensities": found} if found else {}


def _named(channels: Sequence[str], structure: Structure) -> Sequence[str]:
    count = len(structure.intensities)
    return channels if len(channels) == count else [f"channel_{number}" for number in range(count)]


def _intensity_numbers(found: Intensities) -> Iterator[tuple[str, float]]:
    yield "mean", found.mean
    yield "std", found.std
    yield "min", found.min
    yield "max", found.max
    for percentile, value in zip(PERCENTILES, found.percentiles, strict=True):
        yield f"percentile_{percentile:02}", value
