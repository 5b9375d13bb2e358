"""Models that nnU-Net v2 trained, written as models of ours: weights, model.json, the plan, and what was chosen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_rs.core.errors import CheckpointError, DatasetError, NnunetError
from nnunet_rs.core.files import read_json
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.types import FoldName
from nnunet_rs.core.workspace import ENSEMBLES, PLAN_JSON, ModelFolder, WorkFolder
from nnunet_rs.exchange.postprocessing import find_postprocessing
from nnunet_rs.model.nnunet_models import (
    ANY,
    DATASET,
    PLANS,
    NnunetChoice,
    NnunetFolder,
    choose_folders,
    nnunet_folders,
    read_nnunet_model,
    results_folder,
)
from nnunet_rs.model.weights import save_weights
from nnunet_rs.plan.files import write_plan
from nnunet_rs.plan.nnunet_plans import read_nnunet_plans
from nnunet_rs.select.choice import CHOICE, Candidate, Choice
from nnunet_rs.select.postprocessing import PostProcessing

INFERENCE = "inference_information.json"


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Which of the models that lie there."""

    configurations: Sequence[str] | None = None  # None: all
    folds: Sequence[FoldName] | None = None  # None: all
    choice: NnunetChoice = ANY  # of models of nnU-Net's
    overwrite: bool = False  # keep files aside that this tool did not make, instead of refusing


@dataclass(frozen=True, slots=True)
class Imported:
    """What was written."""

    models: tuple[Path, ...]  # a folder for every fold
    chosen: tuple[str, ...]  # configurations that find_best_configuration decided for; empty: none
    postprocessing: PostProcessing


def import_nnunet(
    source: str | Path, output: str | Path, options: ImportOptions | None = None, progress: Progress | None = None
) -> Imported:
    """Write models of nnU-Net v2 as models of ours.

    Parameters
    ----------
    source
        A folder of results (DatasetXXX_Name with TRAINER__PLANS__CONFIG in it), one model's folder, or a zip of
        `nnUNetv2_export_model_to_zip`.
    output
        Gets models/CONFIG/fold_K, plan.json, and best.json where find_best_configuration was run.
    options
        Which of them.
    progress
        Where every fold is reported.

    Raises
    ------
    CheckpointError, PlanError, DatasetError
        Nothing is there, a file is missing or damaged, or a model wants what cannot be run here; nothing is written.
    NnunetError
        A model is there already.
    """
    source, output = Path(source), Path(output)
    options, progress = options or ImportOptions(), progress or Silent()
    with results_folder(source) as folder, Outputs(output, overwrite=options.overwrite, say=progress.say) as outputs:
        models = _wanted(folder, source, options)
        require_no_model(
            WorkFolder(output).model(model.configuration, fold).path
            for model in models
            for fold in _folds(model, options)
        )
        loaded = [
            (model.configuration, fold, *read_nnunet_model(path, checkpoint=options.choice.checkpoint, digest=False))
            for model in models
            for fold, path in _folds(model, options).items()
        ]
        choice = _choice(folder, models)
        outputs.require([WorkFolder(output).best_file] if choice is not None else [])
        written = []
        with progress.task("import", len(loaded)) as task:
            for configuration, fold, weights, metadata in loaded:
                target = WorkFolder(output).model(configuration, fold).path
                save_weights(target, weights, metadata)
                written.append(target)
                task.advance(1, f"{configuration}, fold {fold}")
        with outputs.new_files(PLAN_JSON) as staged:
            _write_plan(output, staged, models, progress)
            if choice is not None:
                CHOICE.save(WorkFolder(staged).best_file, choice)
    if choice is None:
        return Imported(tuple(written), (), PostProcessing())
    return Imported(tuple(written), choice.configurations, choice.postprocessing)


def _wanted(folder: Path, source: Path, options: ImportOptions) -> tuple[NnunetFolder, ...]:
    models = choose_folders(nnunet_folders(folder), options.choice)
    there = [model.configuration for model in models]
    missing = sorted(set(options.configurations or ()) - set(there))
    if missing:
        raise CheckpointError(f"{source}: has no model of {missing[0]}; there are {', '.join(there)}")
    chosen = tuple(model for model in models if model.configuration in (options.configurations or there))
    if not any(_folds(model, options) for model in chosen):
        wanted = "" if options.folds is None else f" in fold {', '.join(map(str, options.folds))}"
        raise CheckpointError(
            f"{source}: no {options.choice.checkpoint}{wanted}; was the training finished? (-chk, -f)"
        )
    return chosen


def _folds(model: NnunetFolder, options: ImportOptions) -> dict[FoldName, Path]:
    there = model.folds(options.choice.checkpoint)
    return {fold: path for fold, path in there.items() if options.folds is None or fold in options.folds}


def require_no_model(places: Iterable[Path]) -> None:
    """Refuse folders of models that hold anything: a finished model, or a training that was begun."""
    for place in places:
        if ModelFolder(place).metadata_file.exists():
            raise NnunetError(f"{place}: holds a model already; import to another folder")
        if place.exists() and not (place.is_dir() and not any(place.iterdir())):
            raise NnunetError(f"{place}: holds other files already; import to another folder")


def _write_plan(output: Path, staged: Path, models: Sequence[NnunetFolder], progress: Progress) -> None:
    """Write the plan that all models share; where their plans differ every model.json has its own, which is enough."""
    if WorkFolder(output).plan_file.exists():
        return
    try:
        described = read_nnunet_plans(models[0].path / PLANS, models[0].path / DATASET)
        write_plan(staged / PLAN_JSON, described.plan(*(model.configuration for model in models)))
    except NnunetError as error:
        progress.say(f"{output}: no {PLAN_JSON} for all models together ({error}); each model has its own plan")


def _choice(folder: Path, models: Sequence[NnunetFolder]) -> Choice | None:
    """Read what find_best_configuration decided, if that is about the models that were read."""
    labels = read_nnunet_plans(models[0].path / PLANS, models[0].path / DATASET).labels
    if len(models) == 1 and not (folder / INFERENCE).is_file():
        steps = find_postprocessing(models[0].path, labels)
        if steps is None:
            return None
        folds = tuple(fold for fold in models[0].folds() if isinstance(fold, int))
        return Choice((models[0].configuration,), steps, folds, ())
    if not (folder / INFERENCE).is_file():
        return None
    content = read_json(folder / INFERENCE)
    try:
        best = content["best_model_or_ensemble"]
        chosen = tuple(str(member["configuration"]) for member in best["selected_model_or_models"])
        results = [_candidate(name, float(dice)) for name, dice in content["all_results"].items()]
        folds = tuple(int(fold) for fold in content["folds"])
        place = Path(str(best["postprocessing_file"])).parts[-2]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DatasetError(
            f"{folder / INFERENCE}: is no result of nnUNetv2_find_best_configuration ({error!r})"
        ) from error
    if not set(chosen) <= {model.configuration for model in models}:
        return None
    home = next((path for path in (folder / place, folder / ENSEMBLES / place) if path.is_dir()), folder)
    steps = find_postprocessing(home, labels) or PostProcessing()
    candidates = tuple(sorted(results, key=lambda candidate: -candidate.dice))
    return Choice(chosen, steps, folds, candidates)


def _candidate(name: str, dice: float) -> Candidate:
    """Read `TRAINER__PLANS__CONFIG`, or `ensemble___A___B___FOLDS`."""
    members: list[Any] = name.removeprefix("ensemble___").split("___")
    names = members[:-1] if name.startswith("ensemble___") else members
    return Candidate(tuple(member.rpartition("__")[2] for member in names), dice, {})
