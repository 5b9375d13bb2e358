"""What predicts new images: the models of a folder, or what was chosen in a work folder, with its post-processing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.labels import decode_labels, encode_labels
from nnunet_rs.core.progress import Progress, Silent, Task
from nnunet_rs.core.types import FloatArray, FoldName, IntArray, Volume
from nnunet_rs.core.workspace import ModelFolder, WorkFolder
from nnunet_rs.model.metadata import ModelMetadata
from nnunet_rs.model.model_file import model_source
from nnunet_rs.model.staleness import report_staleness
from nnunet_rs.model.trained_models import missing_folds
from nnunet_rs.plan.schema import Plan
from nnunet_rs.predict.ensemble import Ensemble
from nnunet_rs.predict.exporter import Exporter
from nnunet_rs.predict.fold_agreement import FoldAgreement
from nnunet_rs.predict.pipeline import CasePredictor
from nnunet_rs.predict.predictor import PredictOptions, Predictor, SinkMaker
from nnunet_rs.select.choice import Choice, read_choice
from nnunet_rs.select.postprocessing import PostProcessing


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """What was chosen: one configuration or a pair, and the post-processing."""

    predictor: Predictor | Ensemble
    postprocessing: PostProcessing

    @property
    def plan(self) -> Plan:
        """Labels and channels."""
        return self.predictor.plan

    @property
    def all_metadata(self) -> tuple[ModelMetadata, ...]:
        """What is known of every network."""
        return self.predictor.all_metadata

    def describe(self) -> dict[str, Any]:
        """Return what determines the results."""
        steps = [list(classes) for classes in self.postprocessing.keep_largest]
        return {**self.predictor.describe(), "keep_largest": steps}

    def predict_probabilities(self, array: NDArray[np.generic], spacing: Sequence[float]) -> FloatArray:
        """Predict the probabilities before post-processing; as `Predictor.predict_probabilities`."""
        return self.predictor.predict_probabilities(array, spacing)

    def prepare(self, volume: Volume, *, overwrite: bool = False) -> Any:
        """Preprocess an image for the networks."""
        return self.predictor.prepare(volume, overwrite=overwrite)

    def predict_prepared(
        self,
        prepared: Any,
        task: Task | None = None,
        make_sink: SinkMaker | None = None,
        agreement: FoldAgreement | None = None,
    ) -> IntArray:
        """Segment and post-process; probabilities and the folds' agreement are those before post-processing."""
        with Exporter() as exporter:
            return self.predict_windows(prepared, exporter, task, make_sink, agreement)()

    def predict_windows(
        self,
        prepared: Any,
        exporter: Exporter,
        task: Task | None = None,
        make_sink: SinkMaker | None = None,
        agreement: FoldAgreement | None = None,
    ) -> Callable[[], IntArray]:
        """Predict all windows of what `prepare` returned; as `Predictor.predict_windows`."""
        finish = self.predictor.predict_windows(prepared, exporter, task, make_sink, agreement)
        return lambda: self._postprocessed(finish())

    def _postprocessed(self, labels: IntArray) -> IntArray:
        if not self.postprocessing.keep_largest:
            return labels
        classes = self.postprocessing.apply(encode_labels(labels, self.plan.labels))
        return decode_labels(classes, self.plan.labels)


def load_predictor(
    model_or_work: str | Path,
    device: str = "auto",
    folds: Sequence[FoldName] | None = None,
    *,
    configuration: str | None = None,
    options: PredictOptions | None = None,
    progress: Progress | None = None,
    networks: bool = True,
) -> CasePredictor:
    """Load what a model folder holds; of a work folder with best.json what was chosen, unless one is named.

    Parameters and errors as in `Predictor.load`. `progress` is told what has changed since the models were trained.
    """
    options, progress = options or PredictOptions(), progress or Silent()
    with model_source(Path(model_or_work)) as folder:
        return _load_predictor(folder, device, folds, configuration, options, progress, networks)


def _load_predictor(
    model_or_work: Path,
    device: str,
    folds: Sequence[FoldName] | None,
    configuration: str | None,
    options: PredictOptions,
    progress: Progress,
    networks: bool,
) -> CasePredictor:
    told = set[str]()

    def load(name: str | None) -> Predictor:
        predictor = Predictor.load(model_or_work, device, folds, configuration=name, options=options, networks=networks)
        computed = f"computed by {predictor.engine.describe()}" if networks else ""
        for remark in filter(None, (computed, *predictor.engine.remarks)):
            if remark not in told:
                progress.say(remark)
            told.add(remark)
        for metadata in predictor.all_metadata:
            if metadata.unfinished:
                progress.say(f"{metadata.configuration}, fold {metadata.fold} is not finished: {metadata.unfinished}")
        if any(metadata.source or metadata.unfinished for metadata in predictor.all_metadata):
            return predictor  # of another program's training nothing is known that could have changed
        chosen = folds is not None or ModelFolder(model_or_work).is_finished()
        _report_missing(ModelFolder(predictor.folders[0]).home, predictor, chosen, progress)
        report_staleness(predictor.folders, progress)
        return predictor

    if configuration is None and WorkFolder(model_or_work).best_file.is_file():
        choice = read_choice(model_or_work)
        members = tuple(map(load, choice.configurations))
        _report_outdated(model_or_work, choice, members, progress)
        return Chosen(members[0] if len(members) == 1 else Ensemble(members), choice.postprocessing)
    return load(configuration)


def _report_missing(home: Path, predictor: Predictor, chosen: bool, progress: Progress) -> None:
    """Say which folds are not averaged because they are not there, unless folds were chosen."""
    homes = [] if chosen else [home]
    if predictor.previous is not None:
        homes.append(home.parent / predictor.previous.configuration.name)
    for place in homes:
        missing = missing_folds(place)
        if missing:
            folds = f"fold {missing[0]} is" if len(missing) == 1 else f"folds {', '.join(map(str, missing))} are"
            progress.say(f"{place}: {folds} not trained, and so not in the average")


def _report_outdated(work: Path, choice: Choice, members: Sequence[Predictor], progress: Progress) -> None:
    """Warn where the choice was made among other models than those that are there."""
    again = []
    for member in members:
        scored = choice.models.get(member.configuration.name, {})
        for name, digest in member.describe()["models"].items():
            if scored.get(name, digest) != digest:
                again.append(f"{member.configuration.name}, {name.replace('_', ' ')}")
    if again:
        progress.say(
            f"warning: {WorkFolder(work).best_file} was chosen before {'; '.join(again)} was trained again: run "
            f"nnunet-rs best {work}"
        )
