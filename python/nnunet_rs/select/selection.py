"""Which configuration, or pair of them, and which post-processing: decided by cross-validation, then followed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.labels import decode_labels, encode_labels
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.progress import Progress, Silent, Task
from nnunet_rs.core.types import Dataset, FloatArray, FoldName, IntArray, Volume
from nnunet_rs.core.workspace import BEST_JSON, ModelFolder, WorkFolder, fold_name
from nnunet_rs.evaluate.folders import CasePair, evaluate_pairs
from nnunet_rs.model.metadata import read_metadata
from nnunet_rs.model.model_file import model_source
from nnunet_rs.model.staleness import report_staleness, report_staleness_in
from nnunet_rs.model.trained_models import (
    find_models,
    missing_folds,
    trained_configurations,
    trained_folds,
)
from nnunet_rs.plan.schema import Plan
from nnunet_rs.predict.ensemble import Ensemble, Pairs
from nnunet_rs.predict.exporter import Exporter
from nnunet_rs.predict.fold_agreement import FoldAgreement
from nnunet_rs.predict.folder import CasePredictor, FolderOptions, predict_cases, predict_pairs
from nnunet_rs.predict.predictor import PredictOptions, Predictor, SinkMaker
from nnunet_rs.select.choice import CHOICE, Candidate, Choice, read_choice
from nnunet_rs.select.cross_validation import load_held_out, pairs_of, validation_cases
from nnunet_rs.select.postprocessing import PostProcessing, choose_postprocessing

OWN = FolderOptions(own=True)  # the folders are within the work folder


DIGITS = 12  # of a mean Dice; further ones are rounding, and the simpler candidate wins


def choose_best(
    work: str | Path,
    *,
    configurations: Sequence[str] | None = None,
    folds: Sequence[int] | None = None,
    pairs: bool = True,
    device: str = "auto",
    options: PredictOptions | None = None,
    progress: Progress | None = None,
) -> Choice:
    """Score every trained configuration and every pair on the cases held out, choose, decide post-processing.

    Parameters
    ----------
    work
        The work folder. Predictions that are finished already are not made again. The choice is written to best.json.
    configurations
        To choose among; None: all that are trained.
    folds
        To score; None: all that every one of these configurations has.
    pairs
        Whether two configurations may be averaged.
    device, options
        As in `Predictor.load`.
    progress
        Shows each case as it is done.

    Returns
    -------
    Choice
        The candidate with the highest mean foreground Dice; a pair must beat the best single configuration.

    Raises
    ------
    CheckpointError
        No configuration is trained, or one that was named is not; no fold that all have, or one that was named.
    DatasetError, NnunetError
        As `validate_fold`.
    """
    work = Path(work)
    search = _Search(work, read_dataset(work), device, options or PredictOptions(), progress or Silent())
    names = named_configurations(work, configurations)
    folds = named_folds(work, names, folds)
    report_staleness_in(work, names, search.progress)
    _report_left_out(work, names, folds, search.progress)
    candidates = [*((name,) for name in names), *(combinations(names, 2) if pairs else ())]
    search.predict(names, folds, pairs=pairs)
    scored = [search.score(candidate, folds) for candidate in candidates]
    scored.sort(key=lambda candidate: (-round(candidate.dice, DIGITS), len(candidate.configurations)))
    if not any(any(candidate.cases_in_mean.values()) for candidate in scored):
        search.progress.say("warning: neither references nor predictions hold any class: nothing speaks for the choice")
    best = scored[0].configurations
    postprocessing = choose_postprocessing(search.pairs(best, folds), search.dataset.labels, search.progress)
    choice = Choice(best, postprocessing, folds, tuple(scored), search.digests(best, folds))
    outputs = Outputs(work, kind="choice", overwrite=True, say=search.progress.say)  # one that was edited is kept aside
    with outputs, outputs.new_files(BEST_JSON) as folder:
        CHOICE.save(WorkFolder(folder).best_file, choice)
    return choice


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """What was chosen: one configuration or a pair, and the post-processing."""

    predictor: Predictor | Ensemble
    postprocessing: PostProcessing

    @property
    def plan(self) -> Plan:
        """Labels and channels."""
        return self.predictor.plan

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


@dataclass(frozen=True, slots=True)
class _Search:
    work: Path
    dataset: Dataset
    device: str
    options: PredictOptions
    progress: Progress

    def predict(self, names: Sequence[str], folds: Sequence[int], *, pairs: bool) -> None:
        """Predict what is not predicted yet: by every configuration, and by all pairs of them at once."""
        for fold in folds:
            cases = validation_cases(self.work, self.dataset, fold)
            members = [self._load(name, fold) for name in names]
            for name, member in zip(names, members, strict=True):
                predict_cases(member, cases, self._folder((name,), fold), OWN, self.progress)
            if pairs and len(members) > 1:
                folders = [self._folder(pair, fold) for pair in combinations(names, 2)]
                predict_pairs(Pairs(tuple(members)), cases, folders, OWN, self.progress)

    def score(self, configurations: tuple[str, ...], folds: Sequence[int]) -> Candidate:
        """Score all predictions of a configuration or pair together."""
        pairs = self.pairs(configurations, folds)
        summary = evaluate_pairs(pairs, self.dataset.labels, tolerance=None, progress=self.progress)
        means = zip(summary.targets, summary.mean("dice"), strict=True)
        per_class = {target.name: None if isnan(mean) else float(mean) for target, mean in means}
        known = {target.name: int(n) for target, n in zip(summary.targets, summary.known("dice"), strict=True)}
        score = summary.foreground_mean()
        return Candidate(configurations, 0.0 if isnan(score) else score, per_class, len(summary.cases), known)

    def pairs(self, configurations: tuple[str, ...], folds: Sequence[int]) -> tuple[CasePair, ...]:
        """Match all predictions of cases held out with their references."""
        return tuple(self._pairs(configurations, folds))

    def _pairs(self, configurations: tuple[str, ...], folds: Sequence[int]) -> Iterator[CasePair]:
        for fold in folds:
            cases = validation_cases(self.work, self.dataset, fold)
            yield from pairs_of(cases, self._folder(configurations, fold))

    def digests(self, names: Sequence[str], folds: Sequence[int]) -> dict[str, dict[str, str]]:
        """Return the digests of the weights that were scored."""
        work = WorkFolder(self.work)
        return {name: {fold_name(k): read_metadata(work.model(name, k).path).digest for k in folds} for name in names}

    def _load(self, name: str, fold: int) -> Predictor:
        return load_held_out(self.work, name, fold, self.device, self.options)

    def _folder(self, configurations: tuple[str, ...], fold: int) -> Path:
        return held_out_folder(self.work, configurations, fold)


def held_out_folder(work: Path, configurations: Sequence[str], fold: int) -> Path:
    """Return where predictions lie of the cases that a fold holds out, by a configuration or by several together."""
    if len(configurations) == 1:
        return WorkFolder(work).model(configurations[0], fold).validation_folder
    return WorkFolder(work).ensemble_folder(configurations, fold)


def named_configurations(work: Path, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Return the configurations to choose among; errors as `choose_best`."""
    trained = trained_configurations(work)
    if not trained:
        find_models(work)  # says what is missing
    missing = [name for name in wanted or () if name not in trained]
    if missing:
        raise CheckpointError(
            f"{work}: {missing[0]} is not trained, only {', '.join(trained)}; train it, or leave it out"
        )
    return tuple(dict.fromkeys(wanted or trained))


def named_folds(work: Path, names: Sequence[str], wanted: Sequence[int] | None) -> tuple[int, ...]:
    """Return the folds to score; errors as `choose_best`."""
    common = _common_folds(work, names)
    missing = sorted(set(wanted or ()) - set(common))
    if missing:
        there = ", ".join(map(str, common))
        raise CheckpointError(
            f"{work}: fold {missing[0]} is not trained in every configuration, only {there}; train it, or leave it out"
        )
    return tuple(sorted(set(wanted or common)))


def _report_left_out(work: Path, names: Sequence[str], folds: Sequence[int], progress: Progress) -> None:
    """Say which trained folds are not scored, because another configuration lacks them or others were asked for."""
    for name in names:
        rest = sorted(set(trained_folds(work, name)) - set(folds))
        if rest:
            progress.say(f"{name}: not scored on fold {', '.join(map(str, rest))}: all are compared on the same cases")


def _common_folds(work: Path, names: Sequence[str]) -> tuple[int, ...]:
    folds = set.intersection(*(set(trained_folds(work, name)) for name in names))
    if not folds:
        trained = "; ".join(f"{name}: {', '.join(map(str, trained_folds(work, name)))}" for name in names)
        raise CheckpointError(f"{work}: no fold is trained in every configuration ({trained}); train one in all")
    return tuple(sorted(folds))
