"""What each command does: take the arguments, call the library, tell what came of it.

Every import of the library stands in the function that needs it: `check` must not wait for torch.
"""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nnunet_rs.cli.console import Console, Outcome, UsageError, clock
from nnunet_rs.core.machine import processors

if TYPE_CHECKING:
    from nnunet_rs.core.faults import Fault
    from nnunet_rs.core.types import Dataset, LabelSet
    from nnunet_rs.data.pipeline import PrepareOptions
    from nnunet_rs.model.options import TrainResult
    from nnunet_rs.plan.planner import PlanOverrides
    from nnunet_rs.plan.schema import Fingerprint, Plan
    from nnunet_rs.predict.summary import Summary
    from nnunet_rs.report.tables import Table

INTERRUPT = 2  # the signal of Ctrl-C


@contextmanager
def warnings_shown(shown: bool) -> Iterator[None]:
    """Keep the libraries' warnings from the terminal unless they were asked for."""
    with warnings.catch_warnings():
        if not shown:
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Carry out the command that was asked for."""
    return _COMMANDS[arguments.command](arguments, console)


def demo(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Show everything, on made-up scans."""
    from nnunet_rs.demo import DemoOptions, run_demo
    from nnunet_rs.report.tables import scores_table

    options = DemoOptions(seed=arguments.seed, device=arguments.device)
    if arguments.time_budget:
        options = replace(options, epochs=None, time_budget=arguments.time_budget)
    result = run_demo(arguments.output, options, console)
    places = {
        "picture": result.picture,
        "curves": result.curves,
        "scores": result.scores,
        "predictions": result.predictions,
        "plan": result.work / "plan.json",
        "model": result.training.folder,
    }
    dice = result.summary.foreground_mean("dice")
    table = scores_table(f"{_number(len(result.summary.cases), 'scan')} that the network never saw", result.summary)
    lines = (f"{name:<12} {path}" for name, path in places.items())
    closing = f"mean foreground Dice {dice:.3f} in {clock(result.seconds)}"
    return Outcome({"dice": dice, **places, "summary": result.summary.to_json()}, (table, *lines, closing))


def check(arguments: argparse.Namespace, console: Console) -> Outcome:
    """List every fault of a dataset."""
    from nnunet_rs.core.check import check_dataset, fatal
    from nnunet_rs.core.dataset import read_dataset

    dataset = read_dataset(arguments.data)
    faults = check_dataset(dataset, console, arguments.threads or processors())
    errors = fatal(faults)
    result = {
        "dataset": dataset.name,
        "layout": dataset.layout,
        "cases": len(dataset.training),
        "faults": [_fault_json(fault) for fault in faults],
    }
    lines = [f"{'error' if fault.fatal else 'warning'}: {fault}" for fault in faults]
    return Outcome(result, (*lines, _verdict(dataset, faults)), 1 if errors else 0)


def _fault_json(fault: Fault) -> dict[str, Any]:
    return {
        "severity": "error" if fault.fatal else "warning",
        "case": fault.case or None,
        "file": fault.file,
        "rule": fault.rule,
        "value": fault.value,
        "advice": fault.advice,
    }


def _verdict(dataset: Dataset, faults: tuple[Fault, ...]) -> str:
    errors = sum(fault.fatal for fault in faults)
    notes = len(faults) - errors
    said = f"{_number(errors, 'error')} and {_number(notes, 'warning')}" if errors else _number(notes, "warning")
    state = "cannot be used" if errors else "is sound"
    return f"{dataset.name} {state}: {_number(len(dataset.training), 'training case')}, {said}"


def _number(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"


def evaluate(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Score a folder of segmentations."""
    from nnunet_rs.predict.evaluate import TOLERANCE, evaluate_folders
    from nnunet_rs.report.tables import scores_table

    summary = evaluate_folders(
        arguments.predictions,
        arguments.reference,
        _declared_labels(arguments),
        tolerance=None if arguments.no_distances else TOLERANCE,
        partial=arguments.partial,
        threads=arguments.threads or processors(),
        progress=console,
    )
    if arguments.output:
        summary.write(arguments.output)
    cases = _number(len(summary.cases), "case")
    return Outcome(summary.to_json(), (scores_table(f"{arguments.predictions}, {cases}", summary),))


def _declared_labels(arguments: argparse.Namespace) -> LabelSet | None:
    """Take the labels from the dataset.json that was named, or that lies beside either folder."""
    from nnunet_rs.core.declaration import read_labels
    from nnunet_rs.core.files import read_json

    folders = (arguments.predictions, arguments.reference, arguments.reference.parent)
    places = [arguments.dataset_json] if arguments.dataset_json else [folder / "dataset.json" for folder in folders]
    for file in places:
        if arguments.dataset_json or file.is_file():
            return read_labels(file, read_json(file))
    return None


def plan(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Decide everything about a dataset, from its scans or from nnU-Net's own files."""
    if (arguments.data is None) == (arguments.fingerprint is None or arguments.dataset_json is None):
        raise UsageError("plan needs DATA, or both --fingerprint and --dataset-json")
    decided, fingerprint, reader = _plan(arguments, console) if arguments.data else _plan_from_nnunet(arguments)
    if arguments.as_nnunet:
        from nnunet_rs.plan.nnunet import write_as_nnunet

        write_as_nnunet(arguments.as_nnunet, decided, fingerprint, reader)
    from nnunet_rs.plan.explain import explain
    from nnunet_rs.plan.schema import plan_to_json
    from nnunet_rs.report.tables import plan_table

    written = [arguments.output / "plan.json" if arguments.output else None, arguments.as_nnunet]
    lines = [f"written: {path}" for path in written if path]
    said = explain(decided) if arguments.explain else (plan_table(decided), "--explain tells the reasons")
    return Outcome({"plan": plan_to_json(decided)}, (*said, *lines))


def _plan(arguments: argparse.Namespace, console: Console) -> tuple[Plan, Fingerprint, None]:
    """Read the scans. Where the plan is to be kept, so is what was read."""
    from nnunet_rs.core.dataset import read_dataset
    from nnunet_rs.data.pipeline import plan_dataset

    dataset = read_dataset(arguments.data)
    options = _prepare_options(arguments, dataset)
    if arguments.output:
        fingerprint, decided = plan_dataset(dataset, arguments.output, options, console)
        return decided, fingerprint, None
    with TemporaryDirectory() as folder:
        fingerprint, decided = plan_dataset(dataset, Path(folder), options, console)
    return decided, fingerprint, None


def _plan_from_nnunet(arguments: argparse.Namespace) -> tuple[Plan, Fingerprint, str]:
    from nnunet_rs.plan.nnunet import read_nnunet
    from nnunet_rs.plan.planner import make_plan
    from nnunet_rs.plan.schema import write_fingerprint, write_plan

    files = read_nnunet(arguments.fingerprint, arguments.dataset_json)
    cases, overrides = files.training_cases, _overrides(arguments)
    decided = make_plan(files.dataset, files.fingerprint, arguments.recipe or "paper", overrides, training_cases=cases)
    if arguments.output:
        write_fingerprint(arguments.output / "fingerprint.json", files.fingerprint)
        write_plan(arguments.output / "plan.json", decided)
    return decided, files.fingerprint, files.reader


def preprocess(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Check, plan and prepare a dataset."""
    from nnunet_rs.core.dataset import read_dataset
    from nnunet_rs.data.pipeline import prepare_dataset

    # Blosc2 starts four threads to compress the index of each frame, which takes longer than a small frame itself; its
    # C library knows no other way to forbid it. Cases are prepared side by side anyway.
    os.environ.setdefault("BLOSC_NTHREADS", "1")
    dataset = read_dataset(arguments.data)
    done = prepare_dataset(dataset, arguments.output, _prepare_options(arguments, dataset), console)
    result = {
        **{field.name: getattr(done, field.name) for field in fields(done)},
        "skipped": [_fault_json(fault) for fault in done.skipped],
        "warnings": [_fault_json(fault) for fault in done.warnings],
        "megavoxels_per_second": done.voxels / 1e6 / max(done.seconds, 1e-9),
    }
    made = f"{done.made} prepared" + (f", {done.found} were there" if done.found else "")
    left_out = (f"left out: {fault}" for fault in done.skipped)
    ready = f"{arguments.output} is ready to train {', '.join(done.configurations)}"
    line = (
        f"{ready}: {_number(done.cases, 'case')}, {made}; "
        f"{done.bytes_written / 1e6:.0f} MB written, {clock(done.seconds)}, {done.peak_memory / 1e9:.1f} GB of memory"
    )
    return Outcome(result, (*left_out, line))


def _prepare_options(arguments: argparse.Namespace, dataset: Dataset) -> PrepareOptions:
    """Gather what `plan` and `preprocess` share, and what `preprocess` has besides."""
    from nnunet_rs.data.folds import groups_from_pattern, read_case_table
    from nnunet_rs.data.pipeline import PrepareOptions

    groups = arguments.groups
    if groups is not None:
        names = [case.name for case in dataset.training]
        groups = read_case_table(Path(groups)) if groups.endswith(".csv") else groups_from_pattern(names, groups)
    return PrepareOptions(
        recipe=arguments.recipe,
        overrides=_overrides(arguments),
        configurations=tuple(getattr(arguments, "configuration", None) or ()),
        groups=groups,
        strata=read_case_table(arguments.strata) if arguments.strata else None,
        memory=arguments.memory,
        threads=arguments.threads,
        resume=not getattr(arguments, "fresh", False),
        skip_faulty=arguments.skip_faulty,
        half=getattr(arguments, "half", False),
    )


def _overrides(arguments: argparse.Namespace) -> PlanOverrides:
    from nnunet_rs.plan.planner import PlanOverrides

    return PlanOverrides(
        vram_gb=arguments.vram,
        spacing=arguments.spacing,
        patch_size=arguments.patch_size,
        batch_size=arguments.batch_size,
        features=arguments.features,
    )


def train(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Train one fold or all of them, and score each on the cases that it did not see."""
    folds = [arguments.fold] if arguments.fold != "all" else _every_fold(arguments.work)
    results: list[dict[str, Any]] = []
    shown: list[Table | str] = []
    for fold in folds:
        trained = _train_fold(arguments, fold, console)
        if not trained.finished:
            again = "run the same command with --resume to go on"
            console.say(f"stopped in epoch {len(trained.history.epochs) + 1}; {again}")
            return Outcome({"folds": results, "finished": False}, (), 128 + (trained.signal or INTERRUPT))
        summary = _validate(arguments, fold, console)
        results.append(_fold_json(fold, trained, summary))
        shown.append(_fold_table(arguments, fold, summary, trained))
    return Outcome({"configuration": arguments.configuration, "folds": results, "finished": True}, tuple(shown))


def _every_fold(work: Path) -> list[int]:
    from nnunet_rs.core.files import read_json

    return list(range(len(read_json(work / "splits.json"))))


def _train_fold(arguments: argparse.Namespace, fold: int, console: Console) -> TrainResult:
    from nnunet_rs.model.options import TrainOptions
    from nnunet_rs.model.recipe import find_recipe
    from nnunet_rs.model.train import model_folder, train_fold
    from nnunet_rs.report.figures import curves_on_the_way, training_curves

    options = TrainOptions(
        recipe=find_recipe(arguments.recipe),
        epochs=arguments.epochs,
        batches=arguments.batches,
        time_budget=arguments.time_budget,
        batch_size=arguments.batch_size,
        features=arguments.features,
        seed=arguments.seed,
        resume=arguments.resume,
        device=arguments.device,
        threads=arguments.threads,
    )
    path = model_folder(arguments.work, arguments.configuration, fold) / "progress.png"
    title = f"{arguments.configuration}, fold {fold}"
    draw = curves_on_the_way(path, title)
    trained = train_fold(arguments.work, arguments.configuration, fold, options, console, draw)
    training_curves(path, trained.history, title)
    return trained


def _validate(arguments: argparse.Namespace, fold: int, console: Console) -> Summary:
    from nnunet_rs.predict.validate import validate_fold

    return validate_fold(arguments.work, arguments.configuration, fold, device=arguments.device, progress=console)


def _fold_json(fold: int, trained: TrainResult, summary: Summary) -> dict[str, Any]:
    return {
        "fold": fold,
        "model": trained.folder,
        "training_seconds": trained.seconds,
        "epochs": len(trained.history.epochs),
        "dice": summary.foreground_mean("dice"),
        "dice_per_class": {
            target.name: value for target, value in zip(summary.targets, summary.mean("dice"), strict=True)
        },
    }


def _fold_table(arguments: argparse.Namespace, fold: int, summary: Summary, trained: TrainResult) -> Table:
    from nnunet_rs.report.tables import scores_table

    cases = _number(len(summary.cases), "validation case")
    note = f"model, curves and validation: {trained.folder}"
    return scores_table(f"{arguments.configuration}, fold {fold}, {cases}", summary, note)


def predict(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Segment a folder of images."""
    from nnunet_rs.predict.choose import load_predictor
    from nnunet_rs.predict.folder import FolderOptions, predict_folder
    from nnunet_rs.predict.predictor import PredictOptions

    options = PredictOptions(step=arguments.step, mirror=not arguments.no_mirror, threads=arguments.threads)
    folds = None if arguments.fold in (None, ["all"]) else arguments.fold
    predictor = load_predictor(
        arguments.model, arguments.device, folds, configuration=arguments.configuration, options=options
    )
    wanted = FolderOptions(arguments.save_probabilities, arguments.overwrite, arguments.part)
    result = predict_folder(predictor, arguments.input, arguments.output, wanted, console)
    skipped = f", {len(result.skipped)} were there" if result.skipped else ""
    line = f"{_number(len(result.written), 'segmentation')} written to {arguments.output}{skipped}"
    return Outcome({"output": arguments.output, "written": result.written, "skipped": result.skipped}, (line,))


def best(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Choose a configuration or a pair, and post-processing, by cross-validation."""
    from nnunet_rs.plan.document import encode
    from nnunet_rs.predict.choose import BEST, choose_best
    from nnunet_rs.predict.predictor import PredictOptions
    from nnunet_rs.report.tables import Table, number

    options = PredictOptions(mirror=not arguments.no_mirror, threads=arguments.threads)
    choice = choose_best(arguments.work, device=arguments.device, options=options, progress=console)
    classes = tuple(choice.candidates[0].per_class)
    rows = [
        (found.name, number(found.dice), *(number(found.per_class[name]) for name in classes))
        for found in choice.candidates
    ]
    title = f"Dice over the cases held out in {_number(len(choice.folds), 'fold')}"
    note = "\n".join((*choice.postprocessing.reasons, f"predict follows {arguments.work / BEST}"))
    table = Table(title, ("configuration", "mean", *classes), tuple(rows), note)
    return Outcome(encode(choice), (table,))


def ensemble(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Average saved probabilities."""
    from nnunet_rs.predict.ensemble import ensemble_folders

    cases = ensemble_folders(arguments.folders, arguments.output, console, arguments.threads)
    line = f"{_number(len(cases), 'segmentation')} written to {arguments.output}"
    return Outcome({"output": arguments.output, "written": cases}, (line,))


_COMMANDS: Mapping[str, Callable[[argparse.Namespace, Console], Outcome]] = {
    "demo": demo,
    "check": check,
    "plan": plan,
    "preprocess": preprocess,
    "train": train,
    "best": best,
    "predict": predict,
    "ensemble": ensemble,
    "evaluate": evaluate,
}
