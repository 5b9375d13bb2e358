"""The whole way on made-up scans, in minutes: a look at everything before one's own data go in."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.text import clock, examples
from nnunet_rs.core.types import Spacing3
from nnunet_rs.core.workspace import REPORT_HTML, ModelFolder
from nnunet_rs.data.pipeline import PrepareOptions, prepare_dataset
from nnunet_rs.evaluate.folders import evaluate_folders
from nnunet_rs.evaluate.summary import Summary
from nnunet_rs.model.options import Model, TrainOptions, TrainResult
from nnunet_rs.model.recipe import FAST
from nnunet_rs.plan.planner import PlanOverrides
from nnunet_rs.predict.folder import predict_folder
from nnunet_rs.predict.predictor import Predictor
from nnunet_rs.report.cases import picture_case
from nnunet_rs.report.page import write_report
from nnunet_rs.report.ranking import ranked
from nnunet_rs.run.one_model import ModelOptions, train_model
from nnunet_rs.run.phantom import DATASET, is_made_up, write_dataset

CONFIGURATION = "3d_fullres"
SCORES = "scores.json"
PICTURE = "prediction.png"
REPORT = REPORT_HTML


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """How much is made and how long is trained; what is here takes two processor cores a few minutes."""

    training: int = 20  # scans
    test: int = 4  # scans that the network never sees
    vram_gb: float = 0.085  # plan small patches
    spacing: Spacing3 = (9.2, 3.6, 3.6)  # mm; coarser than the scans
    features: int = 8  # of the network's first stage
    epochs: int | None = 9  # None: as many as the time lets
    batches: int = 150  # an epoch
    time_budget: float | None = 240.0  # seconds of training and scoring; a slower machine trains less
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo made; paths lie in its folder."""

    dataset: Path
    work: Path
    predictions: Path
    scores: Path  # JSON, and CSV beside it
    picture: Path
    curves: Path
    report: Path  # a page to look at
    summary: Summary  # of the scans that the network never saw
    training: TrainResult
    seconds: float


def run_demo(folder: Path, options: DemoOptions | None = None, progress: Progress | None = None) -> DemoResult:
    """Make scans, check, plan and prepare them, train one fold, predict and score the scans held out, report.

    Parameters
    ----------
    folder
        Everything goes here: the dataset, a work folder, predictions, scores, a picture, a report.
    options
        How much.
    progress
        Where to show how it goes.

    Raises
    ------
    NnunetError
        The folder cannot be written, holds what the demo did not make, or the device is not there.
    """
    begun = time.monotonic()
    options, progress = options or DemoOptions(), progress or Silent()
    _require_own(folder)
    work, predictions = folder / "work", folder / "predictions"
    root = write_dataset(folder, training=options.training, test=options.test, seed=options.seed, progress=progress)
    dataset = read_dataset(root)
    overrides = PlanOverrides(options.vram_gb, options.spacing, features=options.features)
    prepare_dataset(dataset, work, PrepareOptions(overrides=overrides, configurations=(CONFIGURATION,)), progress)
    trained = _train(work, options, progress)
    predictor = Predictor.load(work, options.device)
    predict_folder(predictor, root / "imagesTs", predictions, progress=progress)
    summary = evaluate_folders(predictions, root / "labelsTs", dataset.labels, progress=progress)
    with Outputs(folder, kind="demo", overwrite=True, say=progress.say) as outputs:
        with outputs.new_files(SCORES) as temporary:
            summary.write(temporary / SCORES)
        with outputs.new_files(PICTURE) as temporary:
            (median,) = ranked(summary.case_means(), 1)
            typical = next(case for case in dataset.test if case.name == median.name)
            picture_case(
                temporary / PICTURE, f"{typical.name}, never seen in training", typical, dataset.labels, summary
            )
        with outputs.new_files(REPORT) as temporary:
            write_report(work, temporary / REPORT, progress=progress)
    scores, picture, report = (folder / name for name in (SCORES, PICTURE, REPORT))
    curves = ModelFolder(trained.folder).curves_file
    spent = time.monotonic() - begun
    return DemoResult(root, work, predictions, scores, picture, curves, report, summary, trained, spent)


def _require_own(folder: Path) -> None:
    """Refuse a folder that holds what the demo would write and did not: the user's, most likely."""
    names = (DATASET, "work", "predictions", SCORES, Summary.files(Path(SCORES))[1].name, PICTURE, REPORT)
    there = [name for name in names if os.path.lexists(folder / name)]
    if there and not is_made_up(folder / DATASET):
        raise NnunetError(
            f"{folder}: holds {examples(there)}, which the demo would write and did not make; name another folder (-o)"
        )


def _train(work: Path, options: DemoOptions, progress: Progress) -> TrainResult:
    training = TrainOptions(
        recipe=FAST,
        epochs=options.epochs,
        batches=options.batches,
        time_budget=options.time_budget,
        seed=options.seed,
        device=options.device,
        fresh=True,  # of a demo before: it is kept aside
    )
    trained = train_model(work, Model(CONFIGURATION, 0), ModelOptions(training), progress).training
    if not trained.finished:
        raise KeyboardInterrupt
    done = trained.history.epochs[-1].iterations if trained.history.epochs else 0
    planned = None if options.epochs is None else options.epochs * options.batches
    if options.time_budget is not None and planned is not None and done < planned:
        progress.say(
            f"the demo trains for {clock(options.time_budget)} at most: {done} of {planned} batches on this machine, "
            "so scores are lower than they could be"
        )
    return trained
