"""`plan`: fingerprint a dataset and decide what follows from it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rs.cli import planning, shared
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.console import Console, Outcome, UsageError
from nnunet_rs.core.workspace import DATASET_JSON, FINGERPRINT_JSON, PLAN_JSON, WorkFolder

if TYPE_CHECKING:
    from nnunet_rs.core.outputs import Outputs
    from nnunet_rs.plan.schema import Fingerprint, Plan


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `plan` takes."""
    shared.add_data(parser, "dataset folder; or use --fingerprint and --dataset-json")
    parser.add_argument(
        "-o", "--output", metavar="WORK", type=Path, help=f"work folder: {FINGERPRINT_JSON} and {PLAN_JSON} go there"
    )
    parser.add_argument("--explain", action="store_true", help="print the rule and the numbers behind every choice")
    planning.add_splits(parser)
    planning.add_overrides(parser)
    group = parser.add_argument_group("nnU-Net's own files")
    group.add_argument("--fingerprint", metavar="FILE", type=Path, help="dataset_fingerprint.json")
    group.add_argument("--dataset-json", metavar="FILE", type=Path, help=DATASET_JSON)
    group.add_argument(
        "--as-nnunet", metavar="FILE", type=Path, help="write the plan as nnU-Net v2 writes its plans.json"
    )
    shared.add_overwrite(group)
    shared.add_resources(parser)


def _run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Decide everything about a dataset, from its scans or from nnU-Net's own files."""
    if (arguments.data is None) == (arguments.fingerprint is None or arguments.dataset_json is None):
        raise UsageError("plan needs DATA, or both --fingerprint and --dataset-json")
    if not arguments.data:
        _require_no_cases(arguments)
    outputs = _plans_file(arguments, console) if arguments.as_nnunet else None
    decided, fingerprint, reader = (
        _plan(arguments, console) if arguments.data else _plan_from_nnunet(arguments, console)
    )
    if outputs is not None:
        from nnunet_rs.plan.nnunet import write_as_nnunet

        with outputs, outputs.new_files(arguments.as_nnunet.name) as folder:
            write_as_nnunet(folder / arguments.as_nnunet.name, decided, fingerprint, reader)
    from nnunet_rs.plan.explain import explain
    from nnunet_rs.plan.files import plan_to_json
    from nnunet_rs.report.tables import plan_table

    written = [WorkFolder(arguments.output).plan_file if arguments.output else None, arguments.as_nnunet]
    lines = [f"written: {path}" for path in written if path]
    said = explain(decided) if arguments.explain else ["--explain tells the reasons"]
    return Outcome({"plan": plan_to_json(decided)}, (plan_table(decided), *said, *lines))


def _require_no_cases(arguments: argparse.Namespace) -> None:
    """Refuse what is about a dataset's cases: nnU-Net's fingerprint has their sizes, not their names or scans."""
    if arguments.plans:
        raise UsageError("--plans replaces planning: give it DATA, without --fingerprint")
    about_cases = {
        "--skip-faulty": arguments.skip_faulty,
        "--groups": arguments.groups,
        "--strata": arguments.strata,
        "--num-folds": arguments.num_folds,
    }
    given = [option for option, value in about_cases.items() if value]
    if given:
        raise UsageError(f"{given[0]} is about a dataset's cases, which --fingerprint does not name: give plan DATA")


def _plans_file(arguments: argparse.Namespace, console: Console) -> Outputs:
    """Check that nnU-Net's plans may be written where they are wanted, before anything is read."""
    from nnunet_rs.core.outputs import Outputs

    path: Path = arguments.as_nnunet
    outputs = Outputs(path.parent, kind="plans", overwrite=arguments.overwrite, say=console.say)
    outputs.require([path], [file for file in (arguments.fingerprint, arguments.dataset_json) if file])
    return outputs


def _plan(arguments: argparse.Namespace, console: Console) -> tuple[Plan, Fingerprint, str]:
    """Read the scans. Where the plan is to be kept, so is what was read."""
    from tempfile import TemporaryDirectory

    from nnunet_rs.core.dataset import read_dataset
    from nnunet_rs.data.pipeline import plan_dataset
    from nnunet_rs.plan.nnunet import reader_of

    dataset = read_dataset(arguments.data, os.environ)
    options = planning.prepare_options(arguments, dataset)
    if arguments.output:
        fingerprint, decided = plan_dataset(dataset, arguments.output, options, console)
        return decided, fingerprint, reader_of(dataset.ending, fingerprint)
    with TemporaryDirectory() as folder:
        fingerprint, decided = plan_dataset(dataset, Path(folder), options, console)
    return decided, fingerprint, reader_of(dataset.ending, fingerprint)


def _plan_from_nnunet(arguments: argparse.Namespace, console: Console) -> tuple[Plan, Fingerprint, str]:
    from nnunet_rs.core.locks import exclusive
    from nnunet_rs.data.ownership import require_free
    from nnunet_rs.plan.files import write_fingerprint
    from nnunet_rs.plan.nnunet import read_nnunet
    from nnunet_rs.plan.planner import make_plan
    from nnunet_rs.plan.reconcile import replace_plan

    if arguments.output:
        require_free(arguments.output)

    files = read_nnunet(arguments.fingerprint, arguments.dataset_json)
    cases, overrides = files.training_cases, planning.overrides(arguments)
    decided = make_plan(files.dataset, files.fingerprint, arguments.planner or "paper", overrides, training_cases=cases)
    if arguments.output:
        with exclusive(arguments.output, "plan", console):
            replace_plan(WorkFolder(arguments.output).plan_file, decided, console)
            write_fingerprint(WorkFolder(arguments.output).fingerprint_file, files.fingerprint)
    return decided, files.fingerprint, files.reader


COMMAND = Command(
    name="plan",
    group="prepare",
    summary="extract a dataset's fingerprint and choose spacing, patch, batch and network",
    usage="DATA -o WORK [options]",
    description="Extract a dataset's fingerprint, and choose spacing, patch, batch and network by a planner's rules.",
    examples=(
        "nnunet-rs plan Task04_Hippocampus -o work --explain",
        "nnunet-rs plan Dataset027_ACDC -o work --vram 24 --planner v2",
        f"nnunet-rs plan --fingerprint dataset_fingerprint.json --dataset-json {DATASET_JSON} \\",
        "               --planner v2 --as-nnunet plans.json",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
