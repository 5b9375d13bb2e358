"""What the dataset is like: spacings, shapes, intensities, classes and their volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.text import by, counted
from nnunet_rs.core.workspace import FINGERPRINT_JSON
from nnunet_rs.plan.explain import AXES
from nnunet_rs.plan.schema import CasePrint, Fingerprint
from nnunet_rs.report.blocks import Block, Charts, Missing, Section, Text
from nnunet_rs.report.charts import Chart, Row, Scale, ranges, strips
from nnunet_rs.report.intensities import draw_intensities
from nnunet_rs.report.steps import Step, steps_of
from nnunet_rs.report.tables import Table
from nnunet_rs.report.workfolder import PreparedCase, WorkContents

MOST_CLASSES = 40  # drawn; tables have all of them


def dataset_section(work: WorkContents, steps: tuple[Step, ...]) -> Section:
    """Describe the dataset as far as it was measured."""
    return Section("dataset", "The dataset", tuple(_blocks(work, steps)))


def _blocks(work: WorkContents, steps: tuple[Step, ...]) -> Iterator[Block]:
    if work.fingerprint is None:
        yield Missing(
            f"{FINGERPRINT_JSON} is missing: the dataset's measurements are not known. Planning makes it anew."
        )
        return
    yield Text(_summary(work, work.fingerprint))
    charts = (
        _axes("Spacing, mm", work.fingerprint, lambda case: case.spacing),
        _axes("Size, voxels", work.fingerprint, lambda case: case.shape),
        ranges(
            "Intensity of the foreground",
            [(name, asdict(stats)) for name, stats in zip(work.plan.channels, work.fingerprint.channels, strict=True)],
        ),
    )
    yield Charts(
        charts,
        "Each dot is a case; the box holds the middle half, the heavy line is the median; z, y, x are the files' axes. "
        "Intensity: the bar holds the middle 99 % of all foreground voxels of all cases, the dot is their mean, the "
        "line through it one standard deviation each way.",
        "Grids and intensities",
    )
    yield from _classes(work, steps)


def _summary(work: WorkContents, fingerprint: Fingerprint) -> str:
    cases = fingerprint.cases
    channels = counted(len(work.plan.channels), "channel")
    named = ", ".join(work.plan.channels)
    shape = np.median([case.shape for case in cases], axis=0)
    spacing = np.median([case.spacing for case in cases], axis=0)
    kept = fingerprint.relative_size_after_crop
    crop = (
        "Nothing is cropped" if kept > 0.999 else f"Cropping to what is not zero leaves {kept:.0%} of the median case"
    )
    return (
        f"{counted(len(cases), 'case')} of {channels} ({named}). The median case has {by(shape, 'g')} voxels of "
        f"{by(spacing, '.3g')} mm (z, y, x). {crop}."
    )


def _axes(title: str, fingerprint: Fingerprint, value: Callable[[CasePrint], tuple[float, ...]]) -> Chart:
    table = np.array([value(case) for case in fingerprint.cases], np.float64)
    rows = [Row(axis, table[:, place]) for place, axis in enumerate(AXES)]
    high = float(table.max()) * 1.06
    return strips(title, rows, Scale("", (0, high)))


def _classes(work: WorkContents, steps: tuple[Step, ...]) -> Iterator[Block]:
    """Say of each class in how many cases it occurs and how large it is there."""
    prepared = max(work.prepared.values(), key=len, default=())
    volumes = {index: _volumes(prepared, index) for index in range(1, work.plan.labels.count)}
    yield _class_table(work, prepared, volumes)
    if not prepared:
        yield Missing(
            "Volumes and intensities of the classes are known when cases are prepared.", steps_of(steps, "preprocess")
        )
        return
    shown = list(volumes)[:MOST_CLASSES]
    rows = [Row(work.plan.labels.names[index], volumes[index], index) for index in shown]
    chart = strips("Volume of the classes, ml", rows, Scale("ml, logarithmic", log=True))
    intensities = draw_intensities(work)
    yield Charts(
        (chart, *intensities),
        "Volumes are those of the prepared cases; each dot is a case in which the class occurs. Intensities are "
        "normalised as the network sees them, from patches around voxels of each class.",
        "Classes",
    )


def _volumes(prepared: tuple[PreparedCase, ...], index: int) -> NDArray[np.float64]:
    return np.array([case.volumes[index] for case in prepared if index in case.volumes])


def _class_table(
    work: WorkContents, prepared: tuple[PreparedCase, ...], volumes: dict[int, NDArray[np.float64]]
) -> Table:
    labels = work.plan.labels
    rows = []
    for index in range(1, labels.count):
        row = [labels.names[index], str(labels.values[index]), _occurs(work, prepared, index)]
        if prepared:
            found = volumes[index]
            low, middle, high = (_digits(v) for v in np.percentile(found, [0, 50, 100])) if found.size else "---"
            row += [middle, f"{low} to {high}" if found.size else "-"]
        rows.append(tuple(row))
    head = ("class", "value in files", "occurs in", *(("median, ml", "range, ml") if prepared else ()))
    regions = "; ".join(f"{r.name} = {' + '.join(labels.names[i] for i in r.classes)}" for r in labels.regions)
    note = f"Regions, which the network predicts: {regions}." if regions else ""
    return Table("Classes and how often they occur", head, tuple(rows), note)


def _digits(value: float) -> str:
    """Show three digits, or all before the point where there are more."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _occurs(work: WorkContents, prepared: tuple[PreparedCase, ...], index: int) -> str:
    if prepared:
        return f"{sum(index in case.volumes for case in prepared)} of {len(prepared)}"
    known = [classes for classes in work.scanned.values() if len(classes) > index]
    return f"{sum(classes[index] for classes in known)} of {len(known)}" if known else "-"
