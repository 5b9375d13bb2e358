"""Predict the cases that folds hold out, for `best` to choose by: a cohort with a group for each set of networks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.record import digest
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.predict.ensemble import Pairs
from nnunet_rs.predict.folder import begin_results
from nnunet_rs.predict.options import PredictOptions
from nnunet_rs.predict.pipeline import open_results
from nnunet_rs.predict.prediction_json import prediction_content
from nnunet_rs.predict.predictor import Predictor
from nnunet_rs.run.cohort.files import Cohort, CohortFolder, as_options, begin
from nnunet_rs.run.cohort.predicting import Predicting, body_of, plain_options, predict_options, require_same_models
from nnunet_rs.run.executor import Job, Resources
from nnunet_rs.select.choice import Choice
from nnunet_rs.select.cross_validation import load_held_out, validation_cases
from nnunet_rs.select.selection import OWN, choose_best, held_out_folder, named_configurations, named_folds

KIND = "best"


@dataclass(frozen=True, slots=True)
class ChoosingOptions:
    """How is chosen: parameters of `choose_best`, by their names."""

    configurations: Sequence[str] | None = None
    folds: Sequence[int] | None = None
    pairs: bool = True
    device: str = "auto"
    options: PredictOptions = field(default_factory=PredictOptions)


def begin_choosing(
    work: Path, asked: ChoosingOptions, workers: int, progress: Progress
) -> tuple[CohortFolder, Cohort] | None:
    """Make a cohort of the predictions that `choose_best` would lack, or join the one that is there; None: it has all.

    Parameters and errors as `choose_best`; `workers` will share the cases.
    """
    work = work.absolute()
    names = named_configurations(work, asked.configurations)
    dataset, groups, contents = read_dataset(work), dict[str, list[Any]](), dict[str, Any]()
    for fold in named_folds(work, names, asked.folds):
        cases = validation_cases(work, dataset, fold)
        several = [names] if asked.pairs and len(names) > 1 else []
        for members in [*((name,) for name in names), *several]:
            group = json.dumps([fold, *members])
            held_out = _HeldOut(work, members, fold, asked.device, asked.options)
            loaded = held_out.load(networks=False)
            found = held_out.contents(loaded)
            contents[group] = {str(folder): content for folder, content in found.items()}
            with open_results(loaded.plan, found, OWN, progress) as results:
                todo = begin_results(results, cases, OWN, progress)
            if todo:
                groups[group] = [body_of(case) for case in todo]
    if not groups:
        return None
    wanted = as_options(work=work, device=asked.device, contents=contents, **plain_options(asked.options))
    cohort = Cohort(KIND, str(work), digest(wanted), (), (), "", wanted)
    return begin(WorkFolder(work).jobs_folder, cohort, groups, workers, progress)


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """The networks of one configuration or of several, and the fold whose held-out cases they predict."""

    work: Path
    names: tuple[str, ...]
    fold: int
    device: str
    options: PredictOptions

    def load(self, *, networks: bool = True) -> Predictor | Pairs:
        """Return the only configuration's networks, or all pairs of them; errors as `load_held_out`."""
        members = tuple(
            load_held_out(self.work, name, self.fold, self.device, self.options, networks=networks)
            for name in self.names
        )
        return members[0] if len(members) == 1 else Pairs(members)

    def contents(self, loaded: Predictor | Pairs) -> Mapping[Path, Mapping[str, Any]]:
        """Return what each folder's prediction.json says."""
        labels = loaded.plan.labels
        if isinstance(loaded, Predictor):
            folder = held_out_folder(self.work, self.names, self.fold)
            return {folder: prediction_content(loaded.describe(), labels)}
        return {
            held_out_folder(self.work, pair, self.fold): prediction_content(ensemble.describe(), labels)
            for pair, ensemble in zip(combinations(self.names, 2), loaded.ensembles, strict=True)
        }


def choosing_job(work: Path, asked: ChoosingOptions) -> Job:
    """Return the job that scores and chooses, when everything is predicted."""
    return Job(f"choose {work.absolute()}", _choose, (work.absolute(), asked))


def _choose(work: Path, asked: ChoosingOptions, resources: Resources, progress: Progress) -> Choice:
    return choose_best(
        work,
        configurations=asked.configurations,
        folds=asked.folds,
        pairs=asked.pairs,
        device=asked.device,
        options=_with_threads(asked.options, resources),
        progress=progress,
    )


def _with_threads(options: PredictOptions, resources: Resources) -> PredictOptions:
    return options if options.threads else replace(options, threads=resources.threads)


@contextmanager
def open_work(cohort: Cohort, group: str, resources: Resources, progress: Progress) -> Iterator[Predicting]:
    """Load the networks of a group; see `kinds.opener`.

    Raises
    ------
    CheckpointError
        They are not those that the cohort was made with.
    """
    fold, *names = json.loads(group)
    options = _with_threads(predict_options(cohort), resources)
    work = Path(cohort.option("work"))
    held_out = _HeldOut(work, tuple(names), fold, cohort.option("device"), options)
    loaded = held_out.load()
    contents = held_out.contents(loaded)
    named = {str(path): content for path, content in contents.items()}
    require_same_models(work, named, cohort.option("contents")[group])
    with open_results(loaded.plan, contents, OWN, progress) as results:
        yield Predicting(loaded, results, resources, progress)
