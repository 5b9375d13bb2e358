"""What each command does: take the arguments, call the library, tell what came of it.

Every import of the library stands in the function that needs it: `check` must not wait for torch.
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_rs.cli.console import Console, Outcome
from nnunet_rs.core.machine import processors

if TYPE_CHECKING:
    from nnunet_rs.core.faults import Fault
    from nnunet_rs.core.types import Dataset, LabelSet
    from nnunet_rs.plan.planner import PlanOverrides
    from nnunet_rs.predict.summary import Summary


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


_COMMANDS: Mapping[str, Callable[[argparse.Namespace, Console], Outcome]] = {
    "check": check,
    "evaluate": evaluate,
}
