"""`preprocess`: check, fingerprint, plan and prepare a dataset."""

from __future__ import annotations

import argparse
import os
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rs.cli import cluster, cohort, planning, shared
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome
from nnunet_rs.core.text import clock, counted

if TYPE_CHECKING:
    from nnunet_rs.core.types import Dataset
    from nnunet_rs.data.pipeline import PrepareOptions, PrepareSummary


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `preprocess` takes."""
    shared.add_data(parser, "dataset folder, Decathlon or nnU-Net raw layout")
    parser.add_argument("-o", "--output", metavar="WORK", type=Path, help="work folder, made if it is not there")
    shared.add_configurations(parser, "prepare these configurations (default: all of the plan)")
    parser.add_argument("--half", action="store_true", help="store images in half precision")
    parser.add_argument("--fresh", "--clean", action="store_true", help="prepare everything again, whatever is there")
    planning.add_splits(parser)
    planning.add_overrides(parser)
    shared.add_resources(parser)
    cluster.add_cluster(parser)


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Check, plan and prepare a dataset."""
    from nnunet_rs.core.dataset import read_dataset
    from nnunet_rs.data.pipeline import prepare_dataset

    # Blosc2 starts four threads to compress the index of each frame, which takes longer than a small frame itself; its
    # C library knows no other way to forbid it. Cases are prepared side by side anyway.
    os.environ.setdefault("BLOSC_NTHREADS", "1")
    cluster.require_cluster(arguments)
    dataset = read_dataset(arguments.data, os.environ)
    options = planning.prepare_options(arguments, dataset)
    if arguments.on:
        left = _on_cluster(arguments, dataset, options, console)
        if left is not None:
            return left
        options = replace(options, resume=True)  # everything is there; what is wrong with some is told
    done = prepare_dataset(dataset, arguments.output, options, console)
    result = {
        **{field.name: getattr(done, field.name) for field in fields(done)},
        "skipped": [planning.issue_json(issue) for issue in done.skipped],
        "warnings": [planning.issue_json(issue) for issue in done.warnings],
        "megavoxels_per_second": done.voxels / 1e6 / max(done.seconds, 1e-9),
    }
    return Outcome(result, (*(f"left out: {issue}" for issue in done.skipped), _summary(done), _next(done)))


def _on_cluster(
    arguments: argparse.Namespace, dataset: Dataset, options: PrepareOptions, console: Console
) -> Outcome | None:
    """Scan and plan on one node, then let workers share the cases; None: all are prepared, or cannot be."""
    from nnunet_rs.core.workspace import WorkFolder
    from nnunet_rs.data.ownership import require_own
    from nnunet_rs.run.cohort.follow import require_all, run_job
    from nnunet_rs.run.cohort.preparing import begin_preparing, planning_job

    home, cases = WorkFolder(arguments.output).jobs_folder, len(dataset.training)
    if arguments.dry_run:
        return cohort.would_share(arguments, f"preprocess {arguments.output}", cases, home)
    require_own(dataset, arguments.output)
    arguments.output.mkdir(parents=True, exist_ok=True)
    with closing(cluster.executor_in(home, arguments)) as executor:
        run_job(executor, planning_job(arguments.data, arguments.output, options, os.environ), console)
    begun = begin_preparing(arguments.output, options, cohort.workers_for(arguments, cases), console)
    if begun is None:
        return None
    followed = cohort.followed(arguments, *begun, console)
    left = cohort.unfinished(followed, begun[1])
    if left is None and not options.skip_faulty:
        require_all(followed, begun[0].names(), str(arguments.output))
    return left


def _summary(done: PrepareSummary) -> str:
    made = f"{done.made} prepared" + (f", {done.found} were prepared before" if done.found else "")
    return (
        f"{done.work} is ready to train {', '.join(done.configurations)}: {counted(done.cases, 'case')}, {made}; "
        f"{done.voxels / 1e6:.3g} million voxels in {done.bytes_read / 1e6:.3g} MB of files, "
        f"{done.bytes_written / 1e6:.3g} MB written, {clock(done.seconds)}, {done.peak_memory / 1e9:.2g} GB of memory"
    )


def _next(done: PrepareSummary) -> str:
    """Return the command that goes on from here."""
    import shlex

    names = done.configurations
    configuration = "3d_fullres" if "3d_fullres" in names else names[0]
    return f"next: nnunet-rs train {shlex.quote(str(done.work))} -c {configuration} -f 0"


COMMAND = Command(
    name="preprocess",
    group="prepare",
    summary="check, plan and prepare a dataset in one command; resumes",
    usage="DATA -o WORK [options]",
    description="Prepare a dataset for training: cropped, normalised, resampled. Checks and "
    "plans it first. Run it again after an interruption or a change: finished cases are kept, the others are "
    "prepared.",
    examples=(
        "nnunet-rs preprocess Task04_Hippocampus -o work",
        "nnunet-rs preprocess -d 27",
        "nnunet-rs preprocess Dataset027_ACDC -o work -c 3d_fullres --memory 8G --groups patients.csv",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
