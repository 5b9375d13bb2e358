"""Measure the structures of every segmentation of a folder; write them as CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_rs.core.budget import Budget, in_parallel, memory_for_cases
from nnunet_rs.core.document import Kind
from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.core.files import write_bytes, write_json
from nnunet_rs.core.memory_estimate import estimate_case_memory
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.resources import processors
from nnunet_rs.core.types import Case, LabelSet
from nnunet_rs.evaluate.segmented import read_segmented
from nnunet_rs.evaluate.structures import PERCENTILES, Intensities, StructureStatistics, measure_structures

KIND = "statistics"  # in the record of what was written
STEM = "statistics"  # of the files' names
STATISTICS = Kind("statistics", dict)
_WORKING = 4  # times the bytes of the image as float32 that measuring holds at most, beside reading


@dataclass(frozen=True, slots=True)
class CaseStructures:
    """The structures of one segmentation."""

    case: str
    structures: tuple[StructureStatistics, ...]


def measure_cases(
    cases: Sequence[Case],
    labels: LabelSet,
    channels: Sequence[str] = (),
    *,
    threads: int | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
    failed: Callable[[str, Exception], None] | None = None,
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
    failed
        Called for a case that cannot be measured, and why; the others go on. None: the first such case ends it all.

    Returns
    -------
    tuple of CaseStructures
        In the order of `cases`; those that failed are left out.

    Raises
    ------
    DatasetError
        A file that cannot be read, a value that is not declared, or an image and a segmentation of different grids.
    """
    threads = threads or processors()
    budget = Budget(memory_for_cases(memory, threads))
    measure = partial(_measure_within, labels=labels, channels=len(channels) or 1, budget=budget)

    def measured(case: Case) -> CaseStructures | None:
        try:
            return measure(case)
        except (NnunetError, OSError) as error:
            if failed is None:
                raise
            failed(case.name, error)
            return None

    found: dict[str, CaseStructures | None] = {}
    with (progress or Silent()).task("measure", len(cases)) as task:
        for case, result in in_parallel(measured, cases, threads, budget):
            found[case.name] = result
            task.advance(1, case.name)
    return tuple(result for case in cases if (result := found[case.name]) is not None)


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
    found = read_segmented(case, labels)
    return CaseStructures(
        case.name, measure_structures(found.classes, labels, found.spacing, found.header, found.image)
    )


def write_statistics(
    folder: Path,
    cases: Sequence[CaseStructures],
    channels: Sequence[str] = (),
    *,
    stem: str = STEM,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Path, Path]:
    """Write statistics.json and statistics.csv into a folder; returns both.

    Parameters
    ----------
    folder
        Made if it is not there.
    cases, channels
        As `measure_cases` took and returned them.
    stem
        The files' name without an ending.
    overwrite
        Keep files of these names aside that were not made here, or were edited; `say` reports them.

    Raises
    ------
    NnunetError
        Such files, without `overwrite`; or the folder cannot be written.
    """
    json, table = statistics_files(folder, stem)
    with Outputs(folder, kind=KIND, overwrite=overwrite, say=say) as outputs:
        outputs.require([json, table])
        with outputs.new_files(json.name) as temporary:
            write_json(temporary / json.name, statistics_document(cases, channels))
        with outputs.new_files(table.name) as temporary:
            write_bytes(temporary / table.name, statistics_csv(cases, channels).encode())
    return json, table


def statistics_files(folder: Path, stem: str = STEM) -> tuple[Path, Path]:
    """Return the files that `write_statistics` writes."""
    return folder / f"{stem}.json", folder / f"{stem}.csv"


def require_statistics(folder: Path, stem: str = STEM, *, overwrite: bool = False) -> None:
    """See, before anything is measured, that statistics may be written; errors as `write_statistics`."""
    Outputs(folder, kind=KIND, overwrite=overwrite).require(statistics_files(folder, stem))


def statistics_document(cases: Sequence[CaseStructures], channels: Sequence[str] = ()) -> dict[str, Any]:
    """Return the content of statistics.json: cases, structures and their numbers with units in the keys."""
    numbers = {
        case.case: {s.name: dict(_numbers(s)) | _channels(s, channels) for s in case.structures} for case in cases
    }
    return STATISTICS.wrap({"cases": numbers})


def statistics_csv(cases: Sequence[CaseStructures], channels: Sequence[str] = ()) -> str:
    """Return statistics.csv: a row for each structure of each case; a cell is empty where there is no number."""
    rows = [_row(case.case, structure, channels) for case in cases for structure in case.structures]
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(case: str, structure: StructureStatistics, channels: Sequence[str]) -> dict[str, Any]:
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


def _numbers(structure: StructureStatistics) -> Iterator[tuple[str, Any]]:
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


def _channels(structure: StructureStatistics, channels: Sequence[str]) -> dict[str, Any]:
    named = zip(_named(channels, structure), structure.intensities, strict=True)
    found = {name: dict(_intensity_numbers(intensities)) for name, intensities in named}
    return {"intensities": found} if found else {}


def _named(channels: Sequence[str], structure: StructureStatistics) -> Sequence[str]:
    count = len(structure.intensities)
    return channels if len(channels) == count else [f"channel_{number}" for number in range(count)]


def _intensity_numbers(found: Intensities) -> Iterator[tuple[str, float]]:
    yield "mean", found.mean
    yield "std", found.std
    yield "min", found.min
    yield "max", found.max
    for percentile, value in zip(PERCENTILES, found.percentiles, strict=True):
        yield f"percentile_{percentile:02}", value
