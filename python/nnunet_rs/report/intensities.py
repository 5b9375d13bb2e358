"""Intensities of each class as the network meets them: sampled from patches of prepared cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.data.placement import prepared_folder
from nnunet_rs.data.store import Store
from nnunet_rs.report.charts import Chart, Line, Scale, lines
from nnunet_rs.report.workfolder import PreparedCase, WorkContents

CASES = 24  # looked at, evenly spread over the dataset
SIDE = 48  # voxels: a patch is no longer than this along any axis
MOST_CLASSES = 7  # drawn: more would be a tangle
_BINS = 60
_SHARES = (0.5, 99.5)  # percentiles at which the drawing ends

Values = dict[int, list[NDArray[np.float32]]]  # class → (channels, voxels) of each patch


def draw_intensities(work: WorkContents) -> tuple[Chart, ...]:
    """Draw, for each channel, the distribution of normalised intensities of the largest classes.

    A handful of patches of a few cases is read, however many and large the cases are.
    """
    name = max(work.prepared, key=lambda store: len(work.prepared[store]), default=None)
    if name is None or not work.prepared[name]:
        return ()
    classes = _largest(work.prepared[name])
    values = _collect(Store(prepared_folder(work.path) / name), work.prepared[name], classes)
    names = work.plan.labels.names
    return tuple(
        _density(
            channel, [(names[index], index, np.concatenate([v[number] for v in values[index]])) for index in values]
        )
        for number, channel in enumerate(work.plan.channels)
        if values
    )


def _largest(prepared: Sequence[PreparedCase]) -> list[int]:
    """Return the classes of the greatest total volume, by index."""
    total: dict[int, float] = {}
    for case in prepared:
        for index, volume in case.volumes.items():
            total[index] = total.get(index, 0.0) + volume
    return sorted(sorted(total, key=lambda index: -total[index])[:MOST_CLASSES])


def _collect(store: Store, prepared: Sequence[PreparedCase], classes: Sequence[int]) -> Values:
    """Read a patch around a voxel of each class in each of a few cases, and keep its voxels of that class."""
    chosen = [prepared[k] for k in np.unique(np.linspace(0, len(prepared) - 1, CASES).round().astype(int))]
    rng = np.random.default_rng(0)
    values: Values = {}
    for case in chosen:
        for index in classes:
            if index in case.volumes:
                for voxels in _patch(store, case, index, rng):
                    values.setdefault(index, []).append(voxels)
    return {index: values[index] for index in classes if index in values}


def _patch(store: Store, case: PreparedCase, index: int, rng: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    size = [min(SIDE, n) for n in case.shape]
    try:
        centre = store.class_locations(case.name).pick([index], rng)
        start = [int(np.clip(c - s // 2, 0, n - s)) for c, s, n in zip(centre, size, case.shape, strict=True)]
        image, labels, _ = store.read_patch(case.name, start, size)
    except NnunetError:  # a damaged case is reported where the work folder is read
        return
    inside: NDArray[np.float32] = image[:, labels == index]
    yield inside


def _density(channel: str, classes: Sequence[tuple[str, int, NDArray[np.float32]]]) -> Chart:
    everything = np.concatenate([values for _, _, values in classes])
    low, high = np.percentile(everything, _SHARES)
    edges = np.linspace(low, max(high, low + 1e-6), _BINS + 1)
    middles = ((edges[:-1] + edges[1:]) / 2).tolist()
    curves = [
        Line(name, middles, (np.histogram(values, edges)[0] / values.size / np.diff(edges)).tolist(), index)
        for name, index, values in classes
    ]
    return lines(f"{channel}, normalised", curves, Scale("intensity"), Scale("density", (0, None)))
