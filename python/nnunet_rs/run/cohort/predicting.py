"""Predict cases of a cohort: what is handed to workers, and what each of them does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nnunet_rs.core.budget import Budget
from nnunet_rs.core.document import decode
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.record import digest
from nnunet_rs.core.types import Case
from nnunet_rs.core.workspace import jobs_beside
from nnunet_rs.model.nnunet_models import NnunetChoice
from nnunet_rs.model.plugins import Plugin, own_function
from nnunet_rs.predict.ensemble import Pairs
from nnunet_rs.predict.folder import begin_results
from nnunet_rs.predict.options import PredictOptions
from nnunet_rs.predict.pipeline import CasePredictor, FolderOptions, Pipeline, half_of_memory, open_results
from nnunet_rs.predict.results import Results
from nnunet_rs.run.cohort.files import Cohort, CohortFolder, Item, as_options, begin
from nnunet_rs.run.cohort.work import ItemSettled, as_seen_here
from nnunet_rs.run.executor import Resources
from nnunet_rs.select.prediction import Prediction

KIND = "predict"


def handed_out(wanted: Prediction, content: dict[str, Any]) -> dict[str, str]:
    """Return what workers are told of a prediction."""
    return as_options(
        model=wanted.model.absolute(),
        output=wanted.output.absolute(),
        device=wanted.device,
        folds=wanted.folds,
        configuration=wanted.configuration,
        written=wanted.written,
        content=content,
        **plain_options(wanted.options),
    )


def prediction_of(cohort: Cohort) -> Prediction:
    """Read what `handed_out` returned."""
    folds = cohort.option("folds")
    return Prediction(
        Path(cohort.option("model")),
        Path(cohort.option("output")),
        cohort.option("device"),
        None if folds is None else tuple(folds),
        cohort.option("configuration"),
        predict_options(cohort),
        decode(FolderOptions, cohort.option("written"), "written"),
    )


def plain_options(options: PredictOptions) -> dict[str, Any]:
    """Return options of a prediction as `as_options` takes them; a user's own network by its name."""
    kept = {field.name: getattr(options, field.name) for field in fields(options)}
    network, nnunet = kept.pop("network"), kept.pop("nnunet")
    return {"options": kept, "network": network.name if isinstance(network, Plugin) else None, "nnunet": nnunet}


def predict_options(cohort: Cohort) -> PredictOptions:
    """Read what `plain_options` returned."""
    kept, named = cohort.option("options"), cohort.option("network")
    return PredictOptions(
        **{**kept, "cache": None if kept["cache"] is None else Path(kept["cache"])},
        network=None if named is None else own_function("network", named),
        nnunet=decode(NnunetChoice, cohort.option("nnunet"), "nnunet"),
    )


@dataclass(frozen=True, slots=True)
class Begun:
    """A cohort that is ready to be handed out."""

    folder: CohortFolder
    cohort: Cohort
    todo: tuple[Case, ...]


def begin_prediction(
    wanted: Prediction, predictor: CasePredictor, cases: Sequence[Case], workers: int, progress: Progress
) -> Begun | None:
    """Find what is to be predicted, see that it may be written, and make a cohort of it, or join the one that is there.

    Parameters
    ----------
    wanted
        The prediction.
    predictor
        Its models; without networks.
    cases
        All.
    workers
        How many will share them.
    progress
        Told of files that are left alone.

    Returns
    -------
    Begun or None
        None: everything is finished.

    Raises
    ------
    NnunetError
        As `predict_folder`; nothing is handed out then.
    """
    content = wanted.content(predictor)
    with open_results(predictor.plan, {wanted.output: content}, wanted.written, progress) as results:
        todo = tuple(begin_results(results, cases, wanted.written, progress))
    if not todo:
        return None
    home, key = jobs_beside(wanted.output), digest({"content": content, "written": asdict(wanted.written)})
    cohort = Cohort(KIND, str(wanted.output.absolute()), key, (), (), "", handed_out(wanted, content))
    return Begun(*begin(home, cohort, {"": [body_of(case) for case in todo]}, workers, progress), todo)


def end_prediction(wanted: Prediction, predictor: CasePredictor, begun: Begun) -> None:
    """Remove what workers that died left half-written; errors as `open_results`."""
    with open_results(predictor.plan, {wanted.output: wanted.content(predictor)}, wanted.written, Silent()) as results:
        for each in results:
            each.tidy(begun.todo)


def body_of(case: Case) -> list[Any]:
    """Return a case as workers are told of it."""
    return [case.name, [str(image.absolute()) for image in case.images], case.output]


@dataclass(frozen=True, slots=True)
class Predicting:
    """A worker's networks and the folder that it writes into. See Work."""

    predictor: CasePredictor | Pairs
    results: tuple[Results, ...]
    resources: Resources
    progress: Progress

    def run(self, items: Iterator[Item], settled: ItemSettled) -> None:
        """See Work."""
        in_hand: dict[str, Item] = {}

        def coming() -> Iterator[Case]:
            for item in items:
                in_hand[item.name] = item
                images, output = item.body
                yield Case(item.name, tuple(map(Path, images)), output=output)

        def ended(case: Case, error: BaseException | None) -> None:
            settled(in_hand.pop(case.name), as_seen_here(error, case.images), None)

        share = half_of_memory() if self.resources.memory is None else Budget(max(1, self.resources.memory // 2))
        Pipeline(self.predictor, self.results, self.progress, ended, share).all(coming(), Silent())


@contextmanager
def open_work(cohort: Cohort, _group: str, resources: Resources, progress: Progress) -> Iterator[Predicting]:
    """Load the models of a cohort; see `kinds.opener`.

    Raises
    ------
    CheckpointError
        They are not those that the cohort was made with.
    """
    wanted = prediction_of(cohort)
    predictor = wanted.load(progress, threads=resources.threads)
    content = wanted.content(predictor)
    require_same_models(wanted.model, content, cohort.option("content"))
    with open_results(predictor.plan, {wanted.output: content}, wanted.written, progress) as results:
        yield Predicting(predictor, results, resources, progress)


def require_same_models(where: Path, found: Any, wanted: Any) -> None:
    """See that a worker would predict what was handed out.

    Raises
    ------
    CheckpointError
        It has other models, or another version of this program.
    """
    if json.loads(json.dumps(found, default=str)) != wanted:
        raise CheckpointError(
            f"{where}: holds other models than when these cases were handed out, or this machine has another "
            "version of the program; run the same command again"
        )
