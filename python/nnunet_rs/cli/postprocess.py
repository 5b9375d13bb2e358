"""Post-process a folder of segmentations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rs.cli.console import Console, Outcome, UsageError, counted

if TYPE_CHECKING:
    from nnunet_rs.core.types import LabelSet
    from nnunet_rs.select.postprocessing_folder import Decision, Process


def postprocess(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Post-process a folder by one of the four ways to say how."""
    from nnunet_rs.model.plugins import own_function
    from nnunet_rs.select.postprocessing_folder import postprocess_folder, write_decision

    if arguments.folder is None:
        raise UsageError("postprocess needs the FOLDER of segmentations")
    lines: tuple[str, ...] = ()
    result: dict[str, object] = {"output": arguments.output}
    decision = None if arguments.function else _decision(arguments, console)
    if decision is not None:
        steps, labels = decision.postprocessing, decision.labels
        names = ["+".join(labels.names[index] for index in step) for step in steps.keep_largest]
        result |= {"keep_largest": names, "reasons": steps.reasons}
        lines = (*steps.reasons, f"largest component kept of: {', '.join(names) or 'nothing, for no step helps'}")
        process: Process = steps
    else:
        process, labels = own_function("function", arguments.function), _labels(arguments)
    cases = postprocess_folder(
        arguments.folder,
        arguments.output,
        process,
        labels,
        overwrite=arguments.overwrite,
        threads=arguments.threads,
        progress=console,
    )
    if decision is not None:
        write_decision(arguments.output, decision, overwrite=arguments.overwrite)
    written = f"{counted(len(cases), 'segmentation')} written to {arguments.output}"
    return Outcome(result | {"written": cases}, (*lines, written))


def _decision(arguments: argparse.Namespace, console: Console) -> Decision:
    from nnunet_rs.evaluate.folders import pair_files
    from nnunet_rs.select.postprocessing import choose_postprocessing
    from nnunet_rs.select.postprocessing_folder import Decision, keep_largest, read_decision

    if arguments.source is not None:
        return read_decision(arguments.source)
    labels = _labels(arguments)
    if arguments.keep_largest:
        return Decision(labels, keep_largest(arguments.keep_largest, labels))
    pairs = pair_files(arguments.folder, arguments.decide)
    return Decision(labels, choose_postprocessing(pairs, labels, console))


def _labels(arguments: argparse.Namespace) -> LabelSet:
    """Take the labels from the dataset.json that was named or lies beside, as they were predicted, or as values."""
    from nnunet_rs.core.dataset_json import read_declared_labels
    from nnunet_rs.evaluate.folders import Pair, found_labels, label_files
    from nnunet_rs.predict.prediction_json import labels_of

    beside: Path = arguments.folder / "dataset.json"
    file = arguments.dataset_json or (beside if beside.is_file() else None)
    if file is not None:
        return read_declared_labels(file)
    references = label_files(arguments.decide) if arguments.decide else {}
    files = label_files(arguments.folder)
    return labels_of(arguments.folder) or found_labels(
        [Pair(name, path, references.get(name, path)) for name, path in files.items()]
    )
