"""Which configuration, or pair of them, and which post-processing: decided by cross-validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isnan
from pathlib import Path

from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.types import Dataset
from nnunet_rs.core.workspace import BEST_JSON, WorkFolder, fold_name
from nnunet_rs.evaluate.folders import CasePair, evaluate_pairs
from nnunet_rs.model.metadata import read_metadata
from nnunet_rs.model.staleness import report_staleness_in
from nnunet_rs.model.trained_models import (
    find_models,
    trained_configurations,
    trained_folds,
)
from nnunet_rs.predict.ensemble import Pairs
from nnunet_rs.predict.folder import FolderOptions, predict_cases, predict_pairs
from nnunet_rs.predict.predictor import PredictOptions, Predictor
from nnunet_rs.select.choice import CHOICE, Candidate, Choice
from nnunet_rs.select.cross_validation import load_held_out, pairs_of, validation_cases
from nnunet_rs.select.postprocessing_trial import choose_postprocessing

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
