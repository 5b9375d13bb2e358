"""From a dataset to what training reads: check, plan, preprocess."""

from __future__ import annotations

import argparse
import os
import shlex
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nnunet_rs.cli.console import Console, Outcome, UsageError, clock, counted
from nnunet_rs.core.resources import processors

if TYPE_CHECKING:
    from nnunet_rs.core.issues import Issue
    from nnunet_rs.core.outputs import Outputs
    from nnunet_rs.core.types import Dataset
    from nnunet_rs.data.pipeline import PrepareOptions, PrepareSummary
    from nnunet_rs.plan.planner import PlanOverrides
    from nnunet_rs.plan.schema import Fingerprint, Plan


def check(arguments: argparse.Namespace, console: Console) -> Outcome:
    """List every fault of a dataset."""
    from nnunet_rs.core.check import check_dataset
    from nnunet_rs.core.dataset import read_dataset
    from nnunet_rs.core.issues import fatal
    from nnunet_rs.report.tables import faults_table

    dataset = read_dataset(arguments.data)
    issues = check_dataset(dataset, console, arguments.threads or processors(), arguments.memory)
    errors = fatal(issues)
    faulty = {issue.case for issue in errors if issue.case}
    cases = len(faulty | {case.name for case in dataset.training})
    result = {
        "dataset": dataset.name,
        "layout": dataset.layout,
        "cases": cases,
        "faulty": sorted(faulty),
        "faults": [_fault_json(issue) for issue in issues],
    }
    table = (faults_table(dataset.root, issues),) if issues else ()
    verdict = _verdict(dataset.name, cases, len(faulty), issues)
    return Outcome(result, (*table, verdict), 1 if errors else 0)


def _fault_json(issue: Issue) -> dict[str, Any]:
    return {
        "severity": "error" if issue.fatal else "warning",
        "case": issue.case or None,
        "file": issue.file,
        "rule": issue.rule,
        "value": issue.value,
        "advice": issue.advice,
    }


def _verdict(name: str, cases: int, faulty: int, issues: tuple[Issue, ...]) -> str:
    errors = sum(issue.fatal for issue in issues)
    there, notes = counted(cases, "training case"), counted(len(issues) - errors, "warning")
    if not errors:
        return f"{name} is sound: {there}, {notes}"
    skip = "; preprocess --skip-faulty goes on without them" if 0 < faulty < cases else ""
    return f"{name} has faults: {there}, {faulty or 'none'} of them faulty, {counted(errors, 'error')}, {notes}{skip}"


def plan(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Decide everything about a dataset, from its scans or from nnU-Net's own files."""
    if (arguments.data is None) == (arguments.fingerprint is None or arguments.dataset_json is None):
        raise UsageError("plan needs DATA, or both --fingerprint and --dataset-json")
    if arguments.plans and not arguments.data:
        raise UsageError("--plans takes the place of planning: give it DATA, without --fingerprint")
    outputs = _plans_file(arguments, console) if arguments.as_nnunet else None
    decided, fingerprint, reader = (
        _plan(arguments, console) if arguments.data else _plan_from_nnunet(arguments, console)
    )
    if outputs is not None:
        from nnunet_rs.plan.nnunet import write_as_nnunet

        with outputs, outputs.new_files(arguments.as_nnunet.name) as folder:
            write_as_nnunet(folder / arguments.as_nnunet.name, decided, fingerprint, reader)
    from nnunet_rs.plan.explain import explain
    from nnunet_rs.plan.schema import plan_to_json
    from nnunet_rs.report.tables import plan_table

    written = [arguments.output / "plan.json" if arguments.output else None, arguments.as_nnunet]
    lines = [f"written: {path}" for path in written if path]
    said = explain(decided) if arguments.explain else ["--explain tells the reasons"]
    return Outcome({"plan": plan_to_json(decided)}, (plan_table(decided), *said, *lines))


def _plans_file(arguments: argparse.Namespace, console: Console) -> Outputs:
    """See that nnU-Net's plans may be written where they are wanted, before anything is read."""
    from nnunet_rs.core.outputs import Outputs

    path: Path = arguments.as_nnunet
    outputs = Outputs(path.parent, kind="plans", overwrite=arguments.overwrite, say=console.say)
    outputs.require([path], [file for file in (arguments.fingerprint, arguments.dataset_json) if file])
    return outputs


def _plan(arguments: argparse.Namespace, console: Console) -> tuple[Plan, Fingerprint, str]:
    """Read the scans. Where the plan is to be kept, so is what was read."""
    from nnunet_rs.core.dataset import read_dataset
    from nnunet_rs.data.pipeline import plan_dataset
    from nnunet_rs.plan.nnunet import reader_of

    dataset = read_dataset(arguments.data)
    options = _prepare_options(arguments, dataset)
    if arguments.output:
        fingerprint, decided = plan_dataset(dataset, arguments.output, options, console)
        return decided, fingerprint, reader_of(dataset.ending, fingerprint)
    with TemporaryDirectory() as folder:
        fingerprint, decided = plan_dataset(dataset, Path(folder), options, console)
    return decided, fingerprint, reader_of(dataset.ending, fingerprint)


def _plan_from_nnunet(arguments: argparse.Namespace, console: Console) -> tuple[Plan, Fingerprint, str]:
    from nnunet_rs.core.locks import exclusive
    from nnunet_rs.data.ownership import require_free
    from nnunet_rs.plan.nnunet import read_nnunet
    from nnunet_rs.plan.planner import make_plan
    from nnunet_rs.plan.reconcile import replace_plan
    from nnunet_rs.plan.schema import write_fingerprint

    if arguments.output:
        require_free(arguments.output)

    files = read_nnunet(arguments.fingerprint, arguments.dataset_json)
    cases, overrides = files.training_cases, _overrides(arguments)
    decided = make_plan(files.dataset, files.fingerprint, arguments.recipe or "paper", overrides, training_cases=cases)
    if arguments.output:
        with exclusive(arguments.output, "plan", console):
            replace_plan(arguments.output / "plan.json", decided, console)
            write_fingerprint(arguments.output / "fingerprint.json", files.fingerprint)
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
        "skipped": [_fault_json(issue) for issue in done.skipped],
        "warnings": [_fault_json(issue) for issue in done.warnings],
        "megavoxels_per_second": done.voxels / 1e6 / max(done.seconds, 1e-9),
    }
    return Outcome(result, (*(f"left out: {issue}" for issue in done.skipped), _summary(done), _next(done)))


def _summary(done: PrepareSummary) -> str:
    made = f"{done.made} prepared" + (f", {done.found} were there" if done.found else "")
    return (
        f"{done.work} is ready to train {', '.join(done.configurations)}: {counted(done.cases, 'case')}, {made}; "
        f"{done.voxels / 1e6:.3g} million voxels in {done.bytes_read / 1e6:.3g} MB of files, "
        f"{done.bytes_written / 1e6:.3g} MB written, {clock(done.seconds)}, {done.peak_memory / 1e9:.2g} GB of memory"
    )


def _next(done: PrepareSummary) -> str:
    """Return the command that goes on from here."""
    names = done.configurations
    configuration = "3d_fullres" if "3d_fullres" in names else names[0]
    return f"next: nnunet-rs train {shlex.quote(str(done.work))} -c {configuration} -f 0"


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
        plans=arguments.plans,
        configurations=tuple(getattr(arguments, "configuration", None) or ()),
        groups=groups,
        strata=read_case_table(arguments.strata) if arguments.strata else None,
        memory=arguments.memory,
        threads=arguments.threads,
        resume=not getattr(arguments, "fresh", False),
        skip_faulty=arguments.skip_faulty,
        half=getattr(arguments, "half", False),
        placement=getattr(arguments, "placement", None),
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
