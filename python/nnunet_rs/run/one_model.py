"""One model with all that comes before and after its training: first segmentations, curves, scores, pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.workspace import ModelFolder, WorkFolder
from nnunet_rs.data.folds import read_plan_and_fold
from nnunet_rs.evaluate.summary import Summary
from nnunet_rs.model.cascade import next_stages
from nnunet_rs.model.distributed import current_group, is_rank_0
from nnunet_rs.model.history import History
from nnunet_rs.model.next_cycle import trained_in
from nnunet_rs.model.options import Model, TrainOptions, TrainResult
from nnunet_rs.model.previous_models import fold_lock
from nnunet_rs.model.schedule import Overhead
from nnunet_rs.model.train import train_locked
from nnunet_rs.plan.files import read_plan
from nnunet_rs.predict.predictor import PredictOptions
from nnunet_rs.report.board import board
from nnunet_rs.report.cases import picture_ranked
from nnunet_rs.report.figures import curves_on_the_way, training_curves
from nnunet_rs.select.cross_validation import require_scans, validate_fold
from nnunet_rs.select.first_stage import segment_cases
from nnunet_rs.select.scoring_cost import estimate_scoring_cost


@dataclass(frozen=True, slots=True)
class Trained:
    """A model that is there, and what it scored on the cases that it did not see."""

    training: TrainResult
    summary: Summary | None  # None: the training was stopped, nothing is to be scored, or another process of it scores


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How a model is made."""

    training: TrainOptions  # its device predicts too
    predicting: PredictOptions | None = None  # of held-out cases; None: as `predict` does
    tensorboard: bool = False  # write its event files as well
    score: bool = True  # predict and score the held-out cases; False: `resume` does so later
    begun: float | None = None  # when the time budget's clock began, by `time.monotonic`; None: with `train_model`


def train_model(work: Path, model: Model, options: ModelOptions, progress: Progress | None = None) -> Trained:
    """Do all that makes one model: first segmentations of a cascade, training, prediction and scores of held-out cases.

    Parameters
    ----------
    work
        The work folder, prepared. The model's folder gets curves (progress.png) while it trains, and in the end
        pictures of the best, the median and the worst case. Held-out cases of a cascade's first stage are handed to
        its second.
    model
        Which.
    options
        See ModelOptions. A time budget holds all of this, but for what is too much of it: then a line says so.
    progress
        Where everything is reported.

    Raises
    ------
    DatasetError
        The scans that the fold holds out, which are predicted after the training, are not where they were.
    NnunetError
        As `train_fold`, `segment_cases` and `validate_fold`.
    """
    options = replace(options, begun=options.begun or time.monotonic())
    progress = progress or Silent()
    _, cases = read_plan_and_fold(work, model.configuration, model.fold)
    with fold_lock(WorkFolder(work).model(model.configuration, model.fold).path, progress, is_rank_0=is_rank_0()):
        if options.score:
            require_scans(work, read_dataset(work), cases.validation)
        return _train_and_score(work, model, options, progress)


def _train_and_score(work: Path, model: Model, options: ModelOptions, progress: Progress) -> Trained:
    group = current_group()
    if group.is_rank_0:
        _segment(work, model.configuration, None, options, progress)
    group.wait()
    trained = _train(work, model, options, progress, group.is_rank_0)
    if not trained.finished or not group.is_rank_0:
        return Trained(trained, None)
    if model.fold == "all" or not read_plan_and_fold(work, model.configuration, model.fold)[1].validation:
        progress.say("no case is held out: nothing is scored")
        return Trained(trained, None)
    if not options.score:
        progress.say("the held-out cases are not scored, as asked for; train --resume scores them")
        return Trained(trained, None)
    device, predicting = options.training.device, options.predicting
    summary = validate_fold(work, model.configuration, model.fold, device=device, options=predicting, progress=progress)
    dataset = read_dataset(work)
    picture_ranked(ModelFolder(trained.folder).pictures_folder, dataset.training, dataset.labels, summary)
    for following in next_stages(read_plan(WorkFolder(work).plan_file), model.configuration):
        _segment(work, following, [model.fold], options, progress)
    return Trained(trained, summary)


def _segment(
    work: Path, configuration: str, folds: Sequence[int] | None, options: ModelOptions, progress: Progress
) -> None:
    device, predicting = options.training.device, options.predicting
    segment_cases(work, configuration, folds=folds, device=device, options=predicting, progress=progress)


def _train(work: Path, model: Model, options: ModelOptions, progress: Progress, is_rank_0: bool) -> TrainResult:
    """Train; after each epoch draw the curves. A process that follows reports no epoch."""
    home = WorkFolder(work).model(model.configuration, model.fold)
    files = trained_in(home, options.training)
    plan, cases = read_plan_and_fold(work, model.configuration, model.fold)
    held_out = cases.validation if options.score else ()
    follows = estimate_scoring_cost(work, plan, model.configuration, held_out, options.predicting)
    count = len(held_out)
    what = f"predicting and scoring {count} held-out case{'s' if count > 1 else ''}" if count else ""
    mirror = options.predicting is None or options.predicting.mirror
    overhead = Overhead(options.begun or time.monotonic(), follows.windows, follows.seconds, what, mirror)
    draw = curves_on_the_way(files.curves_file, str(model))
    with board(files.path) if options.tensorboard else nullcontext() as add:

        def on_epoch(history: History) -> None:
            draw(history)
            if add is not None:
                add(history)

        trained = train_locked(work, model, options.training, progress, on_epoch, overhead=overhead)
    if is_rank_0 and trained.finished:
        training_curves(home.curves_file, trained.history, str(model))
    return trained
