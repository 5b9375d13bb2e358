"""Average the probabilities of several configurations: in one pass while predicting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.progress import Share, Task
from nnunet_rs.core.types import FloatArray, IntArray, Volume
from nnunet_rs.data.preprocess import Prepared
from nnunet_rs.model.metadata import ModelMetadata
from nnunet_rs.plan.schema import Plan
from nnunet_rs.predict.arrays import as_volume
from nnunet_rs.predict.export import OutputGrid, ScoreConverter
from nnunet_rs.predict.exporter import Exporter, do_parts
from nnunet_rs.predict.fold_agreement import FoldAgreement
from nnunet_rs.predict.orientation import seen_orientation
from nnunet_rs.predict.prediction_json import PREDICTION
from nnunet_rs.predict.predictor import Predictor, SinkMaker
from nnunet_rs.predict.probabilities import probabilities_of

Planes = Iterator[tuple[int, FloatArray]]  # first plane, probabilities (c, planes, a, b)


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """Several configurations of one plan, whose probabilities are averaged on the image's grid.

    The members predict a case side by side, a few planes at a time: neither their probabilities nor their average
    ever exist for a whole volume.
    """

    members: tuple[Predictor, ...]

    def __post_init__(self) -> None:
        """Refuse members that do not share the crop, the axes and the labels."""
        for member in self.members[1:]:
            ours, theirs = self.plan, member.plan
            if (ours.labels, ours.transpose, ours.channels) != (theirs.labels, theirs.transpose, theirs.channels):
                first = self.members[0].configuration.name
                raise CheckpointError(
                    f"{member.configuration.name} of {theirs.dataset} and {first} of {ours.dataset} were trained with "
                    "different labels, channels or axes; average configurations of one plan"
                )

    @property
    def plan(self) -> Plan:
        """What the first member was trained for; labels and channels are those of all."""
        return self.members[0].plan

    @property
    def all_metadata(self) -> tuple[ModelMetadata, ...]:
        """What is known of every network."""
        return _all_metadata(self.members)

    def describe(self) -> dict[str, Any]:
        """Return what determines the results."""
        return PREDICTION.wrap({"average_of": [member.describe() for member in self.members]})

    def predict_probabilities(self, array: NDArray[np.generic], spacing: Sequence[float]) -> FloatArray:
        """Predict the mean probabilities of an image in memory; as `Predictor.predict_probabilities`."""
        return probabilities_of(self, as_volume(array, spacing))

    def prepare(self, volume: Volume, *, overwrite: bool = False) -> tuple[Prepared, ...]:
        """Bring an image to every member's grid; as `Predictor.prepare`."""
        return _prepared(self.members, volume, overwrite)

    def predict_prepared(
        self,
        prepared: tuple[Prepared, ...],
        task: Task | None = None,
        make_sink: SinkMaker | None = None,
        agreement: FoldAgreement | None = None,
    ) -> IntArray:
        """Segment what `prepare` returned; as `Predictor.predict_prepared`."""
        with Exporter() as exporter:
            return self.predict_windows(prepared, exporter, task, make_sink, agreement)()

    def predict_windows(
        self,
        prepared: tuple[Prepared, ...],
        exporter: Exporter,
        task: Task | None = None,
        make_sink: SinkMaker | None = None,
        agreement: FoldAgreement | None = None,
    ) -> Callable[[], IntArray]:
        """Predict all windows of what `prepare` returned; as `Predictor.predict_windows`."""
        group = tuple(range(len(self.members)))
        finish = _averaged(self.members, prepared, (group,), exporter, task, make_sink, agreement)
        return lambda: finish()[0]


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Every pair of several configurations at once: each network sees a case once, in however many pairs it is."""

    members: tuple[Predictor, ...]  # at least two

    @property
    def plan(self) -> Plan:
        """What the first member was trained for."""
        return self.members[0].plan

    @property
    def all_metadata(self) -> tuple[ModelMetadata, ...]:
        """What is known of every network."""
        return _all_metadata(self.members)

    @property
    def ensembles(self) -> tuple[Ensemble, ...]:
        """The pairs, as what they are one by one; errors as `Ensemble`."""
        return tuple(Ensemble(pair) for pair in combinations(self.members, 2))

    def prepare(self, volume: Volume, *, overwrite: bool = False) -> tuple[Prepared, ...]:
        """Bring an image to every member's grid; as `Predictor.prepare`."""
        return _prepared(self.members, volume, overwrite)

    def predict_windows(
        self,
        prepared: tuple[Prepared, ...],
        exporter: Exporter,
        task: Task | None = None,
        make_sink: SinkMaker | None = None,
        agreement: FoldAgreement | None = None,
    ) -> Callable[[], IntArray]:
        """Predict all windows of what `prepare` returned: labels (pairs, z, y, x), in the order of `ensembles`.

        Otherwise as `Predictor.predict_windows`.
        """
        pairs = tuple(combinations(range(len(self.members)), 2))
        finish = _averaged(self.members, prepared, pairs, exporter, task, make_sink, agreement)
        return lambda: np.stack(finish())


def _prepared(members: Sequence[Predictor], volume: Volume, overwrite: bool) -> tuple[Prepared, ...]:
    *others, last = members
    orientation = seen_orientation(volume, _all_metadata(members))  # one for all: they are averaged plane by plane
    return (
        *(member.prepare(volume, orientation=orientation) for member in others),
        last.prepare(volume, overwrite=overwrite, orientation=orientation),
    )


def _all_metadata(members: Sequence[Predictor]) -> tuple[ModelMetadata, ...]:
    return tuple(metadata for member in members for metadata in member.all_metadata)


def _averaged(
    members: Sequence[Predictor],
    prepared: Sequence[Prepared],
    groups: Sequence[tuple[int, ...]],
    exporter: Exporter,
    task: Task | None,
    make_sink: SinkMaker | None,
    agreement: FoldAgreement | None,
) -> Callable[[], list[IntArray]]:
    """Segment by the mean probabilities of each group of members; those of the last group go to the sink."""
    run = side_by_side(members, prepared, exporter, task, agreement)
    converter, output = ScoreConverter(members[0].plan.labels, probabilities=True), run.output
    sink, geometry = None if make_sink is None else make_sink(output, prepared[0]), prepared[0].geometry
    labels: Any = None

    def convert(planes: tuple[int, tuple[FloatArray, ...]]) -> None:
        nonlocal labels
        first, values = planes
        for number, group in enumerate(groups):
            mean = mean_of([values[member] for member in group])
            part = converter.labels_same_grid(mean)
            labels = np.empty((len(groups), *output.shape), part.dtype) if labels is None else labels
            labels[number, first : first + len(part)] = part
        if sink is not None:
            sink.put(first, mean)

    beside = exporter if any(member.engine.computes_elsewhere for member in members) else None
    parts = map(partial(partial, convert), run.planes)
    return do_parts(parts, lambda: [converter.on_image(each, output, geometry) for each in labels], beside)


@dataclass(frozen=True, slots=True, eq=False)
class SideBySide:
    """Several members' probabilities of one case, as they come."""

    output: OutputGrid  # the grid that all are on
    planes: Iterator[tuple[int, tuple[FloatArray, ...]]]  # first plane, each member's (c, planes, a, b)


def side_by_side(
    members: Sequence[Predictor],
    prepared: Sequence[Prepared],
    exporter: Exporter,
    task: Task | None = None,
    agreement: FoldAgreement | None = None,
) -> SideBySide:
    """Predict one case with all members at once, turned along the same axis so that the same planes finish."""
    share = None if task is None else Share(task, 1.0 / len(members))
    outputs = [member.output_grid(case, axis=0) for member, case in zip(members, prepared, strict=True)]
    streams = [
        member.stream_probabilities(case, output, exporter, share, agreement)
        for member, case, output in zip(members, prepared, outputs, strict=True)
    ]
    return SideBySide(outputs[0], together(streams))


def together(streams: Sequence[Planes]) -> Iterator[tuple[int, tuple[FloatArray, ...]]]:
    """Cut streams of the same planes at common places: yield (first plane, each stream's part)."""
    heads = [next(stream, None) for stream in streams]
    first = 0
    while all(head is not None for head in heads):
        present = [head for head in heads if head is not None]
        stop = min(start + values.shape[1] for start, values in present)
        yield first, tuple(values[:, first - start : stop - start] for start, values in present)
        heads = [
            next(stream, None) if start + values.shape[1] == stop else (start, values)
            for stream, (start, values) in zip(streams, present, strict=True)
        ]
        first = stop


def mean_of(values: Sequence[NDArray[Any]]) -> FloatArray:
    """Average arrays of one shape in float32."""
    total = values[0].astype(np.float32)
    for other in values[1:]:
        total += other
    total /= np.float32(len(values))
    return total
